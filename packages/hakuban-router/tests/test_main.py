"""The router as a process: what it accepts, what it refuses, and how it says so."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest
import trustme

import hakuban
import hakuban.sync
from hakuban_router import __main__
from hakuban_router._cli import UsageError
from support.ports import free_port
from support.processes import Program, RouterProcess
from support.raw_node import RawNode, observe
from support.serving import check_that_it_serves
from support.watching import until

if TYPE_CHECKING:
    from collections.abc import Callable

    StartRouter = Callable[..., RouterProcess]
    Start = Callable[..., Program]

LOOPS = ("asyncio", "uvloop", "trio")
LISTEN = ("-b", "ws://127.0.0.1:0")


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


def check_refusal(start: Start, options: tuple[str, ...], code: int, reason: str) -> None:
    program = start("hakuban_router", *options)
    assert program.wait() == code
    complaints = [line for line in program.err.seen if "error: " in line]
    assert len(complaints) == 1, program.err.seen
    assert program.err.seen[-1] == complaints[0]
    assert re.search(reason, complaints[0])
    assert complaints[0].startswith("hakuban-router: error: ")
    assert not program.out.seen


# ---- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_it_serves_on_every_event_loop(start_router: StartRouter, loop: str) -> None:
    router = start_router("--loop", loop)
    assert any(line.endswith(f" on {loop}") for line in router.err.seen)
    check_that_it_serves(router.url)
    assert router.stop() == 0


@pytest.mark.parametrize("loop", LOOPS[1:])
def test_an_event_loop_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    monkeypatch.setattr(__main__, "find_spec", lambda _name: None)
    with pytest.raises(
        UsageError, match=rf"--loop {loop}: .*pip install 'hakuban-router\[{loop}\]'"
    ):
        __main__.choose_loop(loop)
    assert __main__.choose_loop("auto") == "asyncio"


@pytest.mark.parametrize(
    "bind",
    [
        "ws://127.0.0.1:0#,name=router",
        "ws://127.0.0.1:0/,name=router",
        "ws://127.0.0.1:0/name=router",
        "ws://127.0.0.1:0#timeout=1",
        "ws://localhost:0#keep-alive=250ms,timeout=1s",
    ],
)
def test_odd_addresses_are_fine(start_router: StartRouter, bind: str) -> None:
    check_that_it_serves(start_router(bind=bind).url)


def test_it_listens_on_every_bind_and_says_so_once_for_each(start_router: StartRouter) -> None:
    router = start_router("--bind", "ws://127.0.0.1:0/second")
    second = router.err.wait(re.compile(r"listening on (\S+)"))[1]
    assert port_of(second) != port_of(router.url)
    assert second.endswith("/second")
    check_that_it_serves(router.url)
    check_that_it_serves(second)
    assert router.stop() == 0
    assert sum("listening on" in line for line in router.err.seen) == 2


def test_the_log_is_stderr_with_utc_milliseconds(start_router: StartRouter) -> None:
    router = start_router("--threads", "2")
    assert router.stop() == 0
    line = re.compile(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ hakuban\.router: (?P<message>.+)"
    )
    messages = [match["message"] for text in router.err.seen if (match := line.fullmatch(text))]
    assert len(messages) == len(router.err.seen)
    assert "--threads is ignored: the router has one thread" in messages
    assert f"listening on {router.url}" in messages
    assert messages[-1] == "SIGTERM, leaving"
    assert not router.out.seen


def test_the_log_level_decides_what_is_said(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        quiet = start("hakuban_router", "--log-level", "error", "-b", f"ws://127.0.0.1:{port}")
        assert quiet.wait() == 1
    assert len(quiet.err.seen) == 1


@pytest.mark.parametrize(
    ("options", "fragment", "name"),
    [
        ((), "", r"hakuban_router-[0-9a-f]{4}"),
        (("--name", "lab, 2#"), "", "lab, 2#"),
        (("--name", "lab"), "#name=url", "url"),
    ],
)
def test_the_name_of_the_url_goes_before_that_of_the_options(
    start_router: StartRouter, options: tuple[str, ...], fragment: str, name: str
) -> None:
    router = start_router(*options, bind=f"ws://127.0.0.1:0{fragment}")
    node = hakuban.LocalNode()
    with node, hakuban.sync.connect(node, router.url) as connection:
        assert re.fullmatch(name, connection.remote_name or "")


def urls_of(router: RouterProcess) -> list[str]:
    """Give where a router listens, as far as it has said so."""
    lines = [re.search(r"listening on (\S+)", line) for line in router.err.seen]
    return [line[1] for line in lines if line is not None]


def upgrade(url: str, *headers: str) -> socket.socket:
    """Ask for a WebSocket, as a peer that is not of this project."""
    client = socket.create_connection(("127.0.0.1", port_of(url)), timeout=5)
    lines = [
        "GET / HTTP/1.1",
        "Host: x",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    client.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    return client


def answer(url: str, *headers: str) -> str:
    """Give the head of the answer to an upgrade."""
    with upgrade(url, *headers) as client:
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(4096)):
            head += data
    return head.decode(errors="replace").partition("\r\n\r\n")[0]


def test_options_of_links_hold_for_every_bind(start_router: StartRouter) -> None:
    """A peer that answers no ping is ended after 300 ms, where the default is 20 s."""
    router = start_router(*LISTEN, "--timeout", "300ms", "--keep-alive", "100ms")
    until(lambda: len(urls_of(router)) == 2, "both binds")
    for url in urls_of(router):
        with upgrade(url) as client:
            end_by = monotonic() + 5
            while client.recv(4096):
                assert monotonic() < end_by, "the time-out does not hold here"


COLLECTING = """
import gc
from hakuban.transport import RefusedError, hookimpl

