"""What a diff from a peer makes, and that it can do no harm."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._diff import patch
from hakuban._exceptions import DiffError, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[1] / "fixtures"
VECTORS = json.loads(gzip.decompress((FIXTURES / "diff-vectors.json.gz").read_bytes()))
EDGES = json.loads((FIXTURES / "patch-edge.json").read_bytes())

ENOUGH = 1 << 20
KIB, MIB = 1 << 10, 1 << 20

# The crate takes these for nothing, in release builds; no encoder makes them.
REFERENCES_TO_NOTHING = {
    "old zero length",
    "new zero length pos 0",
    "new zero length before start",
    "new before start",
}


def plainly_patched(old: bytes, diff: bytes) -> bytes:
    """The format as its description reads, byte after byte; IndexError or ValueError if it is broken."""
    result, items, escape = bytearray(), iter(diff), 0xFF

    def number(code: int, wide: int) -> int:
        if code < wide:
            return code
        return int.from_bytes(bytes(taken() for _ in range(wide + 4 - code)), "big")

    def taken() -> int:
        for byte in items:
            return byte
        raise IndexError

    for byte in items:
        if byte != escape:
            result.append(byte)
            continue
        code = taken()
        if code in {0xFF, 0x7F}:
            result.append(escape)
            if code == 0x7F:
                escape = taken()
            continue
        position = number(code & 0x7F, 0x7C)
        length = number(taken(), 0xFD)
        at = len(result)
        if not length:
            raise ValueError
        if code & 0x80:
            start = at + (position - 1) // 2 + 1 if position % 2 else at - position // 2
            if start < 0 or start + length > len(old):
                raise ValueError
            result += old[start : start + length]
        else:
            if not 0 < position <= at:
                raise ValueError
            for _ in range(length):
                result.append(result[-position])
    return bytes(result)


@pytest.mark.parametrize("kind", sorted({vector["kind"] for vector in VECTORS}))
def test_diffs_of_the_crate_make_what_they_were_made_for(kind: str) -> None:
    for vector in VECTORS:
        if vector["kind"] == kind:
            old, new, diff = (
                bytes.fromhex(vector[key]) for key in ("old_hex", "new_hex", "diff_hex")
            )
            assert patch(old, diff, len(new)) == new


@pytest.mark.parametrize("edge", EDGES, ids=[edge["name"] for edge in EDGES])
def test_the_edges_of_the_format_are_where_the_crate_has_them(edge: dict[str, str]) -> None:
    old, diff = bytes.fromhex(edge["old_hex"]), bytes.fromhex(edge["diff_hex"])
    if edge["new_hex"] is None or edge["name"] in REFERENCES_TO_NOTHING:
        with pytest.raises(DiffError):
            patch(old, diff, ENOUGH)
    else:
        assert patch(old, diff, ENOUGH) == bytes.fromhex(edge["new_hex"])


@pytest.mark.parametrize(
    "diff",
    [
        *("ff", "ff7f", "ff80", "ff8003ff", "ff80ff00", "ff80fe0000", "ff80fd000000"),
        *("fffe", "fffe00", "fffe0000", "fffd0000", "fffd000000", "fffc000000", "fffc00000000"),
        *("6162ff02", "61ff7e0001"),
    ],
)
def test_a_diff_cut_off_within_an_item_is_truncated(diff: str) -> None:
    with pytest.raises(DiffError, match="truncated") as raised:
        patch(b"abc", bytes.fromhex(diff), ENOUGH)
    assert raised.value.code == 1007
    assert isinstance(raised.value, WireError)


@pytest.mark.parametrize(
    ("old", "diff"),
    [
        (b"abc", "ff8004"),  # one byte too many
        (b"abc", "ff8103"),
        (b"abc", "ff8201"),  # before the start
        (b"", "ff8001"),
        (b"abc", "fffefffe01"),
        (b"abc", "ff80fdffffffff"),
        (b"abc", "ff0001"),  # what is not made yet
        (b"abc", "61ff0201"),
        (b"abc", "61ff7dffffff01"),
        (b"abc", "61ff7cffffffff01"),
    ],
)
def test_a_reference_to_what_is_not_there_is_refused(old: bytes, diff: str) -> None:
    with pytest.raises(DiffError):
        patch(old, bytes.fromhex(diff), 1 << 33)


@pytest.mark.parametrize(
    ("old", "diff"),
    [
        (b"", b"abcdefgh"),
        (b"abcdefgh", b"\xff\x80\x08"),
        (b"", b"ab\xff\x02\x06"),
        (b"abcd", b"\xff\x80\x04efgh"),
        (b"", b"abcdefg\xff\xff"),
        (b"", b"\xff\xff" * 8),
        (b"", b"\xff\x7f\x01" + b"\x01\xff" * 7),
    ],
    ids=["literal", "old", "new", "old and literal", "escaped", "escapes", "switched"],
)
def test_the_size_limit_is_the_last_size_accepted(old: bytes, diff: bytes) -> None:
    assert len(patch(old, diff, 8)) == 8
    with pytest.raises(DiffError, match="more than the 7 bytes") as raised:
        patch(old, diff, 7)
    assert raised.value.code == 1009


@pytest.mark.parametrize("distance", [1, 2, 3, 7, 100, 65535, 65536, 65537, 150_000])
@pytest.mark.parametrize("length", [1, 2, 100, 65535, 65536, 65537, 200_000])
def test_a_reference_longer_than_its_distance_repeats_the_end(distance: int, length: int) -> None:
    start = bytes(k * k % 251 for k in range(distance))
    diff = start + b"\xff\x7c" + distance.to_bytes(4, "big") + b"\xfd" + length.to_bytes(4, "big")
    assert patch(b"", diff, ENOUGH) == (start * (length // distance + 2))[: distance + length]


def test_what_was_repeated_can_be_followed_by_anything() -> None:
    diff = b"\xff\x80\x02c\xff\x03\x04\xff\x7f\x00\x00\xff\x00\x89\x02\x00\x02\x03z"
    assert patch(b"ab" + b"." * 12 + b"yz", diff, ENOUGH) == b"abcabca\xff\x00yzyzyz"


def peak_beyond_result(make: Callable[[], bytes]) -> int:
    """Bytes that were taken besides the result."""
    tracemalloc.start()
    try:
        result = make()
        return tracemalloc.get_traced_memory()[1] - len(result)
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    def bomb() -> bytes:
        for diff in (b"a\xff\x01\xfd\x12\xc0\x00\x00", b"a\xff\x01\xfe\x10\x00\x00" * 30):
            with pytest.raises(DiffError):
                patch(b"", diff, 16 * MIB - 1)
        return b""

    assert peak_beyond_result(bomb) < 18 * MIB  # 15 steps of the second one are within the limit


@pytest.mark.parametrize(
    ("old", "diff"),
    [
        (b"", b"a\xff\x01\xfe\xff\xff\xff"),
        (b"", bytes(range(250)) + b"\xff\xfa\xfe\xff\xff\xff"),
        (bytes(8 * MIB), b"\xff\x80\xfe\x7f\xff\xff\xff\x02\xfe\x7f\xff\xff"),
        (b"a", b"\xff\x80\x01\xff\x82\x01\xff\x84\x01" + b"b" * 4 + b"\xff\x8e\x01" * 20_000),
        (b"a" * 200_000, b"\xff\x80\x01" * 20_000),
        (b"", b"\xff\xff" * 20_000),
        (b"", b"a" + b"\xff\x01\x01" * 20_000),
    ],
    ids=["run", "period", "half and half", "out of range", "old bytes", "escapes", "new bytes"],
)
def test_memory_is_little_beyond_the_result(old: bytes, diff: bytes) -> None:
    def patched() -> bytes:
        try:
            return patch(old, diff, 64 * MIB)
        except DiffError:
            return b""

    result = patched()
    assert peak_beyond_result(patched) < len(result) // 6 + 256 * KIB


literals = st.binary(min_size=1, max_size=8)
references = st.builds(
    lambda code, length, extra: (
        bytes((0xFF, code, *([0] * (0x80 - (code & 0x7F)) * (code & 0x7F > 0x7B)), length)) + extra
    ),
    st.integers(0, 254).filter(lambda code: code != 0x7F),
    st.integers(0, 12),
    literals,
)
items = st.one_of(
    literals, references, st.builds(lambda b: bytes((0xFF, 0x7F, 0xFF)) + b, literals)
)
diffs = st.binary(max_size=40) | st.lists(items, max_size=12).map(b"".join)


@given(old=st.binary(max_size=30), diff=diffs)
def test_any_bytes_make_what_the_format_says_or_a_diff_error(old: bytes, diff: bytes) -> None:
    try:
        expected = plainly_patched(old, diff)
    except (IndexError, ValueError):
        with pytest.raises(DiffError):
            patch(old, diff, 1 << 33)
    else:
        assert patch(old, diff, len(expected)) == expected
        if expected:
            with pytest.raises(DiffError):
                patch(old, diff, len(expected) - 1)
