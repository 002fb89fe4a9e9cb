"""What one accepted connection takes and sends in a turn of the loop, what waits in it, and that it is given up."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from hakuban.sockets import SocketStream
from hakuban_zmq import _connection
from hakuban_zmq._codec import Codec
from hakuban_zmq._connection import Connection
from hakuban_zmq._frames import (
    BYE,
    BYE_ACK,
    CHUNK,
    DATA,
    HEADER,
    PONG,
    SESSION,
    VERSION,
    WELCOME,
    Hello,
    chunks,
    frame,
)
from hakuban_zmq._zmtp import COMMAND, GREETING, NULL, FrameReader, command, encode, greeting
from support.waiting import until
from support.zeromq import WIDE, accepting, end_of, serving
from support.zmtp import everything, framed, greet, ready, take_from, where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakuban.transport import MessageStream


LARGE = frame(DATA, b"c" * SESSION, bytes(1 << 20))
TINY = frame(PONG, b"c" * SESSION)


def encoded(*frames: bytes) -> bytes:
    return b"".join(map(Codec().encode, frames))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the ends of a connection: ours, which is closed with that, and the other one."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.settimeout(5)
    with there:
        yield here, there
    assert here.fileno() == -1


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_the_system_has_no_room_for_is_sent_and_the_end_is_no_reset(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], *, cancelled: bool
) -> None:
    monkeypatch.setattr(_connection, "_CLOSE_SECONDS", 60.0)
    here, there = pair
    with ThreadPoolExecutor(1) as pool, anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            assert connection.send(LARGE)
            there.sendall(b"which nobody reads")
            if cancelled:
                tasks.cancel_scope.cancel()
            came = pool.submit(everything, there)
            await connection.aclose()
        assert came.result() == encoded(LARGE)


async def test_all_of_it_comes_without_anything_behind_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            for _ in range(2):
                assert connection.send(LARGE)
                assert connection.stuck
                size = len(encoded(LARGE))
                came = await anyio.to_thread.run_sync(take_from, there, size)
                assert came == encoded(LARGE)
                await until(lambda: not connection.stuck)
            connection.abandon()
            await connection.aclose()


async def test_so_much_may_wait_and_no_more_each_time(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Counted are the bytes that the operating system has not taken: of what it was offered, and behind that."""
    here, there = pair
    most = 2 * CHUNK
    first = frame(DATA, b"c" * SESSION, bytes(CHUNK))
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            for _ in range(2):
                assert connection.send(first)
                taken = len(there.recv(1 << 20, socket.MSG_DONTWAIT))
                waits = len(encoded(first)) - taken
                second = frame(
                    DATA, b"c" * SESSION, bytes(most - waits - len(encoded(first)) + CHUNK)
                )
                assert connection.send(second)
                assert connection.send(TINY)
                assert not connection.send(TINY)
                # the rest of the first one goes, and there is room again
                await anyio.to_thread.run_sync(take_from, there, waits)
                assert connection.stuck
                assert connection.send(TINY)
                rest = await anyio.to_thread.run_sync(
                    take_from, there, len(encoded(second, TINY, TINY))
                )
                assert rest == encoded(second, TINY, TINY)
                await until(lambda: not connection.stuck)
            connection.abandon()
            await connection.aclose()


