"""All facts of one node in one place, and what it has to tell its shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._descriptors import ObjectDescriptor
from .effects import CloseLink, Effect, LinkReady, StateChanged
from .links import Downlink, Link, Uplink, wish_of
from .records import Interest, ObjectRecord, TagRecord

if TYPE_CHECKING:
    from .._descriptors import TagDescriptor
    from .._exceptions import LinkError
    from .assignment import Balancer
    from .records import ExposeContract, LocalSink, ObserveContract

_NOTHING = (False, 0)


class World:
    """Objects, tags, links, contracts, and the queue of objects to be settled."""

    __slots__ = (
        "balancer",
        "contracts",
        "dying",
        "effects",
        "issued",
        "issued_time",
        "links",
        "objects",
        "pending",
        "rebalancing",
        "sinks",
        "streams",
        "tags",
        "uplink",
        "wall_base",
    )

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.objects: dict[ObjectDescriptor, ObjectRecord] = {}
        self.tags: dict[TagDescriptor, TagRecord] = {}
        self.links: dict[int, Link] = {}
        self.uplink: Uplink | None = None
        self.contracts: dict[int, ObserveContract | ExposeContract] = {}
        self.streams: dict[int, ObjectRecord] = {}
        self.sinks: dict[int, LocalSink] = {}
        self.effects: list[Effect] = []
        self.pending: dict[ObjectRecord, None] = {}
        self.rebalancing: dict[ObjectRecord, None] = {}  # pending, and may move to a lighter peer
        self.dying: dict[Link, None] = {}  # dead links whose objects are not all settled yet
        self.issued = 0
        self.issued_time = 0  # Unix nanoseconds of the last default version
        self.wall_base = 0  # Unix nanoseconds at monotonic zero

    def new_id(self) -> int:
        """Give an id for a contract, stream or sink: never used twice."""
        self.issued += 1
        return self.issued

    def object(self, descriptor: ObjectDescriptor) -> ObjectRecord:
        """Find or make the record of an object. Whoever calls adds a fact to it, and touches it."""
        record = self.objects.get(descriptor)
        if record is None:
            tags = [self.tag(tag) for tag in descriptor.tags]
            record = ObjectRecord(self.new_id(), descriptor, tags)
            self.objects[descriptor] = record
            for tag in tags:
                tag.objects[record] = None
        return record

    def tag(self, descriptor: TagDescriptor) -> TagRecord:
        """Find or make the record of a tag."""
        record = self.tags.get(descriptor)
        if record is None:
            record = self.tags[descriptor] = TagRecord(self.new_id(), descriptor)
        return record

    def touch(self, record: ObjectRecord) -> None:
        """A fact about the object has changed: it is settled before the step ends, or in one of the next slices."""
        self.pending[record] = None

    def touch_all(self, tag: TagRecord) -> None:
        """A fact about a tag has changed: it concerns all objects that carry it."""
        self.announce(tag)
        self.pending.update(tag.objects)
        self.forget_tag(tag)

    def announce(self, record: ObjectRecord | TagRecord) -> None:
        """Have the upstream link told what this node wants of an object or tag, if that is news."""
        uplink = self.uplink
        if uplink is None:
            return
        descriptor = record.descriptor
        if wish_of(record) != uplink.announced.get(descriptor, _NOTHING):
            uplink.unannounced[descriptor] = None
            self.wake(uplink)

    def wish(self, descriptor: ObjectDescriptor | TagDescriptor) -> tuple[bool, int]:
        """Give what this node wants of an object or tag, known or not."""
        record: ObjectRecord | TagRecord | None
        if isinstance(descriptor, ObjectDescriptor):
            record = self.objects.get(descriptor)
        else:
            record = self.tags.get(descriptor)
        return _NOTHING if record is None else wish_of(record)

    def wake(self, link: Link) -> None:
        """The link has something to send."""
        if not link.awake and link.alive:
            link.awake = True
            self.effects.append(LinkReady(link.id))

    def show(self, record: ObjectRecord) -> None:
        """The view of an object has changed: tell whoever looks at it."""
        self.effects += map(StateChanged, record.streams)
        for interest in record.interests.values():
            outlet = interest.outlet
            if outlet is not None:
                interest.link.outdated[outlet] = None
                self.wake(interest.link)
        for outlet in record.feeding:
            outlet.link.outdated[outlet] = None
            self.wake(outlet.link)

    def end_link(self, link: Link) -> None:
        """Mark a link dead. Its facts are void from here on; its objects are settled in slices."""
        if not link.alive:
            return
        link.alive = False
        del self.links[link.id]
        if link is self.uplink:
            self.uplink = None
        self.dying[link] = None

    def bury(self, link: Link, most: int) -> None:
        """Touch what a dead link concerned; of its tags at most `most` at a time."""
        if isinstance(link, Downlink):
            while link.tags and most > 0:
                tag, _ = link.tags.popitem()
                tag.interests.pop(link, None)
                self.touch_all(tag)
                most -= 1
            if link.tags:
                return
            self.pending.update(dict.fromkeys(link.interests))
        elif isinstance(link, Uplink):
            self.pending.update(dict.fromkeys(inlet.record for inlet in link.inlets.values()))
            self.pending.update(dict.fromkeys(outlet.record for outlet in link.outlets.values()))
        del self.dying[link]

    def refuse(self, link: Link, reason: LinkError) -> None:
        """End the link of a peer that broke a rule."""
        self.end_link(link)
        self.effects.append(CloseLink(link.id, reason))

    def forget_unused(self, interest: Interest) -> None:
        """Drop what is known of a peer and an object once neither wants anything of the other."""
        if interest.unused and interest.record.interests.get(interest.link) is interest:
            del interest.record.interests[interest.link]
            interest.link.interests.pop(interest.record, None)
            self.forget_object(interest.record)

    def forget_object(self, record: ObjectRecord) -> None:
        """Drop an object that nobody holds anything of."""
        if record.gone or record.in_use:
            return
        record.gone = True
        del self.objects[record.descriptor]
        self.pending.pop(record, None)
        self.rebalancing.pop(record, None)
        self.balancer.forget(record)
        for tag in record.tags:
            del tag.objects[record]
            self.forget_tag(tag)

    def forget_tag(self, tag: TagRecord) -> None:
        """Drop a tag that nobody holds anything of."""
        if not tag.in_use:
            self.tags.pop(tag.descriptor, None)
