"""Make a diff of protocol 0.8."""

from __future__ import annotations

from .compare import common_prefix, common_suffix
from .matcher import Matcher
from .references import DiffWriter

__all__ = ["diff"]


def diff(old: bytes, new: bytes) -> bytes:
    writer = DiffWriter(new)
    n = min(len(old), len(new))
    prefix = common_prefix(old, 0, new, 0, n)
    if prefix: writer.copy(0, 0, prefix, old=True)
    suffix = common_suffix(old, len(old), new, len(new), n - prefix) if n-prefix else 0
    end = len(new) - suffix
    if end - prefix > 8:
        Matcher(old, new, writer, end).run(prefix, prefix)
    if suffix: writer.copy(len(old) - suffix, end, suffix, old=True)
    return writer.finish()
