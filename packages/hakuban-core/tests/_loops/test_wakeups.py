"""A task that waits: cancelled, woken late, and by an interrupt that comes while it is being woken."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hakuban._loops.wakeups import _current_home, new_task_waiter, was_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_waking_who_waits_no_more_does_no_harm() -> None:
    waiter = new_task_waiter()
    with anyio.move_on_after(0) as given_up:
        await waiter.wait()
    assert given_up.cancelled_caught
    waiter.wake()
    following = new_task_waiter()
    async with anyio.create_task_group() as group:
        group.start_soon(_wake_when_all_wait, following.wake)
        with anyio.fail_after(5):
            await following.wait()


async def test_waking_a_task_twice_before_it_runs_is_waking_it_once() -> None:
    waiters = []

    async def wait() -> None:
        waiter = new_task_waiter()
        waiters.append(waiter)
        await waiter.wait()
        waiters.append(waiter)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            waiters[0].wake()
            waiters[0].wake()
    assert len(waiters) == 2


async def test_an_interrupt_while_a_loop_is_asked_to_wake_a_task_does_not_stop_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Ctrl-C does, in a thread's call: the next one asks the loop again."""
    interrupted, other = new_task_waiter(), new_task_waiter()
    home = _current_home()

    def interrupt(self: object, function: Callable[[], None]) -> None:
        raise KeyboardInterrupt

    def wake_with_interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            interrupted.wake()

    with monkeypatch.context() as patch:
        patch.setattr(type(home), "_call_soon", interrupt)
        _in_thread(wake_with_interrupt)
    _in_thread(other.wake)
    with anyio.fail_after(5):
        await other.wait()
        await interrupted.wait()


async def test_an_interrupt_after_a_loop_was_asked_to_wake_a_task_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiter = new_task_waiter()
    home = _current_home()
    call_soon = home._call_soon

    def ask_and_interrupt(self: object, function: Callable[[], None]) -> None:
        call_soon(function)
        raise KeyboardInterrupt

    def wake_with_interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            waiter.wake()

    with monkeypatch.context() as patch:
        patch.setattr(type(home), "_call_soon", ask_and_interrupt)
        _in_thread(wake_with_interrupt)
    with anyio.fail_after(5):
        await waiter.wait()


async def test_whoever_is_cancelled_by_anyio_is_known_to_be() -> None:
    assert not was_cancelled()
    with anyio.CancelScope() as scope:
        assert not was_cancelled()
        scope.cancel()
        assert was_cancelled()
        await checkpoint()
    assert not was_cancelled()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_whoever_is_cancelled_by_asyncio_itself_is_known_to_be() -> None:
    known = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            known.append(was_cancelled())

    task = asyncio.get_running_loop().create_task(wait())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert known == [True]
    assert not was_cancelled()


async def _wake_when_all_wait(wake: Callable[[], None]) -> None:
    await anyio.wait_all_tasks_blocked()
    wake()


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
