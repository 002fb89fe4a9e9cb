"""Settling: derive from the facts of one object what should be so, and say the difference with what was.

No handler says anything by itself; it edits facts and touches the object. This is the only place that decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .assignment import Choice, choose, choose_lighter
from .effects import SinkClosed, SinkOpened, StreamClosed, StreamOpened
from .publishing import lose, publish_kept
from .records import ExposeContract, Interest, LocalSink, ObjectRecord, ObserveContract, Upstream

if TYPE_CHECKING:
    from .freshness import View
    from .world import World


def settle(world: World, record: ObjectRecord, now: float) -> None:
    """Bring one object in line with its facts."""
    if world.dying:
        _drop_dead(world, record, now)
    record.should_exist = _should_exist(record)
    _count_tags(record)
    record.data_needed = record.should_exist and _data_needed(record)
    _settle_streams(world, record)
    _settle_exposer(world, record, now)
    view = record.held.view
    if not record.data_needed:
        record.held.drop()
    _settle_channels(world, record, view, now)
    world.balancer.classify(record, now)
    world.announce(record)
    world.settled(record)
    world.forget_object(record)


def lighten(world: World, record: ObjectRecord, now: float) -> None:
    """Move an object to a peer that has less to do than the one that produces it, if the difference is worth it."""
    del world.rebalancing[record]
    if world.dying or record in world.backlog:
        settle(world, record, now)
    lighter = choose_lighter(record, world.balancer.threshold, now)
    if lighter is not None:
        _unassign(world, record, now)
        _assign(world, record, lighter, now)
        _settle_channels(world, record, record.held.view, now)
    world.balancer.classify(record, now)


def _drop_dead(world: World, record: ObjectRecord, now: float) -> None:
    for interest in [item for item in record.interests.values() if not item.link.alive]:
        interest.forget()
        if record.exposer is interest:
            _unassign(world, record, now)
    for inlet, link in [item for item in record.fed.items() if not item[1].alive]:
        del record.fed[inlet]
        del link.inlets[inlet.channel]
        lose(world, record, inlet, min(now, link.ended_at))
    for outlet, link in [item for item in record.feeding.items() if not item[1].alive]:
        del record.feeding[outlet]
        del link.outlets[outlet.channel]


def _should_exist(record: ObjectRecord) -> bool:
    return bool(
        record.fed
        or record.feeding
        or record.observers
        or record.exposers
        or any(item.observes or item.exposes for item in record.interests.values())
    )


def _count_tags(record: ObjectRecord) -> None:
    """Derive what peers want of this object by its tags; a peer may reach it by several."""
    for interest in record.interests.values():
        interest.tag_observers = interest.tag_exposers = interest.tag_capacity = 0
    for tag in record.tags:
        for link, wish in tag.interests.items():
            # tags keep no object alive: nothing is noted of one that is about to go
            if link.alive and record.should_exist:
                interest = link.interest(record)
                interest.tag_observers += wish.observes
                interest.tag_exposers += wish.exposes
                interest.tag_capacity += wish.capacity


def _data_needed(record: ObjectRecord) -> bool:
    if record.fed or record.feeding or record.observers:
        return True
    if any(tag.observers for tag in record.tags):
        return True
    observing = [interest for interest in record.interests.values() if interest.observing]
    # a single peer that observes and exposes serves itself
    return len(observing) > 1 or any(interest.production == 0 for interest in observing)


def _settle_streams(world: World, record: ObjectRecord) -> None:
    wanted: dict[int, ObserveContract] = {}
    if record.should_exist:
        wanted.update(record.observers)
        for tag in record.tags:
            wanted.update(tag.observers)
    have = {contract.id: stream for stream, contract in record.streams.items()}
    for contract_id, stream in have.items():
        if contract_id not in wanted:
            contract = record.streams.pop(stream)
            del contract.streams[record]
            del world.streams[stream]
            world.effects.append(StreamClosed(contract_id, stream, record.held.view))
    for contract_id, contract in wanted.items():
        if contract_id not in have:
            stream = world.new_id()
            record.streams[stream] = contract
            contract.streams[record] = stream
            world.streams[stream] = record
            world.effects.append(StreamOpened(contract_id, stream, record.descriptor))


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
    """Make the load of a peer say what this object costs it at its present capacity."""
    load = 1 / interest.production
    if load != record.load:
        interest.link.load += load - record.load
        record.load = load
        world.balancer.loads_changed(now)


def _settle_channels(world: World, record: ObjectRecord, view: View | None, now: float) -> None:
    """Say which channels there should be.

    :param view: the last state, also where it was dropped.
    """
    exposer = record.exposer
    for interest in list(record.interests.values()):
        interest.sink_wanted = exposer is interest
        interest.stream_wanted = _stream_wanted(record, interest)
        outlet = interest.outlet
        if outlet is not None and not outlet.closing and not interest.stream_wanted:
            outlet.closing = not record.data_needed
            stale = view is not None and view.since is not None and view.since < now
            outlet.last_since = view.since if view is not None and stale else None
        if not interest.has_what_it_wants:
            interest.link.control[interest] = None
            world.wake(interest.link)
        elif interest.unused:
            interest.forget()


def _stream_wanted(record: ObjectRecord, interest: Interest) -> bool:
    if not (record.data_needed and interest.observing):
        return False
    if record.exposer is not None:
        return record.exposer is not interest
    # Nobody produces it: what is held is shown with its age, but not to a peer that could produce it, since an open
    # stream makes a peer believe that the exposer is above.
    return record.held.view is not None and interest.production == 0
