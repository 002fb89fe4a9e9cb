"""Flow control: a reader that stops delays nobody else, loses nothing, and costs bounded memory."""

from __future__ import annotations

import struct
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hakuban.transport import (
    LinkTimeoutError,
    PeerViolationError,
    ReassemblyLimit,
    TransportOptions,
)
from hakuban_zmq import ZeroMQTransport, _stream
from hakuban_zmq._frames import (
    BYE,
    BYE_ACK,
    CHUNK,
    DATA,
    GRANT,
    HEADER,
    HELLO,
    PING,
    PONG,
    SESSION,
    Window,
    chunks,
    encode_bye,
    encode_grant,
    frame,
    read_grant,
)
from hakuban_zmq._receive_credit import ReceiveCredit
from hakuban_zmq._stream import ZeroMQStream
from hakuban_zmq._transport import HIGH_WATER_MARK, WINDOW
from support.waiting import until
from support.zeromq import WIDE, accepting, end_of, linked, raw_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

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


# ---- a stream, frame by frame ---------------------------------------------------------------------------------------

OWN, OTHER = b"a" * SESSION, b"b" * SESSION


class Pipe:
    """Takes every frame of a stream and has its goodbye confirmed within the call, unless it is not to.

    :ivar answer: what comes in within the call that takes a chunk.
    :ivar unread: whether more has come than can be taken in a turn.
    :ivar sent: what was taken.
    """

    stuck = False
    confirms = True
    accepts = True
    answer = b""
    unread = False
    stream: ZeroMQStream

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, /) -> bool:
        if not self.accepts:
            return False
        self.sent.append(data)
        if data[0] == DATA and self.answer:
            self.stream.take_frame(self.answer)
        if data[0] == BYE and self.confirms:
            self.stream.take_frame(frame(BYE_ACK, OWN))
        return True

    def look(self) -> bool:
        return self.unread

    def forget(self) -> None:
        pass

    def has_taken(self, count: int) -> bool:
        return len(self.sent) == count

    @property
    def kinds(self) -> list[int]:
        return [data[0] for data in self.sent]


def piped(
    granted: Window = WIDE, window: Window = WIDE, **options: Any
) -> tuple[ZeroMQStream, Pipe]:
    """Give a stream, and what it sends into."""
    pipe = Pipe()
    settings = TransportOptions(**options)
    limit = ReassemblyLimit(settings.max_message)
    pipe.stream = ZeroMQStream(pipe, (OWN, OTHER), window, granted, settings, limit, listening=True)
    return pipe.stream, pipe


def arrive(stream: ZeroMQStream, *messages: bytes) -> None:
    for data in chunks(messages, OWN):
        stream.take_frame(data)


