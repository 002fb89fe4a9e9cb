"""Flow control: a reader that stops delays nobody else, loses nothing, and costs bounded memory."""

from __future__ import annotations

import struct
import time
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hakuban.transport import ReassemblyLimit, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._frames import (
    CHUNK,
    DATA,
    GRANT,
    HEADER,
    SESSION,
    Window,
    chunks,
    encode_grant,
    read_grant,
)
from hakuban_zmq._stream import ZeroMQStream
from hakuban_zmq._transport import HIGH_WATER_MARK, WINDOW
from support.waiting import until
from support.zeromq import accepting, linked, raw_client

KIB, MIB = 1024, 1024 * 1024
NOWHERE = ["zmq+tcp://127.0.0.1:0", "zmq+inproc://flow"]


async def stuck(sender: ZeroMQStream, messages: list[bytes], sent: list[bytes]) -> None:
    """Send until it waits for the reader, one by one."""
    for message in messages:
        await sender.send([message])
        sent.append(message)


def waits_for_a_grant(sender: ZeroMQStream) -> bool:
    return sender._credit <= 0 or sender._credit_chunks <= 0


@pytest.mark.parametrize("url", NOWHERE)
@pytest.mark.parametrize("size", [1, 1_000, CHUNK, 4 * MIB])
async def test_a_sender_stops_when_the_reader_does_not_read(url: str, size: int) -> None:
    async with linked(url) as (one, two):
        for sender, receiver in ((one, two), (two, one)):
            count = min(2 * HIGH_WATER_MARK, 4 * WINDOW // size + 1)
            messages = [bytes([number % 256]) * size for number in range(count)]
            sent: list[bytes] = []
            async with anyio.create_task_group() as group:
                group.start_soon(stuck, sender, messages, sent)
                await until(partial(waits_for_a_grant, sender))
                assert len(sent) <= HIGH_WATER_MARK
                assert sum(map(len, sent)) <= WINDOW
                assert sum(map(len, receiver._unread)) <= WINDOW + CHUNK + HEADER
                got: list[bytes] = []
                with anyio.fail_after(60):
                    while len(got) < len(messages):
                        got += await receiver.receive()
            assert got == messages


async def test_a_reader_that_stops_delays_no_other() -> None:
    transport = ZeroMQTransport()
    async with (
        accepting(transport=transport) as (url, accepted),
        transport.connect(url, TransportOptions()) as stops,
        transport.connect(url, TransportOptions()) as goes_on,
    ):
        to_stopped, to_other = await accepted.receive(), await accepted.receive()
        if to_stopped._session != stops.remote_session:
            to_stopped, to_other = to_other, to_stopped
        messages = [b"%06d" % number * 1_000 for number in range(500)]
        sent: list[bytes] = []
        async with anyio.create_task_group() as group:
            group.start_soon(stuck, to_stopped, messages, sent)
            await until(lambda: to_stopped._credit <= 0)
            for number in range(500):
                await to_other.send([b"%d" % number])
                with anyio.fail_after(1):
                    assert list(await goes_on.receive()) == [b"%d" % number]
            assert len(sent) < len(messages)
            got: list[bytes] = []
            while len(got) < len(messages):
                got += await stops.receive()
        assert got == messages


@pytest.mark.parametrize("url", NOWHERE)
async def test_the_largest_messages_pass_in_both_directions_at_once(url: str) -> None:
    largest = bytes(range(256)) * (16 * MIB // 256)
    async with linked(url) as (one, two), anyio.create_task_group() as group:

        async def one_way(sender: ZeroMQStream, receiver: ZeroMQStream) -> None:
            async with anyio.create_task_group() as both:
                both.start_soon(sender.send, [largest, b"and one"])
                got: list[bytes] = []
                while len(got) < 2:
                    got += await receiver.receive()
            assert got == [largest, b"and one"]

        group.start_soon(one_way, one, two)
        group.start_soon(one_way, two, one)


async def test_pieces_of_a_message_wait_too_while_nobody_receives() -> None:
    async with linked() as (one, two), anyio.create_task_group() as group:
        group.start_soon(one.send, [bytes(16 * MIB)])
        await until(lambda: one._credit <= 0)
        await anyio.wait_all_tasks_blocked()
        assert sum(map(len, two._unread)) <= WINDOW + CHUNK + HEADER
        assert list(await two.receive()) == [bytes(16 * MIB)]


async def test_a_receive_that_was_cancelled_has_taken_nothing() -> None:
    async with linked() as (one, two):
        for number in range(200):
            with anyio.move_on_after(0) as scope:
                await two.receive()
            assert scope.cancelled_caught
            await one.send([b"%d" % number])
            with anyio.fail_after(5):
                assert list(await two.receive()) == [b"%d" % number]


async def test_grants_are_what_the_reader_has_taken() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            (data,) = chunks([bytes(CHUNK - 4)], client.other)
            for _ in range(2):
                client.send(data)
            await until(lambda: len(stream._unread) == 2)
            assert await client.until_silent(0.05) == []
            await stream.receive()
            grant = read_grant(await client.frame(GRANT))
            assert grant.size >= len(data)
            assert grant.chunks * len(data) == grant.size


async def test_a_grant_may_be_used_while_it_is_being_sent() -> None:
    own, other = b"a" * SESSION, b"b" * SESSION
    (data,) = chunks([bytes(CHUNK - 4)], own)

    class Eager:
        """A pipe to a peer that answers within the call, with all that it was granted."""

        def send(self, sent: bytes, /) -> bool:
            if sent[0] == GRANT:
                for _ in range(read_grant(sent).chunks):
                    stream.take_frame(data)
            return True

        stuck = False

        def look(self) -> bool:
            return False

        def forget(self) -> None:
            pass

    window = Window(4 * len(data), 4)
    stream = ZeroMQStream(
        Eager(),
        (own, other),
        window,
        window,
        TransportOptions(),
        ReassemblyLimit(1),
        listening=True,
    )
    for _ in range(4):
        stream.take_frame(data)
    for _ in range(20):
        assert await stream.receive()
    assert stream._end is None


async def test_a_peer_that_grants_one_chunk_at_a_time_is_sent_one_at_a_time() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter(window=Window(10, 1))
            stream = await accepted.receive()
            message = bytes(3 * CHUNK)
            async with anyio.create_task_group() as group:
                group.start_soon(stream.send, [message])
                got = 0
                for _ in range(4):
                    got += len(await client.data()) - 4
                    assert [
                        part for part in await client.until_silent(0.05) if part[0][0] == DATA
                    ] == []
                    client.send(encode_grant(client.other, Window(CHUNK + HEADER, 1)))
            assert got == len(message)


async def test_many_small_messages_share_chunks() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            await stream.send([b"x" * 10] * 1_000)
            assert len(await client.data()) == 14 * 1_000


@pytest.mark.long
async def test_who_handles_slowly_is_sent_little_until_he_is_quick_again() -> None:
    async with linked() as (sender, receiver), anyio.create_task_group() as group:
        sent = taken = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await sender.send([bytes(4 * KIB)])
                sent += 1

        def all_lies_here() -> bool:
            lying = len(receiver._unread)
            return lying > 0 and sent == taken + lying and waits_for_a_grant(sender)

        async def take() -> int:
            """Receive all that the sender could get rid of; give how many messages that were."""
            nonlocal taken
            await until(all_lies_here)
            count = len(await receiver.receive())
            taken += count
            return count

        group.start_soon(flood)
        with anyio.fail_after(30):
            while await take() > 6:
                time.sleep(0.2)  # noqa: ASYNC251  # this is what it is about
            while await take() < 30:
                pass
        group.cancel_scope.cancel()


async def test_a_message_in_tiny_pieces_leaves_the_loop_its_turn_after_each_chunk() -> None:
    piece, last = struct.pack(">IB", 1 | 1 << 31, 7), struct.pack(">IB", 1, 7)
    bodies = [piece * (CHUNK // len(piece))] * 3 + [last]
    turns = 0
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            for body in bodies:
                client.send_frame(DATA, body)
            await until(lambda: len(stream._unread) == len(bodies))
            async with anyio.create_task_group() as tasks:

                async def receive() -> None:
                    (message,) = await stream.receive()
                    assert set(message) == {7}
                    tasks.cancel_scope.cancel()

                tasks.start_soon(receive)
                while not tasks.cancel_scope.cancel_called:
                    turns += 1
                    await checkpoint()
    assert turns >= len(bodies)
