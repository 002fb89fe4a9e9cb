"""Facts: who wants an object, who can produce it, and what was derived from that at the last settling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from .freshness import Held, Source

if TYPE_CHECKING:
    from .._descriptors import ObjectDescriptor, TagDescriptor
    from .._states import Content, Format, Version
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

    __slots__ = ("id", "streams", "target")

    def __init__(self, id: int, target: ObjectRecord | TagRecord) -> None:
        self.id = id
        self.target = target
        self.streams: dict[ObjectRecord, int] = {}


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
    """What one peer below wants of one object, and the channels that are open for it."""

    __slots__ = (
        "capacity",
        "deaf",
        "exposes",
        "inlet",
        "link",
        "observes",
        "outlet",
        "record",
        "sink_wanted",
        "stream_wanted",
        "tag_capacity",
        "tag_exposers",
        "tag_observers",
    )

    def __init__(self, link: Downlink, record: ObjectRecord) -> None:
        self.link: Downlink = link
        self.record: ObjectRecord = record
        self.observes: bool = False
        self.exposes: bool = False
        self.capacity: int = 0
        self.deaf: bool = (
            False  # it cannot be asked to produce: the channel's name is too large for it
        )
        # derived from the tags of the object at each settling
        self.tag_observers: int = 0
        self.tag_exposers: int = 0
        self.tag_capacity: int = 0
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

    def forget(self) -> None:
        """Drop this record of a peer and an object that want nothing of each other, or whose link is dead."""
        del self.record.interests[self.link]
        del self.link.interests[self.record]
        self.link.control.pop(self, None)


class Upstream(Enum):
    """The mark of an object that is produced above this node."""

    UPSTREAM = "upstream"


Exposer: TypeAlias = LocalSink | Interest | Upstream


class ObjectRecord:
    """One object: facts first, then what the last settling made of them."""

    __slots__ = (
        "data_needed",
        "descriptor",
        "exposer",
        "exposers",
        "fed",
        "feeding",
        "held",
        "id",
        "interests",
        "load",
        "observers",
        "should_exist",
        "streams",
        "tags",
    )

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
        self.should_exist: bool = False
        self.data_needed: bool = False
        self.exposer: Exposer | None = None
        self.load: float = 0.0  # what this object adds to the load of the peer that produces it

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
        self.tag = tag
        self.observes = False
        self.exposes = False
        self.capacity = 0


class TagRecord:
    """One tag: the objects that carry it, and who wants or can produce all of them."""

    __slots__ = ("descriptor", "exposers", "id", "interests", "objects", "observers")

    def __init__(self, id: int, descriptor: TagDescriptor) -> None:
        self.id: int = id
        self.descriptor: TagDescriptor = descriptor
        self.objects: dict[ObjectRecord, None] = {}
        self.observers: dict[int, ObserveContract] = {}
        self.exposers: dict[int, ExposeContract] = {}
        self.interests: dict[Downlink, TagInterest] = {}

    @property
    def in_use(self) -> bool:
        return bool(self.objects or self.observers or self.exposers or self.interests)
