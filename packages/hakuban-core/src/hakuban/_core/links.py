"""Links as the machine sees them: what is open, what was said, what has to be said next. Pulled, never queued."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from itertools import chain, islice
from typing import TYPE_CHECKING

from .._descriptors import ObjectDescriptor
from .._messages import (
    ChannelKind,
    CloseChannel,
    ContractAction,
    Instruction,
    OpenChannel,
    SendContracts,
    SendState,
    SendSynchronized,
    Verb,
)
from .freshness import Source, age_of
from .records import MAX_CAPACITY, Interest, ObjectRecord, TagInterest, TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._descriptors import TagDescriptor
    from .._states import Content
    from .assignment import Ramp
    from .world import World

_ANNOUNCED_AT_ONCE = 256 * 1024  # bytes of contracts in one message, roughly
_ACTION_SIZE = 16
SETTLED_AT_ONCE = 64  # objects of a dead link that are settled at a time
_LOOK = 3  # units of work: a channel, or a waiting state, is looked at
_ANNOUNCEMENT = 10  # units of work
_FORGOTTEN = (
    2_000  # contracts that a dead link has announced: to let go of all at once takes a while
)
_BURIAL = 8  # units of work, for what a dead link wanted of a tag
NO_WISH = (False, 0)
NEVER = -(2**100)  # nanoseconds: less than any base of a clock


class Outlet:
    """A channel on which states of an object leave over a link, and what was last said on it."""

    __slots__ = ("channel", "closing", "last_since", "link", "record", "sent", "since")

    def __init__(self, link: Link, channel: int, record: ObjectRecord) -> None:
        self.link: Link = link
        self.channel: int = channel
        self.record: ObjectRecord = record
        # weak, so that a slow link keeps no old content alive
        self.sent: weakref.ref[Content] | None = None
        self.since: float | None = None
        # Since when the state is not current any more, to be said before the Close: that alone says "until now".
        self.last_since: float | None = None
        # The state was dropped and the Close is not yet pulled. Should the peer observe again before that, it gets the
        # Close all the same: it would go on showing what it has as current, since there is no age to tell it.
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


class Notes:
    """What the two nodes of a link have told each other in notes, and what is to be told.

    :ivar spoken: whether the peer has sent a note: then it gets more than the first one.
    :ivar due: whether there may be something to tell.
    :ivar restate: whether the clock is to be told, changed or not.
    :ivar node: the id of the peer; "" where it has not said.
    :ivar above: the nodes above the peer, from the nearest on: (id, name) each.
    :ivar heard_clock: the base of the peer's clock; NEVER where it has not said.
    :ivar ignored: (descriptor, reason) of what is ignored here, to be told.
    :ivar held: objects of which the version to be exceeded is to be told.
    :ivar misread: whether it was reported that a note of the peer's did not decode.
    :ivar told_ignored: the descriptors of ignored things that were told, or are going to be.
    :ivar reported: how many things the peer has said that it ignores.
    """

    __slots__ = (
        "above", "due", "heard_clock", "held", "ignored", "misread", "name", "node", "reported", "restate",
        "spoken", "told_above", "told_clock", "told_ignored",
    )  # fmt: skip

    def __init__(self) -> None:
        self.spoken: bool = False
        self.due: bool = False
        self.restate: bool = False
        self.node: str = ""
        self.name: str = ""
        self.above: tuple[tuple[str, str], ...] = ()
        self.heard_clock: int = NEVER
        self.told_clock: int = NEVER
        self.told_above: tuple[tuple[str, str], ...] = ()
        self.ignored: list[tuple[str, str]] = []
        self.held: dict[ObjectRecord, None] = {}
        self.misread: bool = False
        self.told_ignored: set[str] = set()
        self.reported: int = 0


class Link:
    """Base of both kinds of link."""

    __slots__ = (
        "alive",
        "awake",
        "careful",
        "ended_at",
        "id",
        "ignored",
        "inlets",
        "local_address",
        "local_name",
        "notes",
        "outdated",
        "postponed",
        "remote_address",
        "remote_name",
        "size_cap",
        "skipped",
    )

    def __init__(self, id: int) -> None:
        self.id: int = id
        self.alive: bool = True
        self.careful: bool = False  # whether nothing is said before the peer has said its name
        self.ended_at: float = math.inf  # until then it vouched for what it said
        self.awake: bool = False  # LinkReady was said, and the writer has not yet run dry
        self.ignored: bool = False
        self.local_name: str = ""
        self.local_address: str = ""
        self.remote_address: str = ""
        self.remote_name: str | None = None
        self.size_cap: int | None = (
            None  # bytes of the largest message sent for now: for pictures only
        )
        self.notes: Notes = Notes()
        self.postponed: Instruction | None = None  # belongs right behind what was said last
        self.skipped: dict[
            ObjectRecord, None
        ] = {}  # objects of which a state was too large for the peer
        self.inlets: dict[int, Inlet] = {}
        # outlets with something new to say, in turn (the head of a plain dict is slow to find after many deletions)
        self.outdated: OrderedDict[Outlet, None] = OrderedDict()

    def _next_state(
        self, world: World, now: float, echo: int | None
    ) -> SendState | SendSynchronized | None:
        """Give the next state to send; never one that came over the link with the id `echo`."""
        while self.outdated and world.left > 0:
            world.left -= _LOOK
            instruction = self._say(next(iter(self.outdated)), now, echo)
            if instruction is not None:
                return instruction
        return None

    def _say(
        self, outlet: Outlet, now: float, echo: int | None
    ) -> SendState | SendSynchronized | None:
        """Bring an outlet up to date."""
        del self.outdated[outlet]
        held = outlet.record.held
        view = held.view
        if view is None or (echo is not None and held.origin == echo):
            return None
        content = view.content
        if outlet.sent is None or outlet.sent() is not content:
            outlet.sent = weakref.ref(content)
            outlet.since = view.since
            return SendState(outlet.channel, content, view.age(now))
        if outlet.since != view.since:
            outlet.since = view.since
            return SendSynchronized(outlet.channel, view.age(now))
        return None


class Downlink(Link):
    """A link to a node below: it announces contracts, we open channels."""

    __slots__ = (
        "assigned", "contracts", "control", "deaf", "interests", "issued", "load", "ramp", "tags",
    )  # fmt: skip

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.interests: dict[ObjectRecord, Interest] = {}
        self.tags: dict[TagRecord, TagInterest] = {}
        self.contracts: int = 0
        self.control: OrderedDict[Interest, None] = OrderedDict()  # channels to open or to close
        self.deaf: dict[Interest, None] = {}  # objects whose names are too large for the peer
        self.issued: int = 1  # channel 1 is the control channel
        self.assigned: int = 0  # objects that this peer produces
        self.load: float = 0.0
        self.ramp: Ramp | None = None

    def interest(self, record: ObjectRecord) -> Interest:
        """Find or make what this peer wants of an object."""
        interest = self.interests.get(record)
        if interest is None:
            interest = self.interests[record] = record.interests[self] = Interest(self, record)
        return interest

    def bury(self, world: World) -> bool:
        """Have some of the objects settled that this dead link concerned: that takes its facts away.

        :return: whether none are left.
        """
        while self.tags and world.left > 0:
            world.left -= _BURIAL
            tag, wish = self.tags.popitem()
            wish.change(observes=False, exposes=False, capacity=0)
            del tag.interests[self]
            world.announce(tag)
            world.forget_tag(tag)
        world.backlog.update(dict.fromkeys(islice(self.interests, SETTLED_AT_ONCE)))
        return not (self.tags or self.interests)

    def next_for(self, world: World, now: float) -> Instruction | None:
        """Give the next thing to say: channels first, then states."""
        while self.control and world.left > 0:
            world.left -= _LOOK
            interest = next(iter(self.control))
            instruction = self._next_channel(interest, now)
            if instruction is not None:
                return instruction
            del self.control[interest]
            if interest.unused:
                interest.forget()
                world.forget_object(interest.record)
        return self._next_state(world, now, None)

    def _next_channel(
        self, interest: Interest, now: float
    ) -> OpenChannel | CloseChannel | SendSynchronized | None:
        outlet, inlet = interest.outlet, interest.inlet
        if outlet is not None and (outlet.closing or not interest.stream_wanted):
            if outlet.last_since is not None and outlet.sent is not None and outlet.since is None:
                outlet.since = outlet.last_since
                return SendSynchronized(outlet.channel, age_of(outlet.since, now))
            interest.outlet = None
            self.outdated.pop(outlet, None)
            return CloseChannel(outlet.channel)
        if inlet is not None and (inlet.closing or not interest.sink_wanted):
            interest.inlet = None
            del self.inlets[inlet.channel]
            return CloseChannel(inlet.channel)
        if inlet is None and interest.sink_wanted:
            self.issued += 1
            interest.inlet = self.inlets[self.issued] = Inlet(self, self.issued, interest.record)
            return OpenChannel(self.issued, ChannelKind.SINK, interest.record.descriptor)
        if outlet is None and interest.stream_wanted:
            self.issued += 1
            interest.outlet = Outlet(self, self.issued, interest.record)
            self.outdated[interest.outlet] = None
            return OpenChannel(self.issued, ChannelKind.STREAM, interest.record.descriptor)
        return None


class Uplink(Link):
    """The link to the node above: we announce contracts, it opens channels."""

    __slots__ = (
        "_last_words", "_parting", "announced", "announcing", "outlets", "unannounced", "unsaid",
    )  # fmt: skip

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.outlets: dict[int, Outlet] = {}
        self.announced: dict[ObjectDescriptor | TagDescriptor, tuple[bool, int]] = {}
        self.unannounced: dict[ObjectDescriptor | TagDescriptor, None] = {}
        self.unsaid: dict[ObjectDescriptor | TagDescriptor, None] = {}  # too large for the peer
        self.announcing: list[ObjectDescriptor | TagDescriptor] = []  # taken from there; last first
        self._parting: ObjectDescriptor | TagDescriptor | None = None  # waits for the last words
        self._last_words: list[ObjectRecord] = []

    def bury(self, world: World) -> bool:
        """Have some of the objects settled that this dead link concerned: that takes its facts away.

        :return: whether none are left.
        """
        for _ in range(min(_FORGOTTEN, len(self.announced))):
            self.announced.popitem()
        channels: Iterable[Inlet | Outlet] = chain(self.inlets.values(), self.outlets.values())
        some = islice(channels, SETTLED_AT_ONCE)
        world.backlog.update(dict.fromkeys(channel.record for channel in some))
        return not (self.announced or self.inlets or self.outlets)

    def next_for(self, world: World, now: float) -> Instruction | None:
        """Give the next thing to say: contracts first, then states."""
        while True:
            if not self.outdated:
                self._last_words.clear()
            while self._last_words and world.left > 0:
                world.left -= _LOOK
                said = self._last_word(self._last_words[-1], now)
                if said is not None:
                    return said
                self._last_words.pop()
            actions = self._next_contracts(world)
            if actions:
                return SendContracts(actions)
            if not self._last_words:
                return self._next_state(world, now, self.id)
            if world.left <= 0:
                return None

    def _last_word(self, record: ObjectRecord, now: float) -> SendState | SendSynchronized | None:
        """Give what waits to be sent of an object."""
        for outlet in record.feeding:
            said = self._say(outlet, now, self.id) if outlet in self.outdated else None
            if said is not None:
                return said
        return None

    def _next_contracts(self, world: World) -> list[ContractAction]:
        """Take what is to be announced next, up to a withdrawal that has to wait for some states."""
        actions: list[ContractAction] = []
        size = 0
        while (self.announcing or self.unannounced) and size < _ANNOUNCED_AT_ONCE:
            if self._last_words or world.left <= 0:
                break
            if not self.announcing:
                self.announcing = [*reversed(self.unannounced)]
                self.unannounced.clear()
            descriptor = self.announcing[-1]
            wish = world.wish(descriptor)
            if descriptor is not self._parting:
                self._parting = descriptor
                self._last_words = self._to_be_said_before(world, descriptor, wish)
                if self._last_words:
                    continue
            self.announcing.pop()
            self._parting = None
            actions += self._difference(descriptor, wish)
            tags = len(descriptor.tags) if isinstance(descriptor, ObjectDescriptor) else 0
            world.left -= _ANNOUNCEMENT + tags // 2
            size += descriptor.text_size + _ACTION_SIZE
        return actions

    def _to_be_said_before(
        self, world: World, descriptor: ObjectDescriptor | TagDescriptor, wish: tuple[bool, int]
    ) -> list[ObjectRecord]:
        """Find the objects of which states may have to be sent before an exposer is withdrawn.

        What was set last has to arrive, or it is lost.
        """
        _, exposed = self.announced.get(descriptor, NO_WISH)
        if wish[1] or not exposed or not self.outdated:
            return []
        if isinstance(descriptor, ObjectDescriptor):
            record = world.objects.get(descriptor)
            return [] if record is None else [record]
        tag = world.tags.get(descriptor)
        return [] if tag is None else [*tag.objects.values()]

    def _difference(
        self, descriptor: ObjectDescriptor | TagDescriptor, wish: tuple[bool, int]
    ) -> list[ContractAction]:
        observed, exposed = self.announced.get(descriptor, NO_WISH)
        observe, expose = wish
        actions = []
        if observe != observed:
            actions.append(ContractAction(Verb.OBSERVE if observe else Verb.UNOBSERVE, descriptor))
        if expose and not exposed:
            actions.append(ContractAction(Verb.EXPOSE, descriptor, expose))
        elif exposed and not expose:
            actions.append(ContractAction(Verb.UNEXPOSE, descriptor))
        elif expose != exposed:
            actions.append(ContractAction(Verb.SET_CAPACITY, descriptor, expose))
        if wish == NO_WISH:
            self.announced.pop(descriptor, None)
        else:
            self.announced[descriptor] = wish
        return actions


def wish_of(record: ObjectRecord | TagRecord) -> tuple[bool, int]:
    """Sum up what a node announces upstream of an object or tag: whether it observes, and with what capacity it exposes."""
    return bool(record.observers or record.observing), min(record.capacity, MAX_CAPACITY)
