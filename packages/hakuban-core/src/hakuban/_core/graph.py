"""The graph of facts: who wants an object, who can produce it, and what was derived from that at the last settling."""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from .freshness import Held, Source
from .note_state import LinkNotes
from .paged_table import PagedTable

if TYPE_CHECKING:
    import weakref

    from .._contents import Content, View
    from .._descriptors import ObjectDescriptor, TagDescriptor
    from .._session_events import Instruction
    from .announcement import Announcement
    from .load_limit import LoadLimit
    from .new_state import NewState


class ObserveContract:
    """A local demand to observe one object, or all objects of a tag."""

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
        self.kept: NewState | None = None
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
        self.last: NewState | None = None


class Interest:
    """What one peer below wants of one object, and the channels that are open for it.

    :ivar watches: whether it counts among the peers that observe the object, as of the last settling.
    :ivar only_watches: the same for those of them that cannot produce it.
    :ivar able: the same for those that can.
    """

    __slots__ = (
        "able", "capacity", "exposes", "inlet", "link", "observes", "only_watches", "outlet", "oversized", "record",
        "sink_wanted", "stream_wanted", "tag_capacity", "tag_exposers", "tag_observers", "watches",
    )  # fmt: skip

    def __init__(self, link: Downlink, record: ObjectRecord) -> None:
        self.link: Downlink = link
        self.record: ObjectRecord = record
        self.observes: bool = False
        self.exposes: bool = False
        self.capacity: int = 0
        # it cannot be asked to produce: the channel's name is too large for it
        self.oversized: bool = False
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
        return 0 if self.oversized else self.capacity + self.tag_capacity

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


class Upstream(Enum):
    """The mark of an object that is produced above this node."""

    UPSTREAM = "upstream"


Exposer: TypeAlias = LocalSink | Interest | Upstream


class Rest:
    """What the settling of an object has to look at, and may leave to the next one.

    :ivar uncounted: tags of which it is not known yet which peers want something of them.
    :ivar recount: peers whose interests by tags have changed.
    :ivar changed: interests that are not in the totals of the object yet.
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
        "_rest", "able", "arranged", "capacity", "data_needed", "descriptor", "exposer", "exposers", "exposing",
        "held", "id", "interests", "load", "observers", "observing", "only_watching", "should_exist", "streams",
        "tags", "upstream_inlets", "upstream_outlets", "watching",
    )  # fmt: skip

    def __init__(self, id: int, descriptor: ObjectDescriptor, tags: list[TagRecord]) -> None:
        self.id: int = id
        self.descriptor: ObjectDescriptor = descriptor
        self.tags: list[TagRecord] = tags
        self.observers: dict[int, ObserveContract] = {}
        self.exposers: dict[int, ExposeContract] = {}
        self.interests: dict[Downlink, Interest] = {}
        self.upstream_inlets: dict[Inlet, Uplink] = {}  # channels on which upstream sends us states
        # channels on which upstream wants our states
        self.upstream_outlets: dict[Outlet, Uplink] = {}
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
            or self.upstream_inlets
            or self.upstream_outlets
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


class TagRecord:
    """One tag: the objects that carry it, and who wants or can produce all of them. The totals are as in `ObjectRecord`.

    Its objects are notified one after the other that something about it has changed, in rounds:

    :ivar ahead: those that are still to be notified in this round.
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
        self.objects: PagedTable[ObjectRecord] = PagedTable(id)
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


class Outlet:
    """A channel on which states of an object leave over a link, and what was last sent on it."""

    __slots__ = ("channel", "closing", "last_since", "link", "record", "sent", "since")

    def __init__(self, link: Link, channel: int, record: ObjectRecord) -> None:
        self.link: Link = link
        self.channel: int = channel
        self.record: ObjectRecord = record
        # weak, so that a slow link keeps no old content alive
        self.sent: weakref.ref[Content] | None = None
        self.since: float | None = None
        # Since when the state is not current any more, to be sent before the Close: that alone means "until now".
        self.last_since: float | None = None
        # The state was dropped and the Close is not yet pulled. Should the peer observe again before that, it gets the
        # Close all the same: it would go on showing what it has as current, since there is no age to send to it.
        self.closing: bool = False


