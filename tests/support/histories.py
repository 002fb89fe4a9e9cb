"""Stories of several actors, told in every order in which they may act.

An actor is a generator. It acts between two yields, which never waits: opening, setting and closing never do. A yield is
a barrier that all actors reach before any of them goes on; what they yield there is awaited together. For n actors and k
stretches between barriers there are (n!) ** k histories.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from itertools import permutations, product
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from hakuban import LocalNode

    from .scenes import Scene

Actor: TypeAlias = Generator[Coroutine[Any, Any, Any] | None, None, None]


async def every_history(
    scene: Scene,
    nodes: Sequence[LocalNode],
    actors: Callable[[str], Sequence[Actor]],
    *,
    stretches: int,
) -> None:
    """Tell all histories twice: all act at once, and each acts when what the one before did has reached everybody.

    :param nodes: where the actors act.
    :param actors: makes the actors of one history; what it is about should have the name it is given.
    """
    number = len(actors(""))
    for index, orders in enumerate(product(permutations(range(number)), repeat=stretches)):
        await _play(scene, actors(f"at once {index}"), orders, [])
        await _play(scene, actors(f"one by one {index}"), orders, nodes)


async def _play(
    scene: Scene,
    actors: Sequence[Actor],
    orders: Sequence[Sequence[int]],
    nodes: Sequence[LocalNode],
) -> None:
    for order in orders:
        expectations = []
        for index in order:
            expectations.append(next(actors[index]))
            await scene.echo(*nodes)
        await scene.together(*filter(None, expectations))
    for actor in actors:
        assert next(actor, "the end") == "the end", f"{actor} has more than {len(orders)} stretches"
