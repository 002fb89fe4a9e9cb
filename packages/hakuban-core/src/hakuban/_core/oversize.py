"""What a link could not carry, since it is over the size that the peer takes: it is no fact of the peer's, until it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._descriptors import ObjectDescriptor
from .links import Downlink, Outlet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._descriptors import TagDescriptor
    from .links import Uplink
    from .records import ObjectRecord
    from .world import World


def states(world: World, link: Downlink | Uplink, descriptors: Iterable[ObjectDescriptor]) -> None:
    """States of objects were not sent."""
    for descriptor in descriptors:
        record = world.objects.get(descriptor)
        if record is not None:
            record.held.skipped += 1
            link.skipped[record] = None


def announcements(
    world: World, link: Downlink | Uplink, descriptors: Iterable[ObjectDescriptor | TagDescriptor]
) -> None:
    """Contracts were not announced to the node above, or channels not opened to one below."""
    for descriptor in descriptors:
        if not isinstance(link, Downlink):
            link.unsaid[descriptor] = None
            link.announced.pop(descriptor, None)
        elif isinstance(descriptor, ObjectDescriptor):
            _deaf(world, link, descriptor, deaf=True)


def room_has_grown(world: World, link: Downlink | Uplink) -> None:
    """Larger messages are taken now: try again what was too large."""
    for record in link.skipped:
        outlet = _outlet(link, record)
        if outlet is not None:
            outlet.sent = None
            link.outdated[outlet] = None
    link.skipped.clear()
    if isinstance(link, Downlink):
        for interest in [item for item in link.interests.values() if item.deaf]:
            _deaf(world, link, interest.record.descriptor, deaf=False)
    else:
        link.unannounced.update(link.unsaid)
        link.unsaid.clear()
    world.wake(link)


def _deaf(world: World, link: Downlink, descriptor: ObjectDescriptor, *, deaf: bool) -> None:
    record = world.objects.get(descriptor)
    interest = None if record is None else record.interests.get(link)
    if record is not None and interest is not None:
        interest.deaf = deaf
        record.rest.changed[interest] = None
        if interest.outlet is not None and not deaf:
            interest.outlet.closing = True  # the peer has never heard of it: it is opened anew
        world.backlog[record] = None


def _outlet(link: Downlink | Uplink, record: ObjectRecord) -> Outlet | None:
    if isinstance(link, Downlink):
        interest = link.interests.get(record)
        return None if interest is None else interest.outlet
    return next((outlet for outlet, above in record.feeding.items() if above is link), None)
