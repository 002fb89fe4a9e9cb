"""Settling: derive from the facts of one object what should be so, and report the difference from what was.

No handler reports anything by itself; it edits facts and touches the object. This is the only place that decides.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from .assignment import Choice, choose, choose_lighter
from .effects import SinkClosed, SinkOpened, StreamClosed, StreamOpened
from .graph import (
    Downlink,
    ExposeContract,
    Interest,
    LocalSink,
    ObjectRecord,
    ObserveContract,
    Upstream,
)
from .interest_totals import count, drop_tags, forget, set_tags
from .publishing import lose, publish_kept

if TYPE_CHECKING:
    from .graph import Rest, TagInterest
    from .world import World


_SETTLING = 160  # units of work, beside those for each tag
_LOOKING = 20  # units of work, beside those for each peer that can produce the object
_RIVAL = 8
_STREAM = 100  # units of work, with those for whoever is notified
_CHANNEL = 6  # units of work
_PIECE = 64  # of what there may be many of, so many at a time


def settle(world: World, record: ObjectRecord, now: float) -> None:
    """Bring one object in line with its facts: as far as this step has room for it, and the rest in the next one."""
    world.left -= _SETTLING + 2 * len(record.tags)
    if world.reaping:
        _drop_reaped(world, record, now)
    existed, record.should_exist = record.should_exist, _should_exist(record)
    if record.should_exist and not existed:
        _count_anew(world, record)
    if record.has_rest and not _count(world, record):
        world.postpone(record)
        return
    record.data_needed = record.should_exist and _data_needed(record)
    if len(record.able) > 1 or record.exposer is None:
        world.left -= _RIVAL * len(record.able)
    done = _settle_streams(world, record)
    _settle_exposer(world, record, now)
    # not before all streams are closed: one that stays open, should the object be needed again, has to get its age
    if done and not record.data_needed and record.held.view is not None:
        if record.interests:
            record.rest.dropped = record.held.view
        record.held.drop()
    done &= _settle_channels(world, record, now)
    world.balancer.classify(record, now)
    world.mark_unannounced(record)
    if done:
        record.done()
        world.settled(record)
        world.forget_object(record)
    else:
        world.postpone(record)


def rebalance(world: World, record: ObjectRecord, now: float) -> None:
    """Move an object to a peer that has less to do than the one that produces it, if the difference is worth it."""
    del world.rebalancing[record]
    world.left -= _LOOKING + _RIVAL * len(record.able)
    if world.reaping or record in world.backlog:
        settle(world, record, now)
        if record.has_rest:
            return
    lighter = choose_lighter(record, world.balancer.threshold, now)
    if lighter is None:
        world.balancer.classify(record, now)
        return
    _unassign(world, record, now)
    _assign(world, record, lighter, now)
    settle(world, record, now)


def _drop_reaped(world: World, record: ObjectRecord, now: float) -> None:
    if len(world.reaping) < len(record.interests):
        found = (record.interests.get(link) for link in world.reaping if isinstance(link, Downlink))
        ended = [interest for interest in found if interest is not None]
    else:
        ended = [interest for interest in record.interests.values() if not interest.link.alive]
    world.left -= 2 * min(len(world.reaping), len(record.interests)) + 5 * len(ended)
    for interest in ended:
        forget(interest)
        if record.exposer is interest:
            _unassign(world, record, now)
    for inlet, link in [item for item in record.upstream_inlets.items() if not item[1].alive]:
        del record.upstream_inlets[inlet]
        del link.inlets[inlet.channel]
        lose(world, record, inlet, min(now, link.ended_at))
    for outlet, link in [item for item in record.upstream_outlets.items() if not item[1].alive]:
        del record.upstream_outlets[outlet]
        del link.outlets[outlet.channel]
        link.dirty.pop(outlet, None)  # each holds the other


def _should_exist(record: ObjectRecord) -> bool:
    return bool(
        record.upstream_inlets
        or record.upstream_outlets
        or record.observers
        or record.exposers
        or record.observing
        or record.exposing
    )


def _count_anew(world: World, record: ObjectRecord) -> None:
    """The object has come to exist: what peers want of it by its tags is counted, and what is counted still."""
    tags = [tag for tag in record.tags if tag.interests]
    old = [one for one in record.interests.values() if one.tag_observers or one.tag_exposers]
    if tags or old:
        record.rest.uncounted = tags
        record.rest.recount.update((interest.link, None) for interest in old)
    world.left -= len(record.interests) // 4


def _count(world: World, record: ObjectRecord) -> bool:
    """Bring what is known of the interests of peers up to date where they have changed; return whether that was all."""
    rest = record.rest
    if not record.should_exist:
        # tags keep no object alive: nothing is noted of one that is about to go
        rest.uncounted.clear()
        rest.recount.clear()
    elif not _count_tags(world, record, rest):
        return False
    for interest in rest.changed:
        count(interest)
    rest.unsettled.update(rest.changed)
    rest.changed.clear()
    return True


def _count_tags(world: World, record: ObjectRecord, rest: Rest) -> bool:
    """Derive what peers want of this object by its tags, where that has changed; a peer may reach it by several."""
    while rest.uncounted:
        tag = rest.uncounted.pop()
        rest.recount.update(tag.interests)
        world.left -= len(tag.interests) // 4
        if world.left <= 0 and rest.uncounted:
            return False
    pieces = max(1, _PIECE // (1 + len(record.tags) // _PIECE))
    while rest.recount:
        link, _ = rest.recount.popitem()
        if link.alive:
            _count_link(record, link)
            world.left -= 4 + min(len(record.tags), len(link.tags))
        pieces -= 1
        if pieces <= 0 and world.left <= 0 and rest.recount:
            return False
    return True


def _count_link(record: ObjectRecord, link: Downlink) -> None:
    interests: list[TagInterest | None]
    if len(link.tags) < len(record.tags):
        interests = [interest for tag, interest in link.tags.items() if record.id in tag.objects]
    else:
        interests = [tag.interests.get(link) for tag in record.tags]
    observers = exposers = capacity = 0
    for interest in interests:
        if interest is not None:
            observers += interest.observes
            exposers += interest.exposes
            capacity += interest.capacity
    if observers or exposers or link in record.interests:
        set_tags(link.interest(record), observers, exposers, capacity)


def _data_needed(record: ObjectRecord) -> bool:
    if record.upstream_inlets or record.upstream_outlets or record.observers:
        return True
    if any(tag.observers for tag in record.tags):
        return True
    # a single peer that observes and exposes serves itself
    return record.watching > 1 or record.only_watching > 0


def _settle_streams(world: World, record: ObjectRecord) -> bool:
    """Open and close streams, by which contracts of this process see the object; return whether that was all."""
    wanted: dict[int, ObserveContract] = {}
    if record.should_exist:
        wanted.update(record.observers)
        for tag in record.tags:
            wanted.update(tag.observers)
    have = {contract.id: stream for stream, contract in record.streams.items()}
    world.left -= (len(wanted) + len(have)) // 4
    if wanted.keys() == have.keys():
        return True
    old = [item for item in have.items() if item[0] not in wanted]
    new = [item for item in wanted.items() if item[0] not in have]
    room = max(_PIECE, world.left // _STREAM)
    for contract_id, stream in old:
        if not room:
            return False
        room -= 1
        world.left -= _STREAM
        _close_stream(world, record, contract_id, stream)
    for contract_id, contract in new:
        if not room:
            return False
        room -= 1
        world.left -= _STREAM
        stream = world.new_id()
        record.streams[stream] = contract
        world.streams.add(stream, record)
        world.effects.append(StreamOpened(contract_id, stream, record.descriptor, record.held.view))
    return True


def _close_stream(world: World, record: ObjectRecord, contract_id: int, stream: int) -> None:
    del record.streams[stream]
    world.streams.pop(stream)
    world.effects.append(StreamClosed(contract_id, stream, record.held.view))


def _settle_exposer(world: World, record: ObjectRecord, now: float) -> None:
    choice = choose(record, now) if record.data_needed else None
    holder = record.exposer
    if isinstance(choice, Interest) and choice is holder:
        _weigh(world, record, choice, now)
    elif choice is not (holder.contract if isinstance(holder, LocalSink) else holder):
        _unassign(world, record, now)
        if choice is not None:
            _assign(world, record, choice, now)


def _assign(world: World, record: ObjectRecord, choice: Choice, now: float) -> None:
    if isinstance(choice, ExposeContract):
        open_sink(world, record, choice, now)
    elif isinstance(choice, Interest):
        record.exposer = choice
        record.rest.unsettled[choice] = None
        choice.link.assigned += 1
        _weigh(world, record, choice, now)
    else:
        record.exposer = Upstream.UPSTREAM


def open_sink(world: World, record: ObjectRecord, contract: ExposeContract, now: float) -> None:
    """Assign an object to a local contract; what it has kept is published at once."""
    sink = LocalSink(world.new_id(), contract, record)
    record.exposer = sink
    contract.sinks[record] = sink
    world.sinks[sink.id] = sink
    world.effects.append(SinkOpened(contract.id, sink.id, record.descriptor))
    publish_kept(world, sink, now)


def close_sink(world: World, sink: LocalSink, now: float) -> None:
    """End an assignment to a local contract."""
    record = sink.record
    record.exposer = None
    del sink.contract.sinks[record]
    del world.sinks[sink.id]
    world.effects.append(SinkClosed(sink.contract.id, sink.id))
    lose(world, record, sink, now)


def _unassign(world: World, record: ObjectRecord, now: float) -> None:
    holder = record.exposer
    record.exposer = None
    if isinstance(holder, LocalSink):
        close_sink(world, holder, now)
    elif isinstance(holder, Interest):
        holder.sink_wanted = False  # at once: its link may still have an Open to send
        if holder.link.alive:
            record.rest.unsettled[holder] = None
        link = holder.link
        link.assigned -= 1
        # sums of fractions drift: they start anew with nothing
        link.load = link.load - record.load if link.assigned else 0.0
        record.load = 0.0
        world.balancer.loads_changed(now)
        if holder.inlet is not None:
            holder.inlet.closing = True
            lose(world, record, holder.inlet, min(now, link.ended_at))


def _weigh(world: World, record: ObjectRecord, interest: Interest, now: float) -> None:
    """Make the load of a peer include what this object costs it at its present capacity."""
    load = 1 / interest.production
    if load != record.load:
        interest.link.load += load - record.load
        record.load = load
        world.balancer.loads_changed(now)


def _settle_channels(world: World, record: ObjectRecord, now: float) -> bool:
    """Settle which channels there should be, for the peers where that may have changed. Return whether that was all."""
    nobody = record.exposer is None
    nothing = nobody and record.held.view is None
    arranged = record.should_exist | record.data_needed << 1 | nobody << 2 | nothing << 3
    if arranged != record.arranged:
        record.arranged = arranged
        if record.interests:
            record.rest.unsettled.update(dict.fromkeys(record.interests.values()))
            world.left -= len(record.interests) // 4
    if not record.has_rest:
        return True
    rest = record.rest
    most = max(_PIECE, world.left // _CHANNEL)
    for interest in list(islice(rest.unsettled, most)):
        del rest.unsettled[interest]
        _settle_channel(world, record, interest, now)
        world.left -= _CHANNEL
    return not rest.unsettled


def _settle_channel(world: World, record: ObjectRecord, interest: Interest, now: float) -> None:
    if not record.should_exist and (interest.tag_observers or interest.tag_exposers):
        drop_tags(interest)
    interest.sink_wanted = record.exposer is interest
    interest.stream_wanted = _stream_wanted(record, interest)
    outlet = interest.outlet
    if outlet is not None and not outlet.closing:
        # dropped, and perhaps needed again before this channel's turn came
        dropped = outlet.sent is not None and record.held.view is None
        if dropped or not interest.stream_wanted:
            outlet.closing = dropped or not record.data_needed
            view = record.held.view or record.rest.dropped
            stale = view is not None and view.since is not None and view.since < now
            outlet.last_since = view.since if view is not None and stale else None
    if not interest.has_what_it_wants:
        interest.link.control[interest] = None
        world.mark_ready(interest.link)
    elif interest.unused:
        forget(interest)


def _stream_wanted(record: ObjectRecord, interest: Interest) -> bool:
    if not (record.data_needed and interest.observing):
        return False
    if record.exposer is not None:
        return record.exposer is not interest
    # Nobody produces it: what is held is shown with its age, but not to a peer that could produce it, since an open
    # stream makes a peer believe that the exposer is above.
    return record.held.view is not None and interest.production == 0
