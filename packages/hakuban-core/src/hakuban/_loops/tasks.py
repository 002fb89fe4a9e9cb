"""Tasks that run beside a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskGroup


@asynccontextmanager
async def background_tasks(
    leave: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[TaskGroup]:
    """Open a task group for what a block needs beside it: when the block is left, its tasks are cancelled.

    What the block raises comes out as it is, and not in an ExceptionGroup, as out of a task group; where it was cancelled
    as well, trio lets the cancellation alone come out. What a task raises comes out in one.

    :param leave: awaited before the tasks are cancelled, also where the block has raised; not where it was cancelled. It
        raises nothing: what it raised would come out in a group, and what the block has raised would be lost.
    """
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  # raised again below
                failure = error
            if leave is not None:
                await leave()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        del failure  # its traceback holds this frame
