"""What a listener does with those who knock."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import anyio
import pytest

from hakuban import LocalNode
from hakuban.transport import (
    ConnectionRequest,
    Identity,
    InvalidURLError,
    MessageStream,
    PeerViolationError,
    RefusedError,
    TransportOptions,
)
from hakuban_ws import WebSocketTransport
from support.logs import fail as raise_always
from support.logs import filtered, handled
from support.processes import Program
from support.websocket import (
    BINARY,
    CLOSE,
    FIN,
    LOCAL,
    UPGRADE,
    Certificates,
    RawPeer,
    accepting,
    descriptors_fall_to,
    frame,
    linked,
    open_descriptors,
    port_of,
    raw_connection,
    serving,
)


async def answer(url: str, request: bytes) -> bytes:
    """What a listener says to a request, until it closes."""
    async with await raw_connection(url) as peer:
        await peer.send(request)
        return await peer.rest()


async def first_line(url: str) -> bytes:
    """What a listener says to an upgrade: a line, or nothing."""
    async with await raw_connection(url) as peer:
        try:
            await peer.send(UPGRADE + b"\r\n")
            return (await peer.head()).partition(b"\r\n")[0]
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""


async def test_the_bound_url_has_the_real_port_and_the_rest_as_given() -> None:
    async with accepting("ws://127.0.0.1:0/some/path") as (url, _):
        assert url == f"ws://127.0.0.1:{port_of(url)}/some/path"
        assert port_of(url) > 0


async def test_an_answer_arrives_whole_although_the_peer_goes_on_sending() -> None:
    """A connection that is closed while something in it is unread is reset, and the answer with it."""

    def ask(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(1_000_000))
            received = b""
            while data := sock.recv(4096):
                received += data
            return received

    async with accepting() as (url, _):
        received = await anyio.to_thread.run_sync(ask, port_of(url))
    assert received.startswith(b"HTTP/1.1 ")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
async def test_tls_answers_by_itself_although_nothing_is_to_be_sent() -> None:
    """Here that it does not negotiate again (RFC 5246, 7.2.2), which `R` has `openssl s_client` ask for."""

    def renegotiate(port: int) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-msg"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            watchdog = threading.Timer(8, client.kill)
            watchdog.start()
            lines = iter(client.stdout.readline, "")
            next(line for line in lines if "Verif" in line)
            client.stdin.write("R\n")
            client.stdin.flush()
            answer = next((line for line in lines if "no_renegotiation" in line), "")
            client.kill()
            watchdog.cancel()
        return answer

    async with accepting("wss://127.0.0.1:0", ssl=Certificates().listening()) as (url, _):
        assert await anyio.to_thread.run_sync(renegotiate, port_of(url))


async def test_a_plain_get_is_told_that_all_is_well() -> None:
    async with accepting() as (url, _):
        response = await answer(url, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Type: text/plain" in response
        assert response.endswith(b"\r\n\r\nhakuban ok\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), 405),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00", 400),
        (b"hello\n", 400),
        (UPGRADE.replace(b"13", b"12") + b"\r\n", 426),
        (UPGRADE + b"X: " + bytes(40_000), 431),
        (UPGRADE + b"X: x\r\n" * 200, 431),
    ],
)
async def test_others_are_answered_and_sent_away(request_: bytes, status: int) -> None:
    async with accepting() as (url, _):
        if status == 431:
            request_ += b"\r\n"
        assert (await answer(url, request_)).startswith(b"HTTP/1.1 %d " % status)


async def test_an_upgrade_states_our_clock() -> None:
    async with accepting() as (url, _), await raw_connection(url) as peer:
        await peer.send(UPGRADE + b"\r\n")
        head = await peer.head()
        stated = int(head.partition(b"Hakuban-Time: ")[2].partition(b"\r\n")[0])
        assert abs(stated - time.time_ns()) < 10**9


@pytest.mark.parametrize("size", [0, 1, 20])
async def test_a_handshake_that_takes_too_long_is_ended(size: int) -> None:
    async with accepting(handshake_timeout=0.3) as (url, _), await raw_connection(url) as peer:
        await peer.send(UPGRADE[:size])
        started = time.monotonic()
        assert await peer.rest() == b""
        assert 0.2 < time.monotonic() - started < 1


async def test_a_request_may_come_in_pieces_and_frames_right_behind_it() -> None:
    async with accepting() as (url, accepted), await raw_connection(url) as peer:
        data = UPGRADE + b"\r\n" + frame(FIN | BINARY, b"eager", masked=True)
        for start in range(0, len(data), 50):
            await peer.send(data[start : start + 50])
        with anyio.fail_after(5):
            stream = await accepted.receive()
            assert list(await stream.receive()) == [b"eager"]


# -- who may come in


@pytest.mark.parametrize(
    ("allowed", "origins", "status"),
    [
        ((), [b"http://evil.example"], 403),
        ((), [b"null"], 403),
        (("http://good.example",), [b"http://evil.example"], 403),
        (("http://good.example",), [b"http://good.example.evil.example"], 403),
        (("http://good.example",), [b"http://good.example", b"http://evil.example"], 403),
        (("http://good.example",), [b"http://good.example"], 101),
        (("http://good.example",), [], 101),
    ],
)
async def test_pages_come_in_only_from_allowed_origins(
    allowed: tuple[str, ...], origins: list[bytes], status: int
) -> None:
    async with accepting(allow_origins=allowed) as (url, _), await raw_connection(url) as peer:
        lines = b"".join(b"Origin: " + origin + b"\r\n" for origin in origins)
        await peer.send(UPGRADE + lines + b"\r\n")
        assert (await peer.head()).startswith(b"HTTP/1.1 %d " % status)


async def test_an_authorising_plugin_is_told_what_is_known_and_names_the_peer() -> None:
    requests: list[ConnectionRequest] = []

    def authorize(request: ConnectionRequest) -> Identity:
        requests.append(request)
        return Identity("somebody", {"role": "viewer"})

    connect = {"headers": {"Authorization": "Bearer x"}}
    async with linked(authorize=authorize, connect=connect) as (connected, accepted):
        assert accepted.identity == Identity("somebody", {"role": "viewer"})
        (request,) = requests
        assert request.url == f"ws://{connected.remote_address}"
        assert request.path == "/"
        assert request.headers["authorization"] == "Bearer x"
        assert request.headers["host"] == connected.remote_address
        assert request.remote_address == connected.local_address
        assert request.tls_subject is None


async def test_whom_a_plugin_has_no_opinion_about_is_refused() -> None:
    async with serving(fail, authorize=lambda _: None) as url:
        with pytest.raises(RefusedError, match="HTTP 403: not authorised"):
            await connect_once(url)


async def test_whom_a_plugin_refuses_is_told_why() -> None:
    def authorize(_: ConnectionRequest) -> Identity:
        raise RefusedError("not on a Sunday", retry=False)

    async with serving(fail, authorize=authorize) as url:
        with pytest.raises(RefusedError, match="HTTP 403: not on a Sunday") as caught:
            await connect_once(url)
        assert not caught.value.retry


async def test_whom_a_plugin_refuses_for_now_is_told_to_come_back() -> None:
    def authorize(_: ConnectionRequest) -> Identity:
        raise RefusedError("the list is being read", retry=True)

    async with serving(fail, authorize=authorize) as url:
        with pytest.raises(RefusedError, match="HTTP 503: the list is being read") as caught:
            await connect_once(url)
        assert caught.value.retry
        assert b"\r\nRetry-After: 1\r\n" in await answer(url, UPGRADE + b"\r\n")


@pytest.mark.parametrize("broken", [filtered, handled], ids=["filter", "handler"])
async def test_what_cannot_be_logged_ends_no_listener(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._logger.printed", {})  # faults of this test are meant

    def authorize(_: ConnectionRequest) -> Identity:
        raise OSError("the directory is down")

    async def break_off(_stream: MessageStream) -> None:
        raise ZeroDivisionError("a fault of the handler's")

    async with serving(break_off, authorize=authorize) as url:
        with broken(raise_always, "hakuban"):
            for _ in range(2):
                with pytest.raises(RefusedError, match="503"):
                    async with WebSocketTransport().connect(url, TransportOptions()):
                        pass
    async with serving(break_off) as url:
        with broken(raise_always, "hakuban.ws"):
            for _ in range(2):
                async with WebSocketTransport().connect(url, TransportOptions()) as stream:
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
                    assert stream.close_code == 1011


async def test_a_node_that_is_let_in_later_gets_its_link_at_the_first_connect() -> None:
    asked = []

    def authorize(_: ConnectionRequest) -> Identity:
        asked.append(1)
        if len(asked) < 3:
            raise RefusedError("the list is being read", retry=True)
        return Identity("patient")

    async with LocalNode(name="lab").listen(LOCAL, authorize=authorize) as listener:
        with anyio.fail_after(5):
            async with LocalNode().connect(listener.url) as connection:
                assert connection.remote_name == "lab"
    assert len(asked) == 3


async def test_a_plugin_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def authorize(_: ConnectionRequest) -> Identity:
        raise ZeroDivisionError

    async with serving(fail, authorize=authorize) as url:
        with pytest.raises(RefusedError, match="HTTP 503") as caught:
            await connect_once(url)
        assert caught.value.retry
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def fail(stream: MessageStream) -> None:
    await stream.aclose()
    pytest.fail("nobody should have got here")


async def connect_once(url: str, **options: Any) -> None:
    async with WebSocketTransport().connect(url, TransportOptions(**options)):
        pass


async def test_the_subject_of_a_client_certificate_reaches_the_plugin(
    certificates: Certificates,
) -> None:
    subjects = []

    def authorize(request: ConnectionRequest) -> Identity:
        subjects.append(request.tls_subject)
        return Identity("robot-7")

    async with linked(
        "wss://127.0.0.1:0",
        ssl=certificates.listening(demand=True),
        authorize=authorize,
        connect={"ssl": certificates.connecting("robot-7")},
    ):
        (subject,) = subjects
    assert (("commonName", "robot-7"),) in subject


async def test_a_client_without_the_certificate_that_is_asked_for_is_refused(
    certificates: Certificates,
) -> None:
    context = certificates.listening(demand=True)
    async with serving(fail, "wss://127.0.0.1:0", ssl=context) as url:
        with pytest.raises(RefusedError, match=r"TLS: .*wants a client certificate") as caught:
            await connect_once(url, ssl=certificates.connecting())
        assert not caught.value.retry


async def test_wss_without_a_context_says_what_is_missing() -> None:
    with pytest.raises(InvalidURLError, match="--tls-cert"):
        await WebSocketTransport().serve(
            "wss://127.0.0.1:0", TransportOptions(), fail, task_status=anyio.TASK_STATUS_IGNORED
        )


async def test_garbage_and_silence_on_a_tls_port_hurt_nobody(certificates: Certificates) -> None:
    options = {"ssl": certificates.listening(), "handshake_timeout": 0.5}
    async with accepting("wss://127.0.0.1:0", **options) as (url, accepted):
        assert b"HTTP/1.1 101" not in await answer(url, UPGRADE + b"\r\n")
        async with await raw_connection(url) as silent:
            assert await silent.rest() == b""
        await connect_once(url, ssl=certificates.connecting())
        with anyio.fail_after(5):
            await accepted.receive()


# -- many


async def test_one_too_many_is_told_to_come_back_and_can_when_another_has_left() -> None:
    async with accepting(max_connections=2) as (url, accepted):
        peers = [await raw_connection(url) for _ in range(2)]
        assert b"\r\nRetry-After: " in await answer(url, b"")
        with pytest.raises((RefusedError, OSError)) as caught:
            await connect_once(url)
        assert getattr(caught.value, "retry", True)
        await peers[0].reset()
        with anyio.fail_after(5):
            while b" 101 " not in await first_line(url):
                pass
            await accepted.receive()
        await peers[1].reset()


async def test_one_too_many_who_has_asked_already_reads_the_answer_to_its_end() -> None:
    """A connection that is closed while its request is unread is reset, and the answer with it."""
    async with accepting(max_connections=1) as (url, _), await raw_connection(url):
        with socket.create_connection(("127.0.0.1", port_of(url)), timeout=5) as sock:
            sock.sendall(UPGRADE + b"\r\n")  # before the loop has a turn to accept
            with sock.makefile("rb") as file:
                response = await anyio.to_thread.run_sync(file.read)
    assert response.startswith(b"HTTP/1.1 503 ")
    assert response.endswith(b"too many connections\n")


async def comes_in(url: str, **options: Any) -> None:
    """Connect until there is a place."""
    with anyio.fail_after(10):
        while True:
            try:
                await connect_once(url, **options)
                return
            except (RefusedError, OSError):
                await anyio.sleep(0.02)


async def until_it_ends(stream: MessageStream) -> None:
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        await stream.receive()


async def test_the_silent_give_up_their_places_to_those_who_come() -> None:
    async with serving(until_it_ends, max_connections=2, handshake_timeout=60.0) as url:
        silent = [await raw_connection(url) for _ in range(2)]
        started = time.monotonic()
        await comes_in(url)
        assert time.monotonic() - started > 1  # who is slow has its time
        for peer in silent:
            await peer.reset()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", UPGRADE], ids=["none", "TLS", "HTTP"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_so_do_those_who_stop_in_the_middle_of_their_handshake(
    scheme: str, said: bytes, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._sockets.acceptor_places._SILENCE", 0.2)
    secure = scheme == "wss"
    context = certificates.listening() if secure else None
    bind, options = f"{scheme}://127.0.0.1:0", {"ssl": context, "handshake_timeout": 60.0}
    async with serving(until_it_ends, bind, max_connections=2, **options) as url:
        silent = [await raw_connection(url) for _ in range(2)]
        for peer in silent:
            await peer.send(said)
        await comes_in(url, ssl=certificates.connecting() if secure else None)
        for peer in silent:
            await peer.reset()


async def test_the_silent_keep_their_places_while_there_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._sockets.acceptor_places._SILENCE", 0.0)
    async with serving(until_it_ends, max_connections=3) as url:
        async with await raw_connection(url) as silent:
            for _ in range(3):
                await comes_in(url)
            await silent.send(UPGRADE + b"\r\n")
            assert b" 101 " in await silent.head()


async def test_links_and_those_who_go_on_talking_keep_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._sockets.acceptor_places._SILENCE", 0.5)
    async with (
        accepting(max_connections=2) as (url, accepted),
        WebSocketTransport().connect(url, TransportOptions()) as link,
        await raw_connection(url) as talker,
    ):
        other_end = await accepted.receive()
        for byte in UPGRADE[:50]:
            await talker.send(bytes([byte]))
            assert b" 503 " in await answer(url, b"")
            await anyio.sleep(0.02)
        await talker.send(UPGRADE[50:] + b"\r\n")
        assert b" 101 " in await talker.head()
        await link.send([b"still here"])
        assert list(await other_end.receive()) == [b"still here"]


async def test_a_handler_that_fails_ends_its_own_link_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(stream: MessageStream) -> None:
        if list(await stream.receive()) == [b"fail"]:
            raise ZeroDivisionError
        await stream.send([b"fine"])
        await anyio.sleep_forever()

    async with serving(handler) as url:
        transport, options = WebSocketTransport(), TransportOptions()
        async with transport.connect(url, options) as one, transport.connect(url, options) as two:
            await one.send([b"fail"])
            with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
                await one.receive()
            assert (one.close_code, one.close_reason) == (1011, "internal error")
            await two.send([b"go on"])
            assert list(await two.receive()) == [b"fine"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_handler_that_returns_without_closing_has_its_link_closed() -> None:
    async def handler(stream: MessageStream) -> None:
        await stream.send([b"all there is"])

    options = TransportOptions()
    async with serving(handler) as url, WebSocketTransport().connect(url, options) as stream:
        assert list(await stream.receive()) == [b"all there is"]
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        assert stream.close_code == 1000


async def test_when_cancelled_the_listener_first_lets_nobody_in_and_then_closes_all_links() -> None:
    still_open: list[bool] = []
    url = ""

    async def handler(stream: MessageStream) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with socket.socket() as probe:
                still_open.append(probe.connect_ex(("127.0.0.1", port_of(url))) == 0)
            with anyio.CancelScope(shield=True):
                await stream.aclose(1001, "bye")

    transport, options = WebSocketTransport(), TransportOptions()
    async with anyio.create_task_group() as group:
        serve = partial(transport.serve, LOCAL, options, handler)
        url = await group.start(serve)
        async with transport.connect(url, options) as one, transport.connect(url, options) as two:
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.fail_after(5):
                for stream in (one, two):
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
                    assert (stream.close_code, stream.close_reason) == (1001, "bye")
    assert still_open == [False, False]


async def test_links_in_the_middle_of_a_handshake_do_not_hold_up_the_end() -> None:
    async with accepting() as (url, _):
        peers = [await raw_connection(url) for _ in range(20)]
        for peer in peers[::2]:
            await peer.send(UPGRADE)
        await anyio.wait_all_tasks_blocked()
        started = time.monotonic()
    assert time.monotonic() - started < 1
    for peer in peers:
        assert await peer.rest() == b""
        await peer.stream.aclose()


async def test_links_that_come_and_go_leave_nothing_behind() -> None:
    async with accepting() as (url, accepted):

        async def come_and_go() -> None:
            for sent in (b"\r", UPGRADE, UPGRADE + b"\r\n"):
                peer = await raw_connection(url)
                await peer.send(sent)
                if sent.endswith(b"\r\n\r\n"):
                    await peer.head()
                await peer.stream.aclose()
            with anyio.fail_after(5):
                await (await accepted.receive()).aclose()

        await come_and_go()  # whatever is set up once is set up
        before = open_descriptors()
        for _ in range(10):
            await come_and_go()
        await descriptors_fall_to(before)


async def test_frames_of_many_peers_do_not_mix() -> None:
    async def echo(stream: MessageStream) -> None:
        while True:
            await stream.send(await stream.receive())

    async def talk(url: str, name: int) -> None:
        async with WebSocketTransport().connect(url, TransportOptions()) as stream:
            for i in range(20):
                await stream.send([b"%d: %d" % (name, i)])
                assert list(await stream.receive()) == [b"%d: %d" % (name, i)]

    async with serving(echo) as url, anyio.create_task_group() as group:
        for name in range(50):
            group.start_soon(talk, url, name)


OUT_OF_DESCRIPTORS = """
import anyio, logging, resource, socket, sys
from functools import partial
from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport

