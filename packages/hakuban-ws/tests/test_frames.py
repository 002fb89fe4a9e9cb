from __future__ import annotations

import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakuban.transport import PeerViolationError
from hakuban_ws._deflate import Deflater, Inflater
from hakuban_ws._frames import (
    BATCH_BYTES,
    BATCH_FRAMES,
    FRAGMENT,
    FrameReader,
    FrameWriter,
    close_payload,
    mask,
)
from support.websocket import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX = 1000


def reader(*, masked: bool = False, max_message: int = 1 << 24) -> FrameReader:
    return FrameReader(masked=masked, max_message=max_message)


def drain(source: FrameReader) -> list[bytes]:
    """All messages that are there, and the test that batches keep their bounds."""
    messages: list[bytes] = []
    while True:
        batch = source.messages()
        assert len(batch) <= BATCH_FRAMES
        assert len(batch) <= 1 or sum(map(len, batch)) <= BATCH_BYTES
        messages += batch
        if source.starved or source.close:
            return messages


def read(data: bytes, *, masked: bool = False, max_message: int = 1 << 24) -> list[bytes]:
    source = reader(masked=masked, max_message=max_message)
    source.feed(data)
    return drain(source)


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 125, 511, 512, 513, 514, 515, 70_000])
def test_masking_is_the_xor_of_the_standard_and_its_own_inverse(length: int) -> None:
    data = bytes(i % 251 for i in range(length))
    key = b"\x00\x80\x7f\xff"
    masked = mask(data, key)
    assert masked == bytes(byte ^ key[i % 4] for i, byte in enumerate(data))
    assert mask(masked, key) == data


@pytest.mark.parametrize("masked", [False, True], ids=["from-listener", "from-client"])
@pytest.mark.parametrize(
    "length", [0, 1, 125, 126, 127, 65_535, 65_536, FRAGMENT, FRAGMENT + 1, 3 * FRAGMENT]
)
def test_a_message_of_any_length_comes_back(length: int, *, masked: bool) -> None:
    message = bytes(i % 253 for i in range(length))
    data = b"".join(FrameWriter(masked=masked).units([message]))
    assert read(data, masked=masked) == [message]


def test_short_lengths_are_written_as_the_standard_shows() -> None:
    def header(length: int) -> bytes:
        unit = b"".join(FrameWriter(masked=False).units([bytes(length)]))
        return unit[: len(unit) - length]

    assert header(5) == b"\x82\x05"
    assert header(125) == b"\x82\x7d"
    assert header(126) == b"\x82\x7e\x00\x7e"
    assert header(65_535) == b"\x82\x7e\xff\xff"
    assert header(65_536) == b"\x82\x7f" + struct.pack("!Q", 65_536)


def test_each_message_is_masked_with_a_key_of_its_own() -> None:
    data = b"".join(FrameWriter(masked=True).units([b"same", b"same", b"same"]))
    assert len({data[i + 2 : i + 6] for i in (0, 10, 20)}) == 3


def test_a_batch_of_small_messages_is_one_unit() -> None:
    units = list(FrameWriter(masked=False).units([b"a" * 100] * 2000))
    assert len(units) == 1


def test_a_long_message_is_cut_into_fragments_between_which_control_frames_may_go() -> None:
    message = bytes(range(256)) * 4096
    writer = FrameWriter(masked=False)
    units = list(writer.units([b"before", message, b"after"]))
    assert len(units) == 4
    assert all(len(unit) <= 2 * FRAGMENT + 100 for unit in units)
    ping = writer.control(PING, b"in between")
    source = reader()
    messages = []
    for unit in units:
        source.feed(unit + ping)
        messages += drain(source)
        assert source.ping == b"in between"
    assert messages == [b"before", message, b"after"]


frames_of_messages = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.binary(min_size=600, max_size=700),
        st.integers(0, 70_000).map(lambda length: bytes([length % 256]) * length),
    ),
    max_size=12,
)


