"""What a link could not carry, since it is larger than the peer takes: it is no fact of the peer's until it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._descriptors import ObjectDescriptor
from .graph import Downlink, Outlet

_TRY = 5  # units of work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._descriptors import TagDescriptor
    from .graph import Interest, ObjectRecord, Uplink
    from .world import World


def not_sent(
    world: World,
    link: Downlink | Uplink,
    states: Iterable[ObjectDescriptor],
    announcements: Iterable[ObjectDescriptor | TagDescriptor],
) -> None:
    """States of objects were not sent; contracts not announced to the node above, or channels not opened below."""
    for descriptor in states:
        record = world.objects.get(descriptor)
        if record is not None:
            record.held.skipped += 1
            link.skipped[record] = None
    for name in announcements:
        if not isinstance(link, Downlink):
            link.oversized[name] = None
            link.announced.pop(name, None)
        elif isinstance(name, ObjectDescriptor):
            record = world.objects.get(name)
            interest = None if record is None else record.interests.get(link)
            if interest is not None:
                link.oversized[interest] = None
                _set_oversized(world, interest, oversized=True)


def room_has_grown(world: World, link: Downlink | Uplink) -> bool:
    """Larger messages fit now: retry what was too large, while this step has room; return whether more is left."""
    while link.skipped and world.left > 0:
        world.left -= _TRY
        record, _ = link.skipped.popitem()
        outlet = _outlet(link, record)
        if outlet is not None:
            outlet.sent = None
            link.dirty[outlet] = None
    if isinstance(link, Downlink):
        while link.oversized and world.left > 0:
            world.left -= _TRY
            _set_oversized(world, link.oversized.popitem()[0], oversized=False)
    else:
        link.announcing = [*link.oversized, *link.announcing]
        link.oversized.clear()
    world.mark_ready(link)
    return bool(link.skipped or (isinstance(link, Downlink) and link.oversized))


def _set_oversized(world: World, interest: Interest, *, oversized: bool) -> None:
    interest.oversized = oversized
    interest.record.rest.changed[interest] = None
    if interest.outlet is not None and not oversized:
        interest.outlet.closing = True  # the peer has never received it: it is opened anew
    world.backlog[interest.record] = None


def _outlet(link: Downlink | Uplink, record: ObjectRecord) -> Outlet | None:
    if isinstance(link, Downlink):
        interest = link.interests.get(record)
        return None if interest is None else interest.outlet
    return next(
        (outlet for outlet, above in record.upstream_outlets.items() if above is link), None
    )
