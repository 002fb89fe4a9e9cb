"""Diffs of protocol 0.8: bytes in, bytes out."""

from .diff import diff
from .patch import patch

__all__ = ["diff", "patch"]
