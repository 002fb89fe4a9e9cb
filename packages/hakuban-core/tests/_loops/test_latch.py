"""An event that is made only when somebody waits for it."""

from __future__ import annotations

import anyio

from hakuban.transport import Latch


async def test_who_waits_goes_on_when_it_is_set() -> None:
    latch, passed = Latch(), []

    async def wait() -> None:
        await latch.wait()
        passed.append(True)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not passed
            latch.set()
    assert passed == [True, True]


async def test_who_comes_later_goes_on_too_and_can_be_cancelled() -> None:
    latch = Latch()
    latch.set()
    latch.set()
    with anyio.fail_after(5):
        await latch.wait()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await latch.wait()
    assert scope.cancelled_caught


async def test_a_wait_that_was_cancelled_does_no_harm() -> None:
    latch = Latch()
    with anyio.move_on_after(0) as scope:
        await latch.wait()
    assert scope.cancelled_caught
    latch.set()
    with anyio.fail_after(5):
        await latch.wait()
