"""Trees of nodes as stories take place in: the leaves are who observes and exposes, the rest only listens."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import pytest

from .tellings import columns

if TYPE_CHECKING:
    import hakuban
    from hakuban import LocalNode

    from .scenes import Block, Scene

Shape: TypeAlias = Literal["one node", "pair", "router", "stacked", "star"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
ROUTED: tuple[Shape, ...] = ("router", "stacked", "star")


_THOROUGH = ("memory-asyncio", "ws-trio", "ws-threads")


def in_shapes(*shapes: Shape) -> pytest.MarkDecorator:
    """Tell a story in trees of these shapes: of each in three columns, and of the last one in the others."""
    cells = [
        (column, shape)
        for column in columns("memory", "ws", "zmq")
        for shape in (shapes if column in _THOROUGH else shapes[-1:])
    ]
    return pytest.mark.parametrize(("scene", "shape"), cells, indirect=["scene"])


in_every_shape = in_shapes(*SHAPES)
routed = in_shapes(*ROUTED)


@dataclass
class Tree:
    """Nodes that are linked.

    :ivar leaves: where a story takes place.
    :ivar routers: the nodes between them, the root first.
    :ivar links: the link of each leaf, if it has one upwards.
    """

    leaves: list[LocalNode]
    routers: list[LocalNode] = field(default_factory=list)
    links: list[Block[hakuban.Connection]] = field(default_factory=list)


async def grow(scene: Scene, shape: Shape, leaves: int = 2) -> Tree:
    """Make a tree of a shape.

    one node: all leaves are the same node. pair: the first leaf listens, the others connect to it. router: one router.
    stacked: two routers, all leaves below the inner one. star: a root with one router for each leaf.
    Nothing is rebalanced: the objects of an `echo` are load, too, and would have others moved.
    """
    if shape == "one node":
        return Tree([scene.node("leaf", rebalance=None)] * leaves)
    nodes = [scene.node(f"leaf {number}", rebalance=None) for number in range(leaves)]
    if shape == "pair":
        first, *others = nodes
        url = (await scene.listen(first)).value.url
        return Tree(nodes, [], [await scene.connect(node, url) for node in others])
    root = scene.node("root", rebalance=None)
    root_url = (await scene.listen(root)).value.url
    tree = Tree(nodes, [root])
    inner = {"router": 0, "stacked": 1, "star": leaves}[shape]
    urls = [await _router(scene, tree, root_url) for _ in range(inner)] or [root_url]
    for number, node in enumerate(nodes):
        tree.links.append(await scene.connect(node, urls[number % len(urls)]))
    return tree


async def _router(scene: Scene, tree: Tree, above: str) -> str:
    router = scene.node(f"router {len(tree.routers)}", rebalance=None)
    tree.routers.append(router)
    url = (await scene.listen(router)).value.url
    await scene.connect(router, above)
    return url


async def stack(scene: Scene, height: int) -> list[LocalNode]:
    """Make nodes that stand on each other, the top first: each listens but the last, and is connected to the one above."""
    nodes = [scene.node(f"level {number}") for number in range(height)]
    for above, below in pairwise(nodes):
        await scene.connect(below, (await scene.listen(above)).value.url)
    return nodes
