"""Notes: what the nodes of this project send each other about themselves, beside the protocol.

A note states how things are. So nothing is queued: what is to be sent is found when the link has room, by comparing
how things are with what was sent last.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import UNSET, UnsetType

from .._descriptors import ObjectDescriptor
from .._exceptions import CircleError, InvalidDescriptorError
from .._limits import MOST_INT64
from .._session_events import ChannelKind, Note, OpenChannel, SendNote
from . import outgoing
from .clock import JUMP, base_of, default_version
from .effects import ClockDoubted, PeerIgnores
from .graph import Downlink, Interest, LocalSink, Uplink

if TYPE_CHECKING:
    from .._contents import Version
    from .._session_events import Instruction
    from .freshness import Source
    from .graph import Link, ObjectRecord
    from .world import World

_Held: TypeAlias = "tuple[tuple[str, ...], str, Version]"

Chain: TypeAlias = tuple[tuple[str, str], ...]
"""Nodes above one another, from the nearest on: (id, name) each."""

# so much fits into a note, however it is escaped
_LONGEST_FIRST: Final = 512  # characters of all nodes above, in the first note
_LONGEST_CHAIN: Final = 64  # nodes
_LONGEST_NAME: Final = 80  # characters of each
_MOST_IGNORED: Final = 16  # things that were ignored, reported at once
_LONGEST_IGNORED: Final = 200  # characters of each, and of the reason
_LONGEST_HELD: Final = 4_096  # characters of the name of an object whose version is sent
# Integers of a version of default shape, the only one that nodes below have exceeded. So there is always a larger one.
_LONGEST_BELOW: Final = 4
_MOST_REPORTED: Final = 100  # things that the other side of a link ignores
_SLICE: Final = 256  # links woken in one step


def first_note(world: World, link: Link, max_message: int, now: float) -> Note:
    """Return the note that states who this node is: sent before all else on a link."""
    notes = link.notes
    notes.sent_clock = world.clock.base
    # what the peer takes is not known yet: a long chain is sent later
    short = sum(len(id) + len(name) for id, name in world.above) <= _LONGEST_FIRST
    if short:
        notes.sent_above = world.above
    return Note(
        node=world.node,
        name=link.local_name,
        above=world.above if short else UNSET,
        max_message=max_message,
        clock=_clock(world, now),
        version=world.software,
    )


def next_note(world: World, link: Link, now: float) -> SendNote | None:
    """Return a note of what has changed since the last one, if anything has. Only for a peer that has sent a note."""
    notes = link.notes
    clock: int | UnsetType = UNSET
    above: Chain | UnsetType = UNSET
    ignored: tuple[tuple[str, str], ...] | UnsetType = UNSET
    held: tuple[_Held, ...] | UnsetType = UNSET
    base = world.clock.base
    if notes.restate or base - max(notes.sent_clock, notes.peer_clock) > JUMP:
        notes.restate = False
        notes.sent_clock = base
        clock = _clock(world, now)
    # one of these at a time: together they may not fit
    if isinstance(link, Downlink) and notes.sent_above != world.above:
        above = notes.sent_above = world.above
    elif notes.ignored:
        ignored = tuple(notes.ignored[:_MOST_IGNORED])
        del notes.ignored[:_MOST_IGNORED]
    elif notes.held:
        record, _ = notes.held.popitem()
        held = (_held(record),)
    notes.due = bool(notes.ignored or notes.held)
    if clock is above is ignored is held is UNSET:
        return None
    return SendNote(Note(clock=clock, above=above, ignored=ignored, held=held))


def next_for(world: World, link: Downlink | Uplink, now: float) -> Instruction | None:
    """Return the next thing to send on a link: notes first, and then what the protocol itself has to send."""
    if link.postponed is not None:
        postponed, link.postponed = link.postponed, None
        return postponed
    if link.notes.due:
        note = next_note(world, link, now)
        if note is not None:
            return note
    if link.careful:
        return None
    instruction = outgoing.next_for(world, link, now)
    if isinstance(instruction, OpenChannel) and instruction.kind is ChannelKind.SINK:
        link.postponed = _to_exceed(world, link, world.objects[instruction.descriptor], now)
    return instruction


def _to_exceed(world: World, link: Link, record: ObjectRecord, now: float) -> SendNote | None:
    """Return a note with the version that a new producer's states have to exceed, if its clock will not do that."""
    if not link.notes.note_received or record.held.seen <= default_version(world.clock.read(now)):
        return None
    if record.descriptor.text_size > _LONGEST_HELD:
        return None
    return SendNote(Note(held=(_held(record),)))


def ignore(world: World, link: Link, descriptor: str, reason: str) -> None:
    """Have a peer notified that something which it sent is ignored here."""
    notes, descriptor = link.notes, descriptor[:_LONGEST_IGNORED]
    if not (notes.note_received and descriptor) or len(notes.sent_ignored) == _MOST_REPORTED:
        return
    if descriptor not in notes.sent_ignored:
        notes.sent_ignored.add(descriptor)
        notes.ignored.append((descriptor, reason[:_LONGEST_IGNORED]))
        _mark_due(world, link)


