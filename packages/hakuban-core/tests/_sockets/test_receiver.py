from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from hakuban._sockets.receiver import LoopSocketReceiver, SocketReceiver, receiver_for
from hakuban.sockets import SocketStream

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def pair() -> Iterator[tuple[SocketReceiver, socket.socket]]:
    """What arrives at one end of a connection, and the other end."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        receiver = receiver_for(here)
        try:
            yield receiver, there
        finally:
            receiver.close()


async def piece(receiver: SocketReceiver) -> bytes:
    with anyio.fail_after(5):
        while True:
            await receiver.wait()
            try:
                return receiver.take()
            except BlockingIOError:
                continue


async def test_pieces_come_in_order_and_then_the_end() -> None:
    with pair() as (receiver, there):
        there.send(b"one")
        assert await piece(receiver) == b"one"
        there.send(b"two")
        there.shutdown(socket.SHUT_WR)
        assert await piece(receiver) == b"two"
        assert await piece(receiver) == b""


async def test_a_full_piece_is_followed_by_larger_ones() -> None:
    with pair() as (receiver, there):
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sent = there.send(bytes(200_000), socket.MSG_DONTWAIT)
        first = await piece(receiver)
        assert len(first) == 64 * 1024
        assert receiver.more
        assert len(receiver.take()) == sent - len(first)
        assert not receiver.more


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    with pair() as (receiver, there):
        for i in range(20):
            async with anyio.create_task_group() as group:
                group.start_soon(receiver.wait)
                await anyio.lowlevel.checkpoint()
                there.send(b"%02d" % i)
                for _ in range(i % 4):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        received = b""
        while len(received) < 40:
            received += await piece(receiver)
        assert received == b"".join(b"%02d" % i for i in range(20))


async def test_what_nobody_waits_for_stays_in_the_socket_and_keeps_no_loop_busy() -> None:
    with pair() as (receiver, there):
        there.send(b"first")
        assert await piece(receiver) == b"first"
        there.send(b"second")
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        if isinstance(receiver, LoopSocketReceiver):
            assert not receiver.watched
        assert receiver.waiting()
        assert await piece(receiver) == b"second"
        assert not receiver.waiting()


async def test_an_interruption_lets_the_waiter_go() -> None:
    with pair() as (receiver, there):
        done = anyio.Event()

        async def wait() -> None:
            try:
                await receiver.wait()
            except anyio.ClosedResourceError:
                pass  # as anyio puts it
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            receiver.interrupt()
            with anyio.fail_after(5):
                await done.wait()
        receiver.interrupt()  # nobody waits
        there.send(b"later")
        assert await piece(receiver) == b"later"


async def test_a_reset_is_an_error_of_the_one_who_takes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    with here:
        here.setblocking(False)
        receiver = receiver_for(here)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        async with anyio.create_task_group() as group:
            group.start_soon(receiver.wait)
            await anyio.wait_all_tasks_blocked()
            there.close()
        with pytest.raises(ConnectionResetError):
            receiver.take()
        receiver.close()


async def end_of(stream: SocketStream) -> int:
    """Read to the end, an error or not; give how many bytes came before it."""
    size = 0
    with anyio.fail_after(5):
        while True:
            try:
                data = await stream.read()
            except OSError:
                return size  # a reset, or a broken pipe
            if not data:
                return size
            size += len(data)


@pytest.mark.parametrize("size", [10, 64 * 1024, 64 * 1024 + 10, 200_000])
@pytest.mark.parametrize("reader", ["waits", "came before", "comes after"])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end"])
async def test_an_end_right_behind_data_is_not_overlooked(
    size: int, reader: str, *, reset: bool
) -> None:
    """All of it is there before the loop looks: of a reset uvloop calls once, and stops watching."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    with here, there:
        here.setblocking(False)
        stream = SocketStream(here)
        if reader == "came before":
            there.send(b"first")
            assert await stream.read() == b"first"
        received = -1

        async def receive() -> None:
            nonlocal received
            received = await end_of(stream)

        async with anyio.create_task_group() as group:
            if reader == "waits":
                group.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
            there.sendall(bytes(size))
            if reset:
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            there.close()
            if reader != "waits":
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()  # a callback without a waiter
                group.start_soon(receive)
        assert received == size or (reset and received >= 0)
        stream.close()


async def test_a_descriptor_that_is_used_again_is_watched_again() -> None:
    for _ in range(3):
        with pair() as (receiver, there):
            there.send(b"hello")
            assert await piece(receiver) == b"hello"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_only_asyncio_is_asked_to_go_on_watching(anyio_backend: str) -> None:
    with pair() as (receiver, _):
        assert isinstance(receiver, LoopSocketReceiver) is (anyio_backend == "asyncio")
