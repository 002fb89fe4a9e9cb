"""Handlers that run while a contract is assigned."""

from __future__ import annotations

import logging
from itertools import pairwise
from time import monotonic
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from hakuban._api import serve as _serve
from support.waiting import until

WEATHER = ObjectDescriptor(["weather"], 1)


class Log(list[Any]):
    """A list that can be waited on."""

    async def holds(self, *expected: object) -> None:
        await until(lambda: list(self) == list(expected))


async def test_a_handler_runs_while_somebody_needs_its_object() -> None:
    node, log = LocalNode(), Log()

    async def produce(sink: hakuban.ObjectStateSink[str]) -> None:
        log.append(f"start {sink.descriptor.json}")
        sink.set("value")
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"end {sink.descriptor.json}")

    with node.tag("weather").expose() as contract:
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, produce)
            with node.object(["weather"], "a").observe() as first:
                assert (await first.wait_state()).data == "value"
                with node.object(["weather"], "b").observe() as second:
                    assert (await second.wait_state()).data == "value"
                await log.holds("start a", "start b", "end b")
            await log.holds("start a", "start b", "end b", "end a")
            contract.close()


async def test_a_handler_that_returns_leaves_its_state_current() -> None:
    node, log = LocalNode(), Log()

    async def produce(sink: hakuban.ObjectStateSink[int]) -> None:
        sink.set(len(log))
        log.append("run")

    with node.object(WEATHER).expose() as contract:
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, produce)
            with node.object(WEATHER).observe() as watcher:
                await watcher.wait_state()
                for _ in range(20):
                    await checkpoint()
                assert (watcher.object_data(), watcher.synchronized) == (0, True)
                assert contract.assigned
                assert log == ["run"]
            with node.object(WEATHER).observe() as watcher:
                await log.holds("run", "run")  # a new assignment is a new run
                assert watcher.object_data() == 1
            contract.close()


async def test_a_handler_that_raises_is_logged_and_run_again_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_serve, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(_serve, "LAST_DELAY", 0.1)
    node = LocalNode()
    runs: list[float] = []

    async def produce(sink: hakuban.ObjectStateSink[int]) -> None:
        runs.append(monotonic())
        sink.set(len(runs))
        if len(runs) < 4:
            raise ZeroDivisionError
        await anyio.sleep_forever()

    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe() as watcher:
        async with anyio.create_task_group() as group:
            with caplog.at_level(logging.ERROR, "hakuban"):
                group.start_soon(contract.serve, produce)
                with anyio.fail_after(10):
                    states = [
                        (state.data, state.synchronized)
                        async for state in _until(watcher, lambda state: state.data == 4)
                    ]
            contract.close()
    assert (1, False) in states
    assert states[-1] == (4, True)
    pauses = [after - before for before, after in pairwise(runs)]
    for pause, least in zip(pauses, (0.05, 0.1, 0.1), strict=True):
        assert least <= pause < least + 2
    assert len(caplog.records) == 3
    assert '["weather"]:1' in caplog.text
    assert "ZeroDivisionError" in caplog.text


class _until:  # noqa: N801  # reads as a word of a loop
    """Give states up to the first that satisfies a condition."""

    def __init__(self, watcher: hakuban.ObjectObserve[Any], condition: Any) -> None:
        self._states = aiter(watcher)
        self._condition = condition
        self._over = False

    def __aiter__(self) -> _until:
        return self

    async def __anext__(self) -> hakuban.ObjectState[Any]:
        if self._over:
            raise StopAsyncIteration
        state = await anext(self._states)
        self._over = self._condition(state)
        return state


async def test_one_failing_handler_does_not_disturb_the_others() -> None:
    node = LocalNode()

    async def produce(sink: hakuban.ObjectStateSink[str]) -> None:
        if sink.descriptor.json == "bad":
            raise ZeroDivisionError
        sink.set("good")
        await anyio.sleep_forever()

    with (
        node.tag("weather").expose() as contract,
        node.object(["weather"], "bad").observe() as bad,
        node.object(["weather"], "good").observe() as good,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, produce)
            with anyio.fail_after(5):
                assert (await good.wait_state()).data == "good"
            assert bad.object_state() is None
            contract.close()


