"""All facts of one node in one place, and what it has to report to its shell."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from .._descriptors import ObjectDescriptor
from .announcement import NOTHING, Announcement
from .effects import Effect, LinkReady, ObjectForgotten, ObjectKnown, StateChanged
from .graph import Downlink, ExposeContract, Interest, ObjectRecord, TagRecord
from .interest_totals import announcement_of, change
from .note_state import NEVER
from .paged_table import PagedTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

    from .._descriptors import TagDescriptor
    from .assignment import Balancer
    from .clock import Clock
    from .graph import Inlet, Link, LocalSink, ObserveContract, Outlet, Uplink


STEP: Final = 10_000
"""Units of work in one step, about 0.2 us each: a look-up, or a pass through a small loop.

No step does much more than that, however much it is about. The rest is done in the next one, which is due at once.
"""

SETTLED_AT_ONCE: Final = 64  # objects of an ended link that are settled at a time
# contracts that an ended link has announced: to let go of all at once takes a while
_FORGOTTEN: Final = 2_000
_REAPED_TAG: Final = 8  # units of work, for what an ended link wanted of a tag
NOTIFIED_AT_ONCE: Final = 1_000  # streams and channels
NOTIFYING: Final = 5  # units of work for each of them


class World:
    """Objects, tags, links, contracts, and the queues of objects to be settled.

    :ivar queues: all that holds what is left over, to be done as soon as may be.
    :ivar watched: whether objects that come and go are reported.
    """

    __slots__ = (
        "above", "backlog", "balancer", "clock", "contracts", "dirty_again", "effects", "issued", "issued_time", "left",
        "links", "name", "node", "note_links", "notes_due", "notifying", "objects", "objects_made", "queues", "reaping",
        "rebalancing", "republishing", "sinks", "software", "streams", "tags", "tags_made", "touched", "uplink",
        "walks", "watched",
    )  # fmt: skip

    def __init__(self, balancer: Balancer, clock: Clock) -> None:
        self.balancer: Balancer = balancer
        self.clock: Clock = clock
        self.node: str = ""  # its id
        self.name: str = ""
        self.software: str = ""
        self.above: tuple[tuple[str, str], ...] = ()  # the nodes above, from the nearest on
        self.note_links: dict[Downlink | Uplink, None] = {}  # links whose peers have sent a note
        self.notes_due: dict[
            Downlink | Uplink, None
        ] = {}  # those with something to be sent, in slices
        # sinks whose state needs a newer version, in slices; last first
        self.republishing: dict[int, None] = {}
        self.objects: dict[ObjectDescriptor, ObjectRecord] = {}
        self.tags: dict[TagDescriptor, TagRecord] = {}
        self.links: dict[int, Downlink | Uplink] = {}
        self.uplink: Uplink | None = None
        self.contracts: dict[int, ObserveContract | ExposeContract] = {}
        self.streams: PagedTable[ObjectRecord] = PagedTable()
        self.sinks: dict[int, LocalSink] = {}
        self.effects: list[Effect] = []
        self.left: int = STEP  # units of work that this step may still take
        self.touched: dict[ObjectRecord, None] = {}  # to be settled before the step ends
        self.backlog: dict[ObjectRecord, None] = {}  # to be settled in slices
        self.rebalancing: dict[ObjectRecord, None] = {}  # may move to a lighter peer, in slices
        self.walks: dict[TagRecord, None] = {}  # about which something has changed: see `TagRecord`
        # objects whose views have changed, and who is still to be notified, last first
        self.notifying: dict[ObjectRecord, list[int | Interest]] = {}
        self.dirty_again: dict[ObjectRecord, None] = {}  # those that have changed again meanwhile
        self.reaping: dict[
            Downlink | Uplink, None
        ] = {}  # ended, and their facts are not all gone yet
        self.queues: tuple[Sized, ...] = self._all_queues()
        self.issued: int = 0
        # Their ids are their own: between two objects there may be a thousand tags and streams; a table of objects by
        # ids that are so far apart has a page for each of them.
        self.objects_made: int = 0
        self.tags_made: int = 0
        self.issued_time: int = 0  # Unix nanoseconds of the last default version
        self.watched: bool = False

    def _all_queues(self) -> tuple[Sized, ...]:
        return (
            self.backlog,
            self.walks,
            self.notifying,
            self.reaping,
            self.rebalancing,
            self.notes_due,
            self.republishing,
        )

    def queue_more(
        self, unsettled: dict[ObjectRecord, None], restless: dict[ObjectRecord, None]
    ) -> None:
        """Have many objects settled, and others looked at that may move."""
        # not `update`: an empty dict takes several times as long for it as a copy
        self.backlog = self.backlog | unsettled if self.backlog else unsettled.copy()
        self.rebalancing = self.rebalancing | restless if self.rebalancing else restless.copy()
        self.queues = self._all_queues()

    def new_id(self) -> int:
        """Return an id for a contract, stream or sink: never used twice."""
        self.issued += 1
        return self.issued

    @property
    def root(self) -> bool:
        """Whether no node of this project is above, by whose clock this one could go."""
        uplink = self.uplink  # once: `Machine.read_clock` asks without the lock
        return uplink is None or uplink.notes.peer_clock == NEVER

    def set_above(self, above: tuple[tuple[str, str], ...]) -> None:
        """Learn which nodes are above, from the nearest on."""
        if above != self.above:
            self.above = above
            self.notes_due.update(self.note_links)

    def object(self, descriptor: ObjectDescriptor) -> ObjectRecord:
        """Find or make the record of an object. Whoever calls adds a fact to it, and touches it."""
        record = self.objects.get(descriptor)
        if record is None:
            tags = [self.tag(tag) for tag in descriptor.tags]
            self.objects_made += 1
            record = ObjectRecord(self.objects_made, descriptor, tags)
            self.left -= 2 * len(tags)
            self.objects[descriptor] = record
            if self.watched:
                self.effects.append(ObjectKnown(descriptor))
            for tag in tags:
                tag.objects.add(record.id, record)
        return record

    def tag(self, descriptor: TagDescriptor) -> TagRecord:
        """Find or make the record of a tag."""
        record = self.tags.get(descriptor)
        if record is None:
            self.tags_made += 1
            record = self.tags[descriptor] = TagRecord(self.tags_made, descriptor)
        return record

    def exposer(self, contract: int) -> ExposeContract | None:
        """Find an open expose contract."""
        found = self.contracts.get(contract)
        return found if isinstance(found, ExposeContract) else None

    def sink(self, sink: int) -> LocalSink | None:
        """Find a sink whose contract is open; those of a closed one end in slices."""
        found = self.sinks.get(sink)
        return found if found is not None and found.contract.id in self.contracts else None

    def touch(self, record: ObjectRecord) -> None:
        """A fact about one object has changed: it is settled before the step ends."""
        self.touched[record] = None

    def touch_all(self, tag: TagRecord, link: Downlink | None = None) -> None:
        """A fact about a tag has changed: it concerns all objects that carry it, which are settled in slices.

        :param link: the peer that wants something else of it now; None for a contract of this process.
        """
        self.mark_unannounced(tag)
        if tag.objects:
            if tag.next_round is None:
                tag.next_round = {}
            if link is not None:
                tag.next_round[link] = None
            self.walks[tag] = None
        self.forget_tag(tag)

    def walk(self, most: int) -> None:
        """Pass on to some of its objects that something about a tag has changed."""
        tag = next(iter(self.walks))
        if not tag.ahead:
            if tag.next_round is None:
                del self.walks[tag]
                tag.concerned = {}
                return
            tag.concerned, tag.next_round = tag.next_round, None
            tag.ahead = [*tag.objects.values()]
            self.left -= len(tag.ahead) // 16
        some = tag.ahead[-most:]
        del tag.ahead[-most:]
        for record in some:
            if record.id in tag.objects:
                record.rest.recount.update(tag.concerned)
                self.backlog[record] = None

    def postpone(self, record: ObjectRecord) -> None:
        """The object is to be settled later: this step has done enough."""
        self.touched.pop(record, None)
        self.backlog[record] = None

    def settled(self, record: ObjectRecord) -> None:
        """The object is in line with its facts."""
        self.touched.pop(record, None)
        self.backlog.pop(record, None)

    def mark_unannounced(self, record: ObjectRecord | TagRecord) -> None:
        """Have what this node wants of an object or tag sent on the upstream link, if that is news."""
        uplink = self.uplink
        if uplink is None:
            return
        descriptor = record.descriptor
        if announcement_of(record) == uplink.announced.get(descriptor, NOTHING):
            uplink.unannounced.pop(descriptor, None)
        elif descriptor not in uplink.oversized:
            uplink.unannounced[descriptor] = None
            self.mark_ready(uplink)

    def announcement(self, descriptor: ObjectDescriptor | TagDescriptor) -> Announcement:
        """Return what this node wants of an object or tag, known or not."""
        record: ObjectRecord | TagRecord | None
        if isinstance(descriptor, ObjectDescriptor):
            record = self.objects.get(descriptor)
        else:
            record = self.tags.get(descriptor)
        return NOTHING if record is None else announcement_of(record)

    def mark_ready(self, link: Link) -> None:
        """The link has something to send."""
        if not link.awake and link.alive:
            link.awake = True
            self.effects.append(LinkReady(link.id))

    def mark_dirty(self, record: ObjectRecord) -> None:
        """The view of an object has changed: notify whoever looks at it; if they are many, in slices."""
        for outlet in record.upstream_outlets:
            outlet.link.dirty[outlet] = None
            self.mark_ready(outlet.link)
        streams, interests = record.streams, record.interests
        many = len(streams) + len(interests)
        if many > NOTIFIED_AT_ONCE:
            if record in self.notifying:
                self.dirty_again[record] = None
            else:
                self.notifying[record] = [*streams, *interests.values()]
        else:
            self.left -= NOTIFYING * many
            view = record.held.view
            self.effects += [StateChanged(stream, view) for stream in streams if view is not None]
            for interest in interests.values():
                channel = interest.outlet
                if channel is not None:
                    interest.link.dirty[channel] = None
                    self.mark_ready(interest.link)

    def notify_some(self) -> None:
        """Notify some more of those who look at an object."""
        record, ahead = next(iter(self.notifying.items()))
        some = ahead[-NOTIFIED_AT_ONCE:]
        del ahead[-NOTIFIED_AT_ONCE:]
        self.left -= NOTIFYING * len(some)
        view = record.held.view
        for viewer in some:
            if isinstance(viewer, int):
                if view is not None and viewer in record.streams:
                    self.effects.append(StateChanged(viewer, view))
            elif viewer.outlet is not None and viewer.link.alive:
                viewer.link.dirty[viewer.outlet] = None
                self.mark_ready(viewer.link)
        if not ahead:
            del self.notifying[record]
            if record in self.dirty_again:
                del self.dirty_again[record]
                self.mark_dirty(record)

    def end_link(self, link: Downlink | Uplink, at: float) -> None:
        """Mark a link as ended. Its facts are void from here on; its objects are settled in slices.

        :param at: the monotonic time until which the peer vouched for what it sent; infinity for "until it is settled".
        """
        link.alive = False
        link.ended_at = at
        del self.links[link.id]
        self.clock.forget(link.id)
        self.note_links.pop(link, None)
        self.notes_due.pop(link, None)
        if link is self.uplink:
            self.uplink = None
            self.set_above(())
        self.reaping[link] = None

    def reap(self) -> None:
        """Have some of the objects settled that an ended link concerned: that takes its facts away."""
        link = next(iter(self.reaping))
        gone = self._reap_below(link) if isinstance(link, Downlink) else self._reap_above(link)
        if gone:
            del self.reaping[link]

    def _reap_below(self, link: Downlink) -> bool:
        """Take some away; return whether none are left."""
        while link.tags and self.left > 0:
            self.left -= _REAPED_TAG
            tag, interest = link.tags.popitem()
            change(interest, observes=False, exposes=False, capacity=0)
            del tag.interests[link]
            self.mark_unannounced(tag)
            self.forget_tag(tag)
        self.backlog.update(dict.fromkeys(islice(link.interests, SETTLED_AT_ONCE)))
        return not (link.tags or link.interests)

    def _reap_above(self, link: Uplink) -> bool:
        """Take some away; return whether none are left."""
        for _ in range(min(_FORGOTTEN, len(link.announced))):
            link.announced.popitem()
        channels: Iterable[Inlet | Outlet] = chain(link.inlets.values(), link.outlets.values())
        some = islice(channels, SETTLED_AT_ONCE)
        self.backlog.update(dict.fromkeys(channel.record for channel in some))
        return not (link.announced or link.inlets or link.outlets)

    def forget_object(self, record: ObjectRecord) -> None:
        """Drop an object that nobody holds anything of."""
        if record.in_use:
            return
        del self.objects[record.descriptor]
        if self.watched:
            self.effects.append(ObjectForgotten(record.descriptor))
        self.settled(record)
        self.rebalancing.pop(record, None)
        if self.notifying:
            self.notifying.pop(record, None)
            self.dirty_again.pop(record, None)
        self.balancer.forget(record)
        self.left -= 2 * len(record.tags)
        for tag in record.tags:
            tag.objects.pop(record.id)
            self.forget_tag(tag)

    def forget_tag(self, tag: TagRecord) -> None:
        """Drop a tag that nobody holds anything of."""
        if not tag.in_use:
            del self.tags[tag.descriptor]
            self.walks.pop(tag, None)
