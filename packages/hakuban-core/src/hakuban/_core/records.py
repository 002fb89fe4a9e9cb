"""Facts: who wants an object, who can produce it, and what was derived from that at the last settling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from .freshness import Held, Source
from .pages import Pages

if TYPE_CHECKING:
    from .._descriptors import ObjectDescriptor, TagDescriptor
    from .._states import Content, Format, Version
    from .freshness import View
    from .links import Downlink, Inlet, Outlet, Uplink

MAX_CAPACITY = 2**32 - 1


class Outcome(Enum):
    """What became of a published state."""

    ACCEPTED = "newer than the held one"
    NOT_NEWER = "not newer than the held one"
    KEPT = "kept until the contract is assigned"
    NOT_ASSIGNED = "the assignment has ended"


@dataclass(slots=True)
class Offer:
    """Data to be published. `version` None asks for a default version, given when it is published."""

    data: bytes
    format: Format
    version: Version | None


class ObserveContract:
    """A local wish to observe one object, or all objects of a tag."""

    __slots__ = ("id", "target")

    def __init__(self, id: int, target: ObjectRecord | TagRecord) -> None:
        self.id = id
        self.target = target


class ExposeContract:
    """A local ability to produce one object, or any object of a tag."""

    __slots__ = ("capacity", "id", "kept", "kept_content", "kept_since", "sinks", "target")

    def __init__(self, id: int, target: ObjectRecord | TagRecord, capacity: int) -> None:
        self.id: int = id
        self.target: ObjectRecord | TagRecord = target
        self.capacity: int = capacity
        self.sinks: dict[ObjectRecord, LocalSink] = {}
        # the newest value of an object contract: published at each assignment
        self.kept: Offer | None = None
        self.kept_since: float | None = None
        self.kept_content: Content | None = None


class LocalSink(Source):
    """One assignment of an object to a local contract; its id is the generation."""

    __slots__ = ("contract", "id", "last", "record")

    def __init__(self, id: int, contract: ExposeContract, record: ObjectRecord) -> None:
        super().__init__(None)
        self.id: int = id
        self.contract: ExposeContract = contract
        self.record: ObjectRecord = record
        self.last: Offer | None = None


class Interest:
    """What one peer below wants of one object, and the channels that are open for it.

    :ivar watches: whether it counts among the peers that observe the object, as of the last settling.
    :ivar only_watches: the same for those of them that cannot produce it.
    :ivar able: the same for those that can.
    """

    __slots__ = (
        "able", "capacity", "deaf", "exposes", "inlet", "link", "observes", "only_watches", "outlet", "record",
        "sink_wanted", "stream_wanted", "tag_capacity", "tag_exposers", "tag_observers", "watches",
    )  # fmt: skip

    def __init__(self, link: Downlink, record: ObjectRecord) -> None:
        self.link: Downlink = link
        self.record: ObjectRecord = record
        self.observes: bool = False
        self.exposes: bool = False
        self.capacity: int = 0
        # it cannot be asked to produce: the channel's name is too large for it
        self.deaf: bool = False
        # derived from the tags of the object when one of these has changed
        self.tag_observers: int = 0
        self.tag_exposers: int = 0
        self.tag_capacity: int = 0
        self.watches: bool = False
        self.only_watches: bool = False
        self.able: bool = False
        self.stream_wanted: bool = False
        self.sink_wanted: bool = False
        self.outlet: Outlet | None = None
        self.inlet: Inlet | None = None

    @property
    def observing(self) -> bool:
        return self.observes or self.tag_observers > 0

    @property
    def production(self) -> int:
        """The capacity that counts when this peer is compared with others; 0 is no exposer."""
        return 0 if self.deaf else self.capacity + self.tag_capacity

    @property
    def has_what_it_wants(self) -> bool:
        """Whether there is no channel to open or to close."""
        outlet, inlet = self.outlet, self.inlet
        return (
            self.stream_wanted == (outlet is not None)
            and self.sink_wanted == (inlet is not None)
            and not (outlet is not None and outlet.closing)
            and not (inlet is not None and inlet.closing)
        )

    @property
    def unused(self) -> bool:
        # tags keep nothing alive: what a peer wants by them counts while the object should exist for another reason
        by_tag = (self.tag_observers or self.tag_exposers) and self.record.should_exist
        return not (self.observes or self.exposes or by_tag or self.outlet or self.inlet)

    def change(self, *, observes: bool, exposes: bool, capacity: int) -> None:
        """Take what the peer wants of the object itself. Whoever calls touches the object."""
        _change(self, self.record, observes=observes, exposes=exposes, capacity=capacity)
        self.record.rest.changed[self] = None

    def set_tags(self, observers: int, exposers: int, capacity: int) -> None:
        """Take what the peer wants of the object by its tags."""
        self.tag_observers, self.tag_exposers, self.tag_capacity = observers, exposers, capacity
        self.record.rest.changed[self] = None

    def drop_tags(self) -> None:
        """What the peer wants by tags counts no more, for the sums either."""
        self.tag_observers = self.tag_exposers = self.tag_capacity = 0
        self.count()

    def count(self) -> None:
        """Have the object's sums say what is so of this peer now."""
        record, production = self.record, self.production
        watches = self.observing
        only_watches = watches and production == 0
        record.watching += watches - self.watches
        record.only_watching += only_watches - self.only_watches
        if self.able and not production:
            record.able.remove(self)
        elif production and not self.able:
            record.able.append(self)
        self.watches, self.only_watches, self.able = watches, only_watches, production > 0

    def forget(self) -> None:
        """Drop this record of a peer and an object that want nothing of each other, or whose link is dead."""
        record = self.record
        _change(self, record, observes=False, exposes=False, capacity=0)
        self.drop_tags()
        if record.has_rest:
            record.rest.changed.pop(self, None)
            record.rest.unsettled.pop(self, None)
        del record.interests[self.link]
        del self.link.interests[record]
        # from all tables of a dead link, too: to let go of all that they hold in one go takes long
        link, inlet, outlet = self.link, self.inlet, self.outlet
        link.control.pop(self, None)
        link.deaf.pop(self, None)
        if inlet is not None:
            link.inlets.pop(inlet.channel, None)
        if outlet is not None:
            link.outdated.pop(outlet, None)


