"""Apply a diff of protocol 0.8 to the bytes it was made against."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hakuban._exceptions import DiffError

if TYPE_CHECKING:
    from collections.abc import Generator


_SWITCH = 0x7F
_ITSELF = (0xFF, _SWITCH)  # codes after which the escape byte is meant itself
_FROM_OLD = 0x80
_WIDE_POSITION = 0x7C  # this code and the ones above it announce 4, 3 or 2 bytes
_WIDE_LENGTH = 0xFD

# Views are joined in one go, which copies each byte once. A view takes 200 bytes, though, and a
# diff may ask for millions of them: they are joined after so many bytes of the diff, and others
# may have a turn. (About a millisecond, if the bytes are all references.)
_STRETCH = 2048
_CHUNK = 1 << 16


def patch(old: bytes, diff: bytes, max_size: int) -> bytes:
    """Return what `diff` makes of `old`.

    Takes time linear in the diff and the result, and hardly more memory than the result,
    whatever the diff contains. References to nothing, which no encoder has a use for, are refused.

    :param old: the bytes that the diff was made against; empty for a first state.
    :param diff: the diff as received.
    :param max_size: bytes that the result may have; checked before anything is copied.
    :raises DiffError: the diff is truncated, refers to what is not there, or makes too much.
    """
    steps = patching(old, diff, max_size)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: bytes = end.value
        return result


def patching(old: bytes, diff: bytes, max_size: int) -> Generator[None, None, bytes]:
    """Do the same as `patch`, in steps: a diff of 16 MiB may hold millions of references, and take seconds."""
    try:
        return (yield from _apply(old, diff, max_size))
    except IndexError:
        raise DiffError(f"diff of {len(diff)} bytes is truncated") from None


def _apply(old: bytes, diff: bytes, max_size: int) -> Generator[None, None, bytes]:
    old_view, diff_view = memoryview(old), memoryview(diff)
    pieces: list[memoryview] = []
    output = io.BytesIO()  # it alone can grow in place and be handed out without a copy
    escape = 0xFF
    size = done = 0  # bytes of the result that are accounted for, bytes of the diff that are read
    turn = _STRETCH
    while (at := diff.find(escape, done)) >= 0:
        code = diff[at + 1]
        if code in _ITSELF:
            pieces.append(diff_view[done : at + 1])
            size += at + 1 - done
            done = at + 2
            if code == _SWITCH:
                escape = diff[done]
                done += 1
        else:
            if at > done:
                pieces.append(diff_view[done:at])
                size += at - done
            position, length, done = _reference(diff, at + 1)
            if size + length > max_size:
                raise _too_large(max_size)
            if code >= _FROM_OLD:
                pieces.append(_old_piece(old_view, position, length, size))
            elif 0 < position <= size:
                _flush(pieces, output)
                _repeat(output, position, length)
            else:
                raise DiffError(f"diff refers to {position} bytes before byte {size} of its result")
            size += length
        if size > max_size:
            raise _too_large(max_size)
        if done >= turn:
            turn = done + _STRETCH
            _flush(pieces, output)
            yield
    size += len(diff) - done
    if size > max_size:
        raise _too_large(max_size)
    pieces.append(diff_view[done:])
    if not output.tell():
        return b"".join(pieces)
    _flush(pieces, output)
    return output.getvalue()


def _too_large(max_size: int) -> DiffError:
    return DiffError(f"diff makes more than the {max_size} bytes allowed", code=1009)


def _reference(diff: bytes, at: int) -> tuple[int, int, int]:
    """Return position and length of the reference whose code is at `at`, and where it ends."""
    position = diff[at] & 0x7F
    at += 1
    if position >= _WIDE_POSITION:
        end = at + 0x80 - position
        position, at = int.from_bytes(diff[at:end], "big"), end
    length = diff[at]
    at += 1
    if length >= _WIDE_LENGTH:
        end = at + 0x101 - length
        diff[end - 1]  # is it there?
        length, at = int.from_bytes(diff[at:end], "big"), end
    if not length:
        raise DiffError("diff refers to nothing")
    return position, length, at


def _old_piece(old: memoryview, position: int, length: int, at: int) -> memoryview:
    distance = position >> 1
    start = at + distance + 1 if position & 1 else at - distance
    if start < 0 or start + length > len(old):
        raise DiffError(
            f"diff refers to {length} bytes at {start} of the {len(old)} it is made against"
        )
    return old[start : start + length]


def _flush(pieces: list[memoryview], output: io.BytesIO) -> None:
    output.writelines(pieces)
    pieces.clear()


def _repeat(output: io.BytesIO, distance: int, length: int) -> None:
    """Append `length` bytes, each equal to the one `distance` before it."""
    start = output.tell() - distance
    while length:
        output.seek(start)
        piece = output.read(min(length, _CHUNK))  # less at the end: doubles what it repeats
        output.seek(0, io.SEEK_END)
        output.write(piece)
        length -= len(piece)
        if len(piece) == _CHUNK:
            start += _CHUNK
