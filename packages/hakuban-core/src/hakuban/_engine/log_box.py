"""Lines for the log that come up under the lock, where nothing may be logged."""

from __future__ import annotations

from collections import deque
from typing import Final

from .._logger import logger
from .lock import NodeLock

MOST_LINES: Final = 1_000


class LogBox:
    """Lines that came up under a lock, where nothing may be logged: handlers are user code.

    One thread at a time logs them, in order and outside the lock; the others only add. While it is stuck in a slow
    handler, at most `MOST_LINES` are kept; of the others there is a count in the log when it goes on.

    :ivar lines: those that are not logged yet.
    """

    __slots__ = ("_dropped", "_logging", "_reported", "lines")

    def __init__(self) -> None:
        self.lines: deque[tuple[int, str, tuple[object, ...]]] = deque()
        self._logging = NodeLock()
        # two numbers that only grow, since they are written by different threads
        self._dropped = 0
        self._reported = 0

    def add(self, level: int, text: str, *arguments: object) -> None:
        """Have a line logged by the next `log_all`. Only under the lock."""
        if len(self.lines) < MOST_LINES:
            self.lines.append((level, text, arguments))
        else:
            self._dropped += 1

    def log_all(self) -> None:
        """Log what is there, unless another thread is at it, or this one further out. Only outside the lock."""
        while self.lines and self._logging.try_run(self._log_all):
            pass

    def _log_all(self) -> None:
        while self.lines:
            level, text, arguments = self.lines.popleft()
            logger.log(level, text, *arguments)
        missing = self._dropped - self._reported
        if missing:
            self._reported += missing
            logger.warning(
                "%d lines of the log were dropped: a handler takes longer than they came", missing
            )