class Upstream(Enum):
    """The mark of an object that is produced above this node."""

    UPSTREAM = "upstream"


Exposer: TypeAlias = LocalSink | Interest | Upstream


class Rest:
    """What the settling of an object has to look at, and may leave to the next one.

    :ivar uncounted: tags of which it is not known yet which peers want something of them.
    :ivar recount: peers whose wishes by tags have changed.
    :ivar changed: wishes that are not in the sums of the object yet.
    :ivar unsettled: those whose channels are to be looked at.
    :ivar dropped: the state that was dropped, while not all channels know.
    """

    __slots__ = ("changed", "dropped", "recount", "uncounted", "unsettled")

    def __init__(self) -> None:
        self.uncounted: list[TagRecord] = []
        self.recount: dict[Downlink, object] = {}
        self.changed: dict[Interest, None] = {}
        self.unsettled: dict[Interest, None] = {}
        self.dropped: View | None = None


class ObjectRecord:
    """One object: facts first, then what the last settling made of them.

    What peers want is summed up, so that an object costs the same however many peers have to do with it:

    :ivar observing: how many peers observe it, not by its tags.
    :ivar exposing: the same of those that expose it.
    :ivar capacity: of all that expose it, here and below, not by its tags.
    :ivar watching: how many peers observe it, by its tags too.
    :ivar only_watching: how many of these cannot produce it.
    :ivar able: the peers that can produce it.

    :ivar arranged: what the channels that are not in the rest are right for: a bit each for should_exist, data_needed,
        nobody produces it, and there is not even a state.
    """

    __slots__ = (
        "_rest", "able", "arranged", "capacity", "data_needed", "descriptor", "exposer", "exposers", "exposing", "fed",
        "feeding", "held", "id", "interests", "load", "observers", "observing", "only_watching", "should_exist",
        "streams", "tags", "watching",
    )  # fmt: skip

    def __init__(self, id: int, descriptor: ObjectDescriptor, tags: list[TagRecord]) -> None:
        self.id: int = id
        self.descriptor: ObjectDescriptor = descriptor
        self.tags: list[TagRecord] = tags
        self.observers: dict[int, ObserveContract] = {}
        self.exposers: dict[int, ExposeContract] = {}
        self.interests: dict[Downlink, Interest] = {}
        self.fed: dict[Inlet, Uplink] = {}  # channels on which upstream sends us states
        self.feeding: dict[Outlet, Uplink] = {}  # channels on which upstream wants our states
        self.held: Held = Held()
        self.streams: dict[int, ObserveContract] = {}
        self.observing: int = 0
        self.exposing: int = 0
        self.capacity: int = 0
        self.watching: int = 0
        self.only_watching: int = 0
        self.able: list[Interest] = []
        self.arranged: int = 0
        self._rest: Rest | None = None
        self.should_exist: bool = False
        self.data_needed: bool = False
        self.exposer: Exposer | None = None
        self.load: float = 0.0  # what this object adds to the load of the peer that produces it

    @property
    def rest(self) -> Rest:
        """What is left to be looked at; not kept where there is nothing."""
        if self._rest is None:
            self._rest = Rest()
        return self._rest

    @property
    def has_rest(self) -> bool:
        return self._rest is not None

    def done(self) -> None:
        """Nothing is left to be looked at."""
        self._rest = None

    @property
    def in_use(self) -> bool:
        return bool(
            self.observers
            or self.exposers
            or self.interests
            or self.fed
            or self.feeding
            or self.streams
        )


