"""Who produces an object: the order of choice, load limits, rebalancing (semantics: exposer choice, load)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from .records import ExposeContract, Interest, LocalSink, ObjectRecord, Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

Choice: TypeAlias = ExposeContract | Interest | Upstream

_TOLERANCE = 1e-9
_COALESCE = 0.25  # seconds from a change of loads to the rebalancing that it causes
_RETRY = 0.01  # seconds: a crossing that rounding put into the past is tried again after this


class Ramp:
    """A load limit that changes with time: straight lines from (declared, 0) through each point, then constant."""

    __slots__ = ("_points",)

    def __init__(self, points: Sequence[tuple[float, int]], now: float) -> None:
        self._points = [(now, 0.0), *((now + seconds, float(load)) for seconds, load in points)]

    def limit(self, now: float) -> float:
        """Give the limit at a time."""
        before = self._points[0]
        for point in self._points:
            if point[0] > now:
                share = (now - before[0]) / (point[0] - before[0])
                return before[1] + share * (point[1] - before[1])
            before = point
        return before[1]

    def crossing(self, load: float, now: float) -> float:
        """Give the earliest time, not before `now`, at which the limit allows a load; infinity if never."""
        if load <= self.limit(now) + _TOLERANCE:
            return now
        before = self._points[0]
        for point in self._points[1:]:
            (start, low), (end, high) = before, point
            before = point
            if end < now or high < load:
                continue
            share = (load - low) / (high - low) if high > low else 1.0
            return max(now, start + max(0.0, share) * (end - start))
        return math.inf


def candidates(record: ObjectRecord) -> list[Interest]:
    """Give the peers below that can produce an object."""
    return [interest for interest in record.interests.values() if interest.production > 0]


def choose(record: ObjectRecord, now: float) -> Choice | None:
    """Pick the exposer of an object whose data are needed; first match wins, ties go to the lowest id."""
    if record.fed:
        return Upstream.UPSTREAM
    local = _choose_local(record)
    if local is not None:
        return local
    holder = record.exposer
    if isinstance(holder, Interest) and holder.link.alive and holder.production > 0:
        return holder
    return _lightest(record, now)


def choose_lighter(record: ObjectRecord, threshold: float, now: float) -> Interest | None:
    """Pick a peer that is better than the one that produces the object by more than the threshold, if there is one."""
    holder = record.exposer
    best = _lightest(record, now)
    if not isinstance(holder, Interest) or best is None or best is holder:
        return None
    return best if _score(best) < holder.link.load - threshold else None


def next_crossing(record: ObjectRecord, now: float) -> float:
    """Give the time at which a load-limit ramp lets some peer produce the object; infinity if none will."""
    times = (
        interest.link.ramp.crossing(_score(interest), now)
        for interest in candidates(record)
        if interest.link.ramp is not None
    )
    return max(min(times, default=math.inf), now + _RETRY)


def _choose_local(record: ObjectRecord) -> ExposeContract | None:
    of_tags = [contract for tag in record.tags for contract in tag.exposers.values()]
    holder = record.exposer.contract if isinstance(record.exposer, LocalSink) else None
    for contracts in ([*record.exposers.values()], of_tags):
        if holder in contracts and holder is not None and holder.capacity > 0:
            return holder
    for contracts in ([*record.exposers.values()], of_tags):
        able = [contract for contract in contracts if contract.capacity > 0]
        if able:
            return min(able, key=lambda contract: (-contract.capacity, contract.id))
    return None


def _score(interest: Interest) -> float:
    return interest.link.load + 1 / interest.production


def _lightest(record: ObjectRecord, now: float) -> Interest | None:
    best: Interest | None = None
    best_score = math.inf
    for interest in record.interests.values():
        if interest.production <= 0 or not interest.link.alive:
            continue
        score = _score(interest)
        ramp = interest.link.ramp
        if ramp is not None and score > ramp.limit(now) + _TOLERANCE:
            continue
        if (score, interest.link.id) < (best_score, best.link.id if best else math.inf):
            best, best_score = interest, score
    return best


class Balancer:
    """Remembers which objects are worth another look, and when: never all of them, and not before something changed."""

    __slots__ = ("_contested", "_due", "_retry", "_starved", "threshold")

    def __init__(self, threshold: float | None) -> None:
        self.threshold = threshold
        self._contested: dict[ObjectRecord, None] = {}  # produced by one of several peers
        self._starved: dict[ObjectRecord, None] = {}  # needed, and every peer is over its limit
        self._due = math.inf
        self._retry = math.inf

    def classify(self, record: ObjectRecord, now: float) -> None:
        """Note what a settled object may need later."""
        rivals = len(candidates(record)) if record.data_needed else 0
        self._note(
            self._contested, record, now, wanted=rivals > 1 and isinstance(record.exposer, Interest)
        )
        starved = rivals > 0 and record.exposer is None
        self._note(self._starved, record, now, wanted=starved)
        if starved:
            self._retry = min(self._retry, next_crossing(record, now))

    def forget(self, record: ObjectRecord) -> None:
        """The object is gone."""
        self._contested.pop(record, None)
        self._starved.pop(record, None)

    def loads_changed(self, now: float) -> None:
        """A load, limit or capacity is a different one: what is contested or starved is due soon."""
        if self._due == math.inf and (self._contested or self._starved):
            self._due = now + _COALESCE

    def deadline(self) -> float:
        """Give the time at which `take_due` has something to give."""
        return min(self._due, self._retry)

    def take_due(self, now: float) -> list[ObjectRecord]:
        """Give the objects whose exposer is to be chosen again now."""
        due: list[ObjectRecord] = []
        if self._due <= now:
            self._due = math.inf
            due += self._contested if self.threshold is not None else ()
            due += self._starved
        elif self._retry <= now:
            due += self._starved
        if self._retry <= now or due:
            self._retry = math.inf  # settling sets it anew
        return due

    def _note(
        self, kept: dict[ObjectRecord, None], record: ObjectRecord, now: float, *, wanted: bool
    ) -> None:
        if not wanted:
            kept.pop(record, None)
        elif record not in kept:
            kept[record] = None
            self.loads_changed(now)
