"""Waiting in tests for what has no event of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Let other tasks run until a condition holds.

    :raises TimeoutError: it did not in that time.
    """
    with anyio.fail_after(seconds):
        while True:
            if condition():
                return
            await checkpoint()
