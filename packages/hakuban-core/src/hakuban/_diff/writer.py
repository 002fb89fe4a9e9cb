"""The written form of a diff: literal bytes, references, and the byte that distinguishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable


_ESCAPE = b"\xff"  # the first escape byte; after any escape byte it means that byte itself
_SWITCH = b"\x7f"
_FROM_OLD = 0x80
_NARROW_POSITION = 0x7B
_NARROW_LENGTH = 0xFC
_BYTE = [bytes((value,)) for value in range(256)]
_ESCAPES: tuple[int, ...] = (*range(1, 256), 0)  # zeros are often many
_HELD_PARTS = 1 << 14  # they take much more memory than what is written of them
_HELD_LITERAL = 1 << 18  # bytes that are written, before others may have a turn


class DiffWriter:
    """Collects the references of one diff, in order; what is between them becomes literal.

    :ivar done: bytes of the new data that are written.
    :ivar saved: bytes that the references take less than literals would.
    """

    __slots__ = ("_escape", "_new", "_parts", "_written", "done", "saved")

    def __init__(self, new: bytes) -> None:
        self._new = new
        self._parts: list[bytes] = []  # a literal, a reference, a literal ...
        self._written: list[bytes] = []
        self._escape = _ESCAPE
        self.done = 0
        self.saved = 0

    def copy(self, start: int, at: int, length: int, *, old: bool) -> None:
        """Write new bytes as a reference, if that takes less room than a literal.

        :param start: where the bytes are found in the old data, or in the new data before `at`.
        :param at: where they are in the new data; not before `done`.
        :param old: in the old data.
        """
        reference = _code(at - start, old=old) + _length(length)
        if len(reference) < length:
            self._parts += (self._new[self.done : at], reference)
            self.done = at + length
            self.saved += length - len(reference)

    def copy_runs(self, start: int, at: int, runs: Iterable[tuple[int, int]], *, old: bool) -> None:
        """Write several references to one distance; runs begin and end relative to `start` and `at`."""
        code = _code(at - start, old=old)
        add, new, done = self._parts.append, self._new, self.done
        for first, last in runs:
            length = last - first
            reference = code + (_BYTE[length] if length <= _NARROW_LENGTH else _length(length))
            if len(reference) < length:
                add(new[done : at + first])
                add(reference)
                done = at + last
                self.saved += length - len(reference)
        self.done = done
        if len(self._parts) > _HELD_PARTS:
            self._write()

    def leave(self, end: int) -> Generator[None, None, None]:
        """Write new bytes before `end` as literals, in steps, but for the last that are held."""
        while end - self.done > _HELD_LITERAL:
            self._parts.append(self._new[self.done : self.done + _HELD_LITERAL])
            self.done += _HELD_LITERAL
            self._write()
            yield

    def finish(self) -> bytes:
        """Return the diff."""
        self._parts.append(self._new[self.done :])
        self._write()
        return b"".join(self._written)

    def _write(self) -> None:
        """Write the parts.

        A literal byte that equals the escape byte takes two. Since the first one can switch to
        another escape byte, these are at most one in 256.
        """
        parts, escape = self._parts, self._escape
        self._parts = []
        literals = b"".join(parts[::2])
        first = literals.find(escape)
        if first < 0 and escape == _ESCAPE:  # text, nearly always
            self._written.append(b"".join(parts))
            return
        if first >= 0:
            self._escape = _rare_byte(escape, literals[first + 1 :])
        if self._escape == escape:
            self._written.append(_escaped(parts, escape))
            return
        place = next(place for place in range(0, len(parts), 2) if escape in parts[place])
        before, _, after = parts[place].partition(escape)
        self._written += (
            _escaped([*parts[:place], before], escape),
            escape + _SWITCH + self._escape,
            _escaped([after, *parts[place + 1 :]], self._escape),
        )


def _escaped(parts: list[bytes], escape: bytes) -> bytes:
    parts[::2] = [literal.replace(escape, escape + _ESCAPE) for literal in parts[::2]]
    parts[1::2] = [escape + reference[1:] for reference in parts[1::2]]
    return b"".join(parts)


def _code(distance: int, *, old: bool) -> bytes:
    """Return a reference to what is that far back, without its length."""
    if not old:
        position, flag = distance, 0
    elif distance >= 0:
        position, flag = 2 * distance, _FROM_OLD
    else:
        position, flag = -2 * distance - 1, _FROM_OLD
    if position <= _NARROW_POSITION:
        return _ESCAPE + _BYTE[flag | position]
    return _ESCAPE + _wide(flag + 0x80, position)


def _length(length: int) -> bytes:
    return _BYTE[length] if length <= _NARROW_LENGTH else _wide(0x101, length)


def _wide(base: int, number: int) -> bytes:
    width = 2 if number <= 0xFFFF else 3 if number <= 0xFFFFFF else 4
    return _BYTE[base - width] + number.to_bytes(width, "big")


def _rare_byte(escape: bytes, literals: bytes) -> bytes:
    """Return a byte of which there are few, best the escape byte itself: it needs no switch."""
    for byte in (escape[0], *_ESCAPES):
        if byte not in literals:
            return _BYTE[byte]
    few = len(literals) // 256
    return next(_BYTE[byte] for byte in (escape[0], *_ESCAPES) if literals.count(byte) <= few)
