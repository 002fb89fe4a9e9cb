"""Memory that was needed for a while goes back to the system."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable


_PERIOD: Final = 2.0  # seconds
_REST: Final = 99.0  # times as long as it took nothing is done: a hundredth of the time is for this


async def give_memory_back() -> None:
    """Have glibc return what is free, now and then, until cancelled.

    By itself it returns the end of its heap alone, and one small block there keeps all before it: after unfinished messages
    of 64 MiB a router stayed 80 MiB larger. It takes microseconds, and 10 ms in a heap of 200,000 holes. Not in a thread:
    whoever allocates has to wait for it all the same.
    """
    await anyio.sleep(_PERIOD)  # ctypes takes a while to import, which no start should wait for
    trim = find_trim()
    while trim is not None:
        began = monotonic()
        trim(0)
        await anyio.sleep(max(_PERIOD, _REST * (monotonic() - began)))


def find_trim() -> Callable[[int], int] | None:
    """Return `malloc_trim` of glibc, the one that needs it; None where there is another C library."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
    return trim