at_first = gc.isenabled()

@hookimpl
def hakuban_authorize(request):
    frozen = gc.get_freeze_count() > 0
    facts = f"collecting: {at_first} {gc.isenabled()} {gc.get_threshold()[0]} frozen: {frozen}"
    raise RefusedError(facts, retry=False)
"""


def test_what_plugins_leave_behind_in_circles_is_collected(
    start_router: StartRouter, install_plugin: Callable[[str, str], None]
) -> None:
    """It is off while the router starts, and seldom later; see docs/decisions/ended-links.md."""
    install_plugin("[hakuban.plugins]\ncollecting = plugin_for_tests\n", COLLECTING)
    router = start_router()
    with upgrade(router.url) as client:
        refusal = b""
        while data := client.recv(4096):
            refusal += data
    assert b"collecting: False True 10000 frozen: True" in refusal
    assert router.stop() == 0


def test_the_fragment_goes_before_the_options(start_router: StartRouter) -> None:
    router = start_router("--timeout", "1h", bind="ws://127.0.0.1:0#timeout=300ms,keep-alive=100ms")
    with upgrade(router.url) as client:
        while client.recv(4096):
            pass


def test_web_pages_are_let_in_by_their_origin(start_router: StartRouter) -> None:
    router = start_router(
        "--allow-origin", "https://a.example", "--allow-origin", "https://b.example"
    )
    assert answer(router.url).startswith("HTTP/1.1 101")
    assert answer(router.url, "Origin: https://b.example").startswith("HTTP/1.1 101")
    assert answer(router.url, "Origin: https://c.example").startswith("HTTP/1.1 403")
    assert answer(start_router().url, "Origin: https://a.example").startswith("HTTP/1.1 403")


def test_links_are_compressed_on_demand(start_router: StartRouter) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    assert "permessage-deflate" in answer(start_router("--compression").url, offer)
    assert "permessage-deflate" not in answer(start_router().url, offer)


def test_connections_are_limited(start_router: StartRouter) -> None:
    router = start_router("--max-connections", "1")
    with upgrade(router.url) as first:
        assert first.recv(100).startswith(b"HTTP/1.1 101")
        refused = answer(router.url)
    assert "101" not in refused.partition("\r\n")[0]


def test_a_message_over_the_limit_ends_its_link(start_router: StartRouter) -> None:
    router = start_router("--max-message", "10000")
    with RawNode(router.url) as node:
        node.tell(observe(f'"{"x" * 20_000}"'))
        close = until(lambda: node.close, "a Close frame")
        assert close.code == 1009


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    return ca


def test_routers_connect_over_tls(
    start_router: StartRouter, authority: trustme.CA, tmp_path: Path
) -> None:
    above = start_router("--tls-cert", str(tmp_path / "cert.pem"), bind="wss://127.0.0.1:0")
    below = start_router("--tls-ca", str(tmp_path / "ca.pem"), "--connect", above.url)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    exposer, observer = hakuban.LocalNode(), hakuban.LocalNode()
    with (
        exposer,
        observer,
        hakuban.sync.connect(exposer, above.url, ssl=context),
        hakuban.sync.connect(observer, below.url),
        exposer.object("x").expose() as exposing,
        observer.object("x").observe() as observing,
    ):
        exposing.set_object_data(1)
        assert observing.wait_state_sync(timeout=10).data == 1


def test_client_certificates_let_in_who_has_one(
    start_router: StartRouter, authority: trustme.CA, tmp_path: Path
) -> None:
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-client-ca", str(tmp_path / "ca.pem"))
    router = start_router(*files, bind="wss://0.0.0.0:0")
    url = f"wss://127.0.0.1:{port_of(router.url)}"
    context = ssl.create_default_context()
    authority.configure_trust(context)
    stranger = hakuban.LocalNode()
    with stranger, hakuban.sync.connect(stranger, url, ssl=context, wait=False) as connection:
        failed = next(status for status in connection.statuses() if status.error is not None)
        assert not failed.up
    authority.issue_cert("friend@example.org").configure_cert(context)
    friend = hakuban.LocalNode()
    with friend, hakuban.sync.connect(friend, url, ssl=context) as connection:
        assert connection.up


# ---- how others start it -------------------------------------------------------------------------


def test_the_crates_tests_can_start_it_use_it_and_end_it(start: Start) -> None:
    port = free_port()
    bind = f"ws://127.0.0.1:{port}#,name=router-name-xxx"
    router = start("hakuban_router", "-b", bind, "--monitor-tag=monitor")
    router.err.wait(re.compile("listening on"))
    socket.create_connection(
        ("127.0.0.1", port), timeout=5
    ).close()  # their way to see that it listens
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, f"ws://127.0.0.1:{port}/") as connection,
        node.object(["monitor"], "websocket-listener").observe() as listener,
    ):
        assert connection.remote_name == "router-name-xxx"
        assert listener.wait_state_sync(10).data["downstream_connections"][0]["remote_name"]
        router.write("\n")
        router.err.wait(re.compile("== websocket-listener"))
    assert router.stop() == 0
    assert not any("ERROR" in line or "WARNING" in line for line in router.err.seen)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_the_service_manager_is_told_when_it_listens_and_when_it_leaves(
    start_router: StartRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        router = start_router()
        assert manager.recv(100) == b"READY=1"
        check_that_it_serves(router.url)
        assert router.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
            with Program([sys.executable, "-m", "hakuban_router", "-b", url]) as failing:
                assert failing.wait() == 1
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)  # a router that does not listen is not ready


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="cannot be seen here")
def test_it_may_open_as_many_files_as_the_administrator_allows(programs: list[Program]) -> None:
    lowered = ("sh", "-c", 'ulimit -Sn 500 && ulimit -Hn 1000 && exec "$@"', "sh")
    router = RouterProcess(within=lowered)
    programs.append(router)
    assert psutil.Process(router.pid).rlimit(psutil.RLIMIT_NOFILE) == (1000, 1000)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--threads", "0"), "--threads '0': not a number above 0"),
        (("--nonsense",), "--nonsense"),
        (("-b", "nonsense"), "nonsense"),
        (("-b", "ws://127.0.0.1"), "port"),
        (("-b", "ws://127.0.0.1:99999"), "(?i)port"),
        (("-b", "ftp://127.0.0.1:1"), "scheme 'ftp'"),
        (("-b", "zmq+udp://127.0.0.1:1"), "pip install hakuban-zmq"),
        (("-b", "ws://127.0.0.1:0#nonsense=1"), "nonsense"),
        (("-b", "ws://127.0.0.1:0#timeout="), "timeout"),
        (("-b", "ws://127.0.0.1:0#load-limit=a"), "load-limit"),
        (("--timeout", "soon"), "timeout"),
        (("-b", "wss://127.0.0.1:0"), "--tls-cert"),
        (
            (*LISTEN, "--tls-client-ca", "ca.pem"),
            "--tls-client-ca is for wss:// binds.*write wss://",
        ),
        (("-b", "wss://127.0.0.1:0", "--tls-cert", "no.pem"), "--tls-cert 'no.pem': No such file"),
        (("-b", "ws://127.0.0.1:0", "-c", "nonsense"), "nonsense"),
        (("-b", "ws://127.0.0.1:0", "-c", "ftp://127.0.0.1:1"), "scheme 'ftp'"),
        (("-b", "ws://127.0.0.1:0", "-b", "ftp://127.0.0.1:1"), "scheme 'ftp'"),
        (("-b", "ws://0.0.0.0:0"), r"0\.0\.0\.0, and anybody may connect.*--insecure"),
        (("-b", "ws://127.0.0.1:0", "-b", "ws://[::]:0"), "--insecure"),
        (("-b", "ws://0.0.0.0:0#insecure=false", "--insecure"), "--insecure"),
        # URLs that can never work
        (("-b", "foo://x"), "no transport for scheme 'foo'"),
        (("-b", "foo://0.0.0.0:1"), "no transport for scheme 'foo'"),
        *(
            ((*LISTEN, "-c", url), reason)
            for url, reason in [
                ("foo://x", "no transport for scheme 'foo'"),
                ("ws://:3001", "(?i)host"),
                ("ws://h:99999", "(?i)port"),
                ("wss://h:x", "(?i)port"),
                ("ws://h:0", "(?i)port 0"),
                ("ws://user:secret@h:1", "(?i)password|credentials"),
                ("ws://h:1?timeout=1s", "write #timeout=1s"),
                ("ws://h:1/ł", "(?i)path"),
                ("zmq+tcp://h", "(?i)port"),
                ("zmq+tcp://h:0", "(?i)port"),
                ("zmq+ipc://relative", "(?i)path"),
            ]
        ),
        (("-b", "ws://:3001"), "(?i)host"),
        (("-b", "ws://127.0.0.1:0?name=x"), "write #name=x"),
        (("-b", "ws://user:secret@127.0.0.1:0"), "(?i)password|credentials"),
        (("-b", "zmq+tcp://127.0.0.1"), "(?i)port"),
        # whatever else the library does not accept
        ((*LISTEN, "--name", "x" * 1_025), "1024 bytes"),
        ((*LISTEN, "--name", "\udcff"), "surrogate"),
        ((*LISTEN, "--monitor-tag", "\udcff"), "surrogate|Unicode"),
        ((*LISTEN, "--rebalance-threshold", "1e400"), "--rebalance-threshold"),
    ],
)
def test_arguments_and_urls_that_make_no_sense_are_one_line_and_code_2(
    start: Start, options: tuple[str, ...], reason: str
) -> None:
    check_refusal(start, options, 2, reason)


def test_an_address_in_use_is_one_line_and_code_1(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        check_refusal(start, ("-b", url), 1, f"cannot listen on {url}: Address already in use")


def test_an_address_of_another_machine_is_one_line_and_code_1(start: Start) -> None:
    check_refusal(start, ("-b", "ws://192.0.2.1:1", "--insecure"), 1, "cannot listen on ws://192")


def test_a_bind_that_fails_leaves_no_other_listening(start: Start) -> None:
    first = f"ws://127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        router = start("hakuban_router", "-b", first, "-b", second)
        assert router.wait() == 1
    assert f"listening on {first}" in router.err.seen[-2]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(first)), timeout=10)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-b", "ws://user:secret@127.0.0.1:0"),
        ("-b", "ws://user:sec/secret#@127.0.0.1:0"),
        ("-b", "ws://127.0.0.1:0", "-c", "ws://user:secret@127.0.0.1:0"),
        ("-b", "ws://127.0.0.1:0?token=secret#nonsense=1"),
        ("-b", "foo://127.0.0.1:0?token=secret"),
        ("-b", "wss://127.0.0.1:0?token=secret"),
        ("ws://user:secret@127.0.0.1:0",),
        ("-b", "ws://127.0.0.1:0", "https://user:a b secret@h", "more"),
        ("--timeout", "ws://user:secret@h"),
        ("--show-config", "-b", "ws://user:secret@h:1/p", "-c", "ws://h:1/p?token=secret#name=secret"),
        ("--show-config", "--allow-origin", "https://user:secret@h"),
    ],
)  # fmt: skip
def test_a_secret_in_an_argument_is_not_repeated(
    start: Start, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HAKUBAN_ROUTER_CONNECT", "wss://h:1?token=secret")
    router = start("hakuban_router", *arguments)
    assert router.wait() == (0 if "--show-config" in arguments else 2)
    assert router.out.seen or router.err.seen
    assert "secret" not in "".join(router.out.seen + router.err.seen)


def test_a_query_is_not_repeated_while_it_works_either(start_router: StartRouter) -> None:
    above = start_router(bind="ws://127.0.0.1:0/p?token=secret")
    address = f"ws://127.0.0.1:{port_of(above.url.partition('?')[0])}"
    below = start_router(
        "--monitor-tag", "monitor", "--connect", f"{address}/p?token=secret", "--log-level", "debug"
    )
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, below.url),
        node.object(["monitor"], "websocket-connector").observe() as connector,
    ):
        for state in connector:
            if state.data["upstream_connection"]:
                break
        assert state.data["url"] == f"{address}/p?..."
    below.write("\n")
    below.err.wait(re.compile("== websocket-connector"))
    assert below.stop() == above.stop() == 0
    assert "secret" not in "".join(below.err.seen + above.err.seen)


# ---- who may connect -----------------------------------------------------------------------------


def test_listening_beyond_this_machine_can_be_asked_for(start_router: StartRouter) -> None:
    router = start_router("--insecure", bind="ws://0.0.0.0:0")
    check_that_it_serves(f"ws://127.0.0.1:{port_of(router.url)}")


AUTHORISING = """
from hakuban.transport import Identity, hookimpl