logging.basicConfig(stream=sys.stdout, format="LOG %(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

async def echo(stream):
    await stream.send(await stream.receive())

async def main():
    transport = WebSocketTransport()
    async with anyio.create_task_group() as group:
        url = await group.start(partial(transport.serve, "ws://127.0.0.1:0", TransportOptions(max_connections=1000), echo))
        port = int(url.rpartition(":")[2])
        peers = []
        while True:  # the knocking itself uses up what there is
            try:
                peers.append(socket.create_connection(("127.0.0.1", port)))
            except OSError as error:
                break
        await anyio.sleep(0.5)
        print("full", len(peers) > 20)
        for peer in peers:
            peer.close()
        with anyio.fail_after(10):
            while True:
                try:
                    async with transport.connect(url, TransportOptions()) as stream:
                        await stream.send([b"back"])
                        print(await stream.receive())
                        break
                except OSError:
                    await anyio.sleep(0.05)
        group.cancel_scope.cancel()

backend, uvloop = sys.argv[1].partition("+")[::2]
anyio.run(main, backend=backend, backend_options={"use_uvloop": bool(uvloop)} if backend == "asyncio" else {})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize("backend", ["asyncio", "asyncio+uvloop", "trio"])
def test_running_out_of_descriptors_pauses_the_listener_and_is_said_once(backend: str) -> None:
    if "uvloop" in backend:
        pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, backend],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "full True" in lines
    assert "[b'back']" in lines
    assert len([line for line in lines if line.startswith("LOG")]) == 1
    assert "accepts nobody for now: too few descriptors are left" in done.stdout


