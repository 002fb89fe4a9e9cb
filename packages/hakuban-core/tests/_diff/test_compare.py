"""How far byte strings agree: the same as counted byte after byte."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._diff.compare import SHORTEST_RUN, common_prefix, common_suffix, equal_runs

LENGTHS = (0, 1, 5, 6, 63, 64, 65, 127, 320, 321, 1000, 5460, 100_000, 400_000)


def agreed(a: bytes, b: bytes) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("before", [0, 3, 500])
def test_the_first_and_the_last_difference_are_found_at_any_distance(
    length: int, before: int
) -> None:
    same = bytes(k * k % 251 for k in range(length))
    x, y = bytes(before), b"\1" * (before + 7)
    a, b = x + same + b"a" + x, y + same + b"b" + y
    assert common_prefix(a, len(x), b, len(y), length + 1) == length
    a, b = x + b"a" + same + x, y + b"b" + same + y
    assert common_suffix(a, len(x) + 1 + length, b, len(y) + 1 + length, length + 1) == length


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("limit", [0, 1, 6, 63, 64, 65, 300, 100_000])
def test_no_more_than_the_limit_is_said_to_agree(length: int, limit: int) -> None:
    a, b, limit = bytes(length), bytes(length + 9), min(length, limit)
    assert common_prefix(a, 0, b, 9, limit) == limit
    assert common_suffix(a, length, b, length, limit) == limit


few = st.binary(max_size=300) | st.lists(st.sampled_from(b"\0a"), max_size=300).map(bytes)


@given(a=few, b=few, i=st.integers(0, 300), j=st.integers(0, 300))
def test_any_bytes_agree_as_far_as_counted(a: bytes, b: bytes, i: int, j: int) -> None:
    i, j = min(i, len(a)), min(j, len(b))
    limit = min(len(a) - i, len(b) - j)
    assert common_prefix(a, i, b, j, limit) == agreed(a[i:], b[j:])
    assert common_suffix(a, i, b, j, min(i, j)) == agreed(a[:i][::-1], b[:j][::-1])


@given(a=few, b=few, i=st.integers(0, 300), j=st.integers(0, 300))
def test_equal_runs_are_all_those_of_the_least_length(a: bytes, b: bytes, i: int, j: int) -> None:
    i, j = min(i, len(a)), min(j, len(b))
    width = min(len(a) - i, len(b) - j)
    expected, k = [], 0
    while k < width:
        length = agreed(a[i + k : i + width], b[j + k : j + width])
        if length >= SHORTEST_RUN:
            expected.append((k, k + length))
        k += length + 1
    assert equal_runs(a, i, b, j, width) == expected
