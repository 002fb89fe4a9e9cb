"""Settling: derive from the facts of one object what should be so, and say the difference with what was.

No handler says anything by itself; it edits facts and touches the object. This is the only place that decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .assignment import Choice, choose, choose_lighter
from .effects import SinkClosed, SinkOpened, StreamClosed, StreamOpened
from .publishing import publish_kept
from .records import ExposeContract, Interest, LocalSink, ObjectRecord, ObserveContract, Upstream

if TYPE_CHECKING:
    from .links import Inlet
    from .world import World


def settle(world: World, record: ObjectRecord, now: float) -> None:
    """Bring one object in line with its facts."""
    if record.gone:
        return
    _drop_dead(world, record, now)
    _count_tags(record)
    record.should_exist = _should_exist(record)
    record.data_needed = record.should_exist and _data_needed(record)
    _settle_streams(world, record)
    _settle_exposer(world, record, now)
    drop_unneeded(record)
    _settle_channels(world, record)
    world.balancer.classify(record, now)
    world.announce(record)
    world.forget_object(record)


def drop_unneeded(record: ObjectRecord) -> None:
    """Forget a state that nobody needs and nobody vouches for."""
    if not record.data_needed and not record.held.synchronized:
        record.held.drop()


def lose(world: World, record: ObjectRecord, source: LocalSink | Inlet, now: float) -> None:
    """A source of an object has ended."""
    before = record.held.view
    record.held.lose(source, now)
    drop_unneeded(record)
    if record.held.view is not before and record.held.view is not None:
        world.show(record)


def _drop_dead(world: World, record: ObjectRecord, now: float) -> None:
    for interest in [item for item in record.interests.values() if not item.link.alive]:
        del record.interests[interest.link]
        interest.link.interests.pop(record, None)
        if record.exposer is interest:
            _unassign(world, record, now)
        if interest.inlet is not None:
            lose(world, record, interest.inlet, now)
    for inlet in [inlet for inlet in record.fed if not (inlet.link and inlet.link.alive)]:
        del record.fed[inlet]
        lose(world, record, inlet, now)
    for outlet in [outlet for outlet in record.feeding if not outlet.link.alive]:
        del record.feeding[outlet]
    for tag in record.tags:
        for link in [link for link in tag.interests if not link.alive]:
            del tag.interests[link]


def _count_tags(record: ObjectRecord) -> None:
    """Derive what peers want of this object by its tags; a peer may reach it by several."""
    for interest in record.interests.values():
        interest.tag_observers = interest.tag_exposers = interest.tag_capacity = 0
    for tag in record.tags:
        for link, wish in tag.interests.items():
            interest = link.interest(record)
            interest.tag_observers += wish.observes
            interest.tag_exposers += wish.exposes
            interest.tag_capacity += wish.capacity


def _should_exist(record: ObjectRecord) -> bool:
    return bool(
        record.fed
        or record.feeding
        or record.observers
        or record.exposers
        or any(item.observes or item.exposes for item in record.interests.values())
    )


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
            close_stream(world, record, stream)
    for contract_id, contract in wanted.items():
        if contract_id not in have:
            stream = world.new_id()
            record.streams[stream] = contract
            contract.streams[record] = stream
            world.streams[stream] = record
            world.effects.append(StreamOpened(contract_id, stream, record.descriptor))


def close_stream(world: World, record: ObjectRecord, stream: int) -> None:
    """A contract sees an object no more."""
    contract = record.streams.pop(stream)
    del contract.streams[record]
    del world.streams[stream]
    world.effects.append(StreamClosed(contract.id, stream))


def _settle_exposer(world: World, record: ObjectRecord, now: float) -> None:
    choice = choose(record, now) if record.data_needed else None
    threshold = world.balancer.threshold
    if record in world.rebalancing:
        del world.rebalancing[record]
        if choice is record.exposer and isinstance(choice, Interest) and threshold is not None:
            choice = choose_lighter(record, threshold, now) or choice
    holder = record.exposer
    if isinstance(choice, Interest) and choice is holder:
        _weigh(world, record, choice, now)
    elif choice is not (holder.contract if isinstance(holder, LocalSink) else holder):
        if holder is not None:
            _unassign(world, record, now)
        if choice is not None:
            _assign(world, record, choice, now)


def _assign(world: World, record: ObjectRecord, choice: Choice, now: float) -> None:
    if isinstance(choice, ExposeContract):
        open_sink(world, record, choice, now)
    elif isinstance(choice, Interest):
        record.exposer = choice
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
        holder.link.load -= record.load
        record.load = 0.0
        world.balancer.loads_changed(now)
        if holder.inlet is not None:
            holder.inlet.closing = True
            lose(world, record, holder.inlet, now)


def _weigh(world: World, record: ObjectRecord, interest: Interest, now: float) -> None:
    """Make the load of a peer say what this object costs it at its present capacity."""
    load = 1 / interest.production
    if load != record.load:
        interest.link.load += load - record.load
        record.load = load
        world.balancer.loads_changed(now)


def _settle_channels(world: World, record: ObjectRecord) -> None:
    exposer = record.exposer
    for interest in list(record.interests.values()):
        interest.sink_wanted = exposer is interest
        interest.stream_wanted = _stream_wanted(record, interest)
        inlet = interest.inlet
        if (
            interest.stream_wanted != (interest.outlet is not None)
            or interest.sink_wanted != (inlet is not None)
            or (inlet is not None and inlet.closing)
        ):
            interest.link.control[interest] = None
            world.wake(interest.link)
        else:
            world.forget_unused(interest)


def _stream_wanted(record: ObjectRecord, interest: Interest) -> bool:
    if not (record.data_needed and interest.observing):
        return False
    if record.exposer is not None:
        return record.exposer is not interest
    # Nobody produces it: what is held is shown with its age, but not to a peer that could produce it, since an open
    # stream makes a peer believe that the exposer is above.
    return record.held.view is not None and interest.production == 0
