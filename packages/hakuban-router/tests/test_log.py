"""The log: one line for each record, whatever peers call themselves."""

from __future__ import annotations

import http.client
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import hakuban
import hakuban.sync
from hakuban_router.__main__ import LOG_FORMAT
from hakuban_router._log import Formatter
from support.processes import RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable


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
    assert lines[-1] == r"ValueError: why\x1b[2J"


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
