"""Established links over real sockets: messages, control frames, ends."""

from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban import LocalNode
from hakuban.transport import MessageStream, PeerViolationError
from support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Certificates,
    frame,
    linked,
    raw_client,
    raw_connection,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from hakuban_ws._stream import WebSocketStream

    Link = Callable[..., AbstractAsyncContextManager[tuple[WebSocketStream, WebSocketStream]]]

MIB = 1024 * 1024


@pytest.fixture(params=["ws", "wss"])
def link(request: pytest.FixtureRequest, certificates: Certificates) -> Link:
    """Gives both ends of a link, over TCP and over TLS."""
    if request.param == "ws":
        return linked

    def tls(**options: Any) -> AbstractAsyncContextManager[tuple[WebSocketStream, WebSocketStream]]:
        return linked(
            "wss://127.0.0.1:0",
            ssl=certificates.listening(),
            **{**options, "connect": {"ssl": certificates.connecting()}},
        )

    return tls


async def receive(stream: WebSocketStream, size: int) -> list[bytes]:
    """Receive until messages of that many bytes have come."""
    messages: list[bytes] = []
    with anyio.fail_after(20):
        while size > 0:
            batch = await stream.receive()
            assert 1 <= len(batch) <= 1000
            assert len(batch) == 1 or sum(map(len, batch)) <= MIB
            messages += batch
            size -= sum(len(message) for message in batch)
    return messages


async def test_messages_arrive_whole_in_order_and_both_ways_at_once(link: Link) -> None:
    messages = [bytes([i % 256]) * (i * 37 % 5000) for i in range(1500)] + [b"end"]
    size = sum(map(len, messages))
    async with link() as (connected, accepted), anyio.create_task_group() as group:
        for sender, receiver in ((connected, accepted), (accepted, connected)):

            async def send(sender: WebSocketStream = sender) -> None:
                for start in range(0, len(messages), 100):
                    await sender.send(messages[start : start + 100])

            async def check(receiver: WebSocketStream = receiver) -> None:
                assert await receive(receiver, size) == messages

            group.start_soon(send)
            group.start_soon(check)