async def test_a_failure_can_be_had_raised() -> None:
    node = LocalNode()

    async def produce(_sink: hakuban.ObjectStateSink[str]) -> None:
        raise ZeroDivisionError

    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        with pytest.RaisesGroup(ZeroDivisionError), anyio.fail_after(5):
            await contract.serve(produce, on_error="raise")
        with pytest.raises(ValueError, match="on_error"):
            await contract.serve(produce, on_error="ignore")  # type: ignore[arg-type]  # that is the point


async def test_publishing_after_the_end_of_the_assignment_is_the_normal_way_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node, log = LocalNode(), Log()

    async def stubborn(sink: hakuban.ObjectStateSink[int]) -> None:
        with anyio.CancelScope(shield=True):
            try:
                while True:
                    sink.set(1)
                    await checkpoint()
            except hakuban.NotAssignedError:
                log.append("plain")
                raise

    async def grouped(sink: hakuban.ObjectStateSink[int]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stubborn, sink)
            await checkpoint()

    for handler in (stubborn, grouped):
        with node.object(WEATHER).expose() as contract:
            async with anyio.create_task_group() as group:
                group.start_soon(contract.serve, handler)
                with node.object(WEATHER).observe() as watcher:
                    await watcher.wait_state()
                await until(lambda: log)
                log.clear()
                contract.close()
    assert not caplog.records


async def test_the_same_error_about_a_living_assignment_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = LocalNode()

    async def confused(_sink: hakuban.ObjectStateSink[int]) -> None:
        raise hakuban.NotAssignedError("another object")

    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, confused)
            await until(lambda: caplog.records)
            contract.close()
    assert "another object" in caplog.text


async def test_there_are_never_two_runs_for_one_object() -> None:
    node, log = LocalNode(), Log()
    release = anyio.Event()

    async def produce(sink: hakuban.ObjectStateSink[int]) -> None:
        log.append("start")
        sink.set(1)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await release.wait()
            log.append("end")

    with node.object(WEATHER).expose() as contract:
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, produce)
            for _ in range(3):
                with node.object(WEATHER).observe() as watcher:
                    await anyio.wait_all_tasks_blocked()  # so each assignment is taken
                    await log.holds("start")  # the first run is still cleaning up in later rounds
                    assert watcher.object_state() is None or len(log) == 1
            with node.object(WEATHER).observe():
                release.set()
                await log.holds("start", "end", "start")  # the assignments in between are over
            await log.holds("start", "end", "start", "end")
            contract.close()


async def test_serving_cannot_be_shared() -> None:
    node = LocalNode()

    async def produce(_sink: hakuban.ObjectStateSink[int]) -> None:
        await anyio.sleep_forever()

    with node.object(WEATHER).expose() as contract:
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, produce)
            for _ in range(5):
                await checkpoint()
            with pytest.raises(anyio.BusyResourceError):
                await contract.serve(produce)
            with pytest.raises(anyio.BusyResourceError):
                async for _ in contract:
                    pass
            with pytest.raises(anyio.BusyResourceError):  # and a thread's loop
                await anyio.to_thread.run_sync(lambda: next(iter(contract)))
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:

            async def loop() -> None:
                async for _ in contract:
                    pass

            group.start_soon(loop)
            for _ in range(5):
                await checkpoint()
            with pytest.raises(anyio.BusyResourceError):
                await contract.serve(produce)
            group.cancel_scope.cancel()
        with anyio.move_on_after(0.01) as scope:
            await contract.serve(produce)
        assert scope.cancelled_caught


@pytest.mark.promise("cancellation")
async def test_serving_ends_with_the_contract_and_when_it_is_cancelled() -> None:
    node, log = LocalNode(), Log()

    async def produce(sink: hakuban.ObjectStateSink[int]) -> None:
        try:
            sink.set(1)
            await anyio.sleep_forever()
        finally:
            log.append("end")

    with node.object(WEATHER).observe() as watcher:
        with node.object(WEATHER).expose() as contract, anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(contract.serve, produce)
                await watcher.wait_state()
                scope.cancel()
        assert log == ["end"]
        with node.object(WEATHER).expose() as contract, anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(contract.serve, produce)
                async for state in watcher:
                    if state.synchronized:
                        break
                contract.close()
        assert log == ["end", "end"]
    assert node._engine._parking.places == {}
