"""Tasks beside a block."""

from __future__ import annotations

import anyio
import pytest

from hakuban.transport import background_tasks

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
async def test_what_the_block_raises_comes_out_as_it_is_and_ends_the_tasks(
    kind: type[BaseException],
) -> None:
    ended = []

    async def task() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("task")

    async def leave() -> None:
        await anyio.lowlevel.checkpoint()
        ended.append("leave")

    with pytest.raises(kind):  # noqa: PT012  # the task has to begin
        async with background_tasks(leave) as tasks:
            tasks.start_soon(task)
            await anyio.wait_all_tasks_blocked()
            raise kind
    assert ended == ["leave", "task"]


async def test_a_block_that_is_cancelled_does_not_wait_for_its_leaving() -> None:
    async def leave() -> None:
        raise AssertionError("it is in a hurry")

    with anyio.CancelScope() as scope:
        async with background_tasks(leave) as tasks:
            tasks.start_soon(anyio.sleep_forever)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_a_task_raises_comes_out_in_a_group() -> None:
    async def task() -> None:
        raise ValueError

    with pytest.RaisesGroup(ValueError):
        async with background_tasks() as tasks:
            tasks.start_soon(task)
            await anyio.sleep_forever()
