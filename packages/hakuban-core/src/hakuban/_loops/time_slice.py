"""Fairness among the tasks of an event loop."""

from __future__ import annotations

from time import monotonic
from typing import Final

from anyio.lowlevel import checkpoint

LENGTH: Final = 0.002  # seconds of work after which the other tasks have a turn


class TimeSlice:
    """How long a task has worked since the others had a turn, as far as it knows."""

    __slots__ = ("_began", "_spent")

    def __init__(self) -> None:
        self._spent = self._began = 0.0

    def begin(self) -> float:
        """Work begins; return the time."""
        self._began = monotonic()
        return self._began

    def expired(self) -> bool:
        """Return whether it is time to let others work."""
        return monotonic() - self._began + self._spent > LENGTH

    def end(self) -> float:
        """Work ends, and whether the others have a turn now is not known; return the time."""
        now = monotonic()
        self._spent += now - self._began
        return now

    @property
    def used_up(self) -> bool:
        """Whether it was time to let others work when work last ended."""
        return self._spent > LENGTH

    async def yield_to_loop(self) -> None:
        """Let the others have a turn; work goes on after it."""
        await checkpoint()
        self._spent = 0.0
        self._began = monotonic()

    def renew(self) -> None:
        """The others have had a turn."""
        self._spent = 0.0
