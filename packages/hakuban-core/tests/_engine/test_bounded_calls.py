"""No call, no block and no wait is held up by what concerns others: what is left over is done by whoever has the time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban import LocalNode
from hakuban._engine.engine import Engine
from support.interrupter import Interrupter
from support.much_to_do import leave_much_to_do
from support.waiting import until
from support.work import LINES, count_work_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskStatus


MANY = 3_000
SOON = 20.0  # seconds: more than anything takes that ends


@contextmanager
def large() -> Iterator[tuple[LocalNode, ExitStack]]:
    """Give a node that knows many objects of a tag, and a stack for further contracts."""
    node = LocalNode()
    with ExitStack() as stack:
        for index in range(MANY):
            stack.enter_context(node.object(["t"], index).expose())
        yield node, stack


def waiting(node: LocalNode) -> int:
    """Count the objects that wait to be settled."""
    world = node._engine._machine.world
    return len(world.backlog) + sum(len(tag.ahead) for tag in world.walks)


def nothing_is_due(node: LocalNode) -> bool:
    return node._engine.deadline is None


@pytest.mark.promise("no-stall")
def test_a_call_about_one_object_does_a_small_part_of_what_others_have_left() -> None:
    with large() as (node, stack):
        single = stack.enter_context(node.object("single").expose())
        seen = stack.enter_context(node.object("single").observe())
        leave_much_to_do(node)
        assert waiting(node) > MANY / 2
        calls: list[Callable[[], object]] = [
            lambda: single.set_object_data(1),
            seen.close,
            single.close,
        ]
        for call in calls:
            before = waiting(node)
            call()
            assert before - waiting(node) <= 256
        assert not nothing_is_due(node)


def test_a_call_as_large_as_the_node_leaves_nothing() -> None:
    with large() as (node, _stack):
        leave_much_to_do(node)
        assert waiting(node) > MANY / 2
        with node.tag("t").observe() as seen:
            assert nothing_is_due(node)
            assert len(seen.object_descriptors()) == MANY
        assert nothing_is_due(node)
        with node.tag("t").expose() as contract:
            assert nothing_is_due(node)
            contract.capacity = 7
            assert nothing_is_due(node)
        leave_much_to_do(node)
        assert waiting(node) > MANY / 2
        assert len(node.snapshot().objects) == MANY
        assert nothing_is_due(node)


def test_a_thread_that_waits_does_what_is_due() -> None:
    with large() as (node, stack):
        leave_much_to_do(node)
        assert waiting(node) > MANY / 2
        seen = stack.enter_context(node.object("nothing").observe())
        with pytest.raises(hakuban.WaitTimeoutError):
            seen.wait_state_sync(timeout=1.0)
        assert nothing_is_due(node)


async def test_a_task_that_waits_does_what_is_due() -> None:
    with large() as (node, stack):
        leave_much_to_do(node)
        assert waiting(node) > MANY / 2
        seen = stack.enter_context(node.object("nothing").observe())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.wait_state)
            await until(lambda: nothing_is_due(node))
            tasks.cancel_scope.cancel()


async def test_who_waits_is_woken_when_something_becomes_due() -> None:
    with large() as (node, stack):
        seen = stack.enter_context(node.object("nothing").observe())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.wait_state)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(leave_much_to_do, node)
            await until(lambda: nothing_is_due(node))
            tasks.cancel_scope.cancel()


def test_closing_a_large_node_is_one_step_for_those_who_come_and_many_for_its_contracts() -> None:
    node = LocalNode()
    contracts = [node.object(["t"], index).expose() for index in range(MANY)]
    work = count_work_of(node)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(node.close)
        while not node.closed:
            pass
        with pytest.raises(hakuban.ClosedError):
            node.object("late").observe()
        closing.result(SOON)
    assert all(contract.closed for contract in contracts)
    assert node.snapshot().objects == []
    assert work.blind or work.total > 3 * LINES
    assert work.most <= LINES


def test_other_threads_go_on_while_a_picture_is_taken() -> None:
    with large() as (node, stack):
        single = stack.enter_context(node.object("single").expose())
        began, done, during = threading.Event(), threading.Event(), 0

        def take() -> int:
            began.set()
            try:
                return len(node.snapshot().objects)
            finally:
                done.set()

        with ThreadPoolExecutor(1) as pool:
            picture = pool.submit(take)
            began.wait()
            while not done.is_set():
                single.set_object_data(during)
                during += 1
            assert picture.result() == MANY + 1
    assert during > 3


def test_contracts_that_were_let_go_while_the_node_was_busy_are_nobodys_burden() -> None:
    node = LocalNode()
    doomed = [node.object(["t"], index).observe() for index in range(MANY)]
    single = node.object("single").expose()
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go_on.wait()

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(node._engine.read, hold)
        inside.wait()
        with pytest.warns(ResourceWarning):
            doomed.clear()
        go_on.set()
        holding.result(SOON)
    before = len(node._engine._released)
    assert before > MANY / 2
    single.set_object_data(1)
    assert 0 < before - len(node._engine._released) <= 512
    assert len(node.snapshot().objects) == 1
    assert not node._engine._released
    node.close()


# ---- blocks ----------------------------------------------------------------------------------------------------------


async def restless(contract: Any, *, task_status: TaskStatus[None]) -> None:
    """Change a capacity at 500 Hz, which concerns all objects of a tag."""
    capacity = 0
    while True:
        capacity += 1
        contract.capacity = 1 + capacity % 100
        if capacity == 50:
            task_status.started()
        await anyio.sleep(0.002)


@pytest.mark.long
@pytest.mark.promise("no-stall")
@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("kind", ["connect", "listen"])
async def test_a_block_is_left_in_time_whatever_peers_do(kind: str, cancelled: bool) -> None:
    node = LocalNode()
    with ExitStack() as stack:
        async with node.listen("memory://") as listener, LocalNode().listen("memory://") as above:
            peer = LocalNode()
            for index in range(MANY // 2):
                stack.enter_context(node.object(["t"], index).observe())
            contract = stack.enter_context(peer.tag("t").expose())
            async with peer.connect(listener.url), anyio.create_task_group() as tasks:
                await tasks.start(restless, contract)
                block: Any = (
                    node.connect(above.url) if kind == "connect" else node.listen("memory://")
                )
                with anyio.fail_after(SOON):
                    with anyio.CancelScope() as scope:
                        async with block:
                            began = monotonic()
                            if cancelled:
                                scope.cancel()
                    took = monotonic() - began
                tasks.cancel_scope.cancel()
    assert took < (1.5 if cancelled else 3.0)


async def test_states_of_a_lost_link_are_stale_for_who_only_reads() -> None:
    node, above = LocalNode(), LocalNode()
    with ExitStack() as stack:
        seen = []
        async with above.listen("memory://") as listener:
            with anyio.CancelScope() as scope:
                async with node.connect(listener.url):
                    for index in range(500):
                        contract = stack.enter_context(above.object(["t"], index).expose())
                        contract.set_object_data(index)
                        seen.append(stack.enter_context(node.object(["t"], index).observe()))
                    await until(lambda: all(one.synchronized for one in seen))
                    scope.cancel()
        # nobody waits and nobody sets; the block was cancelled, and has left what was not done at once
        await until(lambda: not any(one.synchronized for one in seen))


async def test_who_waits_after_a_block_was_left_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    parked = 0
    park = Engine.park

    def counted(*arguments: Any) -> bool:
        nonlocal parked
        parked += 1
        return park(*arguments)

    node = LocalNode()
    with node.object("nothing").observe() as seen:
        async with LocalNode().listen("memory://") as listener, node.connect(listener.url):
            pass
        assert node._engine.deadline is not None  # its clock is to be looked at, in a second
        monkeypatch.setattr(Engine, "park", counted)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.wait_state)
            await until(lambda: node._engine.deadline is None)
            tasks.cancel_scope.cancel()
    assert parked <= 5


# ---- loops -----------------------------------------------------------------------------------------------------------


def take(given: list[Any], loop: Iterator[Any]) -> None:
    given.append(next(loop).descriptor)


@pytest.mark.parametrize("opcodes", [False, True])
def test_an_interrupt_in_a_loop_over_members_gives_nobody_twice(opcodes: bool) -> None:
    at, struck = 0, True
    while struck:
        node = LocalNode()
        with ExitStack() as stack:
            for index in range(3):
                stack.enter_context(node.object(["t"], index).observe())
            seen = stack.enter_context(node.tag("t").observe())
            loop: Iterator[Any] = iter(seen)
            given = [next(loop).descriptor]
            stack.enter_context(node.object(["t"], 3).observe())
            given += [next(loop).descriptor, next(loop).descriptor]
            with ThreadPoolExecutor(
                1
            ) as pool:  # it may leave its thread in the middle of an exception
                interrupter = Interrupter(at, opcodes=opcodes)
                pool.submit(interrupter.run, partial(take, given, loop)).result(SOON)
            struck = interrupter.struck
            if node._engine.cause is None:
                stack.enter_context(node.object(["t"], 4).observe())
                given.append(next(loop).descriptor)
                assert len(given) == len(set(given)), f"interrupted at {at}"
        at += 1
    assert at > 30
