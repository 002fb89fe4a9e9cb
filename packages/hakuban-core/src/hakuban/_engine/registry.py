"""The entries of all contracts and the flags of all links, kept in step with the machine."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from .._changes import Action
from .._core.effects import (
    ClockDoubted,
    Effect,
    Ignored,
    LinkReady,
    ObjectForgotten,
    ObjectKnown,
    PeerIgnores,
    PeerRenamed,
    SinkClosed,
    SinkOpened,
    StaleVersion,
    StateChanged,
    StreamClosed,
    StreamOpened,
)
from .._core.paged_table import PagedTable
from .entries import ExposeEntry, ObserveEntry, SinkEntry, StreamEntry
from .feeds import Feed
from .view_table import ViewSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._descriptors import ObjectDescriptor
    from .._remote import Peer
    from .entries import ContractEntry, LinkEntry


class Registry:
    """Takes the effects of a machine, right after they came up and under the same lock.

    :param wake: has everybody woken who waits at a place.
    :param later: has something done outside the lock.
    :param log: has something logged.
    :ivar contracts: the open contracts by their ids.
    :ivar links: the links that are up by their ids.
    :ivar objects: those who want to know of objects that come and go.
    :ivar peers: those who want to know of peers that do.
    :ivar views: when something has to go from the views on tags.
    """

    __slots__ = (
        "_later", "_log", "_sinks", "_streams", "_wake", "contracts", "links", "objects", "peers", "views",
    )  # fmt: skip

    def __init__(
        self,
        wake: Callable[[object], None],
        later: Callable[[Callable[[], None]], None],
        log: Callable[..., None],
    ) -> None:
        self._wake = wake
        self._later = later
        self._log = log
        self._streams: PagedTable[StreamEntry] = PagedTable()
        self._sinks: dict[int, SinkEntry] = {}
        self.contracts: dict[int, ContractEntry] = {}
        self.links: dict[int, LinkEntry] = {}
        self.objects: Feed[ObjectDescriptor] = Feed()
        self.peers: Feed[Peer] = Feed()
        self.views: ViewSchedule = ViewSchedule()

    def apply(self, effects: list[Effect]) -> None:
        """Carry out effects."""
        for effect in effects:
            self._APPLIERS[type(effect)](self, effect)

    def _state_changed(self, effect: StateChanged) -> None:
        entry = self._streams.get(effect.stream)
        if entry is not None:
            entry.view = effect.view
            self._wake(entry.place)
            owner = entry.owner
            if owner is not None and owner.feed is not None:
                owner.report(Action.CHANGE, entry.descriptor)
            if owner is not None and owner.views:
                for table in owner.views:
                    table.changed(entry.descriptor, effect.view)

    def _stream_opened(self, effect: StreamOpened) -> None:
        owner = self.contracts.get(effect.contract)
        if isinstance(owner, ObserveEntry):
            entry = StreamEntry(effect.stream, effect.descriptor, owner, effect.view)
            self._streams.add(effect.stream, entry)
            owner.add(entry)
            self._wake(owner)
            if effect.view is not None:
                for table in owner.views:
                    table.changed(effect.descriptor, effect.view)

    def _stream_closed(self, effect: StreamClosed) -> None:
        entry = self._streams.pop(effect.stream)
        if entry is not None:
            now = monotonic()
            entry.view = effect.view or entry.view
            entry.view = entry.last_view(now)
            place, owner = entry.place, entry.owner
            entry.end()
            if owner is not None:
                for table in owner.views:
                    table.ceased(entry.descriptor, entry.view, now)
                    self.views.look_at(table)
            self._wake(place)

    def _sink_opened(self, effect: SinkOpened) -> None:
        owner = self.contracts.get(effect.contract)
        if isinstance(owner, ExposeEntry):
            entry = SinkEntry(effect.sink, effect.descriptor, owner)
            self._sinks[effect.sink] = entry
            owner.add(entry)
            self._wake(owner)

    def _sink_closed(self, effect: SinkClosed) -> None:
        entry = self._sinks.pop(effect.sink, None)
        if entry is not None:
            entry.end()
            self._wake(entry)

    def _link_ready(self, effect: LinkReady) -> None:
        link = self.links.get(effect.link)
        if link is not None:
            link.mark_ready()
            self._later(link.wake)

    def _peer_renamed(self, effect: PeerRenamed) -> None:
        link = self.links.get(effect.link)
        if link is not None:
            before = link.remote
            link.named(effect.name)
            self.peer_changed(before, link.remote)

    def peer_changed(self, before: Peer | None, after: Peer | None) -> None:
        """A peer has come, has another name, or is gone. Under the lock."""
        if before != after:
            if before is not None:
                self.peers.put(Action.REMOVE, before)
            if after is not None:
                self.peers.put(Action.INSERT, after)

    def _object_known(self, effect: ObjectKnown) -> None:
        self.objects.put(Action.INSERT, effect.descriptor)

    def _object_forgotten(self, effect: ObjectForgotten) -> None:
        self.objects.put(Action.REMOVE, effect.descriptor)

    def _stale_version(self, effect: StaleVersion) -> None:
        self._log(
            logging.WARNING,
            "%s: a state of version %s was ignored, since %s is held already",
            effect.descriptor,
            effect.version,
            effect.held,
        )

    def _ignored(self, effect: Ignored) -> None:
        link = self.links.get(effect.link)
        self._log(logging.WARNING, "%s: %s; it was ignored", link, effect.reason)

    def _peer_ignores(self, effect: PeerIgnores) -> None:
        link = self.links.get(effect.link)
        self._log(
            logging.ERROR,
            "%s ignores %s: %s; what is ignored does not exist there",
            link,
            effect.descriptor,
            effect.reason,
        )

    def _clock_doubted(self, effect: ClockDoubted) -> None:
        link = self.links.get(effect.link)
        self._log(
            logging.ERROR,
            "%s: its clock is %.0f s ahead of the one of this machine; no other node follows it: set one of them right",
            link,
            effect.lead,
        )

    # functions, since its own methods would make a circle with the registry
    _APPLIERS: ClassVar[dict[type[Effect], Callable[[Registry, Any], None]]] = {
        StateChanged: _state_changed,
        StreamOpened: _stream_opened,
        StreamClosed: _stream_closed,
        SinkOpened: _sink_opened,
        SinkClosed: _sink_closed,
        LinkReady: _link_ready,
        ObjectKnown: _object_known,
        ObjectForgotten: _object_forgotten,
        PeerRenamed: _peer_renamed,
        StaleVersion: _stale_version,
        Ignored: _ignored,
        PeerIgnores: _peer_ignores,
        ClockDoubted: _clock_doubted,
    }