@asynccontextmanager
async def counting_turns() -> AsyncIterator[Callable[[], int]]:
    """Give what tells how often the loop has had its turn since the block began."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        yield lambda: turns
        tasks.cancel_scope.cancel()


async def test_a_stream_says_that_it_notices_silence_and_that_its_peer_is_one_of_ours() -> None:
    stream, _ = piped()
    assert stream.detects_silence
    assert stream.peer_is_ours


async def test_many_sends_leave_the_loop_its_turns_and_most_of_them_take_none() -> None:
    stream, pipe = piped()
    async with counting_turns() as turns:
        for _ in range(1_600):
            await stream.send([b"x"])
        assert 50 <= turns() <= 200
    assert len(pipe.sent) == 1_600


async def test_a_send_that_has_waited_has_left_the_loop_its_turn() -> None:
    stream, pipe = piped(Window(1 << 20, 15))
    sent_in: list[int] = []
    async with counting_turns() as turns, anyio.create_task_group() as tasks:

        async def send() -> None:
            for _ in range(150):
                await stream.send([b"x"])
                sent_in.append(turns())

        tasks.start_soon(send)
        for count in range(15, 150, 15):
            await until(partial(pipe.has_taken, count))
            stream.take_frame(encode_grant(OWN, Window(1_000, 15)))
    assert all(len(set(sent_in[at : at + 15])) == 1 for at in range(0, 150, 15))


async def test_each_receive_leaves_the_loop_its_turn_however_much_lies_there() -> None:
    stream, _ = piped()
    async with counting_turns() as turns:
        for _ in range(100):
            arrive(stream, b"x")
            await stream.receive()
        assert turns() >= 50


@pytest.mark.parametrize(
    ("granted", "count"),
    [(Window(2 * (HEADER + 5), 100), 2), (Window(2 * (HEADER + 5) + 1, 100), 3)],
    ids=["used up", "a byte left"],
)
async def test_a_sender_waits_as_soon_as_its_credit_is_used_up(granted: Window, count: int) -> None:
    stream, pipe = piped(granted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stuck, stream, [b"x"] * 4, [])
        await anyio.wait_all_tasks_blocked()
        assert len(pipe.sent) == count
        stream.take_frame(encode_grant(OWN, Window(1_000, 100)))
    assert len(pipe.sent) == 4


async def test_a_link_whose_send_was_cancelled_sends_nothing_any_more() -> None:
    stream, pipe = piped(Window(1, 1))
    await stream.send([b"x"])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.send([b"y"])
    stream.take_frame(encode_grant(OWN, Window(1_000, 100)))
    with pytest.raises(anyio.BrokenResourceError, match="cancelled"):
        await stream.send([b"z"])
    assert len(pipe.sent) == 1


def test_a_chunk_after_the_last_byte_of_credit_is_a_violation() -> None:
    credit = ReceiveCredit(Window(1_000, 100))
    credit.spend(999)
    credit.spend(1)
    with pytest.raises(PeerViolationError, match="more than it was granted"):
        credit.spend(1)


@pytest.mark.parametrize(
    ("window", "grant"),
    [
        (Window(400, 1_000), Window(100, 1)),
        (Window(404, 1_000), None),
        (Window(1_000, 4), Window(100, 1)),
        (Window(1_000, 5), None),
    ],
    ids=["bytes", "too few bytes", "chunks", "too few chunks"],
)
def test_a_quarter_of_the_window_is_worth_a_grant(window: Window, grant: Window | None) -> None:
    assert ReceiveCredit(window).take(100, unfinished=False) == grant


FULL = CHUNK - 4
"""Bytes of a message that fills its frame."""


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([FULL] * 16 + [64], [17]),
        ([FULL] * 16 + [65], [16, 1]),
        ([2 * MIB, 1], [1, 1]),
        ([1] * 1_000, [1_000]),
        ([1] * 1_001, [1_000, 1]),
    ],
    ids=["1 MiB", "a byte more", "a large one", "1,000", "1,001"],
)
async def test_one_receive_gives_up_to_a_mebibyte_and_a_thousand_messages(
    sizes: list[int], batches: list[int]
) -> None:
    stream, _ = piped()
    arrive(stream, *map(bytes, sizes))
    assert [len(await stream.receive()) for _ in batches] == batches


async def test_what_comes_after_goodbye_is_not_received() -> None:
    stream, _ = piped()
    arrive(stream, b"before")
    stream.take_frame(encode_bye(OWN, 1000, ""))
    arrive(stream, b"after")
    assert list(await stream.receive()) == [b"before"]
    with pytest.raises(anyio.EndOfStream):
        await stream.receive()


@pytest.mark.parametrize("ours", [True, False], ids=["closed", "lost"])
async def test_a_link_that_has_ended_is_neither_asked_for_signs_of_life_nor_checked_again(
    *, ours: bool
) -> None:
    stream, pipe = piped(keep_alive=1.0, timeout=1_000.0)
    now = stream.last_heard + 2.0
    assert stream.check(now)
    assert pipe.kinds == [PING]
    if ours:
        await stream.aclose()
    else:
        stream.lose("gone")
    stream.take_frame(frame(PONG, OWN))
    assert stream.check(now + 2.0) is None
    assert pipe.kinds == [PING, BYE][: 1 + ours]


async def test_a_frame_too_short_for_a_session_is_for_this_one_and_a_violation() -> None:
    stream, _ = piped()
    assert stream.take_frame(frame(HELLO, OWN)[:-1])
    with pytest.raises(PeerViolationError, match="malformed frame"):
        await stream.receive()


async def test_a_link_that_was_given_up_gives_no_message_and_keeps_none() -> None:
    stream, _ = piped()
    begin, *_ = chunks([bytes(2 * CHUNK)], OWN)
    arrive(stream, b"x")
    stream.take_frame(begin)
    await stream.receive()
    assert stream._reassembly.unfinished
    arrive(stream, b"of nobody")
    stream.give_up(PeerViolationError("it holds too much"))
    assert not stream._reassembly.unfinished
    with pytest.raises(PeerViolationError, match="it holds too much"):
        await stream.receive()


async def test_whoever_is_cancelled_says_goodbye_and_waits_until_it_was_heard() -> None:
    stream, pipe = piped()
    pipe.confirms = False
    closed = False

    async def close() -> None:
        nonlocal closed
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.aclose()
        closed = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        await until(lambda: pipe.kinds == [BYE])
        assert not closed
        stream.take_frame(frame(BYE_ACK, OWN))
    assert closed


async def test_whoever_waits_on_a_link_is_woken_when_this_side_closes_it() -> None:
    stream, _ = piped(Window(1, 1))
    await stream.send([b"x"])

    async def is_closed(wait: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await wait()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(is_closed, stream.receive)
            tasks.start_soon(is_closed, partial(stream.send, [b"y"]))
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()


@pytest.mark.parametrize("unread", [False, True])
async def test_silence_ends_no_link_while_more_has_come_than_was_taken(*, unread: bool) -> None:
    stream, pipe = piped(keep_alive=1_000.0, timeout=1.0)
    pipe.unread = unread
    due = stream.check(stream.last_heard)
    for _ in range(20):
        due = due and stream.check(due)
    assert (due is not None) == unread
    pipe.unread = False
    stream.lose("the connection has ended")
    error = await end_of(stream)
    assert isinstance(error, anyio.BrokenResourceError if unread else LinkTimeoutError)


@asynccontextmanager
async def waiting_to_send(stream: ZeroMQStream, why: str) -> AsyncIterator[None]:
    """Have a task wait for credit in a block, and be woken in it by an error."""
    await stream.send([b"x"])

    async def send() -> None:
        with pytest.raises(anyio.BrokenResourceError, match=why):
            await stream.send([b"y"])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            yield


async def test_whoever_waits_to_send_is_woken_when_the_other_side_has_gone() -> None:
    stream, pipe = piped(Window(1, 1))
    async with waiting_to_send(stream, "closed the link"):
        stream.take_frame(encode_bye(OWN, 1000, ""))
    assert pipe.kinds == [DATA, BYE_ACK]


async def test_a_goodbye_that_crosses_ours_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "_FLUSH_SECONDS", 60.0)
    stream, pipe = piped()
    pipe.confirms = False
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.aclose)
            await until(lambda: pipe.kinds == [BYE])
            stream.take_frame(encode_bye(OWN, 1000, ""))


async def test_signs_of_life_are_due_when_nothing_was_sent_for_long() -> None:
    stream, pipe = piped(keep_alive=1.0, timeout=1_000.0)
    began = stream.last_heard
    await until(lambda: time.monotonic() > began)
    stream.take_frame(frame(PING, OWN))
    heard = stream.last_heard
    due = stream.check(heard)
    assert pipe.kinds == [PONG]
    assert due is not None
    assert due - 1.05 > (began + heard) / 2


async def test_an_end_that_comes_in_with_a_chunk_ends_the_send() -> None:
    stream, pipe = piped()
    pipe.answer = encode_bye(OWN, 1000, "")
    with pytest.raises(anyio.BrokenResourceError, match="closed the link"):
        await stream.send([bytes(4 * CHUNK)])
    assert pipe.kinds == [DATA, BYE_ACK]


async def test_a_link_whose_frames_zeromq_does_not_take_has_ended() -> None:
    stream, pipe = piped()
    pipe.accepts = False
    for wait in (partial(stream.send, [b"x"]), stream.receive):
        with pytest.raises(anyio.BrokenResourceError, match="takes nothing"):
            await wait()


async def test_a_link_whose_grants_zeromq_does_not_take_has_ended() -> None:
    stream, pipe = piped(window=Window(100, 100))
    pipe.accepts = False
    arrive(stream, bytes(100))
    assert await stream.receive()
    with anyio.fail_after(10), pytest.raises(anyio.BrokenResourceError, match="takes nothing"):
        await stream.receive()


async def test_a_link_that_was_closed_holds_nothing_of_what_has_come() -> None:
    stream, _ = piped()
    arrive(stream, *[b"x"] * 1_001)
    arrive(stream, b"of nobody")
    assert len(await stream.receive()) == 1_000
    await stream.aclose()
    assert not stream._unread
    assert not stream._whole


async def test_a_link_that_was_closed_holds_no_message_that_has_begun() -> None:
    stream, _ = piped()
    begin, *_ = chunks([bytes(2 * CHUNK)], OWN)
    arrive(stream, b"x")
    stream.take_frame(begin)
    await stream.receive()
    assert stream._reassembly.unfinished
    await stream.aclose()
    assert not stream._reassembly.unfinished


async def test_nothing_is_sent_on_a_link_that_was_closed_and_that_waits_for_no_credit() -> None:
    stream, _ = piped(Window(1, 1))
    await stream.send([b"x"])
    await stream.aclose()
    for messages in ([], [b"y"]):
        with anyio.fail_after(10), pytest.raises(anyio.ClosedResourceError):
            await stream.send(messages)


async def test_whoever_waits_to_send_is_woken_when_a_chunk_turns_out_to_be_malformed() -> None:
    stream, _ = piped(Window(1, 1))
    async with waiting_to_send(stream, "malformed chunk"):
        arrive(stream, b"good")
        stream.take_frame(frame(DATA, OWN, b"bad"))
        arrive(stream, b"too late")
        assert list(await stream.receive()) == [b"good"]
        with pytest.raises(PeerViolationError, match="malformed chunk"):
            await stream.receive()


async def test_a_link_that_ended_in_silence_is_sent_a_goodbye_that_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_stream, "_FLUSH_SECONDS", 60.0)
    stream, pipe = piped(keep_alive=1_000.0, timeout=1.0)
    pipe.confirms = False
    due = stream.check(stream.last_heard)
    while due is not None:
        due = stream.check(due)
    assert not pipe.kinds
    with anyio.fail_after(10):
        await stream.aclose()
    assert pipe.kinds == [BYE]


@pytest.mark.parametrize("lost", [False, True])
async def test_closing_leaves_the_loop_its_turn(*, lost: bool) -> None:
    async with counting_turns() as turns:
        for _ in range(100):
            stream, _ = piped()
            if lost:
                stream.lose("gone")
            await stream.aclose()
        assert turns() >= 50


async def test_the_time_that_nothing_came_is_not_counted_as_time_for_handling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    monkeypatch.setattr(_stream, "time", Clock)
    window = Window(64 * KIB, 1_000)
    stream, pipe = piped(window=window)
    for _ in range(20):
        arrive(stream, bytes(1_000))
        await stream.receive()
        with anyio.move_on_after(0):
            await stream.receive()
        now += 10.0
    granted = [read_grant(data) for data in pipe.sent if data[0] == GRANT]
    assert sum(grant.size for grant in granted) >= 16_000
