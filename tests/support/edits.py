"""Random edits of bytes: what users do to a document, and what is awkward for an encoder of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_LARGEST = 40_000
_SIZES = (1, 3, 15, 16, 17, 254, 255, 256, 3_000)


def edited(data: bytes, random: Random) -> bytes:
    """Give data after one random edit; it stays below some 40 kB most of the time."""
    if len(data) > _LARGEST:
        data = data[: random.randrange(_LARGEST)]
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return random.choice(_EDITS)(data, start, end, random)


def _insert(data: bytes, start: int, _end: int, random: Random) -> bytes:
    return data[:start] + random.randbytes(random.choice(_SIZES)) + data[start:]


def _delete(data: bytes, start: int, _end: int, random: Random) -> bytes:
    return data[:start] + data[start + random.choice(_SIZES) :]


def _overwrite(data: bytes, start: int, _end: int, random: Random) -> bytes:
    size = random.choice(_SIZES)
    return data[:start] + random.randbytes(size) + data[start + size :]


def _duplicate(data: bytes, start: int, end: int, _random: Random) -> bytes:
    return data[:end] + data[start:]


def _move_to_front(data: bytes, start: int, end: int, _random: Random) -> bytes:
    return data[start:end] + data[:start] + data[end:]


def _add_run(data: bytes, start: int, _end: int, random: Random) -> bytes:
    # of the first escape byte, or of what may follow it
    byte = bytes((random.choice((0xFF, 0x7F, 0x00)),))
    return data[:start] + byte * random.choice(_SIZES) + data[start:]


def _add_all_bytes(data: bytes, start: int, _end: int, _random: Random) -> bytes:
    # none is left to be the escape byte
    return data[:start] + bytes(range(256)) * 2 + data[start:]


def _change_here_and_there(data: bytes, _start: int, _end: int, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), 20)):
        changed[random.randrange(len(data))] = random.randrange(256)
    return bytes(changed)


def _add_pattern(data: bytes, start: int, end: int, random: Random) -> bytes:
    return data[:start] + random.randbytes(7) * random.choice(_SIZES) + data[end:]


def _start_anew(_data: bytes, _start: int, _end: int, random: Random) -> bytes:
    return random.randbytes(random.choice((0, *_SIZES)))


_EDITS: tuple[Callable[[bytes, int, int, Random], bytes], ...] = (
    _insert,
    _delete,
    _overwrite,
    _duplicate,
    _move_to_front,
    _add_run,
    _add_all_bytes,
    _change_here_and_there,
    _add_pattern,
    _start_anew,
)
