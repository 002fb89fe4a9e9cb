"""Nodes that are linked, for tests of programs."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from .._api.node import LocalNode
from .memory import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def linked_nodes(
    count: int = 2, *, router: LocalNode | None = None
) -> AsyncIterator[tuple[LocalNode, ...]]:
    """Yield nodes that are connected, in memory, to one router: what one exposes, the others can observe.

        async with linked_nodes() as (here, there): ...

    They are closed when the block is left.

    :param count: how many.
    :param router: the node in the middle; None for one that nobody else sees. It is closed, too.
    """
    transport = MemoryTransport()
    async with AsyncExitStack() as stack:
        middle = stack.enter_context(router or LocalNode("router"))
        listener = await stack.enter_async_context(middle.listen("memory://", transport=transport))
        nodes = []
        for number in range(count):
            node = stack.enter_context(LocalNode(f"node {number + 1}"))
            await stack.enter_async_context(node.connect(listener.url, transport=transport))
            nodes.append(node)
        yield tuple(nodes)
