"""Random edits of bytes: what users do to a document, and what is awkward for an encoder of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_LARGEST = 40_000


def edited(data: bytes, random: Random) -> bytes:
    """Give data after one random edit; it stays below some 40 kB."""
    if len(data) > _LARGEST:
        data = data[: random.randrange(_LARGEST)]
    start, end = sorted((_position(data, random), _position(data, random)))
    size = random.choice((1, 3, 15, 16, 17, 254, 255, 256, 3_000))
    match random.randrange(12):
        case 0:  # insert
            return data[:start] + random.randbytes(size) + data[start:]
        case 1:  # delete
            return data[:start] + data[start + size :]
        case 2:  # overwrite
            return data[:start] + random.randbytes(size) + data[start + size :]
        case 3:  # duplicate a part, inside itself
            return data[:end] + data[start:]
        case 4:  # move a part to the front
            return data[start:end] + data[:start] + data[end:]
        case 5:  # append
            return data + random.randbytes(size)
        case 6:  # a run of one byte, which is the escape byte or the one that is written after it
            return data[:start] + bytes((random.choice((0xFF, 0x7F, 0x00)),)) * size + data[start:]
        case 7:  # all byte values, so that none is free to be the escape byte
            return data[:start] + bytes(range(256)) * 2 + data[start:]
        case 8:  # many small changes
            changed = bytearray(data)
            for _ in range(min(len(data), 20)):
                changed[_position(data, random) % len(data)] = random.randrange(256)
            return bytes(changed)
        case 9:  # a pattern of its own
            return data[:start] + random.randbytes(7) * size + data[end:]
        case 10:  # start anew
            return random.randbytes(size) if random.random() < 0.5 else b""
        case _:  # one byte changed
            return data[:start] + bytes((random.randrange(256),)) + data[start + 1 :]


def _position(data: bytes, random: Random) -> int:
    return random.randrange(len(data) + 1)
