"""What always holds of a machine: everything that can be derived from facts is derived again, and compared.

Written from the rules and not from the code that follows them. For tests: it looks at all there is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from .announcement import NOTHING
from .graph import (
    Downlink,
    Inlet,
    Interest,
    Link,
    LocalSink,
    ObjectRecord,
    ObserveContract,
    TagInterest,
    TagRecord,
    Uplink,
    Upstream,
)
from .interest_totals import announcement_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .graph import ExposeContract
    from .machine import Machine
    from .world import World

Claims: TypeAlias = "Iterator[tuple[bool, str]]"
"""What is claimed to hold: whether it does, and what it is."""


def check(machine: Machine) -> None:
    """Check all invariants. What is derived of objects that wait to be settled is passed over.

    :raises AssertionError: one does not hold; the text has the story of the object that it is about.
    """
    world = machine.world
    waiting = {*world.touched, *world.backlog, *_of_ended_links(world), *_of_walks(world)}
    for record in world.objects.values():
        _demand(_claims_of_object(world, record), record)
        _demand(_claims_of_held(world, record), record)
        if record not in waiting:
            _demand(_claims_of_settled(record), record)
            _demand(_claims_of_exposer(world, record), record)
    for tag in world.tags.values():
        _demand(_claims_of_tag(world, tag))
    for link in world.links.values():
        if isinstance(link, Downlink):
            _demand(_claims_of_downlink(world, link))
        else:
            _demand(_claims_of_uplink(world, link, waiting))
    for contract in world.contracts.values():
        _demand(_claims_of_contract(world, contract))
    _demand(_claims_of_tables(world, waiting))
    targets: list[ObjectRecord | TagRecord] = [*world.objects.values(), *world.tags.values()]
    for target in targets:
        _demand(_claims_of_sums(target))
    for record in world.objects.values():
        if record not in waiting:
            _demand(_claims_of_counts(record), record)


def _demand(claims: Claims, record: ObjectRecord | None = None) -> None:
    for holds, claim in claims:
        if not holds:
            raise AssertionError(claim if record is None else f"{claim}\n{story(record)}")


def story(record: ObjectRecord) -> str:
    """Return all facts of an object, for people."""
    held, view = record.held, record.held.view
    fed, feeding = (
        [item.channel for item in channels]
        for channels in (record.upstream_inlets, record.upstream_outlets)
    )
    return "\n".join(
        (
            f"object {record.descriptor}, exists: {record.should_exist}, needed: {record.data_needed}",
            f"  exposer {_name(record.exposer)}, load {record.load}",
            f"  holds {view and view.content} since {view and view.since}, vouched for: {bool(held.synced)}",
            f"  above: fed by {fed}, feeding {feeding}",
            f"  here: observers {[*record.observers]}, streams {[*record.streams]}, {_able(record)}",
            *(f"  tag {tag.descriptor}: observers {[*tag.observers]}, {_able(tag)}" for tag in record.tags),
            *map(_story_of, record.interests.values()),
        )
    )  # fmt: skip


def _story_of(interest: Interest) -> str:
    outlet, inlet = interest.outlet, interest.inlet
    tags = (interest.tag_observers, interest.tag_exposers, interest.tag_capacity)
    return (
        f"  link {interest.link.id}, alive: {interest.link.alive}, observes: {interest.observes},"
        f" exposes: {interest.exposes} x {interest.capacity}, by tags {tags},"
        f" stream {interest.stream_wanted}: {outlet and (outlet.channel, outlet.closing)},"
        f" sink {interest.sink_wanted}: {inlet and (inlet.channel, inlet.closing)}"
    )


def _able(record: ObjectRecord | TagRecord) -> str:
    return f"exposers {[(item.id, item.capacity) for item in record.exposers.values()]}"


def _name(exposer: LocalSink | Interest | Upstream | None) -> str:
    if isinstance(exposer, LocalSink):
        return f"sink {exposer.id} of contract {exposer.contract.id}"
    return f"link {exposer.link.id}" if isinstance(exposer, Interest) else str(exposer)


def _of_ended_links(world: World) -> Iterator[ObjectRecord]:
    for link in world.reaping:
        if isinstance(link, Downlink):
            yield from link.interests
            for tag in link.tags:
                yield from tag.objects.values()
        else:
            yield from (inlet.record for inlet in link.inlets.values())
            yield from (outlet.record for outlet in link.outlets.values())


def _of_walks(world: World) -> Iterator[ObjectRecord]:
    for tag in world.walks:
        yield from tag.ahead if tag.next_round is None else tag.objects.values()


def _is_known(world: World, link: Link) -> bool:
    return world.links.get(link.id) is link if link.alive else link in world.reaping


# ---- objects ---------------------------------------------------------------------------------------------------------


def _claims_of_object(world: World, record: ObjectRecord) -> Claims:
    holds = world.objects.get(record.descriptor) is record
    yield holds, "the object has the name it is filed under"
    names = tuple(tag.descriptor for tag in record.tags)
    yield names == record.descriptor.tags, "the object has the tags of its descriptor"
    for tag in record.tags:
        yield tag.objects.get(record.id) is record, "a tag knows the objects that carry it"
        yield world.tags.get(tag.descriptor) is tag, "tags of objects are known"
    for link, interest in record.interests.items():
        yield interest.link is link, "an interest is filed under the link it came from"
        yield interest.record is record, "an interest is filed under the object it is for"
        yield link.interests.get(record) is interest, "a link knows what it wants"
        yield _is_known(world, link), "interests come from known links"
        inlet, outlet = interest.inlet, interest.outlet
        yield inlet is None or link.inlets.get(inlet.channel) is inlet, "a link knows its channels"
        yield inlet is None or inlet.record is record, "a sink channel is for its object"
        yield outlet is None or outlet.record is record, "a stream channel is for its object"
    for inlet, uplink in record.upstream_inlets.items():
        yield uplink.inlets.get(inlet.channel) is inlet, "the link above knows the channels to us"
        yield _is_known(world, uplink), "the channels to us are of a known link"
        yield inlet.record is record, "a channel to us feeds its object"
    for outlet, uplink in record.upstream_outlets.items():
        yield uplink.outlets.get(outlet.channel) is outlet, "the link above knows our channels"
        yield _is_known(world, uplink), "our channels are of a known link"
        yield outlet.record is record, "a channel of ours is fed by its object"
    for stream in record.streams:
        yield world.streams.get(stream) is record, "streams are known"


def _claims_of_held(world: World, record: ObjectRecord) -> Claims:
    held, view = record.held, record.held.view
    for source in held.synced:
        yield _may_vouch(world, record, source), "who vouches for a state has not ended"
    yield view is not None or not held.synced, "what is vouched for is there"
    if view is not None:
        yield (view.since is None) is bool(held.synced), "the view is as fresh as the sources say"
        yield held.seen >= view.content.version, "the held version was seen"


def _may_vouch(world: World, record: ObjectRecord, source: object) -> bool:
    if isinstance(source, LocalSink):
        return record.exposer is source and world.sinks.get(source.id) is source
    exposer = record.exposer
    produced = isinstance(exposer, Interest) and exposer.inlet is source
    return (
        isinstance(source, Inlet)
        and not source.closing
        and (produced or source in record.upstream_inlets)
    )


def _claims_of_sums(record: ObjectRecord | TagRecord) -> Claims:
    interests: list[Interest | TagInterest] = [*record.interests.values()]
    capacity = sum(item.capacity for item in (*interests, *record.exposers.values()))
    counts = (sum(one.observes for one in interests), sum(one.exposes for one in interests))
    sums = (*counts, capacity)
    holds = (record.observing, record.exposing, record.capacity) == sums
    yield holds, f"interests add up to {sums}"


# ---- what settling has derived ---------------------------------------------------------------------------------------


def _claims_of_settled(record: ObjectRecord) -> Claims:
    interests = record.interests.values()
    below = any(item.observes or item.exposes for item in interests)
    exists = bool(
        record.observers
        or record.exposers
        or record.upstream_inlets
        or record.upstream_outlets
        or below
    )
    yield record.in_use, "somebody holds something of the object"
    yield record.should_exist is exists, f"should_exist is {exists}"
    needed = exists and _is_needed(record)
    yield record.data_needed is needed, f"data_needed is {needed}"
    yield needed or record.held.view is None, "a state that is held is needed"
    for interest in interests:
        busy = interest in interest.link.control
        yield busy or not interest.unused, "a link wants something of the objects it knows"
        yield _counts_tags(record, interest), "interests by tags are counted"
        stream, sink = _has_to_have(record, interest)
        yield interest.stream_wanted is stream, f"a stream to link {interest.link.id}: {stream}"
        yield interest.sink_wanted is sink, f"a sink to link {interest.link.id}: {sink}"
        channels = (interest.outlet, interest.inlet)
        right = tuple(item is not None for item in channels) == (stream, sink)
        closing = any(item is not None and item.closing for item in channels)
        yield busy or (right and not closing), "channels are open as they have to be, or will be"
    wanted = [*record.observers, *(item for tag in record.tags for item in tag.observers)]
    streams = sorted(contract.id for contract in record.streams.values())
    yield streams == (sorted(wanted) if exists else []), "each contract has one stream"


def _claims_of_counts(record: ObjectRecord) -> Claims:
    watching = [item for item in record.interests.values() if item.observes or item.tag_observers]
    only = [item for item in watching if not _is_able(item)]
    able = {item for item in record.interests.values() if _is_able(item)}
    yield record.watching == len(watching), f"{len(watching)} peers observe the object"
    yield record.only_watching == len(only), f"{len(only)} of them cannot produce it"
    yield {*record.able} == able, "who can produce the object is known"
    yield not record.has_rest, "nothing of the object is left to be looked at"


def _is_needed(record: ObjectRecord) -> bool:
    here = [*record.observers, *(item for tag in record.tags for item in tag.observers)]
    below = [item for item in record.interests.values() if item.observes or item.tag_observers]
    no_exposers = [item for item in below if not _is_able(item)]
    return bool(
        record.upstream_inlets or record.upstream_outlets or here or no_exposers or below[1:]
    )


def _counts_tags(record: ObjectRecord, interest: Interest) -> bool:
    tags = [tag for tag in record.tags if interest.link in tag.interests and record.should_exist]
    of_tags = [tag.interests[interest.link] for tag in tags]
    return (interest.tag_observers, interest.tag_exposers, interest.tag_capacity) == (
        sum(one.observes for one in of_tags),
        sum(one.exposes for one in of_tags),
        sum(one.capacity for one in of_tags),
    )


def _has_to_have(record: ObjectRecord, interest: Interest) -> tuple[bool, bool]:
    observes = bool(interest.observes or interest.tag_observers) and record.data_needed
    produces = record.exposer is interest
    shown = not _is_able(interest) and record.held.view is not None
    return observes and not produces and (record.exposer is not None or shown), produces


def _is_able(interest: Interest) -> bool:
    return interest.capacity + interest.tag_capacity > 0 and not interest.oversized


def _claims_of_exposer(world: World, record: ObjectRecord) -> Claims:
    exposer = record.exposer
    here = [item for item in record.exposers.values() if item.capacity > 0]
    here += [item for tag in record.tags for item in tag.exposers.values() if item.capacity > 0]
    below = [item for item in record.interests.values() if _is_able(item)]
    looked_at = world.balancer.deadline < math.inf  # a limit may have been taken away since
    limited = looked_at or all(item.link.load_limit is not None for item in below)
    produced_below = isinstance(exposer, Interest)
    if not record.data_needed:
        yield exposer is None, "what nobody needs nobody produces"
    elif record.upstream_inlets:
        yield exposer is Upstream.UPSTREAM, "the exposer is above, since it sends states"
    elif here:
        yield isinstance(exposer, LocalSink) and exposer.contract in here, "the exposer is here"
    else:
        right = exposer in below if exposer is not None else limited
        yield right, "a peer below that can produce the object does, or all are over their limits"
    load = 1 / exposer.production if isinstance(exposer, Interest) else 0.0
    yield record.load == load, f"the load of the object is {load}"
    balancer = world.balancer
    contested = produced_below and len(below) > 1 and balancer.threshold < math.inf
    yield (record in balancer.contested) is contested, f"the object is contested: {contested}"
    starved = record.data_needed and bool(below) and exposer is None
    yield (record in balancer.starved) is starved, f"the object is starved: {starved}"


# ---- links -----------------------------------------------------------------------------------------------------------


def _claims_of_link(link: Downlink | Uplink, *, more_to_send: bool) -> Claims:
    yield link.alive, "known links are alive"
    yield all(item.link is link for item in link.dirty), "outdated channels are the link's own"
    more_to_send = (more_to_send or bool(link.dirty)) and not link.careful
    notes = link.notes.due or link.postponed is not None
    yield link.awake or not (more_to_send or notes), "who has something to send is awake"


def _claims_of_downlink(world: World, link: Downlink) -> Claims:
    yield from _claims_of_link(link, more_to_send=bool(link.control))
    interests = [*link.interests.values()]
    for interest in interests:
        record = interest.record
        yield record.interests.get(link) is interest, "an object knows what a link wants of it"
        holds = world.objects.get(record.descriptor) is record
        yield holds, "a link wants something of known objects"
    channels = {item.inlet for item in interests if item.inlet is not None}
    yield {*link.inlets.values()} == channels, "each channel to us belongs to an object"
    yield {*link.control} <= {*interests}, "channels are opened and closed for known objects"
    for tag, of_tag in link.tags.items():
        yield tag.interests.get(link) is of_tag, "a tag knows what a link wants of it"
        yield world.tags.get(tag.descriptor) is tag, "a link wants something of known tags"
    announced = sum(item.observes + item.exposes for item in interests)
    announced += sum(one.observes + one.exposes for one in link.tags.values())
    yield link.contracts == announced, f"the peer has announced {announced} contracts"
    loads = [item.record.load for item in interests if item.record.exposer is item]
    yield link.assigned == len(loads), f"the peer produces {len(loads)} objects"
    right = math.isclose(link.load, sum(loads), abs_tol=1e-9) if loads else link.load == 0
    yield right, f"the load of link {link.id} is {sum(loads)} and not {link.load}"


def _claims_of_uplink(world: World, link: Uplink, waiting: set[ObjectRecord]) -> Claims:
    yield from _claims_of_link(link, more_to_send=bool(link.unannounced or link.announcing))
    yield world.uplink is link, "there is one link above"
    for inlet in link.inlets.values():
        yield inlet in inlet.record.upstream_inlets, "an object knows the channels that feed it"
    for outlet in link.outlets.values():
        yield outlet in outlet.record.upstream_outlets, "an object knows the channels that it feeds"
    if world.reaping:
        return  # interests of ended links count until they are reaped
    to_come = {*link.unannounced, *link.announcing}
    records: list[ObjectRecord | TagRecord] = [*world.objects.values(), *world.tags.values()]
    for record in records:
        right = link.announced.get(record.descriptor, NOTHING) == announcement_of(record)
        done = right or record.descriptor in to_come or record in waiting
        done = done or record.descriptor in link.oversized
        yield done, f"what is wanted of {record.descriptor} is announced, or will be"
    for descriptor in link.announced:
        wanted = descriptor in to_come or world.announcement(descriptor) != NOTHING
        yield wanted, f"{descriptor} is announced, and somebody wants it"


# ---- tags, contracts, tables -----------------------------------------------------------------------------------------


def _claims_of_tag(world: World, tag: TagRecord) -> Claims:
    yield world.tags.get(tag.descriptor) is tag, "the tag has the name it is filed under"
    yield tag.in_use, "somebody holds something of the tag"
    for record in tag.objects.values():
        yield tag in record.tags, "an object knows its tags"
        yield world.objects.get(record.descriptor) is record, "objects of tags are known"
    for link, interest in tag.interests.items():
        yield _is_known(world, link), "interests for tags come from known links"
        known = interest.tag is tag and link.tags.get(tag) is interest
        yield known, "a link knows what it wants of a tag"
        yield interest.observes or interest.exposes, "a link wants something of the tags it knows"


def _claims_of_contract(world: World, contract: ObserveContract | ExposeContract) -> Claims:
    target = contract.target
    yield world.contracts.get(contract.id) is contract, "contracts are filed under their ids"
    if isinstance(target, TagRecord):
        yield world.tags.get(target.descriptor) is target, "contracts are about known tags"
    else:
        yield world.objects.get(target.descriptor) is target, "contracts are about known objects"
    if isinstance(contract, ObserveContract):
        yield target.observers.get(contract.id) is contract, "what is observed knows by whom"
    else:
        yield target.exposers.get(contract.id) is contract, "what is exposed knows by whom"


def _claims_of_tables(world: World, waiting: set[ObjectRecord]) -> Claims:
    for stream, record in world.streams.items():
        yield stream in record.streams, "streams are those of their objects"
    for sink in world.sinks.values():
        yield world.sinks.get(sink.id) is sink, "sinks are filed under their ids"
        yield sink.record.exposer is sink, "sinks are those of exposers"
        yield sink.contract.sinks.get(sink.record) is sink, "contracts know their sinks"
        lives = sink.contract.id in world.contracts or sink.record in waiting
        yield lives, "a sink does not outlive its contract"
    queues = (world.touched, world.backlog, world.rebalancing)
    for queue in (*queues, world.balancer.contested, world.balancer.starved):
        for record in queue:
            known = world.objects.get(record.descriptor) is record
            yield known, f"{record.descriptor} waits for something, and is known"
    for link in (*world.note_links, *world.notes_due):
        yield world.links.get(link.id) is link, "who has a note to come is linked"
        yield link.notes.note_received, "who has a note to come has sent one"
    yield not world.touched, "what a step is about is settled in that step"
