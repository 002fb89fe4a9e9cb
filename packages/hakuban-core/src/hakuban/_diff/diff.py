"""Make a diff of protocol 0.8."""

from __future__ import annotations

from .compare import common_prefix, common_suffix
from .matcher import Matcher
from .writer import DiffWriter

__all__ = ["diff"]

_LITERAL = 8  # bytes between equal start and end of which nothing is looked for elsewhere


def diff(old: bytes, new: bytes) -> bytes:
    """Return a diff from which `patch` makes `new` out of `old`.

    It is at most `len(new) + len(new) / 256 + 2` bytes long. Depends on its arguments alone.

    :param old: what the receiver has; empty for a first state.
    :param new: what it shall have.
    """
    writer = DiffWriter(new)
    shorter = min(len(old), len(new))
    start = common_prefix(old, 0, new, 0, shorter)
    writer.copy(0, 0, start, old=True)
    length = common_suffix(old, len(old), new, len(new), shorter - start)
    end = len(new) - length
    if end - start > _LITERAL:
        Matcher(old, new, end, writer).run(start, start)
    writer.copy(len(old) - length, end, length, old=True)
    return writer.finish()
