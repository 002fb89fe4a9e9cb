"""What a connecting side does with answers of all kinds."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import pytest
from typing_extensions import override

from hakuban.transport import InvalidURLError, MessageStream, RefusedError, TransportOptions
from hakuban_ws import WebSocketTransport
from hakuban_ws._stream import WebSocketStream
from support.websocket import (
    BINARY,
    FIN,
    TEXT,
    Certificates,
    RawPeer,
    accepting,
    descriptors_fall_to,
    frame,
    linked,
    open_descriptors,
    port_of,
    raw_listener,
    serving,
    socket_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager


def connect(url: str, **options: Any) -> AbstractAsyncContextManager[WebSocketStream]:
    return WebSocketTransport().connect(url, TransportOptions(**options))


async def fails(url: str, **options: Any) -> None:
    async with connect(url, **options):
        pytest.fail("this should not have been a link")


def answering(response: bytes) -> Callable[[RawPeer], Awaitable[None]]:
    async def talk(peer: RawPeer) -> None:
        await peer.head()
        await peer.send(response)

    return talk


async def test_the_request_is_what_the_url_says() -> None:
    requests = []

    async def talk(peer: RawPeer) -> None:
        requests.append(await peer.accept(b"Hakuban-Time: 123\r\n"))
        await peer.rest()

    headers = {"X-Token": "secret"}
    async with (
        raw_listener(talk) as url,
        connect(f"{url}/a/b?c=d", headers=headers) as stream,
    ):
        assert not stream.peer_is_ours
        assert stream.peer_clock == 123
    (request,) = requests
    assert request.startswith(b"GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port_of(url))
    assert b"\r\nX-Token: secret\r\n" in request
    assert b"\r\nSec-WebSocket-Protocol: hakuban.0.8\r\n" in request
    assert b"Origin" not in request
    assert b"Sec-WebSocket-Extensions" not in request


async def test_what_comes_right_behind_the_response_is_not_lost() -> None:
    async def talk(peer: RawPeer) -> None:
        frames = frame(FIN | TEXT, b".", masked=False) + frame(FIN | BINARY, b"x", masked=False)
        await peer.accept(behind=frames)
        await peer.rest()

    async with raw_listener(talk) as url, connect(url) as stream:
        with anyio.fail_after(5):
            assert list(await stream.receive()) == [b"x"]


@pytest.mark.parametrize(
    ("response", "retry"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nno.\n", False),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno.\n", True),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", True),
    ],
)
async def test_another_answer_than_an_upgrade_is_a_refusal(response: bytes, *, retry: bool) -> None:
    async with raw_listener(answering(response)) as url:
        with pytest.raises(RefusedError, match=response[9:12].decode()) as caught:
            await fails(url)
        assert caught.value.retry is retry
        assert caught.value.code == 1008


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(40_000),
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    ],
    ids=["ssh", "tls alert", "no accept token", "endless", "many headers"],
)
async def test_what_is_no_websocket_server_is_not_tried_again(response: bytes) -> None:
    async with raw_listener(answering(response)) as url:
        with anyio.fail_after(5), pytest.raises(RefusedError, match="no WebSocket there") as caught:
            await fails(url)
        assert not caught.value.retry


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 10"])
async def test_a_connection_that_ends_before_the_answer_is_an_oserror(response: bytes) -> None:
    async def talk(peer: RawPeer) -> None:
        await peer.head()
        if response:
            await peer.send(response)

    async with raw_listener(talk) as url:
        with anyio.fail_after(5), pytest.raises(ConnectionResetError):
            await fails(url)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 101 Switching Protocols\r\n"])
async def test_an_answer_that_does_not_come_is_a_timeout(start: bytes) -> None:
    async def talk(peer: RawPeer) -> None:
        if start:
            await peer.send(start)
        await peer.rest()

    async with raw_listener(talk) as url:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await fails(url, handshake_timeout=0.3)
        assert 0.2 < time.monotonic() - started < 1


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:x", "wss://", "http://h", "ws://u:p@h", "ws://h:0"]
)
async def test_bad_urls_are_told_apart_from_bad_luck(url: str) -> None:
    with pytest.raises(InvalidURLError):
        await fails(url)


async def test_an_error_in_the_block_comes_out_as_it_is_and_the_link_is_closed() -> None:
    async def handler(stream: MessageStream) -> None:
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()

    streams = []

    async def use(url: str) -> None:
        async with connect(url) as stream:
            streams.append(stream)
            raise ZeroDivisionError

    async with serving(handler) as url:
        with anyio.fail_after(5), pytest.raises(ZeroDivisionError):
            await use(url)
        with pytest.raises(anyio.ClosedResourceError):
            await streams[0].receive()


async def test_leaving_the_block_says_goodbye() -> None:
    async def handler(stream: MessageStream) -> None:
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        assert isinstance(stream, WebSocketStream)
        ends.append((stream.close_code, stream.close_reason))
        await stream.aclose()

    ends: list[tuple[int | None, str | None]] = []
    async with serving(handler) as url, connect(url):
        pass
    assert ends == [(1000, "")]


@pytest.mark.parametrize("nodelay", [False, True])
async def test_short_messages_wait_for_others_only_where_the_options_say_so(
    *, nodelay: bool
) -> None:
    def waits_for_none(stream: WebSocketStream) -> bool:
        with socket_of(stream) as sock:
            return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with linked(nodelay=nodelay) as (connected, accepted):
        assert waits_for_none(connected) is nodelay
        assert waits_for_none(accepted) is nodelay


# -- TLS


async def test_a_certificate_that_does_not_verify_is_not_tried_again(
    certificates: Certificates,
) -> None:
    async with accepting("wss://127.0.0.1:0", ssl=certificates.listening()) as (url, _):
        for context in (ssl.create_default_context(), None):
            with pytest.raises(RefusedError, match="certificate does not verify") as caught:
                await fails(url, ssl=context)
            assert not caught.value.retry


async def test_a_certificate_of_another_host_does_not_verify(certificates: Certificates) -> None:
    async with accepting("wss://127.0.0.9:0", ssl=certificates.listening()) as (url, _):
        with pytest.raises(RefusedError, match=r"127\.0\.0\.9"):
            await fails(url, ssl=certificates.connecting())


async def test_a_context_of_ones_own_may_turn_verification_off(certificates: Certificates) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def echo(stream: MessageStream) -> None:
        await stream.send(await stream.receive())

    server = certificates.listening()
    async with (
        serving(echo, "wss://127.0.0.1:0", ssl=server) as url,
        connect(url, ssl=context) as stream,
    ):
        await stream.send([b"x"])
        assert list(await stream.receive()) == [b"x"]


class BrokenContext(ssl.SSLContext):
    """One of the user's own, with a fault."""

    @override
    def wrap_bio(self, *_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError


async def test_a_context_with_a_fault_leaves_no_connection_open() -> None:
    async with accepting() as (url, _):
        async with connect(url):
            pass  # whatever is set up once is set up
        before = open_descriptors()
        context = BrokenContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ZeroDivisionError) as caught:
            await fails(url.replace("ws:", "wss:"), ssl=context)
        await descriptors_fall_to(before)
        del caught  # which has held what failed, so that nothing was collected


