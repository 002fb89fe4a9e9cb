"""Make a diff of protocol 0.8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compare import common_prefix, common_suffix
from .matcher import Matcher
from .writer import DiffWriter

if TYPE_CHECKING:
    from collections.abc import Generator


_LITERAL = 8  # bytes between equal start and end of which nothing is looked for elsewhere


def diff(old: bytes, new: bytes) -> bytes:
    """Return a diff from which `patch` makes `new` out of `old`.

    It is at most `len(new) + len(new) / 255 + 64` bytes long. Depends on its arguments alone.

    :param old: what the receiver has; empty for a first state.
    :param new: what it shall have.
    """
    writer = DiffWriter(new)
    start, end = _changed(old, new, writer)
    if end - start > _LITERAL:  # a small change, the usual one, pays for no generator
        for _ in _between(old, new, start, end, writer):
            pass
    return _finished(old, new, end, writer)


def diffing(old: bytes, new: bytes) -> Generator[None, None, bytes]:
    """Do the same as `diff`, in steps of about a millisecond: 16 MiB may take seconds."""
    writer = DiffWriter(new)
    start, end = _changed(old, new, writer)
    if end - start > _LITERAL:
        yield from _between(old, new, start, end, writer)
    return _finished(old, new, end, writer)


def _changed(old: bytes, new: bytes, writer: DiffWriter) -> tuple[int, int]:
    """Write what is equal at the start; return where that ends, and where what is equal at the end begins."""
    shorter = min(len(old), len(new))
    start = common_prefix(old, 0, new, 0, shorter)
    writer.copy(0, 0, start, old=True)
    return start, len(new) - common_suffix(old, len(old), new, len(new), shorter - start)


def _between(
    old: bytes, new: bytes, start: int, end: int, writer: DiffWriter
) -> Generator[None, None, None]:
    yield from Matcher(old, new, end, writer).run(start, start)
    yield from writer.leave(end)


def _finished(old: bytes, new: bytes, end: int, writer: DiffWriter) -> bytes:
    length = len(new) - end
    writer.copy(len(old) - length, end, length, old=True)
    return writer.finish()
