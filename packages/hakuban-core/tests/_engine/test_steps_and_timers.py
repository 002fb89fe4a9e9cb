"""Long calls are many steps, with a turn for other threads after each; what they leave is done by a timer where there is one."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban import LocalNode, NodeBrokenError
from hakuban._core.machine import Machine
from hakuban._engine import steps, ticker
from hakuban._engine.engine import Engine
from support.much_to_do import MANY, leave_much_to_do, nothing_is_due
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


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
    # whether the system runs the other thread as soon as it may is not for this one to say
    assert any(lets_others_in(node, node.snapshot) for _ in range(10))


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


def test_closing_leaves_nothing_to_be_done() -> None:
    node = LocalNode()
    with node.tag("weather").observe(), ExitStack() as contracts:
        for number in range(MANY):
            contracts.enter_context(node.object(["weather"], number).expose())
        leave_much_to_do(node)
        node.close()
        assert nothing_is_due(node)
        assert node._engine.count() == (0, 0)


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
        leave_much_to_do(node)  # which is the timer's, as soon as there is one
        async with node.listen("memory://"):
            await until(lambda: nothing_is_due(node))
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


# ---- without a timer -------------------------------------------------------------------------------------------------


def test_others_are_given_a_moment_if_they_wait_and_a_turn_if_they_may_come(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, moments, entered = node._engine, list[float](), threading.Event()
    monkeypatch.setattr(steps, "sleep", moments.append)
    engine.yield_thread()
    assert moments == [0.0]

    def while_another_waits(_machine: Machine, _now: float) -> None:
        other.start()
        while not engine._lock.wanted:
            pass
        engine.yield_thread()

    other = threading.Thread(target=engine.call, args=[lambda _machine, _now: entered.set()])
    engine.call(while_another_waits)
    other.join()
    assert entered.is_set()
    assert moments == [0.0, steps._MOMENT]


async def test_where_nothing_is_due_nobody_is_given_a_turn(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[float] = []
    with node.tag("weather").expose(capacity=0) as exposer:
        async with node.listen("memory://"):
            monkeypatch.setattr(steps, "sleep", moments.append)
            exposer.capacity = 1
            assert not moments


def test_who_catches_up_does_not_go_on_for_ever_where_others_add_more(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0

    def endless(_engine: Engine, *, changes: bool) -> bool:
        nonlocal done
        done += 1
        return True

    monkeypatch.setattr(Engine, "step", endless)
    node._engine.catch_up()
    assert MANY / 10 < done < MANY


async def test_who_is_concerned_by_the_last_step_of_a_call_is_told(node: LocalNode) -> None:
    first = node.tag("weather").expose(capacity=MANY)
    with ExitStack() as contracts:
        standby = [
            contracts.enter_context(node.object(["weather"], number).expose())
            for number in range(MANY)
        ]
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for contract in standby:
                    assert not contract.assigned
                    tasks.start_soon(contract.wait_assigned)
                await anyio.wait_all_tasks_blocked()
                first.close()
                assert all(contract.assigned for contract in standby)


def test_a_contract_on_a_tag_closed_in_the_middle_of_an_operation_stays_out_of_it(
    node: LocalNode,
) -> None:
    contract = node.tag("weather").observe()
    leave_much_to_do(node)
    still_inside: list[bool] = []

    def close(_machine: Machine, _now: float) -> None:
        contract.close()
        still_inside.append(node._engine._lock.inside)

    node._engine.call(close)
    assert still_inside == [True]
    assert contract.closed


def test_what_a_reader_was_asked_for_meanwhile_is_done_when_it_has_read() -> None:
    node = LocalNode()
    contract = node.object("it").observe()
    node._engine.read(contract.close)
    assert node._engine.count() == (0, 0)


def test_what_an_operation_that_fails_was_asked_for_meanwhile_is_given_up(node: LocalNode) -> None:
    contract = node.object("it").observe()

    def fail(_machine: Machine, _now: float) -> None:
        contract.close()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        node._engine.call(fail)
    assert not node._engine._deferred
    with pytest.raises(NodeBrokenError):
        node.object("other").observe()


async def test_who_was_to_do_what_is_due_and_leaves_passes_that_on(node: LocalNode) -> None:
    with node.object("nothing").observe() as seen:
        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def wait(scope: anyio.CancelScope) -> None:
                with scope:
                    await seen.wait_state()

            tasks.start_soon(wait, first)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(wait, anyio.CancelScope())
            await anyio.wait_all_tasks_blocked()
            leave_much_to_do(node)
            first.cancel()
            await until(lambda: nothing_is_due(node))
            tasks.cancel_scope.cancel()
