"""Sources of events: what `changes()` returns."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._checks import expect_function
from .._engine.waiting import Endless
from .buffer import EventBuffer, Mailbox
from .registration import Delivery, Registration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .._changes import Event
    from .._engine.feeds import Emitter

K = TypeVar("K", bound=Hashable)
L = TypeVar("L", bound=Hashable)
V = TypeVar("V", bound=Hashable)
D = TypeVar("D")


class EventSource(Endless, Generic[K]):
    """The changes of a table of keys: `changes()` of contracts and nodes, `peer_changes()`, or an `EventMerge`.

    Whoever begins to listen gets an INSERT for each key that is there, and then whatever happens. There are three ways:
    a loop, `async for event in source` in a task or `for event in source` in a thread without event loop, a `buffer()`
    of one's own, and a callback, see `register`. Each has its own events. None of them holds up whoever makes the
    changes: what a listener has not taken yet is folded, and of each key at most one event waits, see `EventBuffer`.
    Thread-safe.
    """

    __slots__ = ("__weakref__", "_emitter", "_function", "_owner")

    _instead = "`source.keys()` for those that are there, or `for event in source:`"

    def __init__(
        self, emitter: Emitter[Any], function: Callable[[Any], K] | None, owner: object
    ) -> None:
        self._emitter = emitter
        self._function = function
        self._owner = owner  # whom its listeners need, and nobody else may keep

    def keys(self) -> list[K]:
        """Return the keys that are there now."""
        keys = self._emitter.hub.read(self._emitter.keys)
        return keys if self._function is None else [*map(self._function, keys)]

    def register(
        self,
        callback: Callable[[Event[K]], object],
        via: Callable[[Callable[[Event[K]], object], Event[K]], object] | None = None,
    ) -> Registration:
        """Have a callback called for each event: at once for the keys that are there.

        It is called outside all locks, one call after the other, in the thread that has made the change and before its
        call returns; where that thread runs an event loop, in a thread of its own, for which the loop waits 10 ms at most,
        and not at all if the callback has taken longer lately. In such a thread too, and without waiting, where something
        is due that nobody has asked for, or was forgotten: whoever only reads calls nobody. What comes while it runs is
        folded. An exception is logged, and harms nobody; a callback that takes longer than 10 ms is logged once.

        :param callback: called with an `Event`.
        :param via: called with the callback and the event instead, to hand them over to another thread or loop:
            `loop.call_soon_threadsafe`, for example. It must not block.
        :return: what ends it; nobody has to keep that.
        :raises TypeError: one of them is no function.
        """
        expect_function("a callback is a function of one event", callback)
        if via is not None:
            expect_function("`via` is a function of a callback and an event", via)
        delivery = Delivery(
            self._emitter,
            self._function,
            callback,
            via,
            anywhere=via is not None,
            owner=self.kept_by_listeners(),
        )
        delivery.start()
        return Registration(delivery)

    def kept_by_listeners(self) -> object:
        """Return what callbacks keep: a merge, and no contract, which ends when it is forgotten."""
        owner = self._owner
        return owner.kept_by_listeners() if isinstance(owner, EventSource) else None

    def included_in(self, make: Callable[[Emitter[Any], Callable[[Any], K] | None], D]) -> D:
        """Make what brings its events into a merge."""
        return make(self._emitter, self._function)

    def map(self, function: Callable[[K], L]) -> EventSource[L]:
        """Return a source with other keys.

        :param function: makes a key of each; no two keys may become the same. Called in the thread of whoever listens;
            an event for which it raises is logged, and left out.
        :raises TypeError: it is no function.
        """
        expect_function("`map` takes a function of one key", function)
        before = self._function
        after: Callable[[Any], L] = (
            function if before is None else lambda key: function(before(key))
        )
        return EventSource(self._emitter, after, self)

    def annotate(self, value: V) -> EventSource[tuple[V, K]]:
        """Return a source with keys of `(value, key)`: to tell in an `EventMerge` where an event is from."""
        return self.map(lambda key: (value, key))

    def buffer(self) -> EventBuffer[K]:
        """Begin to collect events, those of the keys that are there first."""
        return EventBuffer(self, self._emitter, Mailbox(self._emitter, self._function))

    def __aiter__(self) -> AsyncIterator[Event[K]]:
        return self.buffer()

    def __iter__(self) -> Iterator[Event[K]]:
        return self._looping(self.buffer())
