"""What is to be done outside a lock because of what was done under it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .lock import NodeLock

if TYPE_CHECKING:
    from collections.abc import Callable


class Outbox:
    """Calls that came up under a lock: one thread at a time makes them, in order and outside the lock.

    Each stays until it was made, and may be made twice, where an exception comes in between.

    :ivar calls: those that are to be made.
    """

    __slots__ = ("_dispatching", "calls")

    def __init__(self) -> None:
        self._dispatching = NodeLock()
        self.calls: deque[Callable[[], None]] = deque()

    @property
    def inside(self) -> bool:
        """Whether this thread is in the middle of one of these calls."""
        return self._dispatching.inside

    def carry_out(self) -> None:
        """Make all calls, or leave them to the thread that is at it. Only outside the lock."""
        while self.calls and self._dispatching.try_run(self._carry_out):
            pass

    def _carry_out(self) -> None:
        while self.calls:
            self.calls[0]()
            self.calls.popleft()
