"""Whatever waits may be cancelled wherever it waits: nothing is lost by that, and nothing is left."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest
from anyio.lowlevel import checkpoint

from hakuban import LocalNode, ObjectDescriptor
from hakuban.events import EventMerge
from support.cancelling import (
    Function,
    cancel_after_each_turn,
    cancel_at,
    cancel_at_each_suspension,
    live_objects,
    tasks_are,
)
from support.scenes import ANYWHERE
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import hakuban
    from hakuban import ObjectObserve, ObjectState
    from hakuban.events import EventBuffer, EventSource

pytestmark = pytest.mark.promise("cancellation")
everywhere = pytest.mark.parametrize(
    "cancel_everywhere", [cancel_at_each_suspension, cancel_after_each_turn]
)
over_each_transport = pytest.mark.parametrize("url", ANYWHERE.values())

X = ObjectDescriptor(["t"], "x")


def knows_nothing(node: LocalNode) -> bool:
    picture = node.snapshot()
    known = (picture.objects, picture.tags, picture.upstream, picture.downstream_connections)
    return not any(known) and node.peers == ()


async def test_a_cancelled_loop_loses_no_state_and_gives_none_twice() -> None:
    node, taken = LocalNode(), list[int]()
    with node.object(X).observe() as seen, node.object(X).expose() as exposed:
        states = aiter(seen)

        async def read() -> None:
            while len(taken) < 10:
                exposed.set_object_data(len(taken))
                taken.append((await anext(states)).data)

        await cancel_at_each_suspension(read, checkpoint)
        assert taken == list(range(10))


async def test_a_state_that_came_while_a_cancelled_loop_slept_is_given_afterwards() -> None:
    node = LocalNode()
    with node.object(X).observe() as seen, node.object(X).expose() as exposed:
        states = aiter(seen)
        for number in range(20):
            assert await cancel_at(1, states.__anext__) >= 1
            exposed.set_object_data(number)
            assert await cancel_at(1, states.__anext__) >= 1
            with anyio.fail_after(10):
                assert (await anext(states)).data == number


def later_than_the_last(seen: ObjectObserve[int]) -> Callable[[], Awaitable[int]]:
    last = -1

    async def read() -> int:
        nonlocal last
        last = (await seen.wait(lambda state: state.data > last)).data
        return last

    return read


def data_of(states: AsyncIterator[ObjectState[int]]) -> Callable[[], Awaitable[int]]:
    async def read() -> int:
        return (await anext(states)).data

    return read


def data_after(seen: ObjectObserve[int], source: EventSource[Any]) -> Callable[[], Awaitable[int]]:
    buffer = source.buffer()
    buffer.clear()

    async def read() -> int:
        await buffer.get()
        state = seen.object_state()
        assert state is not None
        return state.data

    return read


READERS: dict[str, Callable[[ObjectObserve[int]], Callable[[], Awaitable[int]]]] = {
    "a condition": later_than_the_last,
    "a loop with ages": lambda seen: data_of(aiter(seen.every(60))),
    "events": lambda seen: data_after(seen, seen.changes()),
    "events of a merge": lambda seen: data_after(seen, EventMerge(seen.changes()).map(str)),
}


@pytest.mark.parametrize("how", READERS)
async def test_a_cancelled_reader_sees_the_newest_state_afterwards(how: str) -> None:
    node, taken = LocalNode(), list[int]()
    with node.object(X).observe(int) as seen, node.object(X).expose() as exposed:
        read_one = READERS[how](seen)

        async def read() -> None:
            while len(taken) < 10:
                exposed.set_object_data(len(taken))
                taken.append(await read_one())

        await cancel_at_each_suspension(read, checkpoint)
        assert taken == list(range(10))


def fits(state: hakuban.ObjectState[Any]) -> bool:
    return bool(state.data)


def past_the_first(source: EventSource[ObjectDescriptor]) -> EventBuffer[ObjectDescriptor]:
    """Return events without that of the object that is there already."""
    buffer = source.buffer()
    buffer.clear()
    return buffer


def until_unassigned(node: LocalNode) -> Function:
    seen, exposed = node.object(X).observe(), node.object(X).expose()
    sinks = aiter(exposed)
    sink: hakuban.ObjectStateSink[Any] | None = None

    async def wait() -> None:
        nonlocal sink
        sink = await anext(sinks) if sink is None else sink
        await sink.wait_unassigned()
        raise AssertionError(seen)  # which is kept by this

    return wait


def next_of_a_stream(node: LocalNode) -> Function:
    seen, exposed = node.tag("t").observe(), node.object(X).expose()
    streams = aiter(seen)
    stream: AsyncIterator[object] | None = None

    async def wait() -> None:
        nonlocal stream
        stream = stream or aiter(await anext(streams))
        await anext(stream)
        raise AssertionError(exposed)

    return wait


async def never(sink: hakuban.ObjectStateSink[Any]) -> None:
    raise AssertionError


WAITS: dict[str, Callable[[LocalNode], Function]] = {
    "a state": lambda node: node.object(X).observe().wait_state,
    "the next state": lambda node: aiter(node.object(X).observe()).__anext__,
    "an object of a tag": lambda node: aiter(node.tag("t").observe()).__anext__,
    "a state that fits": lambda node: partial(node.object(X).observe().wait, fits),
    "the next state, or the age of the last": lambda node: (
        aiter(node.object(X).observe().every(9)).__anext__
    ),
    "an event": lambda node: past_the_first(node.object(X).observe().changes()).get,
    "the next event": lambda node: past_the_first(node.object(X).expose().changes()).__anext__,
    "an event of a view": lambda node: node.tag("t").observe().view().changes().buffer().get,
    "an event of a node": lambda node: node.changes().buffer().get,
    "a node that is linked": lambda node: aiter(node.peer_changes()).__anext__,
    "an event of a merge": lambda node: (
        EventMerge(node.changes(), node.tag("t").observe().changes()).buffer().get
    ),
    "an assignment": lambda node: node.object(X).expose().wait_assigned,
    "the end of an assignment": until_unassigned,
    "the next state of an object": next_of_a_stream,
    "the next sink": lambda node: aiter(node.object(X).expose()).__anext__,
    "the next sink of a tag": lambda node: aiter(node.tag("t").expose()).__anext__,
    "serving": lambda node: partial(node.tag("t").expose().serve, never),
}


@pytest.mark.parametrize("what", WAITS)
async def test_a_thousand_cancelled_waits_leave_nothing_behind(what: str) -> None:
    tasks = len(anyio.get_running_tasks())
    with LocalNode() as node:
        wait = WAITS[what](node)
        await cancel_at(1, wait)
        before = live_objects()
        for _ in range(1000):
            assert await cancel_at(1, wait) >= 1
        assert live_objects() - before < 100
    await tasks_are(tasks)
    assert knows_nothing(node)


@everywhere
@over_each_transport
async def test_connecting_being_connected_and_leaving_can_be_cancelled(
    url: str, cancel_everywhere: Callable[[Function, Function], Any]
) -> None:
    above, below = LocalNode("above"), LocalNode("below")
    with above.object(X).expose() as exposed:
        exposed.set_object_data("data")
        async with above.listen(url) as listener:
            tasks, files = len(anyio.get_running_tasks()), open_files()

            async def visit() -> None:
                async with below.connect(listener.url):
                    with below.object(X).observe() as seen:
                        assert (await seen.wait_state()).data == "data"

            async def nothing_is_left() -> None:
                assert knows_nothing(below)
                await tasks_are(tasks)
                assert listener.peers == above.peers == ()
                assert not exposed.assigned
                await files_are(files)

            assert await cancel_everywhere(visit, nothing_is_left) > 1
    assert knows_nothing(above)


@over_each_transport
async def test_waiting_for_a_first_link_can_be_cancelled(url: str) -> None:
    node = LocalNode()
    async with node.listen(url) as listener:
        nobody_listens_at = listener.url
    tasks, files = len(anyio.get_running_tasks()), open_files()

    async def connect() -> None:
        async with node.connect(nobody_listens_at):
            raise AssertionError

    for number in range(1, 5):
        await cancel_at(number, connect)
        await tasks_are(tasks)
        assert knows_nothing(node)
        await files_are(files)


@everywhere
@over_each_transport
async def test_listening_and_its_links_can_be_cancelled(
    url: str, cancel_everywhere: Callable[[Function, Function], Any]
) -> None:
    above, below = LocalNode("above"), LocalNode("below")
    async with above.listen(url) as listener:
        url = listener.url
    tasks, files = len(anyio.get_running_tasks()), open_files()

    async def host() -> None:
        async with above.listen(url), below.connect(url) as connection:
            await connection.wait_up()

    async def nothing_is_left() -> None:
        await tasks_are(tasks)
        assert knows_nothing(above)
        assert knows_nothing(below)
        await files_are(files)

    assert await cancel_everywhere(host, nothing_is_left) > 1


@everywhere
async def test_serving_can_be_cancelled(
    cancel_everywhere: Callable[[Function, Function], Any],
) -> None:
    node, running = LocalNode(), 0
    tasks = len(anyio.get_running_tasks())

    async def produce(sink: hakuban.ObjectStateSink[str]) -> None:
        nonlocal running
        running += 1
        try:
            sink.set("data")
            await anyio.sleep_forever()
        finally:
            running -= 1

    async def visit() -> None:
        with node.tag("t").expose() as contract, node.object(X).observe() as seen:
            async with anyio.create_task_group() as group:
                group.start_soon(contract.serve, produce)
                assert (await seen.wait_state()).data == "data"
                seen.close()
                contract.close()

    async def nothing_is_left() -> None:
        await tasks_are(tasks)
        assert running == 0
        assert knows_nothing(node)

    assert await cancel_everywhere(visit, nothing_is_left) > 1


async def test_a_contract_can_be_served_again_after_serving_was_cancelled() -> None:
    node = LocalNode()
    with node.tag("t").expose() as contract, node.object(X).observe() as seen:
        for number in range(5):

            async def produce(sink: hakuban.ObjectStateSink[int], number: int = number) -> None:
                sink.set(number)
                await anyio.sleep_forever()

            async with anyio.create_task_group() as group:
                group.start_soon(contract.serve, produce)
                with anyio.fail_after(10):
                    async for state in seen:
                        if state.data == number:
                            break
                group.cancel_scope.cancel()


async def files_are(files: int) -> None:
    """Wait until so many files are open: ZeroMQ closes its own in a thread of its own."""
    await until(lambda: open_files() == files)


def open_files() -> int:
    return psutil.Process().num_fds() if psutil.POSIX else 0