class TagInterest:
    """What one peer below wants of one tag."""

    __slots__ = ("capacity", "exposes", "observes", "tag")

    def __init__(self, tag: TagRecord) -> None:
        self.tag: TagRecord = tag
        self.observes: bool = False
        self.exposes: bool = False
        self.capacity: int = 0

    def change(self, *, observes: bool, exposes: bool, capacity: int) -> None:
        """Take what the peer wants. Whoever calls touches all objects of the tag."""
        _change(self, self.tag, observes=observes, exposes=exposes, capacity=capacity)


class TagRecord:
    """One tag: the objects that carry it, and who wants or can produce all of them. The sums are as in `ObjectRecord`.

    Its objects are told that something about it has changed one after the other, in rounds:

    :ivar ahead: those that are still to be told in this round.
    :ivar concerned: the peers that this round is about.
    :ivar next_round: the peers that the next one is about; None where none is needed.
    """

    __slots__ = (
        "ahead", "capacity", "concerned", "descriptor", "exposers", "exposing", "id", "interests", "next_round",
        "objects", "observers", "observing",
    )  # fmt: skip

    def __init__(self, id: int, descriptor: TagDescriptor) -> None:
        self.id: int = id
        self.descriptor: TagDescriptor = descriptor
        self.objects: Pages[ObjectRecord] = Pages(id)
        self.observers: dict[int, ObserveContract] = {}
        self.exposers: dict[int, ExposeContract] = {}
        self.interests: dict[Downlink, TagInterest] = {}
        self.observing: int = 0
        self.exposing: int = 0
        self.capacity: int = 0
        self.ahead: list[ObjectRecord] = []
        self.concerned: dict[Downlink, None] = {}
        self.next_round: dict[Downlink, None] | None = None

    @property
    def in_use(self) -> bool:
        return bool(self.objects or self.observers or self.exposers or self.interests)


def _change(
    wish: Interest | TagInterest,
    target: ObjectRecord | TagRecord,
    *,
    observes: bool,
    exposes: bool,
    capacity: int,
) -> None:
    target.observing += observes - wish.observes
    target.exposing += exposes - wish.exposes
    target.capacity += capacity - wish.capacity
    wish.observes, wish.exposes, wish.capacity = observes, exposes, capacity