async def test_a_peer_that_reads_nothing_does_not_delay_the_end(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    monkeypatch.setattr(_connection, "_CLOSE_SECONDS", 0.05)
    here, _ = pair
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            connection.send(LARGE)
            await connection.aclose()


async def test_a_peer_that_is_gone_is_no_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            connection.send(LARGE)
            await anyio.wait_all_tasks_blocked()
            there.close()
            await until(lambda: not connection.stuck)
            connection.send(TINY)
            await connection.aclose()


async def test_a_connection_is_closed_once_and_whoever_comes_later_waits_for_that(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    monkeypatch.setattr(_connection, "_CLOSE_SECONDS", 60.0)
    here, there = pair

    async def close() -> None:
        await connection.aclose()
        assert here.fileno() == -1

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            tasks.start_soon(close)
            tasks.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            there.close()
        await connection.aclose()


async def test_a_descriptor_may_be_used_again_right_after_a_connection_was_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, _ = pair
    number = here.fileno()
    one, other = socket.socketpair()
    with one, other, anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            connection = Connection(SocketStream(here), tasks)
            connection.send(LARGE)
            await anyio.wait_all_tasks_blocked()
            connection.abandon()
            await connection.aclose()
            with socket.socket(fileno=os.dup2(one.fileno(), number)) as again:
                with suppress(BlockingIOError):
                    while again.send(bytes(CHUNK), socket.MSG_DONTWAIT):
                        pass

                async def read() -> None:
                    with suppress(BlockingIOError):
                        while other.recv(1 << 20, socket.MSG_DONTWAIT):
                            pass

                tasks.start_soon(read)
                await anyio.wait_writable(again)


# ---- a turn of the loop ---------------------------------------------------------------------------------------------


def ping(context: bytes) -> bytes:
    """Give the bytes of a PING of ZMTP."""
    return encode(command(b"PING", b"\0\0" + context), COMMAND)


async def test_of_many_pings_the_newest_is_answered_each_hundred_frames() -> None:
    async def handler(stream: MessageStream) -> None:
        await end_of(stream)

    def ask(url: str) -> list[bytes]:
        sock = socket.create_connection(where(url), timeout=5)
        hello = framed(Hello(b"c" * SESSION, VERSION, WIDE).encode())
        pings = b"".join(ping(b"%d" % number) for number in range(250))
        sock.sendall(greeting(NULL) + ready() + ping(b"early") + hello + pings)
        sock.shutdown(socket.SHUT_WR)
        reader = FrameReader(HEADER + CHUNK)
        reader.feed(everything(sock)[GREETING:])
        return [one.body for one in iter(reader.take, None)]

    async with serving(handler) as url:
        _, early, welcome, *others = await anyio.to_thread.run_sync(ask, url)
    assert early == command(b"PONG", b"early")
    assert welcome[0] == WELCOME
    assert others == [command(b"PONG", context) for context in (b"99", b"199", b"249")]


async def test_many_pings_before_a_hello_leave_the_loop_its_turns(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    hello = Hello(b"c" * SESSION, VERSION, WIDE)
    there.sendall(ping(b"") * 1_000 + framed(hello.encode()))
    turns = 0
    async with anyio.create_task_group() as tasks:
        connection = Connection(SocketStream(here), tasks)
        connection.codec.begin(None)

        async def read() -> None:
            assert await connection.hello() == hello
            await connection.aclose()
            tasks.cancel_scope.cancel()

        connection.abandon()
        tasks.start_soon(read)
        while not tasks.cancel_scope.cancel_called:
            turns += 1
            await checkpoint()
    assert turns > 1_000


async def test_frames_are_taken_in_turns_of_a_hundred() -> None:
    frames = 500
    async with accepting() as (url, accepted):
        with socket.create_connection(where(url), timeout=5) as sock:
            parts = greet(sock.sendall, partial(take_from, sock))
            sock.sendall(framed(Hello(b"c" * SESSION, VERSION, WIDE).encode()))
            stream = await accepted.receive()
            welcome = await anyio.to_thread.run_sync(next, parts)
            (data,) = chunks([b"x"], welcome[HEADER + 1 :][:SESSION])
            sock.sendall(framed(data) * frames)
            seen = [0]
            while seen[-1] < frames:
                await checkpoint()
                seen.append(len(stream._unread))
    # trio has tasks go on in any order: two turns of the other one may lie in between
    assert 100 <= max(after - before for before, after in pairwise(seen)) <= 200


async def test_a_link_that_is_closed_gives_its_connection_up_whatever_its_handler_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connection, "_CLOSE_SECONDS", 60.0)
    with anyio.fail_after(10):
        async with accepting() as (url, accepted), anyio.create_task_group() as tasks:
            sock = socket.create_connection(where(url), timeout=5)
            parts = greet(sock.sendall, partial(take_from, sock))
            sock.sendall(framed(Hello(b"c" * SESSION, VERSION, WIDE).encode()))
            stream = await accepted.receive()
            tasks.start_soon(stream.aclose)
            came = [await anyio.to_thread.run_sync(next, parts) for _ in range(2)]
            assert [data[0] for data in came] == [WELCOME, BYE]
            sock.sendall(framed(frame(BYE_ACK, came[0][HEADER + 1 :][:SESSION])))
            assert await anyio.to_thread.run_sync(everything, sock) == b""