class Inlet(Source):
    """A channel on which states of an object arrive over a link."""

    __slots__ = ("channel", "closing", "record")

    def __init__(self, link: Link, channel: int, record: ObjectRecord) -> None:
        super().__init__(link.id)
        self.channel: int = channel
        self.record: ObjectRecord = record
        # The assignment has ended and the Close is not yet pulled. Should the peer be assigned again before that, it
        # gets the Close all the same: it has to start anew, or it would not send its state again.
        self.closing: bool = False


class Link:
    """Base of both kinds of link."""

    __slots__ = (
        "alive", "awake", "careful", "dirty", "ended_at", "id", "ignored", "inlets", "local_address", "local_name",
        "notes", "postponed", "remote_address", "remote_name", "size_cap", "skipped",
    )  # fmt: skip

    def __init__(self, id: int) -> None:
        self.id: int = id
        self.alive: bool = True
        self.careful: bool = False  # whether nothing is announced before the peer has sent its name
        self.ended_at: float = math.inf  # until then it vouched for what it sent
        self.awake: bool = False  # LinkReady was reported, and the writer has not yet run dry
        self.ignored: bool = False
        self.local_name: str = ""
        self.local_address: str = ""
        self.remote_address: str = ""
        self.remote_name: str | None = None
        # bytes of the largest message sent for now: for pictures only
        self.size_cap: int | None = None
        self.notes: LinkNotes[ObjectRecord] = LinkNotes()
        self.postponed: Instruction | None = None  # belongs right behind what was sent last
        # objects of which a state was too large for the peer
        self.skipped: dict[ObjectRecord, None] = {}
        self.inlets: dict[int, Inlet] = {}
        # outlets with something new to send, in turn (the head of a plain dict is slow to find after many deletions)
        self.dirty: OrderedDict[Outlet, None] = OrderedDict()


class Downlink(Link):
    """A link to a node below: it announces contracts, we open channels."""

    __slots__ = (
        "assigned", "contracts", "control", "interests", "issued", "load", "load_limit", "oversized", "tags",
    )  # fmt: skip

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.interests: dict[ObjectRecord, Interest] = {}
        self.tags: dict[TagRecord, TagInterest] = {}
        self.contracts: int = 0
        self.control: OrderedDict[Interest, None] = OrderedDict()  # channels to open or to close
        self.oversized: dict[Interest, None] = {}  # objects whose names are too large for the peer
        self.issued: int = 1  # channel 1 is the control channel
        self.assigned: int = 0  # objects that this peer produces
        self.load: float = 0.0
        self.load_limit: LoadLimit | None = None

    def interest(self, record: ObjectRecord) -> Interest:
        """Find or make what this peer wants of an object."""
        interest = self.interests.get(record)
        if interest is None:
            interest = self.interests[record] = record.interests[self] = Interest(self, record)
        return interest


class Uplink(Link):
    """The link to the node above: we announce contracts, it opens channels."""

    __slots__ = (
        "announced", "announcing", "flush_before_withdrawal", "outlets", "oversized", "unannounced", "withdrawing",
    )  # fmt: skip

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.outlets: dict[int, Outlet] = {}
        self.announced: dict[ObjectDescriptor | TagDescriptor, Announcement] = {}
        self.unannounced: dict[ObjectDescriptor | TagDescriptor, None] = {}
        self.oversized: dict[ObjectDescriptor | TagDescriptor, None] = {}  # too large for the peer
        self.announcing: list[ObjectDescriptor | TagDescriptor] = []  # taken from there; last first
        # waits for what is flushed before it
        self.withdrawing: ObjectDescriptor | TagDescriptor | None = None
        self.flush_before_withdrawal: list[ObjectRecord] = []
