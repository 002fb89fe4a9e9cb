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
    actors: Callable[[str], Sequence[Actor]],
    *,
    stretches: int,
    settling: Sequence[LocalNode] = (),
) -> None:
    """Tell all histories, one after the other.

    :param actors: makes the actors of one history; what it is about should have the name it is given.
    :param settling: nodes that have to hear of each act before the next actor acts; by default all act at once.
    """
    orders = list(permutations(range(len(actors("")))))
    for number, history in enumerate(product(orders, repeat=stretches)):
        await _play(scene, actors(f"history {number}"), history, settling)


async def _play(
    scene: Scene,
    actors: Sequence[Actor],
    history: Sequence[Sequence[int]],
    settling: Sequence[LocalNode],
) -> None:
    for order in history:
        expectations = []
        for index in order:
            expectations.append(next(actors[index]))
            await scene.echo(*settling)
        await scene.together(*filter(None, expectations))
    for actor in actors:
        assert next(actor, "the end") == "the end", (
            f"{actor} has more than {len(history)} stretches"
        )
