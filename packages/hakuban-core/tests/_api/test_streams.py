"""A stream of a tag, its end and what stays readable; what a sink and its handler leave behind."""

from __future__ import annotations

from typing import Any, Self

import anyio

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from support.waiting import until

WEATHER = ObjectDescriptor(["weather"], 1)


class Scene:
    """An object that is exposed and observed by its tag."""

    def __init__(self) -> None:
        self.node = LocalNode()
        self.exposer = self.node.object(WEATHER).expose()
        self.watcher = self.node.tag("weather").observe()
        self.exposer.set_object_data(1)
        self.stream: hakuban.ObjectStateStream[Any] = next(iter(self.watcher))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.watcher.close()
        self.exposer.close()


def test_a_stream_that_was_closed_keeps_its_last_state_which_nobody_vouches_for() -> None:
    with Scene() as scene:
        before = scene.stream.object_state()
        assert before is not None
        assert before.synchronized
        scene.stream.close()
        scene.exposer.set_object_data(2)
        after = scene.stream.object_state()
        assert after is not None
        assert (after.data, after.synchronized) == (1, False)
        following = next(iter(scene.watcher))
        assert following is not scene.stream
        assert following.object_data() == 2
        following.close()


def test_closing_a_stream_twice_changes_nothing_more() -> None:
    with Scene() as scene:
        scene.stream.close()
        first = scene.stream.object_state()
        scene.stream.close()
        again = scene.stream.object_state()
        assert first is not None
        assert again is not None
        assert (again.data, again.synchronized) == (1, False)
        assert again.age is not None
        assert first.age is not None
        assert again.age >= first.age


def test_a_stream_says_whether_it_is_closed() -> None:
    with Scene() as scene:
        assert repr(scene.stream) == f"<ObjectStateStream {WEATHER}>"
        scene.stream.close()
        assert repr(scene.stream) == f"<ObjectStateStream {WEATHER} closed>"


def test_a_loop_over_a_closed_stream_gives_nothing() -> None:
    with Scene() as scene:
        scene.stream.close()
        assert list(scene.stream) == []


def test_a_loop_over_a_stream_of_a_closed_contract_ends() -> None:
    with Scene() as scene:
        states = iter(scene.stream)
        assert next(states).data == 1
        scene.watcher.close()
        assert next(states, "the end") == "the end"


async def test_a_loop_that_waits_ends_when_its_stream_is_closed() -> None:
    node = LocalNode()
    seen = []

    async def loop(stream: hakuban.ObjectStateStream[Any]) -> None:
        async for state in stream:
            seen.append(state.data)  # noqa: PERF401  # the loop is what is tried

    with node.object(WEATHER).expose() as exposer, node.tag("weather").observe() as watcher:
        exposer.set_object_data(1)
        with anyio.fail_after(5):
            stream = await anext(aiter(watcher))
            async with anyio.create_task_group() as group:
                group.start_soon(loop, stream)
                await until(lambda: bool(seen))
                await anyio.wait_all_tasks_blocked()
                stream.close()
    assert seen == [1]


def test_a_sink_says_whether_it_is_assigned() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as exposer, node.object(WEATHER).observe() as watcher:
        sink = next(iter(exposer))
        assert repr(sink) == f"<ObjectStateSink {WEATHER}>"
        watcher.close()
        assert repr(sink) == f"<ObjectStateSink {WEATHER} unassigned>"


async def test_a_handler_that_has_returned_is_nobody_to_wake() -> None:
    node = LocalNode()
    ran = []

    async def produce(sink: hakuban.ObjectStateSink[int]) -> None:
        sink.set(1)
        ran.append(len(node._engine._parking.places))

    with node.object(WEATHER).expose() as exposer, node.object(WEATHER).observe() as watcher:
        async with anyio.create_task_group() as group:
            group.start_soon(exposer.serve, produce)
            await until(lambda: watcher.object_data() == 1)
            await until(lambda: len(node._engine._parking.places) < ran[0])
            group.cancel_scope.cancel()
        assert not node._engine._parking.places
