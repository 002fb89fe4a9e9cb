"""What peers send: contracts from below, channels from above, states from either. Their faults end their own link."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from .._descriptors import ObjectDescriptor, TagDescriptor
from .._exceptions import PeerViolationError
from .._session_events import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    ContractAction,
    ItemIgnored,
    NoteIgnored,
    NoteReceived,
    PeerEvent,
    PeerLimited,
    PeerNamed,
    StateReceived,
    SynchronizedReceived,
    Verb,
)
from . import note_exchange
from .effects import Ignored, PeerRenamed
from .graph import Downlink, Inlet, Interest, Outlet, TagInterest, Uplink
from .interest_totals import change
from .load_limit import LoadLimit
from .publishing import lose, publish, set_synchronized

if TYPE_CHECKING:
    from .world import World


class Incoming:
    """Turns what peers send into facts."""

    __slots__ = ("_max_contracts", "_world")

    def __init__(self, world: World, max_contracts: int) -> None:
        self._world = world
        self._max_contracts = max_contracts

    def apply(self, link: Downlink | Uplink, event: PeerEvent, now: float) -> None:
        """Take one event of a living link.

        :raises LinkError: the peer has broken a rule; the link has to end.
        """
        match event:
            case StateReceived() | SynchronizedReceived():
                inlet = link.inlets.get(event.channel)
                if inlet is not None and not inlet.closing:
                    self._state(inlet, event, now)
            case PeerNamed():
                link.remote_name = event.name
                if link.careful:
                    link.careful = False
                    self._world.mark_ready(link)
                self._world.effects.append(PeerRenamed(link.id, event.name))
            case NoteReceived() | NoteIgnored():
                self._note(link, event, now)
            case ItemIgnored():
                note_exchange.ignore(self._world, link, event.descriptor, event.reason)
                self._ignore(link, event.reason)
            case ContractAction() if isinstance(link, Downlink):
                self._contract(link, event, now)
            case PeerLimited() if isinstance(link, Downlink):
                link.load_limit = LoadLimit(event.points, now) if event.points else None
                self._world.balancer.loads_changed(now)
            case ChannelOpened() if isinstance(link, Uplink):
                self._opened(link, event)
            case ChannelClosed() if isinstance(link, Uplink):
                self._closed(link, event, now)
            case _:  # the session of a link lets nothing else through
                raise PeerViolationError(f"unexpected {type(event).__name__}")

    def _note(self, link: Downlink | Uplink, event: NoteReceived | NoteIgnored, now: float) -> None:
        if isinstance(event, NoteReceived):
            note_exchange.take_note(self._world, link, event.note, now)
        elif not link.notes.misread:
            link.notes.misread = True
            self._world.effects.append(Ignored(link.id, event.reason))

    def _state(self, inlet: Inlet, event: StateReceived | SynchronizedReceived, now: float) -> None:
        since = now - event.age / 1e6 if event.age else None
        if isinstance(event, StateReceived):
            publish(self._world, inlet.record, inlet, event.content, since)
        else:
            set_synchronized(self._world, inlet.record, inlet, since)

    def _contract(self, link: Downlink, action: ContractAction, now: float) -> None:
        interest = self._interest(link, action.descriptor)
        if action.verb in (Verb.OBSERVE, Verb.EXPOSE):
            if not self._may_add(link, interest, action):
                return
            interest = interest or self._new_interest(link, action.descriptor)
        elif interest is None or not self._may_change(link, interest, action):
            return
        self._take(link, interest, action)
        self._touch(link, interest)
        if action.verb in (Verb.EXPOSE, Verb.SET_CAPACITY):
            # a candidate may have become a better one
            self._world.balancer.loads_changed(now)

    def _interest(
        self, link: Downlink, descriptor: ObjectDescriptor | TagDescriptor
    ) -> Interest | TagInterest | None:
        if isinstance(descriptor, ObjectDescriptor):
            record = self._world.objects.get(descriptor)
            return None if record is None else record.interests.get(link)
        tag = self._world.tags.get(descriptor)
        return None if tag is None else tag.interests.get(link)

    def _new_interest(
        self, link: Downlink, descriptor: ObjectDescriptor | TagDescriptor
    ) -> Interest | TagInterest:
        if isinstance(descriptor, ObjectDescriptor):
            return link.interest(self._world.object(descriptor))
        tag = self._world.tag(descriptor)
        interest = link.tags[tag] = tag.interests[link] = TagInterest(tag)
        return interest

    def _may_add(
        self, link: Downlink, interest: Interest | TagInterest | None, action: ContractAction
    ) -> bool:
        observing = action.verb is Verb.OBSERVE
        if interest is not None and (interest.observes if observing else interest.exposes):
            raise _violation(f"double {action.verb.name.lower()}", action)
        if link.contracts >= self._max_contracts:
            self._ignore(link, f"more than {self._max_contracts} contracts")
            return False
        return True

    def _may_change(
        self, link: Downlink, interest: Interest | TagInterest, action: ContractAction
    ) -> bool:
        has_it = interest.observes if action.verb is Verb.UNOBSERVE else interest.exposes
        known = (
            interest.observes or interest.exposes
        )  # the crate reports nothing about what is unknown here either
        if known and not has_it and not link.ignored:
            raise _violation(f"{action.verb.name.lower()} without the contract", action)
        return has_it

    @staticmethod
    def _take(link: Downlink, interest: Interest | TagInterest, action: ContractAction) -> None:
        observes, exposes, capacity = interest.observes, interest.exposes, interest.capacity
        match action.verb:
            case Verb.OBSERVE:
                observes = True
                link.contracts += 1
            case Verb.UNOBSERVE:
                observes = False
                link.contracts -= 1
            case Verb.EXPOSE:
                exposes, capacity = True, action.capacity
                link.contracts += 1
            case Verb.UNEXPOSE:
                exposes, capacity = False, 0
                link.contracts -= 1
            case Verb.SET_CAPACITY:
                capacity = action.capacity
            case _:
                assert_never(action.verb)
        change(interest, observes=observes, exposes=exposes, capacity=capacity)

    def _touch(self, link: Downlink, interest: Interest | TagInterest) -> None:
        if isinstance(interest, Interest):
            self._world.touch(interest.record)
            return
        if not (interest.observes or interest.exposes):
            del interest.tag.interests[link]
            del link.tags[interest.tag]
        self._world.touch_all(interest.tag, link)

    def _ignore(self, link: Downlink | Uplink, reason: str) -> None:
        """Pass over one item of a peer's, and report it the first time."""
        if not link.ignored:
            link.ignored = True
            self._world.effects.append(Ignored(link.id, reason))

    def _opened(self, link: Uplink, event: ChannelOpened) -> None:
        record = self._world.object(event.descriptor)
        if event.kind is ChannelKind.STREAM:
            inlet = link.inlets[event.channel] = Inlet(link, event.channel, record)
            record.upstream_inlets[inlet] = link
        else:
            outlet = link.outlets[event.channel] = Outlet(link, event.channel, record)
            record.upstream_outlets[outlet] = link
            if record.held.view is not None:
                link.dirty[outlet] = None
                self._world.mark_ready(link)
        self._world.touch(record)

    def _closed(self, link: Uplink, event: ChannelClosed, now: float) -> None:
        inlet = link.inlets.pop(event.channel, None)
        outlet = link.outlets.pop(event.channel, None)
        if inlet is not None:
            del inlet.record.upstream_inlets[inlet]
            lose(self._world, inlet.record, inlet, now)
            self._world.touch(inlet.record)
        if outlet is not None:
            del outlet.record.upstream_outlets[outlet]
            link.dirty.pop(outlet, None)
            self._world.touch(outlet.record)


def _violation(what: str, action: ContractAction) -> PeerViolationError:
    return PeerViolationError(f"{what} of {action.descriptor}", descriptor=action.descriptor)
