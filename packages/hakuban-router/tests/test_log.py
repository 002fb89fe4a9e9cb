"""The log: one line for each record, whatever peers call themselves."""

from __future__ import annotations

import http.client
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

import hakuban
import hakuban.sync
from hakuban.transport import printable
from hakuban_router.__main__ import LOG_FORMAT
from hakuban_router._log import Formatter
from support.processes import RouterProcess
from support.unseen import UNSEEN, check_seen

if TYPE_CHECKING:
    from collections.abc import Callable


unseen = pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)


def record(message: str) -> logging.LogRecord:
    made = logging.LogRecord("hakuban.router", logging.INFO, "", 0, message, None, None)
    made.created, made.msecs = 1795521600.1234, 123.4
    return made


def test_a_record_is_a_line_with_utc_time_in_milliseconds() -> None:
    line = Formatter(LOG_FORMAT).format(record("listening on ws://127.0.0.1:3001"))
    assert line == (
        "2026-11-24T12:00:00.123Z INFO hakuban.router: listening on ws://127.0.0.1:3001"
    )


def test_peers_cannot_write_lines_or_talk_to_the_terminal() -> None:
    line = Formatter(LOG_FORMAT).format(record("peer x\n2026 ERROR fake\x1b[2J\x9b0m ń gone"))
    assert re.search(r"peer x\\n2026 ERROR fake\\x1b\[2J\\x9b0m ń gone$", line)
    # nor change the direction of what follows
    assert Formatter("%(message)s").format(record("a\r\x7f\t\u202eb")) == r"a\r\x7f\t\u202eb"


def test_tracebacks_keep_their_lines_and_nothing_else_that_a_terminal_would_obey() -> None:
    made = record("failed")
    try:
        raise ValueError("why\x1b[2J")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    lines = Formatter(LOG_FORMAT).format(made).splitlines()
    assert lines[0].endswith("failed")
    assert lines[-1] == r"  ValueError: why\x1b[2J"


@unseen
@pytest.mark.parametrize("kind", ["exc_info", "exc_text", "stack_info"])
def test_no_part_of_a_record_writes_lines_of_its_own(kind: str, text: str) -> None:
    made = record(f"failed {text}")
    error = ValueError(f"why {text}\n2026-11-24T12:00:00.123Z ERROR fake")
    if kind == "exc_info":
        made.exc_info = (ValueError, error, None)
    else:  # as another handler's formatter has left it
        setattr(made, kind, f"ValueError: {error}")
    lines = Formatter(LOG_FORMAT).format(made).split("\n")
    assert lines[0].endswith(f"failed {printable(text)}")
    assert f"  ValueError: why {printable(text)}" in lines
    assert not [line for line in lines[1:] if not line.startswith("  ")]
    check_seen("\n".join(lines))


# ---- with a router ---------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("bind", ["ws://127.0.0.1:0", "zmq+tcp://127.0.0.1:0"], ids=["ws", "zmq"])
def test_whatever_peers_call_themselves_and_their_objects_can_be_shown(
    start_router: Callable[..., RouterProcess], bind: str
) -> None:
    router = start_router("--log-level", "debug", bind=bind)
    for text in UNSEEN.values():
        node = hakuban.LocalNode(f"a{text}\n2026 ERROR fake")
        with node, hakuban.sync.connect(node, router.url), node.object([text], text).observe():
            name = f"a{printable(text)}\\n2026 ERROR fake"
            router.err.wait(re.compile(re.escape(f"link up: {name} at ")))
            router.write("\n")
            router.err.wait(re.compile("== websocket-listener"))
        router.err.wait(re.compile(re.escape(f"link down: {name} at ")))
    assert router.stop() == 0
    check_seen("\n".join(router.err.seen))
    assert not [line for line in router.err.seen if line.startswith("2026 ERROR")]


QUOTING = """
import logging, sys, threading, warnings
from urllib.parse import unquote
from hakuban.transport import hookimpl

def fail(text):
    raise ValueError(text)

@hookimpl
def hakuban_authorize(request):
    text = unquote(request.path)
    print("printed", text, file=sys.stderr)
    warnings.warn(f"warned of {text}")
    logging.getLogger("plugin").error(f"logged {text}")
    thread = threading.Thread(target=fail, args=(f"in a thread {text}",))
    thread.start()
    thread.join()
    try:
        fail(f"handled {text}")
    except ValueError:
        logging.getLogger("plugin").exception("a traceback")
    fail(f"escaped {text}")
"""


def test_whatever_a_plugin_says_of_peers_can_be_shown(
    install_plugin: Callable[[str, str], None],
) -> None:
    install_plugin("[hakuban.plugins]\ntests = plugin_for_tests\n", QUOTING)
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    everything = "".join(UNSEEN.values())  # first: what escapes is logged once
    with RouterProcess() as router:
        where = urlsplit(router.url)
        for text in (everything, *UNSEEN.values()):
            connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
            connection.request("GET", quote(f"/{text}"), headers=upgrade)
            assert connection.getresponse().status == 503
            connection.close()
        assert router.stop() == 0
    said = "\n".join(router.err.seen)
    check_seen(said)
    assert f"  ValueError: escaped /{printable(everything)}" in router.err.seen
    for text in UNSEEN.values():
        for words in ("printed", "warned of", "logged", "in a thread", "handled"):
            assert f"{words} /{printable(text)}" in said, said


RAISING = """
import logging
from hakuban.transport import Identity, hookimpl

class Handler(logging.Handler):
    def emit(self, record):
        if record.name != "hakuban.router":  # whose lines this test waits for
            raise LookupError("a handler's")

def filter(record):
    raise ZeroDivisionError("a filter's")

for name in ("hakuban", "hakuban.ws", "hakuban.zmq"):
    BREAK

@hookimpl
def hakuban_authorize(request):
    return Identity("somebody")
"""


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("logging.getLogger(name).addFilter(filter)", "ZeroDivisionError: a filter's"),
        ("logging.getLogger(name).addHandler(Handler())", "LookupError: a handler's"),
    ],
    ids=["filter", "handler"],
)
def test_a_filter_or_handler_that_raises_ends_no_router_and_no_link(
    install_plugin: Callable[[str, str], None], how: str, fault: str
) -> None:
    install_plugin("[hakuban.plugins]\ntests = plugin_for_tests\n", RAISING.replace("BREAK", how))
    with RouterProcess("--log-level", "debug") as router:
        where = urlsplit(router.url)
        for path in ("/", "/", "/nowhere"):  # each is a line of the transport
            connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
            connection.request("GET", path)
            assert connection.getresponse().status
            connection.close()
        exposer, observer = hakuban.LocalNode("exposer"), hakuban.LocalNode("observer")
        with (
            exposer,
            observer,
            hakuban.sync.connect(exposer, router.url) as first,
            hakuban.sync.connect(observer, router.url) as second,
            observer.object("door").observe() as watcher,
        ):
            with exposer.object("door").expose() as door:
                door.set_object_state([2**60], "new")
                assert watcher.wait_state_sync(20).data == "new"
            with hakuban.LocalNode("stale") as stale, hakuban.sync.connect(stale, router.url):
                with stale.object("door").expose() as door:
                    door.set_object_state([1], "old")  # the router ignores and logs it
                    router.err.wait(re.compile(f"^{fault}$"))
                    with stale.object("window").expose() as window:
                        window.set_object_data("open")
                        with observer.object("window").observe() as other:
                            assert other.wait_state_sync(20).data == "open"
            assert first.up
            assert second.up
        assert router.stop() == 0
    assert router.err.seen.count(fault) == 1
