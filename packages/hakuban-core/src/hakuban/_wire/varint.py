"""Integers of variable length, as bincode 2 "standard" writes them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKER_16 = 0xFB
"""The least first byte that is no value: 16, 32 or 64 bits (little-endian) follow this one and the next two."""

WIDTHS = {0xFB: 2, 0xFC: 4, 0xFD: 8}
"""Bytes that follow each marker."""

_SMALL = tuple(bytes((value,)) for value in range(MARKER_16))
_PACK_16 = struct.Struct("<BH").pack
_PACK_32 = struct.Struct("<BI").pack
_PACK_64 = struct.Struct("<BQ").pack


def unsigned(value: int) -> bytes:
    """Write an unsigned integer of up to 64 bits in its shortest form."""
    if 0 <= value < MARKER_16:
        return _SMALL[value]
    if value < 1 << 16:
        return _PACK_16(0xFB, value)
    if value < 1 << 32:
        return _PACK_32(0xFC, value)
    return _PACK_64(0xFD, value)


def signed(value: int) -> bytes:
    """Write a signed integer of up to 64 bits in its shortest form."""
    return unsigned(value << 1 if value >= 0 else ~(value << 1))


def from_zigzag(values: Iterable[int]) -> tuple[int, ...]:
    """Turn the unsigned integers that signed ones are written as back into the signed ones."""
    return tuple([~(value >> 1) if value & 1 else value >> 1 for value in values])
