"""One node on two event loops, and two nodes of one process on two: they never wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio.from_thread import start_blocking_portal

import hakuban.sync
from hakuban import LocalNode
from support.scenes import ANYWHERE, TIMEOUT, fresh, stale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STATES = 300


@pytest.fixture(params=[scheme for scheme in ANYWHERE if scheme != "memory"])
def address(request: pytest.FixtureRequest) -> str:
    """Give a URL to listen at."""
    return ANYWHERE[request.param]


@pytest.fixture(params=["asyncio", "trio"])
def other_backend(request: pytest.FixtureRequest) -> str:
    """Give the backend of the other loop."""
    return str(request.param)


@pytest.fixture(autouse=True)
async def _in_time() -> AsyncIterator[None]:
    with anyio.fail_after(TIMEOUT):
        yield


async def until(states: hakuban.ObjectObserve[Any], wanted: Any) -> None:
    async for state in states:
        if wanted(state):
            return


@pytest.mark.promise("everywhere")
async def test_a_node_listens_on_a_loop_and_is_connected_from_a_portal_thread(address: str) -> None:
    with LocalNode("root") as root, LocalNode("middle") as middle, LocalNode("leaf") as leaf:
        async with root.listen(address) as above, middle.listen(address) as below:

            def enter() -> Any:
                link = hakuban.sync.connect(middle, above.url)
                link.__enter__()
                return link

            link = await anyio.to_thread.run_sync(enter)
            async with leaf.connect(below.url):
                with (
                    root.object("down").expose() as from_root,
                    leaf.object("down").observe() as at_leaf,
                    leaf.object("up").expose() as from_leaf,
                    root.object("up").observe() as at_root,
                ):
                    for number in range(STATES):
                        from_root.set_object_data(number)
                        from_leaf.set_object_data(number)
                    await until(at_leaf, fresh(STATES - 1))
                    await until(at_root, fresh(STATES - 1))
                    await anyio.to_thread.run_sync(link.__exit__, None, None, None)
                    await until(at_leaf, stale(STATES - 1))
                    await until(at_root, stale(STATES - 1))


@pytest.mark.promise("everywhere")
async def test_two_nodes_on_two_loops_of_one_process(address: str, other_backend: str) -> None:
    """Both publish as fast as they can: each wakes the other's loop all the time."""
    with LocalNode("here") as here, LocalNode("there") as there:
        async with here.listen(address) as listener:

            async def other() -> None:
                with anyio.fail_after(TIMEOUT):
                    async with there.connect(listener.url):
                        await meet(there, "there", "here")

            def run_other() -> None:
                with start_blocking_portal(other_backend) as portal:
                    portal.call(other)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, run_other)
                await meet(here, "here", "there")


async def meet(node: LocalNode, mine: str, theirs: str) -> None:
    """Publish, and see what the other has published, to the end. Leaving the link sends what was not sent yet."""
    with node.object(mine).expose() as exposed, node.object(theirs).observe() as seen:
        for number in range(STATES):
            exposed.set_object_data(number)
            await anyio.lowlevel.checkpoint()
        await until(seen, lambda state: state.data == STATES - 1)