@pytest.mark.parametrize("compression", [False, True])
async def test_large_messages_arrive_both_ways_at_once(link: Link, *, compression: bool) -> None:
    message = bytes(range(256)) * (5 * MIB // 256) + b"tail"
    async with link(compression=compression) as (connected, accepted):
        for sender, receiver in ((connected, accepted), (accepted, connected)):
            async with anyio.create_task_group() as group:
                group.start_soon(sender.send, [message, b"next"])
                assert await receive(receiver, len(message) + 4) == [message, b"next"]


async def test_an_empty_message_and_an_empty_batch() -> None:
    async with linked() as (connected, accepted):
        await connected.send([])
        await connected.send([b"", b"x"])
        assert list(await accepted.receive()) == [b"", b"x"]


async def test_ends_know_where_they_are_and_who_is_there() -> None:
    async with linked() as (connected, accepted):
        assert connected.local_address == accepted.remote_address
        assert connected.remote_address == accepted.local_address
        for end in (connected, accepted):
            assert isinstance(end, MessageStream)
            assert end.detects_silence
            assert end.peer_is_ours
        assert connected.peer_clock is not None
        assert abs(connected.peer_clock - time.time_ns()) < 10**9
        assert accepted.peer_clock is None
        assert accepted.identity is None


@pytest.mark.parametrize(
    "frames",
    [
        [(FIN | TEXT, b"\xff")],
        [(TEXT, b"\xc5"), (FIN | PING, b""), (FIN | CONTINUATION, b"\xff")],
        [(FIN | CLOSE, b"\x03\xe8\xff")],
    ],
    ids=["text", "fragments", "close reason"],
)
async def test_what_is_not_utf_8_ends_a_link_of_a_node_with_1007(
    frames: list[tuple[int, bytes]],
) -> None:
    async with LocalNode().listen("ws://127.0.0.1:0") as listener:
        async with await raw_connection(listener.url) as peer:
            await peer.send(UPGRADE + b"\r\n")
            await peer.head()
            for first, payload in frames:
                await peer.frame(first, payload)
            opcode, payload = 0, b""
            while opcode != FIN | CLOSE:
                opcode, payload = await peer.read_frame()
            assert struct.unpack("!H", payload[:2]) == (1007,)
            assert b"not UTF-8" in payload


async def test_text_is_ignored_and_fragments_are_put_together() -> None:
    async with raw_client() as (stream, peer):
        await peer.frame(FIN | TEXT, b".")
        await peer.frame(BINARY, b"in ")
        await peer.frame(FIN | PING, b"between")
        await peer.frame(CONTINUATION, b"three ")
        await peer.frame(FIN | CONTINUATION, b"parts")
        assert list(await stream.receive()) == [b"in three parts"]
        assert await peer.read_frame() == (FIN | PONG, b"between")
        assert not stream.peer_is_ours


async def test_what_came_behind_the_request_is_not_lost() -> None:
    async with raw_client() as (stream, peer):
        await peer.frame(FIN | BINARY, b"x")
        assert list(await stream.receive()) == [b"x"]


async def test_a_byte_at_a_time_is_enough() -> None:
    async with raw_client() as (stream, peer), anyio.create_task_group() as group:

        async def trickle() -> None:
            for byte in frame(FIN | BINARY, b"slowly but surely", masked=True):
                await peer.send(bytes([byte]))

        group.start_soon(trickle)
        assert await receive(stream, 17) == [b"slowly but surely"]


# -- back-pressure and control frames


async def fill(stream: WebSocketStream, message: bytes) -> int:
    """Send until the socket is full; returns how many messages were accepted."""
    accepted = 0
    with anyio.move_on_after(0.3):
        while True:
            await stream.send([message])
            accepted += 1
    return accepted


async def test_a_reader_that_does_not_read_stops_the_sender_early(link: Link) -> None:
    async with link() as (connected, _):
        count = await fill(connected, bytes(32 * 1024))
        with pytest.raises(anyio.BrokenResourceError):
            await connected.send([b"after a cancelled send"])
        # What was accepted sits in the two socket buffers; nothing of it in this process.
        assert 0 < count * 32 * 1024 < 12 * MIB
        assert len(connected._channel._out) <= 40 * 1024


async def test_two_sides_that_flood_each_other_with_pings_and_data_do_not_block() -> None:
    message = bytes(MIB)
    async with linked(keep_alive=0.05) as (connected, accepted):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for sender, receiver in ((connected, accepted), (accepted, connected)):

                    async def send(sender: WebSocketStream = sender) -> None:
                        for _ in range(20):
                            await sender.send([message])

                    async def check(receiver: WebSocketStream = receiver) -> None:
                        assert len(await receive(receiver, 20 * MIB)) == 20

                    group.start_soon(send)
                    group.start_soon(check)


async def test_a_ping_is_answered_in_the_middle_of_a_large_message() -> None:
    async with raw_client() as (stream, peer), anyio.create_task_group() as group:
        group.start_soon(stream.send, [bytes(40 * MIB)])
        assert (await peer.read_frame())[0] == BINARY
        await peer.frame(FIN | PING, b"are you there?")
        group.start_soon(stream.receive)
        received = 1
        while True:
            first, payload = await peer.read_frame()
            if first & 0x0F == PONG:
                break
            assert first & 0x0F == CONTINUATION
            received += 1
        assert payload == b"are you there?"
        assert received < 160
        group.cancel_scope.cancel()


async def test_a_flood_of_pings_is_answered_with_bounded_memory() -> None:
    async with raw_client() as (stream, peer), anyio.create_task_group() as group:
        group.start_soon(stream.receive)
        pings = frame(FIN | PING, b"x" * 125, masked=True) * 1000
        with anyio.move_on_after(1):
            for _ in range(300):  # 40 MB, and nobody reads the answers
                await peer.send(pings)
        assert len(stream._channel._out) <= 10 * (125 + 2)
        await peer.frame(FIN | PING, b"last")
        with anyio.fail_after(10):
            while (await peer.read_frame()) != (FIN | PONG, b"last"):
                pass
        group.cancel_scope.cancel()


async def test_a_flood_leaves_other_tasks_their_turn() -> None:
    async with linked() as (connected, accepted):
        turns = 0

        async def flood() -> None:
            while True:
                await connected.send([b"x" * 50])

        async def drain() -> None:
            while True:
                await accepted.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            group.start_soon(drain)
            with anyio.fail_after(5):
                while turns < 200:
                    await anyio.lowlevel.checkpoint()
                    turns += 1
            group.cancel_scope.cancel()


# -- ends


async def end_of(stream: WebSocketStream) -> Exception:
    with anyio.fail_after(5):
        while True:
            try:
                await stream.receive()
            except Exception as error:  # noqa: BLE001 # whatever it is, it is looked at
                return error


async def test_code_and_reason_of_a_close_arrive_and_the_end_stays_the_end(link: Link) -> None:
    async with link() as (connected, accepted):
        await connected.send([b"last words"])
        async with anyio.create_task_group() as group:
            group.start_soon(connected.aclose, 4001, "żegnaj")
            assert list(await accepted.receive()) == [b"last words"]
            early = (accepted.close_code, accepted.close_reason)
            assert early == (None, None)
            for _ in range(3):
                with pytest.raises(anyio.EndOfStream):
                    await accepted.receive()
            assert accepted.close_code == 4001
            assert accepted.close_reason == "żegnaj"
            with pytest.raises(anyio.BrokenResourceError):
                await accepted.send([b"too late"])
            await accepted.aclose()
        for call in (connected.receive(), connected.send([b"x"]), connected.receive()):
            with pytest.raises(anyio.ClosedResourceError):
                await call


@pytest.mark.long
async def test_closing_wakes_who_waits_in_receive_and_in_send(link: Link) -> None:
    ended = []

    async def ends(call: Any) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await call
        ended.append(True)

    async with link() as (connected, _):
        async with anyio.create_task_group() as group:
            group.start_soon(ends, connected.receive())
            group.start_soon(ends, connected.send([bytes(40 * MIB)]))
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(3):
                await connected.aclose()
        assert ended == [True, True]


async def test_the_reason_arrives_although_the_other_side_goes_on_sending(link: Link) -> None:
    async with link() as (connected, accepted):

        async def flood() -> None:
            with contextlib.suppress(anyio.BrokenResourceError):
                while True:
                    await accepted.send([bytes(60_000)])

        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            await receive(connected, MIB)
            with anyio.fail_after(2):
                await connected.aclose(1008, "enough")
            assert isinstance(await end_of(accepted), anyio.EndOfStream)
            assert accepted.close_reason == "enough"


async def test_a_peer_that_never_answers_a_close_is_given_half_a_second() -> None:
    async with raw_client() as (stream, peer):
        started = time.monotonic()
        await stream.aclose(1001, "bye")
        assert 0.4 < time.monotonic() - started < 1
        assert await peer.read_frame() == (FIN | CLOSE, struct.pack("!H", 1001) + b"bye")


@pytest.mark.long
async def test_a_peer_that_does_not_read_is_given_a_second() -> None:
    async with raw_client() as (stream, _):
        await fill(stream, bytes(64 * 1024))
        started = time.monotonic()
        await stream.aclose()
        assert 0.9 < time.monotonic() - started < 1.4


async def test_a_close_after_a_cancelled_send_comes_between_frames() -> None:
    async with raw_client() as (stream, peer):
        with anyio.move_on_after(0.1):
            await stream.send([bytes(50 * MIB)])
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose, 1001, "enough")
            first = BINARY
            while first & 0x0F in {BINARY, CONTINUATION}:
                first, payload = await peer.read_frame()
            assert (first, payload) == (FIN | CLOSE, struct.pack("!H", 1001) + b"enough")
            await peer.stream.aclose()


