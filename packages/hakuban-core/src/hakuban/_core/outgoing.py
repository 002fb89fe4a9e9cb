"""What is sent next on a link: pulled when there is room, never queued. The facts have it, and what was sent before."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from .._contents import age_of
from .._descriptors import ObjectDescriptor
from .._session_events import (
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
from .announcement import NOTHING, Announcement
from .graph import Downlink, Inlet, Outlet
from .interest_totals import forget

if TYPE_CHECKING:
    from .._descriptors import TagDescriptor
    from .graph import Interest, Link, ObjectRecord, Uplink
    from .world import World

_ANNOUNCED_AT_ONCE = 256 * 1024  # bytes of contracts in one message, roughly
_ACTION_SIZE = 16
_LOOK = 3  # units of work: a channel, or a waiting state, is looked at
_ANNOUNCEMENT = 10  # units of work


def next_for(world: World, link: Downlink | Uplink, now: float) -> Instruction | None:
    """Return the next thing to send on a link; None when there is nothing, or the step has done enough."""
    if isinstance(link, Downlink):
        return _next_below(world, link, now)
    return _next_above(world, link, now)


def _next_below(world: World, link: Downlink, now: float) -> Instruction | None:
    """Return the next thing to send: channels first, then states."""
    while link.control and world.left > 0:
        world.left -= _LOOK
        interest = next(iter(link.control))
        instruction = _next_channel(link, interest, now)
        if instruction is not None:
            return instruction
        del link.control[interest]
        if interest.unused:
            forget(interest)
            world.forget_object(interest.record)
    return _next_state(world, link, now, None)


def _next_channel(
    link: Downlink, interest: Interest, now: float
) -> OpenChannel | CloseChannel | SendSynchronized | None:
    outlet, inlet = interest.outlet, interest.inlet
    if outlet is not None and (outlet.closing or not interest.stream_wanted):
        if outlet.last_since is not None and outlet.sent is not None and outlet.since is None:
            outlet.since = outlet.last_since
            return SendSynchronized(outlet.channel, age_of(outlet.since, now))
        interest.outlet = None
        link.dirty.pop(outlet, None)
        return CloseChannel(outlet.channel)
    if inlet is not None and (inlet.closing or not interest.sink_wanted):
        interest.inlet = None
        del link.inlets[inlet.channel]
        return CloseChannel(inlet.channel)
    if inlet is None and interest.sink_wanted:
        link.issued += 1
        interest.inlet = link.inlets[link.issued] = Inlet(link, link.issued, interest.record)
        return OpenChannel(link.issued, ChannelKind.SINK, interest.record.descriptor)
    if outlet is None and interest.stream_wanted:
        link.issued += 1
        interest.outlet = Outlet(link, link.issued, interest.record)
        link.dirty[interest.outlet] = None
        return OpenChannel(link.issued, ChannelKind.STREAM, interest.record.descriptor)
    return None


def _next_above(world: World, link: Uplink, now: float) -> Instruction | None:
    """Return the next thing to send: contracts first, then states."""
    while True:
        if not link.dirty:
            link.flush_before_withdrawal.clear()
        while link.flush_before_withdrawal and world.left > 0:
            world.left -= _LOOK
            instruction = _flushed(link, link.flush_before_withdrawal[-1], now)
            if instruction is not None:
                return instruction
            link.flush_before_withdrawal.pop()
        actions = _next_contracts(world, link)
        if actions:
            return SendContracts(actions)
        if not link.flush_before_withdrawal:
            return _next_state(world, link, now, link.id)
        if world.left <= 0:
            return None


def _flushed(link: Uplink, record: ObjectRecord, now: float) -> SendState | SendSynchronized | None:
    """Return what waits to be sent of an object."""
    for outlet in record.upstream_outlets:
        instruction = _update(link, outlet, now, link.id) if outlet in link.dirty else None
        if instruction is not None:
            return instruction
    return None


def _next_contracts(world: World, link: Uplink) -> list[ContractAction]:
    """Take what is to be announced next, up to a withdrawal that has to wait for some states."""
    actions: list[ContractAction] = []
    size = 0
    while (link.announcing or link.unannounced) and size < _ANNOUNCED_AT_ONCE:
        if link.flush_before_withdrawal or world.left <= 0:
            break
        if not link.announcing:
            link.announcing = [*reversed(link.unannounced)]
            link.unannounced.clear()
        descriptor = link.announcing[-1]
        announcement = world.announcement(descriptor)
        if descriptor is not link.withdrawing:
            link.withdrawing = descriptor
            link.flush_before_withdrawal = _to_be_flushed(world, link, descriptor, announcement)
            if link.flush_before_withdrawal:
                continue
        link.announcing.pop()
        link.withdrawing = None
        actions += _difference(link, descriptor, announcement)
        tags = len(descriptor.tags) if isinstance(descriptor, ObjectDescriptor) else 0
        world.left -= _ANNOUNCEMENT + tags // 2
        size += descriptor.text_size + _ACTION_SIZE
    return actions


def _to_be_flushed(
    world: World,
    link: Uplink,
    descriptor: ObjectDescriptor | TagDescriptor,
    announcement: Announcement,
) -> list[ObjectRecord]:
    """Find the objects of which states may have to be sent before an exposer is withdrawn.

    What was set last has to arrive, or it is lost.
    """
    _, exposed = link.announced.get(descriptor, NOTHING)
    if announcement.capacity or not exposed or not link.dirty:
        return []
    if isinstance(descriptor, ObjectDescriptor):
        record = world.objects.get(descriptor)
        return [] if record is None else [record]
    tag = world.tags.get(descriptor)
    return [] if tag is None else [*tag.objects.values()]


def _difference(
    link: Uplink, descriptor: ObjectDescriptor | TagDescriptor, announcement: Announcement
) -> list[ContractAction]:
    observed, exposed = link.announced.get(descriptor, NOTHING)
    observe, expose = announcement
    actions = []
    if observe != observed:
        actions.append(ContractAction(Verb.OBSERVE if observe else Verb.UNOBSERVE, descriptor))
    if expose and not exposed:
        actions.append(ContractAction(Verb.EXPOSE, descriptor, expose))
    elif exposed and not expose:
        actions.append(ContractAction(Verb.UNEXPOSE, descriptor))
    elif expose != exposed:
        actions.append(ContractAction(Verb.SET_CAPACITY, descriptor, expose))
    if announcement == NOTHING:
        link.announced.pop(descriptor, None)
    else:
        link.announced[descriptor] = announcement
    return actions


def _next_state(
    world: World, link: Link, now: float, echo: int | None
) -> SendState | SendSynchronized | None:
    """Return the next state to send; never one that came over the link with the id `echo`."""
    while link.dirty and world.left > 0:
        world.left -= _LOOK
        instruction = _update(link, next(iter(link.dirty)), now, echo)
        if instruction is not None:
            return instruction
    return None


def _update(
    link: Link, outlet: Outlet, now: float, echo: int | None
) -> SendState | SendSynchronized | None:
    """Bring an outlet up to date."""
    del link.dirty[outlet]
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
