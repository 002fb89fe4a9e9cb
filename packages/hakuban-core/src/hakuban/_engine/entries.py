"""What the engine keeps of each contract, link and ticker: written under the node's lock, read from anywhere.

Handles (what users hold) refer to entries, and never the other way round: so a handle that was forgotten is noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar

from typing_extensions import override

from .._changes import Action
from .._contents import View
from .._descriptors import ObjectDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._descriptors import TagDescriptor
    from .._remote import Peer
    from .feeds import Feed
    from .view_table import ViewTable


NOT_OPEN: Final = -1

M = TypeVar("M", bound="StreamEntry | SinkEntry")


class StreamEntry:
    """An object as one observe contract sees it. `view` is the last one when the stream is closed.

    `place` is where its changes are announced: a contract on one object is waited for as a whole. That, and `owner`, are
    None when it is closed.
    """

    __slots__ = ("closed", "descriptor", "id", "owner", "place", "view")

    def __init__(
        self, id: int, descriptor: ObjectDescriptor, owner: ObserveEntry, view: View | None
    ) -> None:
        self.id: int = id
        self.descriptor: ObjectDescriptor = descriptor
        self.owner: ObserveEntry | None = owner
        self.place: object | None = (
            owner if isinstance(owner.descriptor, ObjectDescriptor) else self
        )
        self.view: View | None = view
        self.closed: bool = False

    def end(self) -> None:
        """It is closed. Its contract may keep it as `newest`: with a way back, both would stay until they are collected."""
        self.closed = True
        if self.owner is not None:
            self.owner.remove(self)
        self.owner = self.place = None

    def last_view(self, now: float) -> View | None:
        """Return what stays visible where the stream ends now: nobody states any more that it is current."""
        view = self.view
        if view is None or view.since is not None:
            return view
        return View(view.content, now, view.number)


class SinkEntry:
    """One assignment of an object to one expose contract: `owner`, which is None when it is closed."""

    __slots__ = ("closed", "descriptor", "id", "owner")

    def __init__(self, id: int, descriptor: ObjectDescriptor, owner: ExposeEntry) -> None:
        self.id: int = id
        self.descriptor: ObjectDescriptor = descriptor
        self.owner: ExposeEntry | None = owner
        self.closed: bool = False

    def end(self) -> None:
        """It is closed; see `StreamEntry.end`."""
        self.closed = True
        if self.owner is not None:
            self.owner.remove(self)
        self.owner = None


class _Members(Generic[M]):
    """A contract, and the objects it concerns in the order of their opening; `newest` is the last that was opened.

    `feed` is of those who want to know what happens to its objects, once there was one.
    """

    __slots__ = ("closed", "descriptor", "feed", "id", "members", "newest")

    def __init__(self, descriptor: ObjectDescriptor | TagDescriptor) -> None:
        self.id: int = NOT_OPEN
        self.descriptor: ObjectDescriptor | TagDescriptor = descriptor
        self.closed: bool = False
        self.members: dict[ObjectDescriptor, M] = {}
        self.newest: M | None = None
        self.feed: Feed[ObjectDescriptor] | None = None

    def add(self, member: M) -> None:
        """An object has come; maybe its last life has not gone yet."""
        action = Action.CHANGE if member.descriptor in self.members else Action.INSERT
        self.members[member.descriptor] = self.newest = member
        self.report(action, member.descriptor)

    def remove(self, member: M) -> None:
        """An object has gone; maybe another life of it has begun already."""
        if self.members.get(member.descriptor) is member:
            del self.members[member.descriptor]
            self.report(Action.REMOVE, member.descriptor)
            self._end_feed()

    def report(self, action: Action, descriptor: ObjectDescriptor) -> None:
        """Something has happened to an object; that of a contract on one object is there as long as the contract."""
        if self.feed is not None:
            single = isinstance(self.descriptor, ObjectDescriptor)
            self.feed.put(Action.CHANGE if single else action, descriptor)

    def keys(self) -> list[ObjectDescriptor]:
        """Return the objects that are there for those who want to know; see `report`."""
        if isinstance(self.descriptor, ObjectDescriptor):
            return [] if self.closed else [self.descriptor]
        return [*self.members]

    def end(self) -> None:
        """It is closed. Its objects go one after the other."""
        self.closed = True
        if self.feed is not None and isinstance(self.descriptor, ObjectDescriptor):
            self.feed.put(Action.REMOVE, self.descriptor)
            self.feed.end()
        self._end_feed()

    def _end_feed(self) -> None:
        if self.feed is not None and self.closed and not self.members:
            self.feed.end()


class ObserveEntry(_Members[StreamEntry]):
    """An observe contract and its streams. `views` show all of them at once."""

    __slots__ = ("views",)

    def __init__(self, descriptor: ObjectDescriptor | TagDescriptor) -> None:
        super().__init__(descriptor)
        self.views: list[ViewTable] = []

    @override
    def end(self) -> None:
        super().end()
        for table in self.views:
            table.end()


class ExposeEntry(_Members[SinkEntry]):
    """An expose contract and its sinks.

    `served` is whether `serve` runs; `loops` are those over sinks that wait for the next one.
    """

    __slots__ = ("capacity", "loops", "served")

    def __init__(self, descriptor: ObjectDescriptor | TagDescriptor, capacity: int) -> None:
        super().__init__(descriptor)
        self.capacity: int = capacity
        self.served: bool = False
        self.loops: set[object] = set()


ContractEntry: TypeAlias = ObserveEntry | ExposeEntry


class LinkEntry(Protocol):
    """A link, as the engine knows it. Its methods are called under the lock.

    :ivar id: its number; -1 before the engine has given it one.
    :ivar upstream: whether this side connected.
    :ivar remote: the other side, once it has sent its name.
    :ivar wake: lets it look whether there is something to send; from any thread, without waiting.
    :ivar cancel: ends it; from any thread, without waiting.
    """

    id: int
    wake: Callable[[], None]
    cancel: Callable[[], None]

    @property
    def upstream(self) -> bool: ...

    @property
    def remote(self) -> Peer | None: ...

    @property
    def vouched_until(self) -> float | None:
        """The monotonic time until which the peer vouched for what it had sent; None for now."""
        ...

    def mark_ready(self) -> None:
        """The machine has something to send."""
        ...

    def named(self, name: str) -> None:
        """The peer has sent its name."""
        ...

    def ended(self) -> None:
        """The link has ended: what its peer sent is void. Called once."""
        ...


class TickerEntry(Protocol):
    """A task that ticks, as the engine knows it: a place where it waits.

    :ivar until: the monotonic time at which it will look again; it is woken for less.
    """

    until: float


def peers_of(links: Iterable[LinkEntry]) -> list[Peer]:
    """List the peers of links that have sent their names."""
    return [link.remote for link in links if link.remote is not None]
