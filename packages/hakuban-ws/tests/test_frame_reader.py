"""What a reader of frames needs, holds and hands out, at its limits."""

from __future__ import annotations

import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from hakuban.transport import PeerViolationError
from hakuban_ws._deflate import Deflater, Inflater
from hakuban_ws._frames import BATCH_BYTES, BATCH_FRAMES, FRAGMENT, FrameReader, FrameWriter
from support.websocket import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024
BIG = 300 * KIB


def reader(*, masked: bool = False) -> FrameReader:
    return FrameReader(masked=masked, max_message=1 << 24)


def whole(payload: bytes, *, masked: bool = False) -> bytes:
    return frame(FIN | BINARY, payload, masked=masked)


def batches(source: FrameReader) -> list[list[bytes]]:
    """All that is there, as it is handed out."""
    found = []
    while not source.starved:
        found.append(source.messages())
    return [batch for batch in found if batch]


# -- what is needed


def test_a_reader_that_got_nothing_waits_for_bytes() -> None:
    source = reader()
    assert source.starved
    assert source.missing == 2
    assert source.unfinished == 0


HEADERS = [
    pytest.param(b"\x82", 1, id="half of the shortest header"),
    pytest.param(b"\x82\x05", 5, id="a short one"),
    pytest.param(b"\x82\x05abc", 2, id="in the middle of a payload"),
    pytest.param(b"\x82\x7d", 125, id="the longest short one"),
    pytest.param(b"\x82\x7e", 2, id="a length of 16 bits to come"),
    pytest.param(b"\x82\x7e\x01", 1, id="half of it"),
    pytest.param(b"\x82\x7e\x01\x00", 256, id="all of it"),
    pytest.param(b"\x82\x7f", 8, id="a length of 64 bits to come"),
    pytest.param(b"\x82\x7f" + bytes(5), 3, id="most of it"),
    pytest.param(b"\x82\x7f" + struct.pack("!Q", 70_000), 70_000, id="the whole of it"),
    pytest.param(whole(b"abc"), 2, id="nothing of the next frame"),
    pytest.param(whole(b"abc") + b"\x82", 1, id="some of the next frame"),
    pytest.param(whole(b"abc") + b"\x82\x7e\x01", 1, id="some of its length"),
]


@pytest.mark.parametrize(("data", "missing"), HEADERS)
@pytest.mark.parametrize("pieces", ["at once", "byte by byte"])
def test_how_much_of_a_frame_is_missing_is_known_as_soon_as_can_be(
    data: bytes, missing: int, pieces: str
) -> None:
    source = reader()
    for piece in [data] if pieces == "at once" else [bytes([byte]) for byte in data]:
        source.feed(piece)
        source.messages()
    assert source.starved
    assert source.missing == missing


@pytest.mark.parametrize(("data", "missing"), [(b"\x82\x85", 9), (b"\x82\x85key.ab", 3)])
def test_the_key_of_a_masked_frame_is_missing_too(data: bytes, missing: int) -> None:
    source = reader(masked=True)
    source.feed(data)
    source.messages()
    assert source.missing == missing


def test_what_is_missing_is_known_again_after_a_message_that_had_to_wait_for_its_batch() -> None:
    source = reader()
    source.feed(whole(bytes(BATCH_BYTES)) + whole(b"waits") + b"\x82")
    assert source.messages() == [bytes(BATCH_BYTES)]
    assert source.messages() == [b"waits"]
    assert source.missing == 1


@pytest.mark.parametrize("masked", [False, True])
def test_many_short_messages_behind_a_long_one_in_pieces_are_not_kept_until_more_comes(
    *, masked: bool
) -> None:
    long, short = whole(bytes(9000), masked=masked), whole(b"x", masked=masked)
    source = reader(masked=masked)
    source.feed(long[:100])
    assert source.messages() == []
    source.feed(long[100:] + short * BATCH_FRAMES)
    assert batches(source) == [[bytes(9000)] + [b"x"] * (BATCH_FRAMES - 1), [b"x"]]


# -- what is handed out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("last", [FIN | BINARY, FIN | CONTINUATION])
def test_messages_are_bytes_however_they_came_in(last: int, *, masked: bool) -> None:
    """Users keep them, and use them as keys."""
    data = frame(BINARY, b"begin", masked=masked) if last == FIN | CONTINUATION else b""
    data += frame(last, b"end", masked=masked)
    source, got = reader(masked=masked), []
    for byte in data:
        source.feed(bytes([byte]))
        got += source.messages()
    assert [type(message) for message in got] == [bytes]


