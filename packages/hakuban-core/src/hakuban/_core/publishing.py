"""Publishing: what a source publishes becomes the held state, if it is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._contents import Content
from .clock import default_version
from .effects import StaleVersion
from .freshness import bumped
from .new_state import NewState, Outcome
from .note_exchange import exceed

if TYPE_CHECKING:
    from .._contents import Version, View
    from .graph import ExposeContract, Inlet, LocalSink, ObjectRecord
    from .world import World


def publish(
    world: World,
    record: ObjectRecord,
    source: LocalSink | Inlet,
    content: Content,
    since: float | None,
) -> bool:
    """Take a state from a source; return whether its version was newer than the held one."""
    held = record.held
    before = held.view
    newer = held.publish(
        source, content, since, bases=bool(record.interests or record.upstream_outlets)
    )
    if not newer and before is not None:
        _note_ignored(world, record, source, content, before.content)
    _shown(world, record, before)
    return newer


def _note_ignored(
    world: World, record: ObjectRecord, source: LocalSink | Inlet, content: Content, held: Content
) -> None:
    """Count and report data that were passed over for their version. The held state published again is not counted."""
    if (content.version, content.format, content.data) == (held.version, held.format, held.data):
        return
    record.held.ignored += 1
    if content.version < held.version:
        exceed(world, record, source, held.version)
    if not source.warned:
        source.warned = True
        world.effects.append(StaleVersion(record.descriptor, content.version, held.version))


def set_synchronized(
    world: World, record: ObjectRecord, source: LocalSink | Inlet, since: float | None
) -> None:
    """Receive from a source how fresh its last state is."""
    before = record.held.view
    record.held.set_synchronized(source, since)
    _shown(world, record, before)


def lose(world: World, record: ObjectRecord, source: LocalSink | Inlet, at: float) -> None:
    """A source of an object has ended; `at` is the time until which it vouched for its state."""
    before = record.held.view
    record.held.lose(source, at)
    _shown(world, record, before)


def publish_new(
    world: World, sink: LocalSink, offer: NewState, since: float | None, now: float
) -> Content | None:
    """Publish what a local contract offers, with a default version if it names none.

    :return: what was published, or None when its version was not newer than the held one.
    """
    version = offer.version
    if version is None:
        version = _default_version(world, sink.record.held.seen, now)
    content = Content(offer.data, offer.format, version)
    if not publish(world, sink.record, sink, content, since):
        return None
    sink.last = offer
    return content


def publish_kept(world: World, sink: LocalSink, now: float) -> None:
    """Publish what an object contract has kept, at its assignment."""
    contract = sink.contract
    offer = contract.kept
    if offer is None:
        return
    view = sink.record.held.view
    if view is not None and view.content is contract.kept_content:
        # it is still held: to vouch for it again takes no new version
        sink.last = offer
        publish(world, sink.record, sink, view.content, contract.kept_since)
    else:
        contract.kept_content = publish_new(world, sink, offer, contract.kept_since, now)


def set_kept(
    world: World, contract: ExposeContract, offer: NewState, since: float | None, now: float
) -> Outcome:
    """Take the newest value of an object contract: publish it if assigned, and keep it for later assignments."""
    kept = contract.kept
    if kept is not None and offer.version is not None and offer.version == kept.version:
        contract.kept_since = since  # the same version again states only how fresh it is
    sink = next(iter(contract.sinks.values()), None)
    if sink is not None:
        content = publish_new(world, sink, offer, since, now)
        if content is None:
            return Outcome.NOT_NEWER
        contract.kept_content = content
    elif _not_newer(offer, kept):
        return Outcome.NOT_NEWER
    contract.kept, contract.kept_since = offer, since
    return Outcome.KEPT if sink is None else Outcome.ACCEPTED


def _not_newer(offer: NewState, kept: NewState | None) -> bool:
    if kept is None or kept.version is None or offer.version is None:
        return False
    return offer.version <= kept.version


def publish_again(world: World, id: int, now: float) -> None:
    """Publish again, with a newer version, what a sink has published, if its version was a default one and it is held."""
    sink = world.sinks.get(id)
    view = None if sink is None else sink.record.held.view
    if sink is None or view is None or sink.last is None:
        return
    if sink.last.version is None and view.content.version == sink.version:
        content = publish_new(world, sink, sink.last, view.since, now)
        if sink.contract.kept is sink.last:
            sink.contract.kept_content = content


def _default_version(world: World, seen: Version, now: float) -> Version:
    world.issued_time = max(world.clock.read(now), world.issued_time + 1)
    version = default_version(world.issued_time)
    return version if version > seen else bumped(seen)


def _shown(world: World, record: ObjectRecord, before: View | None) -> None:
    if record.held.view is not before:
        world.mark_dirty(record)