def take_note(world: World, link: Downlink | Uplink, note: Note, now: float) -> None:
    """Take a note that a peer has sent.

    :raises CircleError: this node is above itself, and the link has to end.
    """
    notes = link.notes
    if not notes.note_received:
        notes.note_received = True
        world.note_links[link] = None
        world.clock.attend(now)
        _mark_due(world, link)  # what has changed since the first note was made
    if note.node is not UNSET and not notes.node:
        notes.node = note.node  # for good: it is remembered what was reported of a node
    if note.name is not UNSET:
        notes.name = note.name
    if note.clock is not UNSET:
        _take_clock(world, link, base_of(note.clock, now), now)
    if note.ignored is not UNSET:
        for descriptor, reason in note.ignored[: _MOST_REPORTED - notes.reported]:
            notes.reported += 1
            cut = descriptor[:_LONGEST_IGNORED], reason[:_LONGEST_IGNORED]
            world.effects.append(PeerIgnores(link.id, *cut))
    if note.held is not UNSET:
        for held in note.held:
            _take_held(world, link, held)
    spread(world, now)
    if isinstance(link, Uplink):
        if note.above is not UNSET:
            notes.above = note.above
        _look_above(world, link)


def wake_due(world: World) -> None:
    """Wake some of the links that have something to be sent; called until there are none."""
    for link in list(islice(world.notes_due, _SLICE)):
        del world.notes_due[link]
        _mark_due(world, link)


def spread(world: World, now: float) -> None:
    """If the clock has jumped, have that reported, and have what was published by the old one published again."""
    if world.clock.may_spread(now):
        world.notes_due.update(world.note_links)
        world.republishing.update(dict.fromkeys(world.sinks))


def see_wall(world: World, wall: int | None, now: float) -> None:
    """Learn what the wall clock of this machine shows, Unix nanoseconds; None is no news."""
    if wall is not None:
        world.clock.see_wall(wall, now, root=world.root)
        if world.clock.jumped:
            spread(world, now)


def look_at_clock(world: World, wall: int | None, now: float) -> None:
    """Time has passed: look at the wall clock, if that is due, and have the clock stated again, if that is."""
    clock = world.clock
    spread(world, now)
    if now < clock.look:
        return
    clock.look = math.inf
    see_wall(world, wall, now)
    if now >= clock.restate or not world.note_links:
        clock.restate = math.inf
        _restate(world)
    if world.note_links:
        clock.attend(now)


def _restate(world: World) -> None:
    for link in world.note_links:
        link.notes.restate = True
    world.notes_due.update(world.note_links)


def _clock(world: World, now: float) -> int:
    return max(0, min(world.clock.read(now), MOST_INT64))


def _take_clock(world: World, link: Downlink | Uplink, base: int, now: float) -> None:
    link.notes.peer_clock = base
    if isinstance(link, Uplink):
        world.clock.follow(base, now)
        return
    lead = world.clock.follow_below(link.id, link.notes.node, base, now)
    if lead is not None:
        world.effects.append(ClockDoubted(link.id, lead / 1e9))


def _held(record: ObjectRecord) -> _Held:
    tags = tuple(tag.json_text for tag in record.descriptor.tags)
    return tags, record.descriptor.json_text, record.held.seen


def exceed(world: World, record: ObjectRecord, source: Source, version: Version) -> None:
    """What a peer sends of an object is not newer than what is held here: have the version to exceed sent to it."""
    link = None if source.link_id is None else world.links.get(source.link_id)
    if link is None or not link.notes.note_received or source.exceeds == version:
        return
    if record.descriptor.text_size <= _LONGEST_HELD:
        source.exceeds = version  # as far as this side knows; once for each version
        link.notes.held[record] = None
        _mark_due(world, link)


def _take_held(world: World, link: Link, held: _Held) -> None:
    """What is produced here, or is passed on, is hidden at a peer by what is held there: exceed its version."""
    tags, json, version = held
    if isinstance(link, Downlink) and (version[:1] != (0,) or len(version) > _LONGEST_BELOW):
        return
    try:
        record = world.objects.get(ObjectDescriptor.from_json(tags, json))
    except InvalidDescriptorError:
        return
    if record is None or version <= record.held.seen:
        return
    record.held.seen = version
    exposer = record.exposer
    if isinstance(exposer, LocalSink):
        world.republishing[exposer.id] = None
        return
    if isinstance(exposer, Interest):
        producer: Link | None = exposer.link if exposer.inlet is not None else None
    else:
        producer = world.uplink if record.upstream_inlets else None
    if producer is not None and producer is not link and producer.notes.note_received:
        producer.notes.held[record] = None
        _mark_due(world, producer)


def _mark_due(world: World, link: Link) -> None:
    """Have a link asked for what there is to send. Its peer has sent a note: others get no more than the first one."""
    assert link.notes.note_received
    link.notes.due = True
    world.mark_ready(link)


def _look_above(world: World, link: Uplink) -> None:
    """See who is above now. If it is this node, the node of the circle whose id is the smallest opens the circle."""
    notes = link.notes
    nearest = (notes.node, notes.name or link.remote_name or "")
    above = (nearest, *notes.above) if notes.node else ()
    ids = [id for id, _ in above]
    if world.node in ids:
        here = ids.index(world.node)
        if world.node == min(ids[: here + 1]):
            names = [world.name, *(name for _, name in above[:here]), world.name]
            raise CircleError(names)
        above = above[:here]
    world.set_above(tuple((id, name[:_LONGEST_NAME]) for id, name in above[:_LONGEST_CHAIN]))
