"""One node used by many threads and event loops at once."""

from __future__ import annotations

import gc
import random
import threading
import time
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from hakuban._core.invariants import check
from hakuban._loops.wakeups import ThreadWaiter, in_event_loop, new_task_waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from hakuban._loops.wakeups import TaskWaiter

OBJECTS = [ObjectDescriptor(["stress"], number) for number in range(5)]


class Stress:
    """Threads that open, close, set and read; loops that watch. What an observer sees never goes back."""

    def __init__(self, seconds: float) -> None:
        self.node = LocalNode()
        self.end = time.monotonic() + seconds
        self.seen = 0
        self.failures: list[str] = []

    def thread(self, seed: int) -> None:
        choice = random.Random(seed)
        while time.monotonic() < self.end:
            descriptor = choice.choice(OBJECTS)
            action = choice.randrange(5)
            if action == 0:
                with self.node.object(descriptor).expose(capacity=choice.randrange(3)) as contract:
                    for _ in range(20):
                        contract.set_object_data([seed, time.monotonic_ns()])
                    contract.capacity = choice.randrange(3)
                    contract.set_synchronized(choice.choice([None, 1.0]))
            elif action == 1:
                with self.node.tag("stress").expose() as contract_of_tag:
                    for member in contract_of_tag.object_descriptors():
                        contract_of_tag.set_object_data(member, seed)
            elif action == 2:
                with self.node.object(descriptor).observe() as watcher:
                    self.watch(watcher.object_version() for _ in range(20))
            elif action == 3:
                with self.node.object(descriptor).observe() as watcher:
                    try:
                        watcher.wait_state_sync(timeout=0.01)
                    except TimeoutError:
                        pass
            else:
                self.node.object(descriptor).observe()  # forgotten: a finalizer closes it
                self.node.snapshot()

    def watch(self, versions: Any) -> None:
        before = None
        for version in versions:
            if version is None:
                continue
            if before is not None and version < before:
                self.failures.append(f"{version} after {before}")
            before = version
            self.seen += 1

    def loop(self, backend: str) -> None:
        anyio.run(self._loop, backend=backend)

    async def _loop(self) -> None:
        with self.node.tag("stress").expose() as contract:
            async with anyio.create_task_group() as group:
                for descriptor in OBJECTS:
                    group.start_soon(self._watch, descriptor)
                group.start_soon(contract.serve, self._produce)
                await anyio.sleep(self.end - time.monotonic())
                group.cancel_scope.cancel()

    async def _watch(self, descriptor: ObjectDescriptor) -> None:
        while True:
            with self.node.object(descriptor).observe() as watcher, anyio.move_on_after(0.05):
                before = None
                async for state in watcher:
                    if before is not None and state.version < before:
                        self.failures.append(f"{state.version} after {before}")
                    before = state.version
                    self.seen += 1

    async def _produce(self, sink: hakuban.ObjectStateSink[int]) -> None:
        number = 0
        while True:
            sink.set(number)
            number += 1
            await anyio.sleep(0.001)

    def run(self) -> None:
        jobs: list[tuple[Callable[..., None], Any]] = [(self.thread, seed) for seed in range(8)]
        jobs += [(self.loop, "asyncio"), (self.loop, "trio")]
        with warnings.catch_warnings(), ThreadPoolExecutor(len(jobs)) as pool:
            warnings.simplefilter("ignore", ResourceWarning)
            for future in [pool.submit(function, argument) for function, argument in jobs]:
                future.result(timeout=self.end - time.monotonic() + 30)
            gc.collect()
        engine = self.node._engine
        check(engine._machine)
        assert self.failures == []
        assert self.seen > 100
        assert (engine._parking.places, list(engine._outbox.calls), list(engine._deferred)) == (
            {},
            [],
            [],
        )
        assert engine._registry.contracts == {}
        assert self.node.snapshot().objects == []


@pytest.mark.promise("monotonic", "everywhere")
def test_eight_threads_and_two_loops_share_a_node() -> None:
    Stress(1.0).run()


@pytest.mark.nightly
@pytest.mark.timeout(120)
def test_eight_threads_and_two_loops_share_a_node_for_long() -> None:
    Stress(30.0).run()


def test_two_loops_that_wake_each_other_do_not_block_each_other() -> None:
    node = LocalNode()
    rounds = 300
    ping, pong = node.object("ping").expose(), node.object("pong").expose()

    async def answer(watched: str, contract: hakuban.ObjectExpose[int]) -> int:
        with node.object(watched).observe(type=int) as watcher, anyio.fail_after(20):
            if watched == "pong":
                contract.set_object_data(0)
            async for state in watcher:
                contract.set_object_data(state.data + 1)
                if state.data >= rounds:
                    return state.data
        raise AssertionError("the loop ended")

    with ping, pong, ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: anyio.run(answer, "ping", pong, backend="trio"))
        second = pool.submit(lambda: anyio.run(answer, "pong", ping, backend="asyncio"))
        assert first.result(timeout=30) >= rounds
        assert second.result(timeout=30) >= rounds


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waking_a_loop_that_has_ended_is_nothing(backend: str) -> None:
    async def make() -> TaskWaiter:
        return new_task_waiter()

    waiter = anyio.run(make, backend=backend)
    for _ in range(3):
        waiter.wake()  # raises nothing
    assert not waiter._home._pending, "what nobody waits for is kept"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_wake_up_that_comes_while_a_loop_looks_for_the_last_time_is_not_lost(
    backend: str,
) -> None:
    """Another thread wakes a task just after the loop has seen that there is nothing more."""

    class LastLook(deque[Any]):
        def __bool__(self) -> bool:
            more = len(self) > 0
            if not more and late:
                thread = threading.Thread(target=late.pop().wake)
                thread.start()
                thread.join()
            return more

    async def main() -> None:
        early, waiting = new_task_waiter(), new_task_waiter()
        home = early._home
        home._pending = LastLook()
        late.append(waiting)
        thread = threading.Thread(target=early.wake)
        thread.start()
        thread.join()
        with anyio.fail_after(5):
            await early.wait()
            await waiting.wait()

    late: list[TaskWaiter] = []
    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_wakes_from_another_thread_are_one_for_the_loop(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        waiters = [new_task_waiter() for _ in range(50)]
        calls = 0
        home = waiters[0]._home
        call_soon = home._call_soon

        def counted(function: Callable[[], None]) -> None:
            nonlocal calls
            calls += 1
            call_soon(function)

        def wake_all() -> None:
            for waiter in waiters:
                waiter.wake()

        with monkeypatch.context() as patch:
            patch.setattr(type(home), "_call_soon", lambda _self, function: counted(function))
            thread = threading.Thread(target=wake_all)
            thread.start()
            thread.join()  # this loop cannot run in the meantime
            with anyio.fail_after(5):
                for waiter in waiters:
                    await waiter.wait()
        assert calls == 1

    anyio.run(main, backend=backend)


async def test_waking_twice_or_before_waiting_does_no_harm() -> None:
    waiter = new_task_waiter()
    waiter.wake()
    waiter.wake()
    with anyio.fail_after(5):
        await waiter.wait()
    thread_waiter = ThreadWaiter()
    thread_waiter.wake()
    thread_waiter.wake()
    assert thread_waiter.wait(0)
    assert not ThreadWaiter().wait(0.01)


async def test_an_event_loop_is_noticed() -> None:
    assert in_event_loop()
    assert not await anyio.to_thread.run_sync(in_event_loop)


def test_no_event_loop_is_noticed() -> None:
    assert not in_event_loop()
    with pytest.raises(RuntimeError):
        new_task_waiter()
