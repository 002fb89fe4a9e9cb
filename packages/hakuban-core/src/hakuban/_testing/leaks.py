"""What a process holds, counted before and after, to find what a transport leaves behind."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from .environment import PATIENCE, PAUSE, Finding

POOL: Final = 5
"""Threads that may stay: event loops keep those of a pool for the next call that blocks."""

DESCRIPTORS: Final = Path("/dev/fd")


@dataclass(slots=True)
class Census:
    """How many tasks of this event loop, threads and open descriptors there are; -1 descriptors where unknown."""

    tasks: int
    threads: int
    descriptors: int

    @classmethod
    def take(cls) -> Census:
        """Count now."""
        tasks = len(anyio.get_running_tasks())
        try:
            descriptors = sum(1 for _ in DESCRIPTORS.iterdir())
        except OSError:
            descriptors = -1
        return cls(tasks, threading.active_count(), descriptors)

    async def expect_no_more(self, after: str) -> None:
        """Wait until there is no more than in this census: what was cancelled may need a moment to go.

        :raises Finding: it does not go.
        """
        with anyio.move_on_after(PATIENCE / 2):
            while self._growth():  # noqa: ASYNC110 -- the end of foreign tasks has no event
                await anyio.sleep(PAUSE)
        if growth := self._growth():
            raise Finding(f"after {after} there are {growth} more than before")

    def _growth(self) -> str:
        now = Census.take()
        more = {
            "tasks": now.tasks - self.tasks,
            "descriptors": now.descriptors - self.descriptors,
            "threads": now.threads - self.threads - POOL,
        }
        return ", ".join(f"{number} {what}" for what, number in more.items() if number > 0)
