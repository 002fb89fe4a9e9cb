"""Several sources as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import ref

from typing_extensions import override

from .._changes import Action, Event, MergedKeys
from .._engine.callbacks import Callbacks
from .._engine.feeds import Feed
from .._engine.lock import NodeLock
from .._engine.outbox import Outbox
from .._engine.parking import Parking
from .._engine.poll_results import PENDING
from .._uncopied import Uncopied
from .registration import Delivery
from .source import EventSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._engine.feeds import Emitter
    from .._engine.hub import Hub
    from .._loops.wakeups import Waiter

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class EventMerge(Uncopied, EventSource[K]):
    """The changes of several sources, of one node or several, as those of one table.

    A key is there as long as one of the sources has it: the second INSERT of a key is a CHANGE, and so is a REMOVE while
    another source still has it. `annotate` keeps keys of different sources apart. It is not closed: what it includes
    ends with its sources, and loops over it go on.

    :param sources: what to include at once.
    :raises TypeError: one of them is no source.
    """

    __slots__ = ("_included",)

    _emitter: _Merged[K]

    def __init__(self, *sources: EventSource[K]) -> None:
        super().__init__(_Merged(), None, None)
        # their sources too, or a contract would be collected, and closed, while it is in use
        self._included: dict[_Included, EventSource[K]] = {}
        for source in sources:
            self.include(source)

    def include(self, source: EventSource[K]) -> Inclusion:
        """Have the events of another source in it; return what takes them out again.

        :raises TypeError: it is no source.
        :raises ValueError: this merge is a part of it.
        """
        if not isinstance(source, EventSource):
            raise TypeError(f"a merge includes sources: write `.changes()` after {source!r:.100}")
        if self._emitter.is_part_of(source.included_in(lambda emitter, _function: emitter)):
            raise ValueError("a merge cannot include itself, also not by way of another one")
        included = source.included_in(partial(_Included, self._emitter, ref(self)))
        self._included[included] = source
        included.start()
        return Inclusion(self, included)

    def exclude(self, included: _Included) -> None:
        """Take a source out again; for `Inclusion`."""
        included.stop()
        self._included.pop(included, None)

    @override
    def kept_by_listeners(self) -> object:
        return self

    def __del__(self) -> None:
        for included in [*getattr(self, "_included", ())]:
            included.forget()


class Inclusion:
    """A source in an `EventMerge`, until `remove` or the end of its `with`. Nobody has to keep it."""

    __slots__ = ("_included", "_merge")

    def __init__(self, merge: EventMerge[Any], included: _Included) -> None:
        self._merge = merge
        self._included = included

    def remove(self) -> None:
        """Take the source out: its keys are removed, as far as no other source has them. Never waits; twice is fine."""
        self._merge.exclude(self._included)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class _Included(Delivery[Any]):
    """Brings the events of a source into the table of a merge."""

    __slots__ = ("_keys", "_merge", "_merged")

    def __init__(
        self,
        merged: _Merged[Any],
        merge: ref[EventMerge[Any]],
        emitter: Emitter[Any],
        function: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(emitter, function, _nothing, None, anywhere=True)
        self._merge = merge  # which keeps this one
        self._merged = merged
        self._keys: set[Any] = set()

    @override
    def start(self) -> None:
        self._merged.sources.append(self._emitter)
        super().start()

    @override
    def stop(self) -> None:
        super().stop()
        self._merged.quietly(self._take_out)

    def forget(self) -> None:
        """Do the same for a finalizer."""
        self.stopped = True
        self.hub.later(self.unsubscribe)

    @override
    def deliver(self) -> None:
        super().deliver()
        self._merged.callbacks.run()  # not in the middle of this one, which others would wait for
        if self.over and (merge := self._merge()) is not None:
            merge.exclude(self)  # the source has ended

    @override
    def _hand_over(self, event: Event[Any]) -> None:
        self._merged.read(lambda: self._note(event))

    @override
    def _note_time(self, seconds: float) -> None:
        pass  # it is no program's function

    def _note(self, event: Event[Any]) -> None:
        if self.stopped:
            return
        action, known = event.action, event.key in self._keys
        if action is Action.REMOVE:
            self._keys.discard(event.key)
            if not known:
                return  # its INSERT was lost, where a function has raised
        else:
            self._keys.add(event.key)
            action = Action.CHANGE if known else Action.INSERT
        self._merged.put(Event(action, event.key))

    def _take_out(self) -> None:
        while self._keys:
            self._merged.put(Event(Action.REMOVE, self._keys.pop()))
        if self._emitter in self._merged.sources:
            self._merged.sources.remove(self._emitter)


def _nothing(_event: object) -> None:
    return None


class _Merged(Generic[K]):
    """The table of a merge, and its lock. Whoever waits does what is due on the nodes of its sources.

    :ivar sources: what it includes, one entry for each time.
    """

    __slots__ = (
        "_deferred", "_feed", "_keys", "_lock", "_outbox", "_parked", "_parking", "callbacks", "name", "sources",
    )  # fmt: skip

    def __init__(self) -> None:
        self.name: str = "an EventMerge"
        self.callbacks: Callbacks = Callbacks()
        self.sources: list[Emitter[Any]] = []
        self._lock = NodeLock()
        self._outbox = Outbox()
        self._parking = Parking(self._outbox.calls.append)
        self._parked: dict[Waiter, _Parked] = {}
        self._deferred: deque[Callable[[], object]] = deque()
        self._feed: Feed[K] = Feed()
        self._keys: MergedKeys[K] = MergedKeys()

    @property
    def hub(self) -> Hub:
        return self

    @property
    def _hubs(self) -> list[Hub]:
        return [source.hub for source in [*self.sources]]

    def is_part_of(self, emitter: Emitter[Any]) -> bool:
        """Return whether a table is this one, or one that includes it."""
        return emitter is self or (
            isinstance(emitter, _Merged) and any(map(self.is_part_of, [*emitter.sources]))
        )

    # ---- emitter: under the lock ------------------------------------------------------------------------------------

    def keys(self) -> list[K]:
        return self._keys.keys()

    def feed(self) -> Feed[K]:
        return self._feed

    def put(self, event: Event[K]) -> None:
        self._feed.put(self._keys.put(event.action, event.key), event.key)

    # ---- hub --------------------------------------------------------------------------------------------------------

    def read(self, function: Callable[[], T], *, changes: bool = False) -> T:
        if self._lock.inside:
            return function()
        try:
            return self._lock.run(function)
        finally:
            self._afterwards()
            if changes:
                self.callbacks.run()

    def quietly(self, function: Callable[[], object]) -> None:
        self.later(function)
        self.callbacks.run()

    def later(self, function: Callable[[], object]) -> None:
        self._deferred.append(function)
        self._afterwards()

    def wake(self, place: object) -> None:
        self._parking.wake(place)

    def park(self, place: object, waiter: Waiter, poll: Callable[[], object]) -> bool:
        parked = _Parked(self, place, waiter, self._hubs)
        self._parked[waiter] = parked

        def park() -> bool:
            if poll() is not PENDING:
                return False
            self._parking.add(place, parked)
            return True

        if (
            self.read(park)
            and all(hub.park(place, parked, poll) for hub in parked.hubs)
            and self._parked.get(waiter)
            is parked  # else it was woken meanwhile, before it was parked everywhere
        ):
            return True
        self._parked.pop(waiter, None)
        self._forget(place, parked)
        return False

    def unpark(self, place: object, waiter: Waiter) -> None:
        parked = self._parked.pop(waiter, None)
        if parked is not None:
            self._forget(place, parked)

    def _forget(self, place: object, parked: _Parked) -> None:
        for hub in parked.hubs:
            hub.unpark(place, parked)
        self.read(lambda: self._parking.remove(place, parked))

    def step(self) -> bool:
        done = [hub.step() for hub in self._hubs]
        return any(done)

    def until_due(self) -> float | None:
        times = [hub.until_due() for hub in self._hubs]
        return min((time for time in times if time is not None), default=None)

    def _afterwards(self) -> None:
        while self._deferred and self._lock.try_run(self._do_deferred):
            pass
        if self._lock.inside:
            return
        self._outbox.carry_out()

    def _do_deferred(self) -> None:
        while self._deferred:
            self._deferred.popleft()()


class _Parked:
    """Who waits for a merge: there, and on the nodes of its sources, where something may be due that nobody else does."""

    __slots__ = ("_merged", "_place", "_waiter", "hubs")

    def __init__(
        self, merged: _Merged[Any], place: object, waiter: Waiter, hubs: list[Hub]
    ) -> None:
        self._merged = merged
        self._place = place
        self._waiter = waiter
        self.hubs: list[Hub] = hubs

    def wake(self) -> None:
        self._merged.unpark(self._place, self._waiter)
        self._waiter.wake()
