"""What peers want of objects and tags, and the totals of it that each object keeps."""

from __future__ import annotations

from .._limits import MOST_CAPACITY
from .announcement import Announcement
from .graph import Interest, ObjectRecord, TagInterest, TagRecord


def announcement_of(record: ObjectRecord | TagRecord) -> Announcement:
    """Sum up what is announced upstream of an object or tag."""
    observe = bool(record.observers or record.observing)
    return Announcement(observe, min(record.capacity, MOST_CAPACITY))


def change(
    interest: Interest | TagInterest, *, observes: bool, exposes: bool, capacity: int
) -> None:
    """Take what a peer wants of an object or tag itself. The caller touches the object, or all objects of the tag."""
    if isinstance(interest, Interest):
        _change(interest, interest.record, observes=observes, exposes=exposes, capacity=capacity)
        interest.record.rest.changed[interest] = None
    else:
        _change(interest, interest.tag, observes=observes, exposes=exposes, capacity=capacity)


def set_tags(interest: Interest, observers: int, exposers: int, capacity: int) -> None:
    """Take what a peer wants of an object by its tags."""
    interest.tag_observers, interest.tag_exposers, interest.tag_capacity = (
        observers,
        exposers,
        capacity,
    )
    interest.record.rest.changed[interest] = None


def drop_tags(interest: Interest) -> None:
    """What a peer wants by tags counts no more, for the totals either."""
    interest.tag_observers = interest.tag_exposers = interest.tag_capacity = 0
    count(interest)


def count(interest: Interest) -> None:
    """Bring the totals of the object in line with what is so of this peer now."""
    record, production = interest.record, interest.production
    watches = interest.observing
    only_watches = watches and production == 0
    record.watching += watches - interest.watches
    record.only_watching += only_watches - interest.only_watches
    if interest.able and not production:
        record.able.remove(interest)
    elif production and not interest.able:
        record.able.append(interest)
    interest.watches, interest.only_watches, interest.able = watches, only_watches, production > 0


def forget(interest: Interest) -> None:
    """Drop the record of a peer and an object that want nothing of each other, or whose link has ended."""
    record = interest.record
    _change(interest, record, observes=False, exposes=False, capacity=0)
    drop_tags(interest)
    if record.has_rest:
        record.rest.changed.pop(interest, None)
        record.rest.unsettled.pop(interest, None)
    del record.interests[interest.link]
    del interest.link.interests[record]
    # from all tables of an ended link, too: to let go of all that they hold in one go takes long
    link, inlet, outlet = interest.link, interest.inlet, interest.outlet
    link.control.pop(interest, None)
    link.oversized.pop(interest, None)
    if inlet is not None:
        link.inlets.pop(inlet.channel, None)
    if outlet is not None:
        link.dirty.pop(outlet, None)


def _change(
    interest: Interest | TagInterest,
    target: ObjectRecord | TagRecord,
    *,
    observes: bool,
    exposes: bool,
    capacity: int,
) -> None:
    target.observing += observes - interest.observes
    target.exposing += exposes - interest.exposes
    target.capacity += capacity - interest.capacity
    interest.observes, interest.exposes, interest.capacity = observes, exposes, capacity