FEW_DESCRIPTORS = """
import anyio, resource, sys
from functools import partial
from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport

resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

async def main():
    options = TransportOptions(max_connections=1000, handshake_timeout=60.0)
    async with anyio.create_task_group() as group:
        print(await group.start(partial(WebSocketTransport().serve, sys.argv[1], options, lambda stream: stream.aclose())), flush=True)

anyio.run(main)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
async def test_the_silent_give_up_their_descriptors_too() -> None:
    with Program([sys.executable, "-c", FEW_DESCRIPTORS, LOCAL]) as listener:
        url = listener.out.next() or ""
        silent = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(80)]
        await comes_in(url)
        for peer in silent:
            peer.close()


async def test_a_close_right_after_the_upgrade_is_met() -> None:
    async with accepting() as (url, accepted), await raw_connection(url) as peer:
        await peer.send(UPGRADE + b"\r\n" + frame(FIN | CLOSE, b"\x03\xe8", masked=True))
        with anyio.fail_after(5):
            stream = await accepted.receive()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_peers_that_reset_in_the_middle_of_everything_hurt_nobody() -> None:
    async with accepting() as (url, accepted):
        for sent in (b"", UPGRADE, UPGRADE + b"\r\n"):
            peer: RawPeer = await raw_connection(url)
            if sent:
                await peer.send(sent)
            await peer.reset()
        await connect_once(url)
        with anyio.fail_after(5):
            await accepted.receive()


async def test_unfinished_messages_of_all_links_have_one_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The link with the largest is ended, and told; here it is the last one."""
    monkeypatch.setattr("hakuban._transport.reassembly._MOST", 1_000_000)
    ends: list[PeerViolationError] = []

    async def take(stream: MessageStream) -> None:
        try:
            await stream.receive()
        except PeerViolationError as error:
            ends.append(error)
            await stream.aclose(error.code, error.reason)

    async with serving(take, max_message=250_000) as url, AsyncExitStack() as crowd:
        for size in (240_000, 240_000, 240_000, 100_000, 241_000):
            peer = await crowd.enter_async_context(await raw_connection(url))
            await peer.send(UPGRADE + b"\r\n")
            await peer.head()
            await peer.frame(BINARY, bytes(size))
        assert (await peer.exactly(4))[2:] == (1013).to_bytes(2, "big")
        assert [error.code for error in ends] == [1013]


@pytest.mark.long
async def test_messages_that_end_are_none_that_are_unfinished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._transport.reassembly._MOST", 1_000_000)
    message = bytes(200_000)
    async with accepting(max_message=250_000) as (url, accepted), AsyncExitStack() as crowd:
        links = []
        for _ in range(8):
            connect = WebSocketTransport().connect(url, TransportOptions())
            links.append((await crowd.enter_async_context(connect), await accepted.receive()))
        for sent in (message, b"still here"):
            for connected, stream in links:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(connected.send, [sent])
                    assert [bytes(got) for got in await stream.receive()] == [sent]
