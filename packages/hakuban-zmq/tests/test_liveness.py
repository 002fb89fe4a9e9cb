"""Signs of life: when they are sent, and when silence ends a link."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban.transport import LinkTimeoutError, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._frames import PING, PONG, chunks, frame
from support.waiting import until
from support.zeromq import accepting, end_of, linked, peer_process, raw_client

if TYPE_CHECKING:
    from hakuban_zmq._stream import ZeroMQStream
    from support.zeromq import RawClient

pytestmark = pytest.mark.long

FROZEN = TransportOptions(keep_alive=0.1, timeout=0.5)


async def test_a_frozen_listener_is_noticed_after_the_timeout() -> None:
    async with peer_process("listen") as listener:
        async with ZeroMQTransport().connect(listener.url, FROZEN) as stream:
            await stream.send([b"x"])
            assert list(await stream.receive()) == [b"x"]
            listener.process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            assert isinstance(await end_of(stream), LinkTimeoutError)
            assert 0.3 < time.monotonic() - started < 1.5
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send([b"x"])


async def test_a_frozen_client_is_noticed_after_the_timeout() -> None:
    async with accepting(keep_alive=0.1, timeout=0.5) as (url, accepted):
        async with peer_process("connect", url) as client:
            stream = await accepted.receive()
            client.process.send_signal(signal.SIGSTOP)
            assert isinstance(await end_of(stream), LinkTimeoutError)
            started = time.monotonic()
            await stream.aclose(1001, "silent")
            assert time.monotonic() - started < 0.5


async def test_silence_ends_a_send_that_waits() -> None:
    async with peer_process("listen") as listener:
        async with ZeroMQTransport().connect(listener.url, FROZEN) as stream:
            listener.process.send_signal(signal.SIGSTOP)
            with anyio.fail_after(5), pytest.raises(anyio.BrokenResourceError):
                await stream.send([bytes(10_000_000)])


async def until_pinged(client: RawClient) -> float:
    started = time.monotonic()
    await client.frame(PING)
    return time.monotonic() - started


async def test_an_idle_link_is_pinged_each_keep_alive_and_only_once_without_an_answer() -> None:
    async with accepting(keep_alive=0.2, timeout=60.0) as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            await accepted.receive()
            assert await until_pinged(client) > 0.15
            assert await client.until_silent(0.6) == []
            client.send_frame(PONG)
            await until_pinged(client)


async def test_pings_are_answered_although_nobody_receives() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            await accepted.receive()
            for data in chunks([b"not read"], client.other):
                client.send(data)
            for _ in range(3):
                client.send_frame(PING)
                assert await client.frame() == frame(PONG, client.own)


async def test_any_frame_is_life() -> None:
    async with accepting(keep_alive=60.0, timeout=0.4) as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            started = time.monotonic()
            async with anyio.create_task_group() as group:

                async def talk() -> None:
                    for _ in range(4):
                        await anyio.sleep(0.2)
                        client.send_frame(PONG)

                group.start_soon(talk)
                assert isinstance(await end_of(stream), LinkTimeoutError)
            assert time.monotonic() - started > 1.1


def heard_after(stream: ZeroMQStream, before: float) -> bool:
    return stream.last_heard > before


async def test_the_hello_is_the_first_that_was_heard_and_any_frame_after_it_counts() -> None:
    async with accepting(keep_alive=60.0) as (url, accepted):
        with raw_client(url) as client:
            started = time.monotonic()
            await client.enter()
            stream = await accepted.receive()
            assert started < stream.last_heard < time.monotonic()
            for kind in (PONG, PING):
                heard = stream.last_heard
                client.send_frame(kind)
                await until(partial(heard_after, stream, heard))
                assert stream.last_heard <= time.monotonic()
            heard = stream.last_heard
            await stream.send([b"what we say counts for nothing"])
            assert stream.last_heard == heard


async def test_when_the_other_side_was_last_heard_is_known_after_the_end() -> None:
    async with peer_process("listen") as listener:
        async with ZeroMQTransport().connect(listener.url, FROZEN) as stream:
            await stream.send([b"x"])
            assert list(await stream.receive()) == [b"x"]
            listener.process.send_signal(signal.SIGSTOP)
            frozen = time.monotonic()
            assert isinstance(await end_of(stream), LinkTimeoutError)
            heard = stream.last_heard
            assert heard < frozen
        assert stream.last_heard == heard


async def test_on_an_idle_link_both_sides_hear_each_other() -> None:
    async with linked(keep_alive=0.1) as ends:
        for end in ends:
            for _ in range(2):
                await until(partial(heard_after, end, end.last_heard))


async def test_what_came_in_while_this_side_was_stopped_is_life() -> None:
    async with accepting(keep_alive=60.0, timeout=0.4) as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            for data in chunks([b"early"], client.other):
                client.send(data)
            time.sleep(0.6)  # noqa: ASYNC251 # the whole loop stands still
            assert list(await stream.receive()) == [b"early"]


async def test_what_waits_unread_does_not_hide_silence() -> None:
    async with accepting(keep_alive=60.0, timeout=0.3) as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            for data in chunks([b"early"], client.other):
                client.send(data)
            await anyio.sleep(0.6)
            assert list(await stream.receive()) == [b"early"]
            assert isinstance(await end_of(stream), LinkTimeoutError)


async def test_two_idle_ends_keep_their_link_up() -> None:
    async with linked(keep_alive=0.1, timeout=0.3) as (one, two):
        with anyio.move_on_after(1) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(one.receive)
                group.start_soon(two.receive)
        assert scope.cancelled_caught


async def test_an_idle_link_costs_no_processor_time_also_with_unread_chunks() -> None:
    async with linked() as (one, two):
        await one.send([b"not read"])
        await until(lambda: two._unread)
        before = time.process_time()
        await anyio.sleep(1)
        assert time.process_time() - before < 0.2


async def test_the_default_is_six_seconds() -> None:
    async with linked() as (one, two):
        assert one._keep_alive.timeout == two._keep_alive.timeout == 6
