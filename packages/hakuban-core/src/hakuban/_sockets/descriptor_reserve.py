"""Descriptors that unknown peers do not get, so that whatever else the process does can open files."""

from __future__ import annotations

from typing import Final

from .._open_files import open_files_limit

_RESERVE: Final = 64
"""Descriptors; a quarter of the limit where that is less."""


def missing_in_reserve(accepted: int) -> int:
    """Return how many descriptors of the reserve are in use, whoever uses them; 0 while it is untouched.

    A new descriptor is the lowest free one: so all below it are in use, and no count has to be kept.

    :param accepted: the descriptor of a socket that has just been accepted; it counts.
    """
    limit = open_files_limit()
    if limit is None:
        return 0
    return max(0, accepted + 1 - (limit - min(_RESERVE, limit // 4)))
