"""Whose turn it is: that of others on the loop, of a signal between messages, of newer values before older ones."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint

from support.waiting import Turns
from support.websocket import (
    BINARY,
    CLOSE,
    FIN,
    PING,
    PONG,
    frame,
    linked,
    raw_client,
    socket_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hakuban_ws._stream import WebSocketStream

KIB, MIB = 1024, 1024 * 1024


@asynccontextmanager
async def counted() -> AsyncIterator[Turns]:
    """Count the turns that others have meanwhile; they are none until something waits."""
    turns = Turns()
    async with anyio.create_task_group() as group:
        group.start_soon(turns.run)
        await checkpoint()
        await checkpoint()
        turns.taken = 0
        yield turns
        group.cancel_scope.cancel()


async def test_others_have_their_turn_each_16_sends_which_are_taken_at_once() -> None:
    async with raw_client() as (stream, peer), counted() as turns:
        for _ in range(160):
            await stream.send([b"x"])
        assert 9 <= turns.taken <= 12
        assert await peer.exactly(160 * 3) == b"\x82\x01x" * 160


async def test_others_have_their_turn_between_batches_which_have_come_already() -> None:
    async with raw_client() as (stream, peer):
        await peer.send(frame(FIN | BINARY, b"x", masked=True) * 9000)
        left = 9000 - len(await stream.receive())  # all has come with the first of them
        async with counted() as turns:
            batches = 0
            while left:
                left -= len(await stream.receive())
                batches += 1
                assert turns.taken >= batches - 1


async def test_others_have_their_turn_between_pings() -> None:
    async with raw_client() as (stream, peer):
        pings = frame(FIN | PING, b"", masked=True) * 20_000
        await peer.send(pings + frame(FIN | BINARY, b"x", masked=True))
        async with counted() as turns:
            assert list(await stream.receive()) == [b"x"]
            assert turns.taken >= 18


async def test_a_ping_is_answered_once() -> None:
    async with raw_client() as (stream, peer):
        await peer.frame(FIN | PING, b"there?")
        await peer.frame(FIN | BINARY, b"x")
        assert list(await stream.receive()) == [b"x"]
        for _ in range(2):
            await stream.send([b"y"])
        frames = [await peer.read_frame() for _ in range(3)]
        assert frames == [(FIN | PONG, b"there?"), (FIN | BINARY, b"y"), (FIN | BINARY, b"y")]


async def test_a_close_is_answered_once_and_nothing_follows_it() -> None:
    async with raw_client(keep_alive=0.01) as (stream, peer):
        await peer.send(frame(FIN | PING, b"1", masked=True) + frame(FIN | CLOSE, masked=True))
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send([b"x"])
        stream.check(time.monotonic() + 100)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose)
            received = await peer.rest()
        pong, close = frame(FIN | PONG, b"1", masked=False), frame(FIN | CLOSE, masked=False)
        assert received.endswith(pong + close)


# -- signs of life


async def test_a_check_is_in_time_at_the_very_moment_it_was_due_and_not_before() -> None:
    async with raw_client(keep_alive=10, timeout=1000) as (stream, _):
        due = stream.check(time.monotonic() + 20)
        assert due is not None
        assert stream.check(due - 1) is None
        assert stream.check(due) is not None


async def test_a_sign_that_finds_the_socket_full_is_tried_again_soon() -> None:
    async with raw_client(keep_alive=10, timeout=1000) as (stream, peer):
        more_than_it_takes = frame(FIN | BINARY, bytes(16 * MIB), masked=False)
        stream._channel.write(more_than_it_takes)
        due = time.monotonic() + 20
        again = stream.check(due)
        assert again is not None
        assert due < again < due + 1
        async with anyio.create_task_group() as group:
            group.start_soon(stream._channel.flush)
            await peer.exactly(len(more_than_it_takes))
        next_sign = stream.check(again)
        assert next_sign is not None
        assert next_sign > again + 1
        assert await peer.read_frame() == (FIN | PING, b"")


@pytest.mark.parametrize("how", ["we close", "they close", "they go", "they do wrong"])
async def test_a_link_that_has_ended_is_not_checked_any_more(how: str) -> None:
    async with raw_client(keep_alive=10, timeout=1000) as (stream, peer):
        if how == "we close":
            async with anyio.create_task_group() as group:
                group.start_soon(stream.aclose)
                await peer.read_frame()
                await peer.stream.aclose()
        elif how == "they go":
            await peer.stream.aclose()
        else:
            await peer.frame(FIN | CLOSE if how == "they close" else FIN | 0x3)
        with pytest.raises(Exception) as caught:  # noqa: PT011  # another one for each
            await stream.receive()
        del caught
        assert stream.check(time.monotonic() + 100) is None


# -- reading ahead


class Clock:
    """What streams take for the time: it stands still but for what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = time.monotonic()
        monkeypatch.setattr("hakuban_ws._stream.time", SimpleNamespace(monotonic=lambda: self._now))

    def handle(self, seconds: float) -> None:
        """Take so long over what was received."""
        self._now += seconds


def held_by_the_system(stream: WebSocketStream) -> int:
    """How many bytes may wait there until they are read."""
    with socket_of(stream) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lets it grow again")
async def test_the_system_holds_little_of_what_is_handled_slowly_until_it_is_handled_quickly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_client() as (stream, peer):
        clock = Clock(monkeypatch)
        usual = held_by_the_system(stream)

        async def handle(seconds: float) -> None:
            await peer.frame(FIN | BINARY, b"x" * KIB)
            assert list(await stream.receive()) == [b"x" * KIB]
            clock.handle(seconds)

        for _ in range(20):
            await handle(1.0)
        assert held_by_the_system(stream) < usual
        for _ in range(200):
            await handle(0.001)
        assert held_by_the_system(stream) >= usual


async def test_as_much_is_read_at_once_as_is_handled_in_50_ms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with linked() as (sender, receiver), anyio.create_task_group() as group:
        clock = Clock(monkeypatch)

        async def flood() -> None:
            while True:
                await sender.send([bytes(KIB)] * 8)

        group.start_soon(flood)
        handled = 0
        while handled < 4_000_000:
            size = sum(map(len, await receiver.receive()))
            clock.handle(size / 1_600_000)
            handled += size
        assert 56_000 < receiver._read_ahead.size < 104_000
        group.cancel_scope.cancel()


async def test_the_time_until_something_comes_is_not_that_of_handling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_client() as (stream, peer):
        clock = Clock(monkeypatch)
        for _ in range(20):
            await peer.frame(FIN | BINARY, b"x")
            assert list(await stream.receive()) == [b"x"]
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(stream.receive)
                    await anyio.wait_all_tasks_blocked()
                    clock.handle(10.0)
                    scope.cancel()
        await peer.frame(FIN | BINARY, b"x")
        await stream.receive()
        assert stream._read_ahead.size == MIB
