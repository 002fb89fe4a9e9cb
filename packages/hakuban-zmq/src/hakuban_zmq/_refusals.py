"""Who was not let in, logged so that a flood of unknown peers does not fill the log."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from hakuban.transport import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger("hakuban.zmq")

_MOST: Final = 10
"""Lines a second."""


class Refusals:
    """Logs ten a second one by one, and of the others how many they were. Belongs to one event loop.

    :param clock: returns seconds.
    """

    __slots__ = ("_began", "_clock", "_lines", "_unreported")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = -math.inf
        self._lines = self._unreported = 0

    def report(self, address: str, key: str) -> None:
        """Somebody was refused."""
        self.report_rest()
        if self._lines < _MOST:
            self._lines += 1
            logger.info("%s: its key is not allowed: %s", address, key)
        else:
            self._unreported += 1

    def report_rest(self) -> None:
        """Log how many were not logged one by one, when their second is over; to be called now and then."""
        now = self._clock()
        if now - self._began < 1:
            return
        if self._unreported:
            logger.info("%d more keys were not allowed", self._unreported)
        self._began, self._lines, self._unreported = now, 0, 0
