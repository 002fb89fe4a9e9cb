"""Long calls are many steps, with a turn for other threads after each; what they leave is done by a timer where there is one."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from hakuban import LocalNode
from hakuban._core.machine import Machine
from hakuban._engine import ticker
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 600


@pytest.fixture
def node() -> Iterator[LocalNode]:
    """Give a node with many contracts on objects of a tag."""
    node = LocalNode()
    with ExitStack() as contracts:
        for number in range(MANY):
            contracts.enter_context(node.object(["weather"], number).observe())
        yield node


def leave_much_to_do(node: LocalNode) -> None:
    """Have all objects wait to be settled, as a peer does."""
    tag = node.tag("weather").descriptor
    node._engine.call(
        lambda machine, now: machine.close_contract(machine.observe_tag(tag, now), now)
    )
    assert node._engine.deadline == 0.0


def nothing_is_due(node: LocalNode) -> bool:
    return node._engine.deadline != 0.0


def lets_others_in(
    node: LocalNode, call: Callable[[], object], in_between: Callable[[], bool] = lambda: True
) -> bool:
    """Make a call; return whether another thread was let into the node before it returned.

    Threads change only where one waits or sleeps: the other one comes in the middle only if it is let in.

    :param in_between: what has to hold when the other one comes.
    """
    begun, came = threading.Event(), threading.Event()

    def come() -> None:
        begun.wait()
        node._engine.call(lambda _machine, _now: None)
        if in_between():
            came.set()

    other = threading.Thread(target=come)
    other.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        begun.set()
        call()
        return came.is_set()
    finally:
        sys.setswitchinterval(before)
        other.join()


def test_a_picture_is_taken_in_steps_that_let_others_in(node: LocalNode) -> None:
    assert lets_others_in(node, node.snapshot)


def test_who_catches_up_lets_others_in(node: LocalNode) -> None:
    with node.tag("weather").expose(capacity=0) as exposer:

        def raise_capacity() -> None:
            exposer.capacity = MANY

        assert lets_others_in(node, raise_capacity)


def test_a_node_with_many_contracts_is_closed_in_steps_that_let_others_in() -> None:
    node = LocalNode()
    opened = [node.object(["weather"], number).observe() for number in range(MANY)]
    assert lets_others_in(node, node.close, lambda: not all(one.closed for one in opened))
    assert all(contract.closed for contract in opened)


async def test_closing_closes_all_contracts_although_a_timer_could_do_it(node: LocalNode) -> None:
    with ExitStack() as contracts:
        opened = [
            contracts.enter_context(node.object(["weather"], number).expose())
            for number in range(MANY)
        ]
        async with node.listen("memory://"):
            node.close()
            assert all(contract.closed for contract in opened)


async def test_the_timer_of_a_block_does_what_nobody_waits_for(node: LocalNode) -> None:
    async with node.listen("memory://"):
        leave_much_to_do(node)
        await until(lambda: nothing_is_due(node))


async def test_where_a_timer_ticks_nobody_else_does(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[object] = []
    handle = Machine.handle

    def counted(machine: Machine, event: Any, now: float) -> None:
        ticks.append(event)
        handle(machine, event, now)

    with node.object("single").observe() as reader:
        async with node.listen("memory://"):
            monkeypatch.setattr(Machine, "handle", counted)
            leave_much_to_do(node)
            assert reader.object_state() is None
            assert not ticks
            await until(lambda: nothing_is_due(node))
        leave_much_to_do(node)
        ticks.clear()
        assert reader.object_state() is None
        assert ticks


async def test_what_a_timer_has_left_is_done_by_who_waited_beside_it(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticker, "LEFT_OVER", 0.0)
    with node.object("nothing").observe() as seen:
        async with anyio.create_task_group() as tasks:
            async with node.listen("memory://"):
                tasks.start_soon(seen.wait_state)
                await anyio.wait_all_tasks_blocked()
                leave_much_to_do(node)
            await until(lambda: nothing_is_due(node))
            tasks.cancel_scope.cancel()