@pytest.mark.parametrize("code", [1000, 1001, 1013, 3000, 4999])
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    async with raw_client() as (stream, peer):
        await peer.frame(FIN | CLOSE, struct.pack("!H", code) + b"reason")
        assert isinstance(await end_of(stream), anyio.EndOfStream)
        assert await peer.read_frame() == (FIN | CLOSE, struct.pack("!H", code))
        await stream.aclose(1011, "not said, since the Close was answered")
        assert await peer.rest() == b""


async def test_nothing_follows_the_answer_to_a_close_that_came_while_sending() -> None:
    async with raw_client() as (stream, peer):

        async def send() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send([bytes(50 * MIB), b"more"])

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            assert (await peer.read_frame())[0] == BINARY
            await peer.frame(FIN | CLOSE, struct.pack("!H", 1001))
            assert isinstance(await end_of(stream), anyio.EndOfStream)
            first = BINARY
            while first & 0x0F in {BINARY, CONTINUATION}:
                first, payload = await peer.read_frame()
            assert (first, payload) == (FIN | CLOSE, struct.pack("!H", 1001))
            group.start_soon(stream.aclose)
            assert await peer.rest() == b""


async def test_a_close_without_a_code_is_answered_without_one() -> None:
    async with raw_client() as (stream, peer):
        await peer.frame(FIN | CLOSE)
        assert isinstance(await end_of(stream), anyio.EndOfStream)
        assert await peer.read_frame() == (FIN | CLOSE, b"")
        assert stream.close_code == 1005


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("rest", [b"", b"\x82", b"\x82\x85abcdhe"], ids=["", "header", "payload"])
async def test_a_connection_that_just_ends_is_broken(rest: bytes, *, reset: bool) -> None:
    async with raw_client() as (stream, peer):
        await peer.frame(FIN | BINARY, b"x")
        await peer.send(rest)
        assert list(await stream.receive()) == [b"x"]
        if reset:
            await peer.reset()
        else:
            await peer.stream.aclose()
        for _ in range(2):
            assert isinstance(await end_of(stream), anyio.BrokenResourceError)
        assert stream.close_code == 1006
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send([b"x"])
        with anyio.fail_after(0.4):
            await stream.aclose()


