"""Waiting for states, streams and sinks: in tasks of every backend, and in threads without an event loop."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

WEATHER = ObjectDescriptor(["weather"], 1)


async def ticks(number: int = 20) -> None:
    """Give every other task a chance to do what it can do without anything from outside."""
    for _ in range(number):
        await checkpoint()


class Waiting:
    """Runs a blocking function in a thread; knows when it has blocked."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(function)

    def result(self) -> Any:
        try:
            return self._future.result(timeout=10)
        finally:
            self._pool.shutdown()

    def settle(self, node: LocalNode) -> Waiting:
        wait_for(lambda: node._engine._parking.places or self._future.done())
        return self


# ---- tasks ----------------------------------------------------------------------------------------------------------


async def test_a_loop_gives_the_newest_state_and_skips_what_nobody_saw() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        states = aiter(watcher)
        contract.set_object_data(1)
        with anyio.fail_after(5):
            assert (await anext(states)).data == 1
            for number in range(2, 1000):
                contract.set_object_data(number)
            assert (await anext(states)).data == 999
            with anyio.move_on_after(0.01) as scope:
                await anext(states)
            assert scope.cancelled_caught


async def test_a_change_of_freshness_is_given_like_a_new_state() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        contract.set_object_data(1)
        states = aiter(watcher)
        with anyio.fail_after(5):
            assert (await anext(states)).synchronized
            contract.set_synchronized(2.5)
            stale = await anext(states)
        assert not stale.synchronized
        assert 2.5 <= stale.age < 10
        assert stale.data == 1


async def test_two_loops_both_see_everything() -> None:
    node = LocalNode()
    seen: dict[str, list[int]] = {"a": [], "b": []}

    async def watch(name: str, contract: hakuban.ObjectObserve[int]) -> None:
        async for state in contract:
            seen[name].append(state.data)

    with (
        node.object(WEATHER).expose() as contract,
        node.object(WEATHER).observe(type=int) as watcher,
        anyio.fail_after(5),
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(watch, "a", watcher)
            group.start_soon(watch, "b", watcher)
            for number in range(5):
                contract.set_object_data(number)
                await ticks()
            watcher.close()
    assert seen == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4]}


async def test_a_loop_can_be_left_and_begun_again_at_the_current_state() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        contract.set_object_data("x")
        for _ in range(2):
            with anyio.fail_after(5):
                async for state in watcher:
                    assert (state.data, state.synchronized) == ("x", True)
                    break


async def test_closing_the_contract_ends_a_loop_that_waits() -> None:
    node = LocalNode()
    ended = []

    async def watch(iterable: Any) -> None:
        async for _ in iterable:
            pass
        ended.append(iterable)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            contracts: list[Any] = [
                node.object(WEATHER).observe(),
                node.tag("weather").observe(),
                node.object(WEATHER).expose(),
                node.tag("weather").expose(),
            ]
            stream = await anext(aiter(contracts[1]))
            for iterable in [*contracts, stream]:
                group.start_soon(watch, iterable)
            await ticks()
            assert not ended
            for contract in contracts:
                contract.close()
    assert len(ended) == 5


async def test_closing_a_contract_ends_a_wait_for_an_assignment_that_does_not_come() -> None:
    node = LocalNode()
    outcomes = []

    async def wait(exposer: hakuban.ObjectExpose[Any]) -> None:
        with pytest.raises(hakuban.ClosedError):
            await exposer.wait_assigned()
        outcomes.append("closed")

    async def loop(exposer: hakuban.ObjectExpose[Any]) -> None:
        async for _ in exposer:
            outcomes.append("assigned")  # noqa: PERF401  # the loop is what is tried
        outcomes.append("ended")

    with anyio.fail_after(5), node.object(WEATHER).expose() as exposer:
        async with anyio.create_task_group() as group:
            group.start_soon(wait, exposer)
            group.start_soon(loop, exposer)
            await ticks()
            assert not outcomes
            exposer.close()
    assert sorted(outcomes) == ["closed", "ended"]


async def test_closing_the_node_ends_loops_and_waits() -> None:
    node = LocalNode()
    outcomes = []

    async def wait(method: Callable[[], Any]) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await method()
        outcomes.append(method)

    watcher, contract = node.object(WEATHER).observe(), node.object("other").expose()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait, watcher.wait_state)
            group.start_soon(wait, contract.wait_assigned)
            await ticks()
            node.close()
    assert len(outcomes) == 2


async def test_the_first_state_can_be_waited_for() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        states = []

        async def wait() -> None:
            states.append(await watcher.wait_state())

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await ticks()
                assert not states
                contract.set_object_data(1)
            assert (await watcher.wait_state()).data == 1
    assert [state.data for state in states] == [1]


async def test_assignment_and_its_end_can_be_waited_for() -> None:
    node = LocalNode()
    order: list[str] = []

    async def expose() -> None:
        with node.object(WEATHER).expose() as contract:
            await contract.wait_assigned()
            order.append("assigned")
            async for sink in contract:
                await sink.wait_unassigned()
                order.append("unassigned")
                return

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(expose)
            await ticks()
            with node.object(WEATHER).observe():
                await ticks()
                assert order == ["assigned"]
    assert order == ["assigned", "unassigned"]