@given(
    messages=frames_of_messages,
    sizes=st.lists(st.integers(1, 5000), max_size=30),
    masked=st.booleans(),
)
def test_how_bytes_are_cut_up_makes_no_difference(
    messages: list[bytes], sizes: list[int], *, masked: bool
) -> None:
    data = b"".join(FrameWriter(masked=masked).units(messages))
    source = reader(masked=masked)
    got = []
    for piece in cut(data, sizes):
        source.feed(piece)
        got += drain(source)
    assert got == messages


@st.composite
def fragmented(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Frames with fragments, text, empty messages and control frames everywhere, and the binary messages in them."""
    data, expected = b"", []
    for _ in range(draw(st.integers(0, 6))):
        opcode = draw(st.sampled_from([BINARY, BINARY, TEXT]))
        parts = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
        if opcode == TEXT:
            parts = cut("ż€𝄞".encode() * draw(st.integers(0, 20)), [len(part) for part in parts])
        for i, part in enumerate(parts):
            last = FIN if i == len(parts) - 1 else 0
            data += frame(last | (CONTINUATION if i else opcode), part, masked=True)
            for control in draw(st.lists(st.sampled_from([PING, PONG]), max_size=2)):
                data += frame(FIN | control, draw(st.binary(max_size=125)), masked=True)
        if opcode == BINARY:
            expected.append(b"".join(parts))
    return data, expected


@given(stream=fragmented(), sizes=st.lists(st.integers(1, 300), max_size=30))
def test_fragments_text_and_control_frames_are_sorted_out(
    stream: tuple[bytes, list[bytes]], sizes: list[int]
) -> None:
    data, expected = stream
    source = reader(masked=True)
    got = []
    for piece in cut(data, sizes):
        source.feed(piece)
        got += drain(source)
    assert got == expected


@settings(max_examples=500)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.builds(
                lambda first, payload, masked: frame(first, payload, masked=masked),
                st.integers(0, 255),
                st.binary(max_size=140),
                st.booleans(),
            ),
            max_size=8,
        ).map(b"".join),
    ),
    sizes=st.lists(st.integers(1, 50), max_size=10),
    masked=st.booleans(),
    deflate=st.booleans(),
)
def test_any_bytes_give_messages_or_a_violation_and_never_another_answer_in_other_pieces(
    data: bytes, sizes: list[int], *, masked: bool, deflate: bool
) -> None:
    def outcome(pieces: list[bytes]) -> tuple[list[bytes], str, tuple[int, str] | None]:
        source = FrameReader(
            masked=masked,
            max_message=MAX,
            inflater=Inflater(reset=False, max_message=MAX) if deflate else None,
        )
        got: list[bytes] = []
        try:
            for piece in pieces:
                source.feed(piece)
                got += drain(source)
        except PeerViolationError as violation:
            return got, f"{violation.code} {violation.reason}", source.close
        return got, "", source.close

    whole = outcome([data])
    assert outcome(cut(data, sizes)) == whole
    assert all(len(message) <= MAX for message in whole[0])
    assert whole[1][:4] in {"", "1002", "1007", "1009"}


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (frame(FIN | BINARY, b"x", masked=True), 1002, "unmasked"),
        (frame(FIN | BINARY | 0x10, b"x", masked=False), 1002, "reserved"),
        (frame(FIN | BINARY | 0x20, b"x", masked=False), 1002, "reserved"),
        (frame(FIN | BINARY | 0x40, b"x", masked=False), 1002, "reserved"),
        (frame(FIN | PING | 0x40, b"x", masked=False), 1002, "reserved"),
        (frame(FIN | 0x3, b"", masked=False), 1002, "opcode 3"),
        (frame(FIN | 0x7, b"", masked=False), 1002, "opcode 7"),
        (frame(FIN | 0xB, b"", masked=False), 1002, "opcode 11"),
        (frame(FIN | 0xF, b"", masked=False), 1002, "opcode 15"),
        (frame(PING, b"", masked=False), 1002, "control frame"),
        (frame(FIN | PING, bytes(126), masked=False), 1002, "control frame"),
        (frame(FIN | CLOSE, bytes(126), masked=False), 1002, "control frame"),
        (frame(FIN | CONTINUATION, b"", masked=False), 1002, "out of order"),
        (frame(BINARY, b"", masked=False) * 2, 1002, "out of order"),
        (frame(BINARY, masked=False) + frame(FIN | TEXT, masked=False), 1002, "out of order"),
        (frame(BINARY, masked=False) + frame(FIN | BINARY, masked=False), 1002, "out of order"),
        (b"\x82\x7e\x00\x7d" + bytes(125), 1002, "minimal"),
        (b"\x82\x7f" + struct.pack("!Q", 65_535), 1002, "minimal"),
        (b"\x82\x7f" + struct.pack("!Q", 1 << 63), 1002, "negative"),
        (frame(FIN | CLOSE, b"\x03", masked=False), 1002, "half a code"),
        (frame(FIN | CLOSE, struct.pack("!H", 999), masked=False), 1002, "close code 999"),
        (frame(FIN | CLOSE, struct.pack("!H", 1005), masked=False), 1002, "close code 1005"),
        (frame(FIN | CLOSE, struct.pack("!H", 1006), masked=False), 1002, "close code 1006"),
        (frame(FIN | CLOSE, struct.pack("!H", 5000), masked=False), 1002, "close code 5000"),
        (frame(FIN | CLOSE, b"\x03\xe8\xff", masked=False), 1007, "UTF-8"),
        (frame(FIN | TEXT, b"\xff", masked=False), 1007, "text is not UTF-8"),
        (
            frame(FIN | TEXT, b"\xed\xa0\x80", masked=False),
            1007,
            "text is not UTF-8",
        ),  # a surrogate
        (
            frame(FIN | TEXT, b"\xc0\x80", masked=False),
            1007,
            "text is not UTF-8",
        ),  # not the shortest
        (
            frame(TEXT, b"\xf0\x9d", masked=False) + frame(FIN | CONTINUATION, b"", masked=False),
            1007,
            "text is not UTF-8",  # half a character at the end
        ),
    ],
)
def test_frames_against_the_standard_are_violations(data: bytes, code: int, reason: str) -> None:
    source = reader(max_message=MAX * 1000)
    source.feed(data)
    with pytest.raises(PeerViolationError, match=reason) as caught:
        drain(source)
    assert caught.value.code == code
    source.feed(frame(FIN | BINARY, b"fine", masked=False))
    with pytest.raises(PeerViolationError, match=reason):
        source.messages()


def test_an_unmasked_frame_of_a_client_is_a_violation() -> None:
    with pytest.raises(PeerViolationError, match="not masked"):
        read(frame(FIN | BINARY, b"x", masked=False), masked=True)


def test_messages_before_a_violation_are_given_first() -> None:
    source = reader()
    source.feed(frame(FIN | BINARY, b"good", masked=False) + b"\xff\xff")
    assert source.messages() == [b"good"]
    with pytest.raises(PeerViolationError):
        source.messages()


@pytest.mark.parametrize("excess", [-1, 0, 1, 2])
def test_the_limit_holds_to_the_byte_for_whole_messages_and_for_fragments(excess: int) -> None:
    message = bytes(MAX + excess)
    whole = frame(FIN | BINARY, message, masked=False)
    parts = (
        frame(BINARY, message[:400], masked=False)
        + frame(CONTINUATION, message[400:800], masked=False)
        + frame(FIN | CONTINUATION, message[800:], masked=False)
    )
    for data in (whole, parts):
        if excess <= 0:
            assert read(data, max_message=MAX) == [message]
        else:
            with pytest.raises(PeerViolationError, match=f"over {MAX} bytes") as caught:
                read(data, max_message=MAX)
            assert caught.value.code == 1009


def test_a_length_over_the_limit_is_refused_at_the_header() -> None:
    header = b"\x82\x7f" + struct.pack("!Q", MAX + 70_000)
    source = reader(max_message=MAX)
    source.feed(header)
    with pytest.raises(PeerViolationError, match="over"):
        source.messages()


def test_at_most_a_thousand_frames_are_looked_at_in_one_go() -> None:
    source = reader()
    source.feed(frame(FIN | BINARY, b"x", masked=False) * 2500)
    sizes = []
    while not source.starved:
        sizes.append(len(source.messages()))
    assert sizes == [1000, 1000, 500]


def test_empty_fragments_and_pings_count_too() -> None:
    source = reader()
    source.feed(frame(FIN | PING, b"x", masked=False) * 1500)
    assert source.messages() == []
    assert not source.starved
    assert source.messages() == []
    assert source.starved


def test_a_batch_holds_a_mebibyte_or_one_message() -> None:
    big, small = bytes(700_000), bytes(500_000)
    source = reader()
    source.feed(b"".join(FrameWriter(masked=False).units([big, small, small, bytes(2_000_000)])))
    batches = []
    while not source.starved:
        batches.append([len(message) for message in source.messages()])
    assert batches == [[700_000], [500_000, 500_000], [2_000_000]]


def test_only_the_newest_ping_waits_for_an_answer() -> None:
    source = reader()
    source.feed(b"".join(frame(FIN | PING, b"%d" % i, masked=False) for i in range(900)))
    source.messages()
    assert source.ping == b"899"


def test_a_close_frame_ends_reading() -> None:
    source = reader()
    source.feed(
        frame(FIN | BINARY, b"last", masked=False)
        + frame(FIN | CLOSE, struct.pack("!H", 4000) + "żegnaj".encode(), masked=False)
        + b"\xff\xff\xff"
    )
    assert source.messages() == [b"last"]
    assert source.close == (4000, "żegnaj")
    source.feed(b"\xff\xff\xff")
    assert source.messages() == []


def test_a_close_frame_without_a_code_says_that_there_was_none() -> None:
    source = reader()
    source.feed(frame(FIN | CLOSE, masked=False))
    source.messages()
    assert source.close == (1005, "")


@pytest.mark.parametrize("reason", ["", "short", "x" * 123, "x" * 124, "ż" * 100, "\ud800"])
def test_a_close_reason_fits_and_stays_utf8(reason: str) -> None:
    payload = close_payload(1001, reason)
    assert len(payload) <= 125
    assert payload[:2] == struct.pack("!H", 1001)
    text = payload[2:].decode()
    assert reason.startswith(text) or text == "?"
    assert len(payload) >= min(2 + len(reason), 124)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2000, 5000, 70_000])
def test_a_code_that_must_not_be_sent_becomes_1011(code: int) -> None:
    assert close_payload(code, "why") == struct.pack("!H", 1011) + b"why"
    assert close_payload(1005, "why") == b""


def test_many_small_pieces_of_a_long_message_cost_no_more_than_the_message() -> None:
    source = reader(masked=True)
    source.feed(b"\x82\xff" + struct.pack("!Q", 4_000_000) + bytes(4))
    tracemalloc.start()
    try:
        for _ in range(300_000):
            source.feed(b"x")
            assert source.messages() == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 600_000


def test_compressed_messages_come_back_and_short_ones_go_as_they_are() -> None:
    writer = FrameWriter(masked=True, deflater=Deflater(15, reset=False))
    messages = [b"", b"tiny", b"again and " * 50, bytes(600_000), b"again and " * 50]
    data = b"".join(writer.units(messages))
    assert len(data) < 3000
    source = FrameReader(
        masked=True, max_message=MAX * 1000, inflater=Inflater(reset=False, max_message=MAX * 1000)
    )
    source.feed(data)
    assert drain(source) == messages


def test_compressed_text_keeps_the_window_in_step() -> None:
    deflater = Deflater(15, reset=False)
    first, second = deflater.compress(b"words " * 100), deflater.compress(b"words " * 100)
    assert len(second) < len(first)
    source = FrameReader(
        masked=False, max_message=MAX, inflater=Inflater(reset=False, max_message=MAX)
    )
    source.feed(
        frame(FIN | 0x40 | TEXT, first, masked=False)
        + frame(FIN | 0x40 | BINARY, second, masked=False)
    )
    assert source.messages() == [b"words " * 100]