async def test_a_sender_meets_a_reset_as_broken() -> None:
    async with raw_client() as (stream, peer):
        await peer.reset()

        async def flood() -> None:
            while True:
                await stream.send([bytes(60_000)])

        with anyio.fail_after(5), pytest.raises(anyio.BrokenResourceError):
            await flood()


async def test_violations_are_raised_for_ever_and_their_reason_reaches_the_offender() -> None:
    async with raw_client(max_message=1000) as (stream, peer):
        await peer.frame(FIN | BINARY, b"good")
        await peer.frame(FIN | BINARY, bytes(1001))
        await peer.frame(FIN | BINARY, b"never seen")
        assert list(await stream.receive()) == [b"good"]
        for _ in range(3):
            with pytest.raises(PeerViolationError, match="over 1000 bytes") as caught:
                await stream.receive()
        assert caught.value.code == 1009
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose, caught.value.code, caught.value.reason)
            first, payload = await peer.read_frame()
            assert (first, payload[:2]) == (FIN | CLOSE, struct.pack("!H", 1009))
            assert payload[2:] == b"message over 1000 bytes"
            await peer.stream.aclose()


@pytest.mark.parametrize(
    "data",
    [
        frame(FIN | BINARY, b"x", masked=False),
        frame(FIN | 0x3, b"x", masked=True),
        frame(FIN | CONTINUATION, b"x", masked=True),
        frame(FIN | BINARY | 0x40, b"x", masked=True),
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        b"\xff" * 100,
    ],
)
async def test_bytes_that_are_no_frames_end_the_link_with_1002(data: bytes) -> None:
    async with raw_client() as (stream, peer):
        await peer.send(data)
        error = await end_of(stream)
        assert isinstance(error, PeerViolationError)
        assert error.code == 1002


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("excess", [-1, 0, 1, 2])
async def test_the_limit_on_messages_holds_to_the_byte(excess: int, *, compression: bool) -> None:
    limit = 300_000  # more than a fragment
    message = bytes(limit + excess)
    for upwards in (True, False):
        async with (
            linked(compression=compression, max_message=limit) as (connected, accepted),
            anyio.create_task_group() as group,
        ):
            sender, receiver = (connected, accepted) if upwards else (accepted, connected)
            group.start_soon(sender.send, [message])
            if excess <= 0:
                assert list(await receiver.receive()) == [message]
            else:
                error = await end_of(receiver)
                assert isinstance(error, PeerViolationError)
                assert error.code == 1009


async def test_a_link_can_be_closed_when_cancelled_and_twice(link: Link) -> None:
    async with link() as (connected, accepted):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await connected.aclose(1001, "cancelled")
        assert isinstance(await end_of(accepted), anyio.EndOfStream)
        for end in (connected, accepted, accepted):
            await end.aclose()
        assert accepted.close_reason == "cancelled"


async def test_a_receive_that_is_cancelled_leaves_the_link_to_be_closed(link: Link) -> None:
    async with link() as (connected, accepted):
        with anyio.move_on_after(0.05) as scope:
            await connected.receive()
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(connected.aclose, 1001, "done")
            assert isinstance(await end_of(accepted), anyio.EndOfStream)
            await accepted.aclose()