@hookimpl
def hakuban_authorize(request):
    return Identity("somebody")
"""


def test_a_plugin_that_authorises_peers_is_enough(
    start_router: StartRouter, install_plugin: Callable[[str, str], None]
) -> None:
    install_plugin("[hakuban.plugins]\ntests = plugin_for_tests\n", AUTHORISING)
    router = start_router(bind="ws://0.0.0.0:0")
    check_that_it_serves(f"ws://127.0.0.1:{port_of(router.url)}")


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("from hakuban.transport import hookimpl\n\n@hookimpl\ndef hakuban_transport(scheme): ...", 2, "--insecure"),
        ("def hakuban_authorize(request): ...", 1, "plugin plugin_for_tests of plugin-for-tests: it has no hook"),
        ("raise RuntimeError('broken')", 1, "plugin plugin_for_tests of .*: RuntimeError: broken; mend"),
    ],
    ids=["transport", "no hook", "broken"],
)  # fmt: skip
def test_a_plugin_that_authorises_nobody_is_not(
    start: Start,
    install_plugin: Callable[[str, str], None],
    code: str,
    exit_code: int,
    reason: str,
) -> None:
    install_plugin("[hakuban.plugins]\ntests = plugin_for_tests\n", code)
    router = start("hakuban_router", "-b", "ws://0.0.0.0:0")
    assert router.wait() == exit_code
    assert re.search(reason, router.err.seen[-1])


# ---- the rest ------------------------------------------------------------------------------------


def test_the_configuration_is_shown_without_listening(start: Start) -> None:
    router = start("hakuban_router", "--show-config", "-b", "ws://127.0.0.1:1", "-t", "2")
    assert router.wait() == 0
    assert 'bind = ["ws://127.0.0.1:1"]  # --bind' in router.out.seen
    assert "name = null  # default" in router.out.seen
    assert not router.err.seen


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words",
    [
        ("hakuban_router", "--show-config"),
        ("hakuban_router", "--transports"),
        ("hakuban_router", "--help"),
        ("hakuban_router", "--version"),
        ("hakuban_router.client", "--version"),
        ("hakuban_router.client", "observe", "--help"),
    ],
)
def test_what_cannot_be_printed_is_a_failure_and_a_reader_that_has_gone_is_none(
    words: tuple[str, ...],
) -> None:
    command = [sys.executable, "-m", *words]
    with Path("/dev/full").open("wb") as disk:
        full = subprocess.run(command, stdout=disk, stderr=subprocess.PIPE, check=False)
    assert full.returncode == 1
    assert re.fullmatch(
        rb"hakuban(-router)?: error: cannot write to the standard output: No space left on device\n",
        full.stderr,
    )
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (0, b"")


def test_the_installed_transports_are_listed_a_line_each_the_broken_ones_with_their_error(
    start: Start, install_plugin: Callable[[str, str], None]
) -> None:
    install_plugin(
        "[hakuban.transports]\nfine = plugin_for_tests\nlost = nothing_of_this_name\n"
        "torn = plugin_for_tests:torn\nws = plugin_for_tests\n",
        "from hakuban.testing import MemoryTransport\n"
        "from hakuban.transport import hookimpl\n"
        "class torn:\n"
        "    @staticmethod\n"
        "    @hookimpl\n"
        "    def hakuban_transport():\n"
        "        raise ValueError('two\\nlines')\n"
        "hakuban_transport = hookimpl(lambda: MemoryTransport())\n",
    )
    router = start("hakuban_router", "--transports", "-b", "ws://127.0.0.1:1")
    assert router.wait() == 0
    assert not router.err.seen
    lines = [line for line in router.out.seen if not line.startswith("zmq")]
    assert [line.split(" error: ")[0] for line in lines] == [
        "fine plugin-for-tests 1",
        "lost plugin-for-tests 1",
        f"memory hakuban-core {hakuban.__version__}",
        "torn plugin-for-tests 1",
        f"ws hakuban-ws {hakuban.__version__}",
        "ws plugin-for-tests 1",
        f"wss hakuban-ws {hakuban.__version__}",
    ]
    errors = {line.split()[0]: line.partition(" error: ")[2] for line in lines}
    assert errors["fine"] == errors["memory"] == errors["wss"] == ""
    assert "of plugin-for-tests" in errors["lost"]
    assert "No module named 'nothing_of_this_name'" in errors["lost"]
    assert "ValueError: two" in errors["torn"]
    assert "hakuban-ws and plugin-for-tests" in errors["ws"]


def test_the_version_is_told(start: Start) -> None:
    router = start("hakuban_router", "--version")
    assert router.wait() == 0
    assert re.fullmatch(r"hakuban-router \d+\.\d+\.\d+", router.out.seen[0])


def test_the_commands_are_installed(programs: list[Program]) -> None:
    for command in ("hakuban-router", "hakuban"):
        programs.append(Program([str(Path(sys.executable).parent / command), "--version"]))
        assert programs[-1].wait() == 0
        assert programs[-1].out.seen[0].startswith(f"{command} ")
