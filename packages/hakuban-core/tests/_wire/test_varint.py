from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._limits import Limits
from hakuban._wire.reader import Reader
from hakuban._wire.varint import from_zigzag, signed, unsigned


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (250, "fa"),
        (251, "fbfb00"),
        (2**16 - 1, "fbffff"),
        (2**16, "fc00000100"),
        (2**32 - 1, "fcffffffff"),
        (2**32, "fd0000000001000000"),
        (2**64 - 1, "fdffffffffffffffff"),
    ],
)
def test_an_unsigned_integer_has_the_shortest_form_at_each_border(value: int, encoded: str) -> None:
    assert unsigned(value).hex() == encoded
    assert Reader(bytes.fromhex(encoded), Limits()).unsigned() == value


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (-125, "f9"),
        (125, "fa"),
        (-126, "fbfb00"),
        (2**63 - 1, "fdfeffffffffffffff"),
        (-(2**63), "fdffffffffffffffff"),
    ],
)
def test_a_signed_integer_is_written_in_zigzag(value: int, encoded: str) -> None:
    assert signed(value).hex() == encoded
    assert from_zigzag([Reader(bytes.fromhex(encoded), Limits()).unsigned()]) == (value,)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_signed_integer_comes_back(value: int) -> None:
    assert from_zigzag([Reader(signed(value), Limits()).unsigned()]) == (value,)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_an_integer_that_does_not_fit_is_a_bug_of_the_caller(value: int) -> None:
    with pytest.raises(struct.error):
        unsigned(value)