async def test_tls_to_a_plain_port_is_not_tried_again(certificates: Certificates) -> None:
    async with accepting() as (url, _):
        with anyio.fail_after(5), pytest.raises(RefusedError, match="TLS") as caught:
            await fails(url.replace("ws:", "wss:"), ssl=certificates.connecting())
        assert not caught.value.retry


async def test_a_connection_that_ends_in_the_tls_handshake_is_an_oserror(
    certificates: Certificates,
) -> None:
    async def talk(peer: RawPeer) -> None:
        await peer.exactly(5)

    async with raw_listener(talk) as url:
        with anyio.fail_after(5), pytest.raises(OSError) as caught:  # noqa: PT011 # the system's words
            await fails(url.replace("ws:", "wss:"), ssl=certificates.connecting())
        assert isinstance(caught.value, ConnectionResetError)


# -- cancellation


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_connecting_can_be_cancelled_at_any_moment_and_leaves_nothing_behind(
    certificates: Certificates, *, secure: bool
) -> None:
    if secure:
        server: dict[str, Any] = {"ssl": certificates.listening(), "url": "wss://127.0.0.1:0"}
        client: dict[str, Any] = {"ssl": certificates.connecting()}
    else:
        server, client = {}, {}

    async def handler(stream: MessageStream) -> None:
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()

    entered = 0
    async with serving(handler, **server) as url:
        async with connect(url, **client):
            pass  # whatever is set up once is set up
        before = open_descriptors()
        for turns in range(60):
            with anyio.CancelScope() as scope:

                async def cancel(turns: int = turns, scope: anyio.CancelScope = scope) -> None:
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                async with anyio.create_task_group() as group:
                    group.start_soon(cancel)
                    async with connect(url, **client):
                        entered += 1
        await descriptors_fall_to(before)
    assert 0 < entered < 60
