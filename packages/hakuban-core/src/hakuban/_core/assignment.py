"""Who produces an object: the order of choice, load limits, rebalancing (semantics: exposer choice, load)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from .graph import ExposeContract, Interest, LocalSink, ObjectRecord, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable

Choice: TypeAlias = ExposeContract | Interest | Upstream

_COALESCE = 0.25  # seconds from a change of loads to the rebalancing that it causes
_RETRY = 0.01  # seconds: a crossing that rounding put into the past is tried again after this
_REST = 1e-4  # seconds of rest after a look, for each object looked at


def choose(record: ObjectRecord, now: float) -> Choice | None:
    """Pick the exposer of an object whose data are needed; first match wins, ties go to the lowest id."""
    if record.upstream_inlets:
        return Upstream.UPSTREAM
    local = _choose_local(record)
    if local is not None:
        return local
    holder = record.exposer
    if isinstance(holder, Interest) and holder.production > 0:
        return holder
    return _lightest(record, now)


def choose_lighter(record: ObjectRecord, threshold: float, now: float) -> Interest | None:
    """Pick a peer that is better than the one that produces the object by more than the threshold, if there is one."""
    holder = record.exposer
    best = _lightest(record, now)
    if not isinstance(holder, Interest) or best is None or best is holder:
        return None
    return best if _score(best) < holder.link.load - threshold else None


def _choose_local(record: ObjectRecord) -> ExposeContract | None:
    ranks = [record.exposers, *(tag.exposers for tag in record.tags)]
    holder = record.exposer.contract if isinstance(record.exposer, LocalSink) else None
    if holder is not None and holder.capacity > 0 and any(holder.id in rank for rank in ranks):
        return holder
    of_tags = [contract for rank in ranks[1:] for contract in rank.values()]
    for contracts in (record.exposers.values(), of_tags):
        able = [contract for contract in contracts if contract.capacity > 0]
        if able:
            return min(able, key=lambda contract: (-contract.capacity, contract.id))
    return None


def _score(interest: Interest) -> float:
    return interest.link.load + 1 / interest.production


def _lightest(record: ObjectRecord, now: float) -> Interest | None:
    best: Interest | None = None
    best_rank = (math.inf, -1)
    for interest in record.able:
        rank = (_score(interest), interest.link.id)
        load_limit = interest.link.load_limit
        if rank < best_rank and (load_limit is None or load_limit.allows(rank[0], now)):
            best, best_rank = interest, rank
    return best


def _next_crossing(record: ObjectRecord, rivals: Iterable[Interest], now: float) -> float:
    """Return the time at which a load-limit ramp lets in some peer that it keeps out now; infinity if none will."""
    first = math.inf
    for interest in rivals:
        load_limit = interest.link.load_limit
        if load_limit is not None and interest is not record.exposer:
            score = _score(interest)
            if not load_limit.allows(score, now):
                first = min(first, load_limit.crossing(score, now))
    return max(first, now + _RETRY)


class Balancer:
    """Remembers which objects are worth another look, and when: never all of them, and not before something changed.

    :ivar threshold: how much lighter (in load) another peer has to be before an object moves to it; infinity for never.
    :ivar contested: objects that are produced by one of several peers.
    :ivar starved: objects that are needed, while every peer that could produce them is over its limit.
    :ivar deadline: the time from which `take_due` returns True; infinity for never.
    """

    __slots__ = ("_rested", "contested", "deadline", "starved", "threshold")

    def __init__(self, threshold: float | None) -> None:
        self.threshold: float = math.inf if threshold is None else threshold
        self.contested: dict[ObjectRecord, None] = {}
        self.starved: dict[ObjectRecord, None] = {}
        self.deadline: float = math.inf
        self._rested = -math.inf  # no look before this

    def classify(self, record: ObjectRecord, now: float) -> None:
        """Note what a settled object may need later."""
        rivals = record.able if record.data_needed else []
        exposer = record.exposer
        contested = len(rivals) > 1 and isinstance(exposer, Interest) and self.threshold < math.inf
        starved = exposer is None and bool(rivals)
        self._note(self.contested, record, now, wanted=contested)
        self._note(self.starved, record, now, wanted=starved)
        if contested or starved:
            self._look_by(_next_crossing(record, rivals, now))

    def forget(self, record: ObjectRecord) -> None:
        """The object is gone."""
        self.contested.pop(record, None)
        self.starved.pop(record, None)

    def loads_changed(self, now: float) -> None:
        """A load, limit or capacity is a different one: what is contested or starved is due soon."""
        if self.contested or self.starved:
            self._look_by(now + _COALESCE)

    def take_due(self, now: float) -> bool:
        """Whether another look at what is contested or starved is due now. Settling sets the next time."""
        if self.deadline > now:
            return False
        self.deadline = math.inf
        # many changes to many objects: looking takes some share of the time, not all of it
        self._rested = now + _REST * (len(self.contested) + len(self.starved))
        return True

    def _look_by(self, time: float) -> None:
        self.deadline = min(self.deadline, max(time, self._rested))

    def _note(
        self, kept: dict[ObjectRecord, None], record: ObjectRecord, now: float, *, wanted: bool
    ) -> None:
        if not wanted:
            kept.pop(record, None)
        elif record not in kept:
            kept[record] = None
            self.loads_changed(now)