@pytest.mark.parametrize("excess", [0, 1])
def test_a_batch_holds_a_mebibyte_to_the_byte(excess: int) -> None:
    first, second = bytes(BATCH_BYTES - 500), bytes(500 + excess)
    source = reader()
    source.feed(whole(first) + whole(second))
    assert batches(source) == ([[first], [second]] if excess else [[first, second]])
    source.feed(whole(b"next"))
    assert batches(source) == [[b"next"]]  # and no message twice


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_may_have_125_bytes_and_none_more(opcode: int) -> None:
    payload = b"\x03\xe8" + bytes(123)
    source = reader()
    source.feed(frame(FIN | opcode, payload, masked=False))
    assert source.messages() == []
    assert source.ping == (payload if opcode == PING else None)
    assert source.close == ((1000, "\0" * 123) if opcode == CLOSE else None)
    longer = reader()
    longer.feed(frame(FIN | opcode, payload + b"\0", masked=False))
    with pytest.raises(PeerViolationError, match="control frame"):
        longer.messages()


def test_a_peer_that_may_compress_need_not_and_not_in_fragments_either() -> None:
    source = FrameReader(
        masked=False, max_message=1000, inflater=Inflater(reset=False, max_message=1000)
    )
    squeezed = Deflater(15, reset=False).compress(b"long words " * 30)
    for _ in range(2):
        source.feed(frame(BINARY, b"as it ", masked=False))
        source.feed(frame(FIN | CONTINUATION, b"is", masked=False))
        assert batches(source) == [[b"as it is"]]
    source.feed(frame(BINARY | 0x40, squeezed[:9], masked=False))
    source.feed(frame(FIN | CONTINUATION, squeezed[9:], masked=False))
    assert batches(source) == [[b"long words " * 30]]
    source.feed(frame(TEXT, b"text, ", masked=False))
    source.feed(frame(FIN | CONTINUATION, b"as it is", masked=False) + whole(b"and so on"))
    assert batches(source) == [[b"and so on"]]


# -- what is held


def by_clear(source: FrameReader) -> None:
    source.clear()


def by_close(source: FrameReader) -> None:
    source.feed(frame(FIN | CLOSE, masked=False) + bytes(BIG))
    source.messages()
    assert source.close


def by_violation(source: FrameReader) -> None:
    source.feed(b"\xff\xff" + bytes(BIG))
    with pytest.raises(PeerViolationError):
        source.messages()


def by_violation_behind_a_message(source: FrameReader) -> None:
    source.feed(frame(FIN | PING, masked=False) + b"\xff\xff" + bytes(BIG))
    with pytest.raises(PeerViolationError):
        source.messages()


def nothing(source: FrameReader) -> None:
    source.messages()


def half_a_message(source: FrameReader) -> None:
    source.feed(frame(BINARY, bytes(BIG), masked=False))
    source.messages()


def half_a_frame(source: FrameReader) -> None:
    source.feed(whole(bytes(BIG))[:-1])
    source.messages()


def a_message_that_did_not_fit(source: FrameReader) -> None:
    source.feed(whole(bytes(BATCH_BYTES)) + whole(bytes(BIG)))
    source.messages()


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        *[
            (begin, by_clear)
            for begin in (half_a_message, half_a_frame, a_message_that_did_not_fit)
        ],
        *[
            (begin, end)
            for begin in (nothing, half_a_message)
            for end in (by_close, by_violation, by_violation_behind_a_message)
        ],
    ],
)
def test_a_reader_whose_stream_has_ended_holds_nothing(
    begin: Callable[[FrameReader], None], end: Callable[[FrameReader], None]
) -> None:
    source = reader()
    tracemalloc.start()
    try:
        begin(source)
        end(source)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 64 * KIB
    assert source.unfinished == 0


def test_what_is_not_complete_is_counted_and_what_is_not_looked_at_yet_too() -> None:
    source = reader()
    source.feed(frame(BINARY, b"12345", masked=False))
    assert source.unfinished == 7  # with its header
    source.messages()
    assert source.unfinished == 5
    source.feed(b"\0\x05abc")
    source.messages()
    assert source.unfinished == 10
    source.feed(b"de" + frame(FIN | CONTINUATION, masked=False))
    assert source.messages() == [b"12345abcde"]
    assert source.unfinished == 0


# -- what is written


def test_a_batch_of_many_messages_leaves_gaps_for_control_frames() -> None:
    messages = [bytes([i]) * 100_000 for i in range(20)]
    units = list(FrameWriter(masked=False).units(messages))
    assert len(units) > 4
    assert all(len(unit) <= 2 * FRAGMENT + 100 for unit in units)
    source = reader()
    source.feed(b"".join(units))
    assert [message for batch in batches(source) for message in batch] == messages


@pytest.mark.parametrize(("size", "compressed"), [(63, False), (64, True)])
def test_messages_of_64_bytes_are_worth_compressing_and_shorter_ones_are_not(
    size: int, *, compressed: bool
) -> None:
    writer = FrameWriter(masked=False, deflater=Deflater(15, reset=True))
    (unit,) = writer.units([bytes(size)])
    assert bool(unit[0] & 0x40) is compressed
    assert (len(unit) < size) is compressed
