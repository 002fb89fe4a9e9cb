"""What the end of a link leaves, and what it is called: closed, given up, cut off, over TLS too."""

from __future__ import annotations

import math
import socket
import ssl
import struct
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban.transport import MessageStream, PeerViolationError
from support.waiting import until
from support.websocket import (
    BINARY,
    CLOSE,
    FIN,
    UPGRADE,
    Certificates,
    accepting,
    linked,
    port_of,
    raw_client,
    raw_connection,
    serving,
    socket_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from hakuban_ws._stream import WebSocketStream

KIB = 1024
BIG = 900 * KIB


def first_part(size: int) -> bytes:
    """A frame of that many bytes, after which others of its message are to come; masked with zeros, which takes no time."""
    return struct.pack("!BBQ", BINARY, 0x80 | 127, size) + bytes(4 + size)


LARGEST, SMALLER = first_part(BIG), first_part(200 * KIB)


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Tell how many bytes are held that were not at the beginning."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


async def test_a_stream_that_is_closed_holds_nothing_of_what_has_come(
    traced: Callable[[], int],
) -> None:
    async with raw_client() as (stream, peer):
        async with anyio.create_task_group() as group:
            group.start_soon(stream.receive)
            await peer.send(LARGEST)
            await until(lambda: traced() >= BIG)
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose)
            await peer.read_frame()
            await peer.stream.aclose()
        assert traced() < BIG // 2


async def test_the_largest_unfinished_message_is_given_up_at_once_though_its_reader_waits(
    traced: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._transport.reassembly._MOST", 1000 * KIB)
    monkeypatch.setattr("hakuban._transport.reassembly._MESSAGES", 1)
    given_up, looked = anyio.Event(), anyio.Event()

    async def take(stream: MessageStream) -> None:
        with pytest.raises(PeerViolationError, match="the most of one link") as caught:
            await stream.receive()
        given_up.set()
        await looked.wait()
        await stream.aclose(caught.value.code, caught.value.reason)

    async with serving(take, max_message=1000 * KIB) as url, AsyncExitStack() as crowd:
        for unfinished in (LARGEST, SMALLER):
            peer = await crowd.enter_async_context(await raw_connection(url))
            await peer.send(UPGRADE + b"\r\n")
            await peer.head()
            await peer.send(unfinished)
            if unfinished is LARGEST:
                await until(lambda: traced() >= BIG)
        with anyio.fail_after(5):
            await given_up.wait()
        assert traced() < BIG
        looked.set()


async def test_who_closes_while_another_receives_is_there_for_the_end_of_the_other_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_ws._stream._LINGER_SECONDS", math.inf)
    async with raw_client() as (stream, peer):

        async def receive() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()

        async def answer() -> None:
            assert await peer.read_frame() == (FIN | CLOSE, struct.pack("!H", 1001))
            await peer.frame(FIN | CLOSE, struct.pack("!H", 1001))
            await peer.stream.aclose()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(answer)
                await stream.aclose(1001)


async def test_nothing_is_sent_to_whom_has_done_wrong() -> None:
    async with raw_client(max_message=1000) as (stream, peer):
        await peer.frame(FIN | BINARY, bytes(1001))
        with pytest.raises(PeerViolationError):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError, match="over 1000 bytes"):
            await stream.send([b"x"])


# -- over TLS


@asynccontextmanager
async def linked_by_tls(
    certificates: Certificates,
) -> AsyncIterator[tuple[WebSocketStream, WebSocketStream]]:
    connect = {"ssl": certificates.connecting()}
    async with linked("wss://127.0.0.1:0", ssl=certificates.listening(), connect=connect) as ends:
        yield ends


async def test_what_is_no_tls_on_an_established_link_is_said_in_the_words_of_each_side(
    certificates: Certificates,
) -> None:
    async with linked_by_tls(certificates) as (connected, accepted):
        for sender, receiver, words in (
            (connected, accepted, "the peer does not speak TLS"),
            (accepted, connected, "the other side does not speak TLS"),
        ):
            with socket_of(sender) as sock:
                sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(anyio.BrokenResourceError, match=words):
                await receiver.receive()


@pytest.mark.parametrize("properly", [True, False], ids=["close_notify", "FIN"])
async def test_a_tls_connection_that_just_ends_is_broken_in_the_words_of_any_other(
    certificates: Certificates, *, properly: bool
) -> None:
    def talk(port: int) -> None:
        context = certificates.connecting()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            sock.sendall(UPGRADE + b"\r\n")
            sock.recv(KIB)
            if properly:
                with suppress(ssl.SSLError):  # it is not answered
                    sock.unwrap()

    async with accepting("wss://127.0.0.1:0", ssl=certificates.listening()) as (url, accepted):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, talk, port_of(url))
            stream = await accepted.receive()
            with pytest.raises(anyio.BrokenResourceError, match="ended without a Close frame"):
                await stream.receive()
            assert stream.close_code == 1006
            await stream.aclose()


async def test_an_answer_over_tls_arrives_whole_and_ends_as_tls_ends(
    certificates: Certificates,
) -> None:
    """Who goes on sending is not reset; and who got all of it knows that nobody has cut it off."""

    def ask(port: int) -> bytes:
        context = certificates.connecting()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(1_000_000))
            received = b""
            while data := sock.recv(4096):
                received += data
            return received

    async with accepting("wss://127.0.0.1:0", ssl=certificates.listening()) as (url, _):
        received = await anyio.to_thread.run_sync(ask, port_of(url))
    assert received.endswith(b"\r\n\r\nhakuban ok\n")