@pytest.mark.promise("cancellation")
async def test_a_cancelled_wait_loses_nothing_and_leaves_nothing() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers, node.object(WEATHER).expose() as contract:
        streams = aiter(watchers)
        stream = await anext(streams)
        states = aiter(stream)
        for number in range(50):
            with anyio.move_on_after(0) as scope:
                await anext(streams)
            assert scope.cancelled_caught
            with anyio.CancelScope() as scope:
                scope.cancel()
                contract.set_object_data(number)
                await anext(states)
            assert scope.cancelled_caught
            with anyio.fail_after(5):
                assert (await anext(states)).data == number
        assert node._engine._parking.places == {}
        with node.object(["weather"], 2).expose(), anyio.move_on_after(0) as scope:
            await anext(streams)
        assert scope.cancelled_caught
        with node.object(["weather"], 3).expose(), anyio.fail_after(5):
            assert (await anext(streams)).descriptor.json == 3


async def test_a_wait_that_need_not_wait_lets_other_tasks_run() -> None:
    node = LocalNode()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        states = aiter(watcher)
        async with anyio.create_task_group() as group:
            group.start_soon(count)
            for number in range(100):
                contract.set_object_data(number)
                await anext(states)
            group.cancel_scope.cancel()
    assert turns >= 50


async def test_blocking_waits_refuse_to_block_an_event_loop() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        with pytest.raises(RuntimeError, match="`async for`"):
            next(iter(watcher))
        with pytest.raises(RuntimeError, match=r"`await wait_state\(\)`"):
            watcher.wait_state_sync(timeout=1)
        with pytest.raises(RuntimeError, match=r"`await wait_assigned\(\)`"):
            contract.wait_assigned_sync()
        async for sink in contract:
            with pytest.raises(RuntimeError, match=r"`await wait_unassigned\(\)`"):
                sink.wait_unassigned_sync()
            break


async def test_a_worker_thread_of_an_asynchronous_program_may_block() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        contract.set_object_data(1)
        state = await anyio.to_thread.run_sync(watcher.wait_state_sync, 5.0)
        assert state.data == 1


# ---- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.promise("everywhere")
def test_a_thread_loops_over_states() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        seen = []

        def watch() -> None:
            for state in watcher:
                seen.append(state.data)
                if state.data == "end":
                    return

        waiting = Waiting(watch).settle(node)
        contract.set_object_data(1)
        contract.set_object_data("end")
        waiting.result()
        assert seen[-1] == "end"
        assert seen in (["end"], [1, "end"])


def test_closing_ends_a_thread_that_waits() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.tag("weather").observe() as watchers:
        states = Waiting(lambda: [state.version for state in watcher]).settle(node)
        streams = Waiting(lambda: len([stream.descriptor for stream in watchers])).settle(node)
    assert states.result() == []
    assert streams.result() == 1


def test_a_blocking_wait_can_be_given_a_time_limit() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object("other").expose() as contract:
        for wait in (watcher.wait_state_sync, contract.wait_assigned_sync):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                wait(timeout=0.05)
            assert 0.05 <= time.monotonic() - began < 5
        assert node._engine._parking.places == {}
    with pytest.raises(anyio.ClosedResourceError):
        watcher.wait_state_sync(timeout=5)
    with pytest.raises(anyio.ClosedResourceError):
        contract.wait_assigned_sync()


def test_threads_wait_for_assignments_and_their_end() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract:
        assigned = Waiting(contract.wait_assigned_sync).settle(node)
        with node.object(WEATHER).observe():
            assigned.result()
            sink = next(iter(contract))
            ended = Waiting(sink.wait_unassigned_sync).settle(node)
        ended.result()


def test_threads_and_tasks_wait_on_the_same_contract() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:

        async def in_a_task() -> Any:
            with anyio.fail_after(10):
                return (await watcher.wait_state()).data

        loops = [
            Waiting(lambda backend=backend: anyio.run(in_a_task, backend=backend))  # type: ignore[misc]  # a default binds it
            for backend in ("asyncio", "trio")
        ]
        thread = Waiting(lambda: watcher.wait_state_sync(10).data)
        deadline = time.monotonic() + 10
        while len(node._engine._parking.places.get(watcher._entry, [])) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        contract.set_object_data("hello")
        assert [waiting.result() for waiting in [*loops, thread]] == ["hello"] * 3


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher:
        Waiting(lambda: [state.version for state in watcher]).settle(node)
        watcher.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() <= before


async def test_what_went_stale_and_came_back_unseen_is_not_given_again() -> None:
    with LocalNode() as node, node.object("x").observe() as observed:
        given = []

        async def watch() -> None:
            async for state in observed:
                given.append((state.data, state.synchronized))  # noqa: PERF401  # looked at while it grows

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            for _ in range(2):  # the loop has its turn only when the next one exposes already
                exposed = node.object("x").expose()
                exposed.set_object_state((1,), "same")
                await anyio.wait_all_tasks_blocked()
                exposed.close()
            with node.object("x").expose() as exposed:
                exposed.set_object_state((1,), "same")
                await anyio.wait_all_tasks_blocked()
                assert given == [("same", True)]
            tasks.cancel_scope.cancel()
