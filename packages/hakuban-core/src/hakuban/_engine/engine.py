"""The engine of a node: the steps of its machine, its contracts and links, and its timers."""

from __future__ import annotations

import logging
import math
from collections import deque
from contextlib import suppress
from functools import partial
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from .._core.events import LinkDown, LinkUp
from .._descriptors import ObjectDescriptor, TagDescriptor
from .._exceptions import ClosedError, NodeBrokenError
from .entries import NOT_OPEN, ObserveEntry, peers_of
from .feeds import TableEmitter
from .registry import Registry
from .steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._core.machine import Machine
    from .._core.snapshot import NodeSnapshot
    from .._remote import Peer
    from .._session_events import Instruction, Note
    from .entries import ContractEntry, LinkEntry, StreamEntry, TickerEntry
    from .view_table import ViewTable


_SHOWN: Final = 256  # objects that a new view takes in at a time
_HELPERS: Final = 8  # waiters woken when work is due that no timer does: one is enough, if it runs


class Engine(Steps):
    """What the handles of a node, its links and its timers have to do with its machine. Thread-safe.

    :ivar closed: whether the user has closed the node.
    :ivar links: the links by their ids.
    :ivar name: the name of the node.
    """

    __slots__ = ("_registry", "_released", "closed", "links", "name", "timers", "upstream_url")

    def __init__(self, machine: Machine, name: str) -> None:
        super().__init__(machine)
        self.name: str = name
        # contracts that nobody holds any more, and what to log about that: closed in slices
        self._released: deque[tuple[ContractEntry, str]] = deque()
        self._registry = Registry(self._parking.wake, self._outbox.calls.append, self._log.add)
        self.links: dict[int, LinkEntry] = self._registry.links
        self.timers: list[TickerEntry] = []
        self.closed: bool = False
        self.upstream_url: str | None = None

    def clock(self) -> int:
        """Return the time for default versions: Unix nanoseconds by the clock of the tree's root."""
        return self._machine.read_clock(monotonic(), time_ns())

    def count(self) -> tuple[int, int]:
        """Count the open contracts of this process, and the objects that the node knows. Never waits."""
        return len(self._registry.contracts), len(self._machine.world.objects)

    def snapshot(self) -> NodeSnapshot:
        """Take a picture, in steps that let go of the lock in between."""
        self.catch_up()
        picture = self.call(lambda machine, _: machine.picture(), changes=False)
        while (snapshot := self.call(lambda _, now: picture.go_on(now), changes=False)) is None:
            self.yield_thread()
        return snapshot

    def known_objects(self) -> TableEmitter[ObjectDescriptor]:
        """Return the objects that the node knows, as a table whose changes are events."""
        objects = self._machine.world.objects

        def watch(machine: Machine, _now: float) -> None:
            machine.world.watched = True

        self.call(watch)
        name = f"changes of the node {self.name}"
        return TableEmitter(self, name, lambda: [*objects], self._registry.objects)

    def known_peers(self) -> TableEmitter[Peer]:
        """Return the nodes that are linked to this one, as a table whose changes are events."""
        name = f"peers of the node {self.name}"
        return TableEmitter(self, name, lambda: peers_of(self.links.values()), self._registry.peers)

    def add_view(self, entry: ObserveEntry, table: ViewTable) -> None:
        """Have a table show the states of all objects of a contract, from now on."""
        streams = self.read(lambda: self._begin_view(entry, table))
        while streams:
            some = streams[-_SHOWN:]
            del streams[-_SHOWN:]
            self.read(partial(_show, table, some))

    def _begin_view(self, entry: ObserveEntry, table: ViewTable) -> list[StreamEntry]:
        if entry.closed:
            table.end()
            return []
        entry.views.append(table)
        return [*entry.members.values()]

    def end_view(self, entry: ObserveEntry, table: ViewTable) -> None:
        """Have a table show nothing any more. Never waits; twice is fine."""
        self.quietly(partial(self._end_view, entry, table))

    def forget_view(self, entry: ObserveEntry, table: ViewTable) -> None:
        """Do the same for a finalizer: soon, and without ever waiting."""
        self.later(partial(self._end_view, entry, table))

    def _end_view(self, entry: ObserveEntry, table: ViewTable) -> None:
        if table in entry.views:
            entry.views.remove(table)
        table.end()
        self._registry.views.look_at(table)

    @override
    def until_due(self) -> float | None:
        deadline = self.deadline
        return None if deadline is None or self.timers else max(0.0, deadline - monotonic())

    # ---- contracts and links ----------------------------------------------------------------------------------------

    def open_entry(self, entry: ContractEntry, operation: Callable[[Machine, float], int]) -> None:
        """Open a contract.

        :raises ClosedError: the node is closed.
        """

        def open(machine: Machine, now: float) -> None:
            if not self.closed:
                entry.id = operation(machine, now)
                self._registry.contracts[entry.id] = entry

        self.call(open)
        if entry.id == NOT_OPEN:
            self.expect_open()
        if isinstance(entry.descriptor, TagDescriptor):
            self.catch_up(changes=True)

    def expect_open(self) -> None:
        """Raise ClosedError if the node is closed."""
        if self.closed:
            raise ClosedError(self.name, "the node", "make a new LocalNode")

    def close_entry(self, entry: ContractEntry) -> None:
        """Close a contract, now or at the next occasion."""
        self.close_quietly(lambda machine, now: self._close_entry(machine, entry, now))
        if self.cause is not None:
            entry.closed = True  # all that can be done for it
        elif isinstance(entry.descriptor, TagDescriptor):
            self.catch_up(changes=True)

    def close_quietly(self, operation: Callable[[Machine, float], object]) -> None:
        """Run an operation that ends something; where it has no meaning any more, do nothing."""
        if not self._lock.forked and self.cause is None:
            with suppress(NodeBrokenError):
                self.submit(operation)

    def quietly(self, function: Callable[[], object]) -> None:
        """Do the same with a function that needs no machine."""
        self.close_quietly(lambda _machine, _now: function())

    def later(self, function: Callable[[], object]) -> None:
        """Do the same now or soon, without ever waiting or calling a callback: for finalizers."""
        if not self._lock.forked and self.cause is None:
            self._deferred.append(lambda _machine, _now: function())
            if not self._lock.inside:
                self._afterwards()

    def release_entry(self, entry: ContractEntry, warning: str) -> bool:
        """Close a contract that nobody holds any more, and log that, without ever waiting: for finalizers.

        :return: whether the caller may do anything, for example issue the warning; else there is only the log.
        """
        free = not self._lock.inside
        self._released.append((entry, warning))
        self._winding_up = True
        if free:
            self._afterwards()
        return free

    def _close_entry(self, machine: Machine, entry: ContractEntry, now: float) -> None:
        if not entry.closed:
            entry.end()
            if isinstance(entry, ObserveEntry):
                for table in entry.views:
                    self._registry.views.look_at(table)
            self._registry.contracts.pop(entry.id, None)
            machine.close_contract(entry.id, now)
            self.wake(entry)

    def close(self) -> None:
        """Close all links and contracts, and open no more: from the first step on, and the contracts in slices."""

        def close(_machine: Machine, _now: float) -> None:
            self.closed = self._winding_up = True
            self._stop_links()

        self.close_quietly(close)
        with suppress(NodeBrokenError):
            while self._winding_up and not self._lock.refuses_caller():
                self.call(lambda _machine, _now: None)
                self.yield_thread()
            self.catch_up(changes=True)

    def _wind_up(self, now: float) -> None:
        """Close some of them. Under the lock."""
        machine, contracts = self._machine, self._registry.contracts
        self._winding_up = False  # first: a finalizer may come at any time, and sets it again
        while self._released or (self.closed and contracts):
            if self._released:
                entry, warning = self._released[0]
                if not entry.closed:
                    self._close_entry(machine, entry, now)
                    self.log(logging.WARNING, "%s", warning)
                self._released.popleft()
            else:
                self._close_entry(machine, contracts.popitem()[1], now)
            if not machine.has_room:
                self._winding_up = True  # there may be more: the next step looks
                return

    def enter_link(self, link: LinkEntry, event: LinkUp) -> None:
        """Make a link known to the machine, and give it its id."""

        def enter(machine: Machine, now: float) -> None:
            link.id = event.link = machine.new_link()
            self.links[link.id] = link
            machine.handle(event, now)
            if self.closed:
                self._stop(link)

        self.call(enter)

    def exit_link(self, link: LinkEntry) -> None:
        """A link has ended; twice does no harm."""

        def forget() -> None:
            if self.links.pop(link.id, None) is not None:
                link.ended()
                self._registry.peer_changed(link.remote, None)

        def exit(machine: Machine, now: float) -> None:
            forget()
            machine.handle(LinkDown(link.id, link.vouched_until), now)

        self._end(link, exit, forget)

    def first_note(self, link: LinkEntry, most: int) -> Note | None:
        """Return what is to be sent first on a link.

        :param most: bytes of the largest message that this side takes.
        """
        return self.call(lambda machine, now: machine.first_note(link.id, most, now))

    def pull(self, link: LinkEntry) -> tuple[list[Instruction], bool]:
        """Return the next few things to send on a link, and whether there may be more."""
        return self.call(lambda machine, now: machine.next_batch_for(link.id, now))

    def set_size_cap(self, link: LinkEntry, size: int | None) -> None:
        """Have no larger messages made for a link, for now; bytes, or None for no such limit."""
        self.call(lambda machine, _: machine.set_size_cap(link.id, size))

    def not_sent(
        self,
        link: LinkEntry,
        states: Sequence[ObjectDescriptor],
        announcements: Sequence[ObjectDescriptor | TagDescriptor],
    ) -> None:
        """Report what was too large for the peer of a link."""
        self.call(lambda machine, _: machine.not_sent(link.id, states, announcements))

    def retry_oversized(self, link: LinkEntry) -> None:
        """Have made again what was too large for the peer of a link, which takes larger messages now."""
        while self.call(lambda machine, _: machine.room_has_grown(link.id)):
            pass

    def add_timer(self, timer: TickerEntry) -> None:
        """Leave ticking to a timer; without any, whoever calls does what is due."""
        self.call(lambda _machine, _now: self.timers.append(timer))

    def remove_timer(self, timer: TickerEntry) -> None:
        """Undo `add_timer`."""

        def remove() -> None:
            if timer in self.timers:
                self.timers.remove(timer)
                self.deadline = None  # nobody who waits knows of it: it was the timer's

        self._end(timer, lambda _machine, _now: remove(), remove)

    def _end(
        self,
        entry: LinkEntry | TickerEntry,
        operation: Callable[[Machine, float], object],
        forget: Callable[[], None],
    ) -> None:
        """End something; where the node is broken, so that no operation runs any more, forget it at least."""
        self.close_quietly(operation)
        if self.cause is not None:
            self.update(entry, forget)

    def log(self, level: int, text: str, *arguments: object) -> None:
        """Have something logged. Only under the lock, where nothing else may log."""
        self._log.add(level, text, *arguments)

    def _stop(self, link: LinkEntry) -> None:
        self._outbox.calls.append(link.cancel)

    @override
    def _stop_links(self) -> None:
        for link in self.links.values():
            self._stop(link)

    def _end_feeds(self) -> None:
        if not self._machine.world.objects:
            self._registry.objects.end()
        if not self.links:
            self._registry.peers.end()

    def _next_deadline(self) -> float | None:
        if self._winding_up:
            return 0.0
        deadline, views = self._machine.next_deadline(), self._registry.views.due
        if views == math.inf:
            return deadline
        return views if deadline is None else min(deadline, views)

    @override
    def _take_effects(self, now: float) -> None:
        if self._winding_up:
            self._wind_up(now)
        effects = self._machine.take_effects()
        if effects:
            self._registry.apply(effects)
        if self.closed:
            self._end_feeds()
        if self._registry.views.due <= now:
            self._registry.views.expire(now)
        before = self.deadline
        deadline = self._next_deadline()
        self.deadline: float | None = deadline
        if deadline is None or self.timers:
            self._due = False
            if deadline is not None and deadline != before:
                for timer in self.timers:
                    if deadline < timer.until:
                        self.wake(timer)
        else:
            self._due = deadline <= now
            if before is None or deadline < before:
                self._parking.wake_some(_HELPERS)


def _show(table: ViewTable, streams: list[StreamEntry]) -> None:
    for stream in streams:
        if not stream.closed and stream.view is not None and stream.descriptor not in table.shown:
            table.changed(stream.descriptor, stream.view)
