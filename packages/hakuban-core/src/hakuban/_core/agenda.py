"""What is left over from steps that were about much: done in pieces, so that no step stops anybody for long."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from . import note_exchange
from .publishing import publish_again
from .settle import rebalance, settle
from .world import SETTLED_AT_ONCE

if TYPE_CHECKING:
    from .world import World

_WALKED_AT_ONCE: Final = 256  # objects of a tag
_LOOKS_AT_ONCE: Final = 512  # at objects that may move to a lighter peer
_REPUBLISHING: Final = 100  # units of work


def settle_touched(world: World, now: float) -> None:
    """Settle what this step is about."""
    while world.touched:
        settle(world, next(iter(world.touched)), now)


def work_off(world: World, now: float) -> None:
    """Settle what this step is about, and do some of what is left over: as there is room, and at least a piece of each.

    Else one kind that never ends would keep the others waiting for ever.
    """
    if not any(world.queues):  # as a rule
        if not world.touched:
            return
        settle_touched(world, now)
    if world.reaping:
        world.reap()
    if world.walks:
        _walk(world)
    if world.backlog:
        _settle_some(world, now)
    if world.touched:
        settle_touched(world, now)
    if world.notifying:
        world.notify_some()
    if world.rebalancing:
        _look_at_some(world, now)
    if world.notes_due:
        note_exchange.wake_due(world)
    if world.republishing:
        _publish_some(world, now)


def look_at_loads(world: World, now: float) -> None:
    """If loads have changed, have objects looked at that may move because of that, or could not be assigned before."""
    if world.balancer.take_due(now):
        world.queue_more(world.balancer.starved, world.balancer.contested)


def _settle_some(world: World, now: float) -> None:
    for record in list(islice(world.backlog, SETTLED_AT_ONCE)):
        settle(world, record, now)
        if world.left <= 0:
            break


def _look_at_some(world: World, now: float) -> None:
    for record in list(islice(world.rebalancing, _LOOKS_AT_ONCE)):
        rebalance(world, record, now)
        if world.left <= 0:
            break


def _publish_some(world: World, now: float) -> None:
    while world.republishing:
        world.left -= _REPUBLISHING
        publish_again(world, world.republishing.popitem()[0], now)
        if world.left <= 0:
            break


def _walk(world: World) -> None:
    """Go on with the objects of tags: no farther ahead of their settling than needed."""
    while world.walks and world.left > 0 and len(world.backlog) < SETTLED_AT_ONCE:
        tag = next(iter(world.walks))
        peers = len(tag.concerned if tag.ahead else tag.next_round or ())
        world.left -= _WALKED_AT_ONCE // 4
        world.walk(max(1, _WALKED_AT_ONCE // (1 + peers // 8)))
