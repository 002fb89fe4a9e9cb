"""What peers say: contracts from below, channels from above, states from either. Their faults end their own link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._descriptors import ObjectDescriptor, TagDescriptor
from .._exceptions import PeerViolation
from .._messages import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    ContractAction,
    PeerEvent,
    PeerLimited,
    PeerNamed,
    StateReceived,
    SynchronizedReceived,
    Verb,
)
from .assignment import Ramp
from .effects import Ignored, PeerRenamed
from .links import Downlink, Inlet, Link, Outlet, Uplink
from .publishing import publish, set_synchronized
from .records import Interest, TagInterest
from .settle import lose

if TYPE_CHECKING:
    from .world import World


class Peers:
    """Turns what peers say into facts."""

    __slots__ = ("_max_contracts", "_world")

    def __init__(self, world: World, max_contracts: int) -> None:
        self._world = world
        self._max_contracts = max_contracts

    def received(self, link: Link, event: PeerEvent, now: float) -> None:
        """Take one event of a living link."""
        match event:
            case StateReceived():
                inlet = link.inlets.get(event.channel)
                if inlet is not None and not inlet.closing:
                    since = now - event.age / 1e6 if event.age else None
                    publish(self._world, inlet.record, inlet, event.content, since)
            case SynchronizedReceived():
                inlet = link.inlets.get(event.channel)
                if inlet is not None and not inlet.closing:
                    since = now - event.age / 1e6 if event.age else None
                    set_synchronized(self._world, inlet.record, inlet, since)
            case PeerNamed():
                link.remote_name = event.name
                self._world.effects.append(PeerRenamed(link.id, event.name))
            case ContractAction() if isinstance(link, Downlink):
                self._contract(link, event)
            case PeerLimited() if isinstance(link, Downlink):
                link.ramp = Ramp(event.points, now) if event.points else None
                self._world.balancer.loads_changed(now)
            case ChannelOpened() if isinstance(link, Uplink):
                self._opened(link, event)
            case ChannelClosed() if isinstance(link, Uplink):
                self._closed(link, event, now)
            case _:  # the session of a link lets nothing else through
                self._world.refuse(link, PeerViolation(f"unexpected {type(event).__name__}"))

    def _contract(self, link: Downlink, action: ContractAction) -> None:
        world = self._world
        descriptor = action.descriptor
        wish: Interest | TagInterest | None
        if isinstance(descriptor, ObjectDescriptor):
            known = world.objects.get(descriptor)
            wish = None if known is None else known.interests.get(link)
        else:
            tag = world.tags.get(descriptor)
            wish = None if tag is None else tag.interests.get(link)
        if action.verb in (Verb.OBSERVE, Verb.EXPOSE):
            if not self._may_add(link, wish, action):
                return
            wish = self._wish(link, descriptor)
        elif not self._may_change(link, wish, action) or wish is None:
            return
        self._apply(link, wish, action)
        self._touch(link, wish, descriptor)

    def _may_add(
        self, link: Downlink, wish: Interest | TagInterest | None, action: ContractAction
    ) -> bool:
        doubled = wish is not None and (
            wish.observes if action.verb is Verb.OBSERVE else wish.exposes
        )
        if doubled:
            self._violation(link, f"double {action.verb.name.lower()}", action)
            return False
        if link.contracts >= self._max_contracts:
            self.ignore(link, f"more than {self._max_contracts} contracts")
            return False
        return True

    def _may_change(
        self, link: Downlink, wish: Interest | TagInterest | None, action: ContractAction
    ) -> bool:
        if wish is None or not (wish.observes or wish.exposes):
            return False  # unknown here: the crate ignores it too
        has_it = wish.observes if action.verb is Verb.UNOBSERVE else wish.exposes
        if not has_it and not link.ignored:
            self._violation(link, f"{action.verb.name.lower()} without the contract", action)
        return has_it

    def _wish(
        self, link: Downlink, descriptor: ObjectDescriptor | TagDescriptor
    ) -> Interest | TagInterest:
        if isinstance(descriptor, ObjectDescriptor):
            return link.interest(self._world.object(descriptor))
        tag = self._world.tag(descriptor)
        link.tags[tag] = None
        return tag.interests.setdefault(link, TagInterest())

    @staticmethod
    def _apply(link: Downlink, wish: Interest | TagInterest, action: ContractAction) -> None:
        match action.verb:
            case Verb.OBSERVE:
                wish.observes = True
                link.contracts += 1
            case Verb.UNOBSERVE:
                wish.observes = False
                link.contracts -= 1
            case Verb.EXPOSE:
                wish.exposes = True
                wish.capacity = action.capacity
                link.contracts += 1
            case Verb.UNEXPOSE:
                wish.exposes = False
                wish.capacity = 0
                link.contracts -= 1
            case Verb.SET_CAPACITY:
                wish.capacity = action.capacity

    def _touch(
        self,
        link: Downlink,
        wish: Interest | TagInterest,
        descriptor: ObjectDescriptor | TagDescriptor,
    ) -> None:
        if isinstance(wish, Interest):
            self._world.touch(wish.record)
        elif isinstance(descriptor, TagDescriptor):
            tag = self._world.tag(descriptor)
            if not (wish.observes or wish.exposes):
                del tag.interests[link]
                del link.tags[tag]
            self._world.touch_all(tag)

    def _violation(self, link: Link, what: str, action: ContractAction) -> None:
        reason = PeerViolation(f"{what} of {action.descriptor}", descriptor=action.descriptor)
        self._world.refuse(link, reason)

    def ignore(self, link: Link, reason: str) -> None:
        """Pass over one item of a peer's, and say so the first time."""
        if not link.ignored:
            link.ignored = True
            self._world.effects.append(Ignored(link.id, reason))

    def _opened(self, link: Uplink, event: ChannelOpened) -> None:
        record = self._world.object(event.descriptor)
        if event.kind is ChannelKind.STREAM:
            inlet = link.inlets[event.channel] = Inlet(link, event.channel, record)
            record.fed[inlet] = None
        else:
            outlet = link.outlets[event.channel] = Outlet(link, event.channel, record)
            record.feeding[outlet] = None
            if record.held.view is not None:
                link.outdated[outlet] = None
                self._world.wake(link)
        self._world.touch(record)

    def _closed(self, link: Uplink, event: ChannelClosed, now: float) -> None:
        inlet = link.inlets.pop(event.channel, None)
        outlet = link.outlets.pop(event.channel, None)
        if inlet is not None:
            del inlet.record.fed[inlet]
            lose(self._world, inlet.record, inlet, now)
            self._world.touch(inlet.record)
        if outlet is not None:
            del outlet.record.feeding[outlet]
            link.outdated.pop(outlet, None)
            self._world.touch(outlet.record)
