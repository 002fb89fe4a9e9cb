"""Cancellation at every point where a function can be cancelled."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final, TypeAlias

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hakuban._testing.suspending import Suspending

Function: TypeAlias = Callable[[], Awaitable[object]]
Check: TypeAlias = Callable[[], Awaitable[None]]

MOST: Final = 1_000
"""Suspensions after which a function will never end."""


async def cancel_at_each_suspension(function: Function, check: Check) -> int:
    """Cancel a function when it suspends for the first time, then for the second, ... until it ends before that.

    :param check: called after each cancellation.
    :return: how many suspensions there were.
    """
    for number in count(1):
        assert number < MOST
        suspensions = await cancel_at(number, function)
        await check()
        if suspensions < number:
            return suspensions
    raise AssertionError


async def cancel_at(number: int, function: Function) -> int:
    """Cancel a function when it suspends for the n-th time; give how often it has suspended."""
    suspensions = 0

    def suspended() -> None:
        nonlocal suspensions
        suspensions += 1
        if suspensions == number:
            scope.cancel()

    with anyio.fail_after(10), anyio.CancelScope() as scope:
        await Suspending(_call(function), suspended)
    return suspensions


async def _call(function: Function) -> None:
    await function()


async def cancel_after_each_turn(function: Function, check: Check) -> int:
    """Cancel a function after one turn of the event loop, then after two, ... until it ends before that.

    So it is cancelled in all states of all tasks that it has started.

    :param check: called after each cancellation.
    :return: how many turns it took.
    """
    for number in count(1):
        assert number < MOST
        ended = await _cancel_after(number, function)
        await check()
        if ended:
            return number
    raise AssertionError


async def _cancel_after(turns: int, function: Function) -> bool:
    ended = False

    async def run() -> None:
        nonlocal ended
        with scope:
            await function()
            ended = True

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        with anyio.fail_after(10):
            for _ in range(turns):
                await checkpoint()
        scope.cancel()
    return ended


async def tasks_are(tasks: int) -> None:
    """Wait for a few turns until there are so many tasks in this event loop."""
    for _ in range(MOST):
        if len(anyio.get_running_tasks()) == tasks:
            return
        await checkpoint()
    pytest.fail(f"{tasks} tasks are expected, not {anyio.get_running_tasks()}")


def live_objects() -> int:
    """Count what is alive, as far as the garbage collector knows of it."""
    gc.collect()
    return len(gc.get_objects())
