"""Load limits that change with time (semantics: load)."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOLERANCE = 1e-9


class LoadLimit:
    """A load limit that changes with time: straight lines from (declared, 0) through each point, then constant."""

    __slots__ = ("_limits", "_times")

    def __init__(self, points: Sequence[tuple[float, int]], now: float) -> None:
        self._times = [now, *(now + seconds for seconds, _ in points)]
        self._limits = [0.0, *(float(limit) for _, limit in points)]

    def limit(self, now: float) -> float:
        """Return the limit at a time."""
        after = bisect_right(self._times, now)
        if after == len(self._times):
            return self._limits[-1]
        start, end = self._times[after - 1], self._times[after]
        low, high = self._limits[after - 1], self._limits[after]
        return low + (now - start) / (end - start) * (high - low)

    def allows(self, load: float, now: float) -> bool:
        """Whether a load is within the limit."""
        return load <= self.limit(now) + _TOLERANCE

    def crossing(self, load: float, now: float) -> float:
        """Return the earliest time after `now` when the limit allows a load that it forbids now; infinity if never."""
        for after in range(bisect_right(self._times, now), len(self._times)):
            start, end = self._times[after - 1], self._times[after]
            low, high = self._limits[after - 1], self._limits[after]
            if high + _TOLERANCE >= load:
                share = (load - low) / (high - low)  # it rises: the load was forbidden so far
                return start + min(share, 1.0) * (end - start)
        return math.inf
