"""Who wants to know what happens to the keys of a table: under the lock of the node that keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .._changes import Action, Event, PendingEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .hub import Hub

K = TypeVar("K", bound=Hashable)


class Subscriber(ABC, Generic[K]):
    """The events of one feed that wait for one reader.

    :param emitter: whose feed it is.
    :ivar ended: whether no more will come.
    """

    __slots__ = ("_emitter", "ended", "pending")

    def __init__(self, emitter: Emitter[K]) -> None:
        self._emitter = emitter
        self.ended: bool = False
        self.pending: PendingEvents[K] = PendingEvents()

    @abstractmethod
    def notify(self) -> None:
        """There is something, or no more will come. Under the lock; does not raise."""

    def subscribe(self) -> None:
        """Be told of the keys that are there, and of all that happens to them. Under the lock."""
        self._emitter.feed().add(self, self._emitter.keys())

    def unsubscribe(self) -> None:
        """Be told no more, and forget what waits. Under the lock."""
        self._emitter.feed().remove(self)
        self.pending.clear()

    def begin(self, present: Iterable[K]) -> None:
        """Begin with these keys."""
        self.pending = PendingEvents(present)
        if self.pending:
            self.notify()

    def put(self, action: Action, key: K) -> None:
        """Something has happened to a key."""
        self.pending.put(action, key)
        self.notify()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self.notify()

    def pop(self) -> Event[K] | None:
        """Take the first event; see `PendingEvents.pop`."""
        return self.pending.pop()

    def cut(self) -> PendingEvents[K]:
        """Take all events."""
        cut = self.pending
        self.pending = PendingEvents()
        return cut


class Feed(Generic[K]):
    """The subscribers of one table. Only under the lock.

    :ivar ended: whether nothing will happen to it any more.
    """

    __slots__ = ("_subscribers", "ended")

    def __init__(self) -> None:
        self.ended: bool = False
        self._subscribers: dict[Subscriber[K], None] = {}

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def add(self, subscriber: Subscriber[K], present: Iterable[K]) -> None:
        """Have a subscriber told of the keys that are there, and of all that happens to keys from here on."""
        if self.ended:
            subscriber.end()
        else:
            self._subscribers[subscriber] = None
            subscriber.begin(present)

    def remove(self, subscriber: Subscriber[K]) -> None:
        """Tell it no more; twice is fine."""
        self._subscribers.pop(subscriber, None)

    def put(self, action: Action, key: K) -> None:
        """Something has happened to a key."""
        for subscriber in self._subscribers:
            subscriber.put(action, key)

    def end(self) -> None:
        """Nothing will happen any more."""
        self.ended = True
        for subscriber in self._subscribers:
            subscriber.end()
        self._subscribers.clear()


class Emitter(Protocol[K]):
    """A table whose changes are events.

    :ivar hub: whose lock guards it.
    :ivar name: what it is, for the log.
    """

    name: str

    @property
    def hub(self) -> Hub: ...

    def keys(self) -> list[K]:
        """Return the keys that are there. Under the lock."""
        ...

    def feed(self) -> Feed[K]:
        """Return who is told of its changes. Under the lock."""
        ...


class TableEmitter(Generic[K]):
    """A table that is kept for the sake of its changes alone.

    :param keys: lists its keys, under the lock.
    :param feed: who is told of its changes.
    """

    __slots__ = ("_feed", "_keys", "hub", "name")

    def __init__(self, hub: Hub, name: str, keys: Callable[[], list[K]], feed: Feed[K]) -> None:
        self.hub: Hub = hub
        self.name: str = name
        self._keys = keys
        self._feed = feed

    def keys(self) -> list[K]:
        """Return the keys that are there. Under the lock."""
        return self._keys()

    def feed(self) -> Feed[K]:
        """Return who is told of its changes. Under the lock."""
        return self._feed
