"""What the end of a link leaves, and what it is called: closed, given up, cut off, over TLS too."""

from __future__ import annotations

import ctypes
import math
import socket
import ssl
import struct
import sys
import time
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
    PING,
    UPGRADE,
    Certificates,
    accepting,
    frame,
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
    from support.websocket import RawPeer

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


async def reset(peer: RawPeer, stream: WebSocketStream) -> None:
    """End the connection with a RST, which has come in then, and which the stream has not met yet."""
    with socket_of(stream) as sock:
        await peer.reset()
        await anyio.wait_readable(sock)


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


async def test_each_end_by_a_reset_is_told_with_the_error_of_the_system_behind_it() -> None:
    async with raw_client(keep_alive=1000) as (stream, peer):
        await peer.reset()
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await stream.receive()
            assert isinstance(caught.value.__cause__, ConnectionResetError)
            assert str(caught.value) == str(caught.value.__cause__)


async def test_what_came_before_a_reset_is_received_though_a_ping_in_it_cannot_be_answered() -> (
    None
):
    async with raw_client() as (stream, peer):
        a_batch = frame(FIN | BINARY, b"x", masked=True) * 1000
        late = frame(FIN | PING, b"there?", masked=True) + frame(FIN | BINARY, b"y", masked=True)
        await peer.send(a_batch + late)
        assert list(await stream.receive()) == [b"x"] * 1000
        await reset(peer, stream)
        assert list(await stream.receive()) == [b"y"]
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def test_a_sign_of_life_that_meets_a_reset_leaves_it_to_whoever_receives() -> None:
    async with raw_client(keep_alive=10, timeout=1000) as (stream, peer):
        await reset(peer, stream)
        assert stream.check(time.monotonic() + 20) is not None
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


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


class Allocations(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "in_use", "fordblks", "keepcost",
        )
    )  # fmt: skip


def allocated() -> int:
    """Bytes that all of the process has from `malloc`, OpenSSL too."""
    tell = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if tell is None:
        pytest.skip("this C library does not tell")
    tell.restype = Allocations
    told = tell()
    return int(told.in_use + told.mapped)


@pytest.mark.skipif(sys.platform != "linux", reason="no other C library tells")
async def test_a_large_message_over_tls_leaves_no_large_buffers_behind(
    certificates: Certificates,
) -> None:
    async with linked_by_tls(certificates) as (sender, receiver):

        async def pass_through(size: int) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(sender.send, [bytes(size), b"end"])
                missing = size + len(b"end")
                while missing:
                    missing -= sum(map(len, await receiver.receive()))

        await pass_through(1)
        before = allocated()
        await pass_through(4096 * KIB)
        assert allocated() - before < 200 * KIB
