"""References and escapes as they are written."""

from __future__ import annotations

import pytest

from hakuban._diff import patch
from hakuban._diff.writer import DiffWriter


@pytest.mark.parametrize(
    ("start", "at", "old", "code"),
    [
        (0, 0, True, "80"),
        (0, 61, True, "fa"),
        (0, 62, True, "fe007c"),
        (1, 0, True, "81"),
        (62, 0, True, "fb"),
        (63, 0, True, "fe007d"),
        (0, 0x7FFF, True, "fefffe"),
        (0x8000, 0, True, "feffff"),
        (0, 0x8000, True, "fd010000"),
        (0, 0x7FFFFF, True, "fdfffffe"),
        (0, 0x800000, True, "fc01000000"),
        (0, 1, False, "01"),
        (0, 0x7B, False, "7b"),
        (0, 0x7C, False, "7e007c"),
        (0, 0xFFFF, False, "7effff"),
        (0, 0x10000, False, "7d010000"),
        (0, 0x1000000, False, "7c01000000"),
    ],
)
def test_positions_are_written_in_the_fewest_bytes(
    start: int, at: int, *, old: bool, code: str
) -> None:
    writer = DiffWriter(bytes(at + 20))
    writer.copy(start, at, 20, old=old)
    assert writer.finish() == bytes(at) + bytes.fromhex(f"ff{code}14")


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (4, "04"),
        (252, "fc"),
        (253, "ff00fd"),
        (65535, "ffffff"),
        (65536, "fe010000"),
        (0xFFFFFF, "feffffff"),
        (0x1000000, "fd01000000"),
    ],
)
def test_lengths_are_written_in_the_fewest_bytes(length: int, code: str) -> None:
    writer = DiffWriter(bytes(length))
    writer.copy(0, 0, length, old=True)
    assert writer.saved == length - 2 - len(code) // 2
    assert writer.finish() == bytes.fromhex(f"ff80{code}")


def test_what_takes_no_less_room_as_a_reference_stays_literal() -> None:
    writer = DiffWriter(b"abcdefgh")
    writer.copy(0, 0, 3, old=True)
    writer.copy_runs(0, 0, [(0, 3), (3, 7)], old=True)
    assert (writer.done, writer.saved) == (7, 1)
    assert writer.finish() == b"abc\xff\x80\x04h"


EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    ("literal", "written"),
    [
        (b"a\xff", b"a\xff\xff"),
        (b"\xff\xff\xff", b"\xff\x7f\x01\xff\xff"),
        (b"\1\xff\xff\1\2", b"\1\xff\x7f\3\xff\1\2"),
        (EVERY_BYTE * 2, EVERY_BYTE + b"\xff" + EVERY_BYTE + b"\xff"),
        (
            EVERY_BYTE + b"\xff" * 3 + EVERY_BYTE,
            EVERY_BYTE + b"\x7f\1" + b"\xff" * 3 + EVERY_BYTE.replace(b"\1", b"\1\xff"),
        ),
    ],
    ids=["last", "only", "a byte that is not used", "all alike", "a rare byte"],
)
def test_escape_bytes_among_literals_cost_little(literal: bytes, written: bytes) -> None:
    writer = DiffWriter(literal)
    assert writer.finish() == written
    assert patch(b"", written, len(literal)) == literal


def test_references_follow_the_switch_of_the_escape_byte() -> None:
    new = b"abcdef" + b"\xff\xff" + b"abcdef" + b"\1\xff"
    writer = DiffWriter(new)
    writer.copy(0, 0, 6, old=True)
    writer.copy(0, 8, 6, old=True)
    written = writer.finish()
    assert written == b"\xff\x80\x06" + b"\xff\x7f\2\xff" + b"\2\x90\x06" + b"\1\xff"
    assert patch(b"abcdef", written, len(new)) == new


def test_what_is_written_later_keeps_to_the_escape_byte_chosen_before() -> None:
    repeated = [(6 * k, 6 * k + 6) for k in range(9000)]
    new = b"\xff\xff" + b"abcdef" * (len(repeated) + 1) + b"z"
    writer = DiffWriter(new)
    writer.copy_runs(2, 8, repeated, old=False)
    written = writer.finish()
    assert written == b"\xff\x7f\1\xff" + b"abcdef" + b"\1\6\6" * len(repeated) + b"z"
    assert patch(b"", written, len(new)) == new
