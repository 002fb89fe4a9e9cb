"""Peers that break the rules: their link ends, and nothing else."""

from __future__ import annotations

import struct
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban.transport import PeerViolationError, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._frames import (
    BYE,
    BYE_ACK,
    CHUNK,
    DATA,
    GRANT,
    HEADER,
    HELLO,
    WELCOME,
    chunks,
    read_bye,
)
from support.waiting import until
from support.zeromq import RawClient, accepting, end_of, raw_client, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hakuban.transport import MessageStream
    from hakuban_zmq._stream import ZeroMQStream


@asynccontextmanager
async def beside_a_good_link(
    url: str = "zmq+tcp://127.0.0.1:0", **options: Any
) -> AsyncIterator[tuple[RawClient, ZeroMQStream]]:
    """Give a raw client and our end of its link, beside a link that has to work all the time."""
    transport = ZeroMQTransport()
    async with (
        accepting(url, transport, **options) as (bound, accepted),
        transport.connect(bound, TransportOptions()) as good,
    ):
        other_end = await accepted.receive()
        with raw_client(bound) as client:
            await client.enter()
            yield client, await accepted.receive()
            for sender, receiver in ((good, other_end), (other_end, good)):
                await sender.send([b"still here"])
                assert list(await receiver.receive()) == [b"still here"]


def record(length: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", length) + body


MORE = 1 << 31

MALFORMED = {
    "empty chunk": (DATA, b""),
    "half a length": (DATA, b"\0\0"),
    "length without a body": (DATA, record(5)),
    "length over the body": (DATA, record(5, b"1234")),
    "rest behind the last record": (DATA, record(1, b"x") + b"\0"),
    "empty piece": (DATA, record(MORE)),
    "short grant": (GRANT, b"1234"),
    "long grant": (GRANT, b"123456789"),
    "short goodbye": (BYE, b"\0"),
    "welcome to a listener": (WELCOME, bytes(40)),
    "unknown kind": (99, b"?"),
    "kind 0": (0, b""),
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_a_malformed_frame_is_a_violation(fault: str) -> None:
    async with beside_a_good_link() as (client, stream):
        for data in chunks([b"before"], client.other):
            client.send(data)
        client.send_frame(*MALFORMED[fault])
        assert list(await stream.receive()) == [b"before"]
        error = await end_of(stream)
        assert isinstance(error, PeerViolationError)
        assert error.code == 1002
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose, error.code, error.reason)
            assert read_bye(await client.frame(BYE)) == (1002, error.reason)
            client.send_frame(BYE_ACK)


GARBAGE = [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes([HELLO]), bytes([HELLO]) + bytes(40)]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_of_a_stranger_is_no_link(garbage: bytes) -> None:
    async with beside_a_good_link() as (client, stream), accepting() as (url, accepted):
        with raw_client(url) as stranger:
            stranger.send(garbage)
            stranger.send(garbage, garbage)
            await stranger.until_silent(0.05)
        with pytest.raises(anyio.WouldBlock):
            accepted.receive_nowait()
        for data in chunks([b"x"], client.other):
            client.send(data)
        assert list(await stream.receive()) == [b"x"]


@pytest.mark.parametrize("parts", [[b""], [b"short"], [b"", b""], [b"one", b"two"]])
async def test_what_is_no_frame_at_all_is_a_violation_too(parts: list[bytes]) -> None:
    async with beside_a_good_link() as (client, stream):
        client.send(*parts)
        assert isinstance(await end_of(stream), PeerViolationError)


async def test_a_frame_of_several_parts_is_a_violation() -> None:
    async with beside_a_good_link() as (client, stream):
        client.send(*chunks([b"one"], client.other), b"two")
        assert isinstance(await end_of(stream), PeerViolationError)


async def test_bytes_over_what_was_granted_are_a_violation() -> None:
    async with beside_a_good_link() as (client, stream):
        full = record(CHUNK - 4, bytes(CHUNK - 4))
        for _ in range(client.window.size // CHUNK + 2):
            client.send_frame(DATA, full)
        await until(lambda: stream._ended)  # before anything was taken, and so granted
        error = await end_of(stream)
        assert isinstance(error, PeerViolationError)
        assert "granted" in error.reason


async def test_chunks_over_what_was_granted_are_a_violation() -> None:
    async with beside_a_good_link() as (client, stream):
        for _ in range(client.window.chunks + 1):
            client.send_frame(DATA, record(1, b"x"))
        await until(lambda: stream._ended)  # before anything was taken, and so granted
        error = await end_of(stream)
        assert isinstance(error, PeerViolationError)
        assert "granted" in error.reason


async def test_a_message_over_the_limit_is_a_violation_that_says_so() -> None:
    async with beside_a_good_link(max_message=100_000) as (client, stream):
        piece = record(50_001 | MORE, bytes(50_001))
        client.send_frame(DATA, piece)
        client.send_frame(DATA, piece)
        error = await end_of(stream)
        assert isinstance(error, PeerViolationError)
        assert error.code == 1009


@pytest.mark.parametrize("size", [CHUNK + 1, 1_000_000])
async def test_a_huge_frame_is_a_violation_before_it_has_come(size: int) -> None:
    async with beside_a_good_link() as (client, stream):
        client.send_frame(DATA, bytes(size))
        error = await end_of(stream)
        assert isinstance(error, PeerViolationError)
        assert f"a frame of {HEADER + size} bytes" in error.reason


async def test_unfinished_messages_of_all_links_have_one_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The link with the largest is ended, and told; here it is the last one."""
    monkeypatch.setattr("hakuban._transport.reassembly._MOST", 16 * CHUNK)
    ends: list[Exception] = []

    async def take(stream: MessageStream) -> None:
        ends.append(await end_of(stream))
        assert isinstance(ends[-1], PeerViolationError)
        await stream.aclose(ends[-1].code, ends[-1].reason)

    async with serving(take, max_message=4 * CHUNK) as url:
        with ExitStack() as crowd:
            for pieces in (2, 2, 2, 2, 2, 2, 2, 3):
                client = crowd.enter_context(raw_client(url))
                await client.enter()
                for _ in range(pieces):
                    client.send_frame(DATA, record(CHUNK - 4 | MORE, bytes(CHUNK - 4)))
            code, reason = read_bye(await client.frame(BYE))
            assert code == 1013
            assert "unfinished messages" in reason
            assert len(ends) == 1


async def test_grants_beyond_all_measure_are_worth_a_window() -> None:
    async with beside_a_good_link() as (client, stream), anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send, [bytes(1_000_000)])
        total = 0
        while total < 1_000_000:
            client.send_frame(GRANT, b"\xff" * 8)
            total += len(await client.data()) - 4


async def test_who_talks_on_after_a_violation_is_not_listened_to() -> None:
    async with beside_a_good_link() as (client, stream):
        client.send_frame(99)
        for data in chunks([b"more"] * 3, client.other):
            client.send(data)
        assert isinstance(await end_of(stream), PeerViolationError)
        await client.until_silent(0.05)
        assert not stream._unread
