"""Who waits does what is due where no timer does it, lets others have turns, sleeps otherwise, and leaves nothing parked."""

from __future__ import annotations

import operator
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from typing_extensions import override

from hakuban import LocalNode
from hakuban._core import clock
from hakuban._engine.engine import Engine
from hakuban._engine.ticker import Timer
from support.memory_links import Wrapping
from support.much_to_do import leave_much_to_do, nothing_is_due
from support.waiting import Turns, until

if TYPE_CHECKING:
    from types import FrameType

SOON = 10.0


def have_something_due(node: LocalNode, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the node look at its clock once, after some time."""
    monkeypatch.setattr(clock, "LOOK", seconds)
    node._engine.call(lambda machine, now: machine.world.clock.attend(now))
    assert node._engine.deadline is not None


def parked(node: LocalNode) -> int:
    return sum(map(len, node._engine._parking.places.values()))


async def test_a_task_that_does_what_is_due_lets_others_have_turns(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, at_step, step = Turns(), list[int](), Engine.step

    def noted(engine: Engine) -> bool:
        at_step.append(turns.taken)
        return step(engine)

    monkeypatch.setattr(Engine, "step", noted)
    with node.object("nothing").observe() as seen:
        leave_much_to_do(node)
        at_step.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turns.run)
            tasks.start_soon(seen.wait_state)
            await until(lambda: nothing_is_due(node))
            tasks.cancel_scope.cancel()
    assert len(at_step) > 4
    # trio has no order of turns: two may follow each other
    assert max(Counter(at_step).values()) <= 2


def test_a_thread_that_waits_does_what_is_due(node: LocalNode) -> None:
    with (
        node.object("nothing").observe() as seen,
        node.object("nothing").expose() as exposer,
        ThreadPoolExecutor(1) as pool,
    ):
        leave_much_to_do(node)
        waiting = pool.submit(seen.wait_state_sync, timeout=SOON)
        while not nothing_is_due(node):
            assert not waiting.done()
        exposer.set_object_data(1)
        waiting.result(SOON)


async def test_a_task_that_waits_is_parked_once_also_after_something_was_due(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node.object("nothing").observe() as seen:
        have_something_due(node, monkeypatch, 0.01)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.wait_state)
            await anyio.wait_all_tasks_blocked()
            await until(lambda: node._engine.deadline is None and parked(node))
            assert parked(node) == 1
            tasks.cancel_scope.cancel()
        assert parked(node) == 0


def test_a_thread_that_waits_is_parked_once_also_after_something_was_due(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: list[float | None] = []
    park = Engine.park

    def counted(engine: Engine, *arguments: Any) -> bool:
        done = park(engine, *arguments)
        if done:
            deadlines.append(engine.deadline)
        return done

    monkeypatch.setattr(Engine, "park", counted)
    with (
        node.object("nothing").observe() as seen,
        node.object("nothing").expose() as exposer,
        ThreadPoolExecutor(1) as pool,
    ):
        have_something_due(node, monkeypatch, 0.01)
        waiting = pool.submit(seen.wait_state_sync, timeout=SOON)
        while None not in deadlines:  # so it is parked for the last time
            assert not waiting.done()
        assert parked(node) == 1
        exposer.set_object_data(1)
        waiting.result(SOON)
        assert parked(node) == 0


def test_a_thread_that_begins_to_wait_does_what_has_become_due_before(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        node.object("nothing").observe() as seen,
        node.object("nothing").expose() as exposer,
        ThreadPoolExecutor(1) as pool,
    ):
        have_something_due(node, monkeypatch, 0.001)
        while node._engine.until_due():
            pass
        waiting = pool.submit(seen.wait_state_sync, timeout=SOON)
        while node._engine.deadline is not None:
            assert not waiting.done()
        exposer.set_object_data(1)
        waiting.result(SOON)


class Struck(BaseException):
    """What a signal handler raises."""


def test_a_thread_that_is_interrupted_while_it_waits_is_not_parked_any_more() -> None:
    node, main = LocalNode(), threading.main_thread()
    assert threading.current_thread() is main

    struck = threading.Event()

    def handler(_number: int, _frame: FrameType | None) -> None:
        if not struck.is_set():
            struck.set()
            raise Struck

    def strike() -> None:
        while not node._engine._parking.places:
            pass
        while not struck.is_set():  # one that comes just before the thread sleeps does not wake it
            os.kill(os.getpid(), signal.SIGUSR1)
            struck.wait(0.1)

    before = signal.signal(signal.SIGUSR1, handler)
    striking = threading.Thread(target=strike)
    striking.start()
    try:
        with node.object("nothing").observe() as seen:
            with pytest.raises(Struck):
                seen.wait_state_sync(timeout=SOON)
            assert parked(node) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
        striking.join()


async def test_a_timer_sleeps_until_something_is_due(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, sleep = 0, Timer._sleep

    async def counted(timer: Timer) -> None:
        nonlocal looks
        looks += 1
        await sleep(timer)

    monkeypatch.setattr(Timer, "_sleep", counted)
    async with node.listen("memory://"):
        have_something_due(node, monkeypatch, 3600.0)
        with anyio.fail_after(SOON):
            await anyio.wait_all_tasks_blocked()
        assert looks <= 2


async def test_what_the_end_of_a_block_leaves_is_done_when_it_was_left(node: LocalNode) -> None:
    async with node.listen("memory://"):
        leave_much_to_do(node)
    assert nothing_is_due(node)


class Slow(Wrapping):
    """The memory transport, whose streams take until all is done that is due to be closed."""

    def __init__(self, node: LocalNode) -> None:
        self.node = node
        self.closed = 0

    @override
    def wrap(self, stream: Any) -> Any:
        close = stream.aclose

        async def close_slowly(*reason: Any) -> None:
            leave_much_to_do(self.node)
            await until(lambda: nothing_is_due(self.node))
            self.closed += 1
            await close(*reason)

        stream.aclose = close_slowly
        return stream


async def test_while_links_end_a_cancelled_block_still_does_what_is_due(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._net.link.CLOSING_CANCELLED", 30.0)
    slow = Slow(node)
    async with LocalNode().listen("memory://") as listener:
        with anyio.CancelScope() as scope:
            async with node.connect(listener.url, transport=slow):
                scope.cancel()
                await checkpoint()
    assert slow.closed == 1


def test_asking_for_a_length_refuses_no_loop_but_the_newest_of_the_same_contract() -> None:
    node = LocalNode()
    with node.object("one").observe() as one, node.object("other").observe() as other:
        with node.object("one").expose() as exposer:
            exposer.set_object_data(1)
            loop = iter(one)
            assert operator.length_hint(other) == 0
            assert next(loop).data == 1
            iter(one)
            assert operator.length_hint(one) == 0
