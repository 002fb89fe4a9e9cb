"""Waiting in tests for what has no event of its own."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Turns", "until", "wait_for"]


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Let other tasks run until a condition holds.

    :raises TimeoutError: it did not in that time.
    """
    with anyio.fail_after(seconds):
        while True:
            if condition():
                return
            await checkpoint()


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Let other threads run until a condition holds.

    :raises TimeoutError: it did not in that time.
    """
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError
        sleep(0.001)


class Turns:
    """A task that takes every turn it gets.

    :ivar taken: how many so far.
    """

    def __init__(self) -> None:
        self.taken = 0

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            await checkpoint()
            self.taken += 1
