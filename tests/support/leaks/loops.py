"""What event loops had to end themselves: tasks that were left, timers that nobody had taken back, watched descriptors.

Looked at where loops end, whoever runs them, in whatever thread: asyncio and uvloop in the `Runner` of `asyncio.run`, of
`anyio.run` and of the tests' own runner; trio where its main task has ended.
"""

from __future__ import annotations

import asyncio
import gc
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

RUNNER: Final = "TestRunner._run_tests_and_fixtures"
"""The task of anyio's plugin for pytest, which it leaves to be cancelled."""

left: list[str] = []
"""What was left in loops that have ended since this was emptied."""


def watch() -> None:
    """Look at each loop that ends from now on."""
    if find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()  # the first one makes a pipe for signals, which stays
    runners: Any = asyncio.runners
    cancel_all = runners._cancel_all_tasks

    def look_and_cancel(loop: AbstractEventLoop) -> None:
        left.extend(_left_in(loop))
        cancel_all(loop)

    runners._cancel_all_tasks = look_and_cancel
    trio_runner: Any = trio._core._run.Runner
    exited = trio_runner.task_exited

    def exit_and_look(runner: Any, task: Any, outcome: Any) -> None:
        exited(runner, task, outcome)
        if task is runner.main_task:
            left.extend(_left_in_trio(runner))

    trio_runner.task_exited = exit_and_look


def _left_in(loop: AbstractEventLoop) -> list[str]:
    tasks = [task for task in asyncio.all_tasks(loop) if RUNNER not in repr(task)]
    found = [f"the task {_where(task)}" for task in tasks]
    timers: Any = getattr(loop, "_scheduled", None)
    if timers is None:  # those of uvloop are known to itself alone
        handles = [one for one in gc.get_objects() if type(one).__name__ == "TimerHandle"]
        timers = [one for one in handles if any(of is loop for of in gc.get_referents(one))]
    found += [f"the timer {timer!r}" for timer in timers if not timer.cancelled()]
    selector: Any = getattr(loop, "_selector", None)  # uvloop has none
    if selector is not None:
        own: Any = getattr(loop, "_ssock", None)
        watched = [key for key in selector.get_map().values() if key.fd != own.fileno()]
        found += [f"the watched descriptor {key!r}" for key in watched]
    return found


def _where(task: Task[Any]) -> str:
    stack = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in task.get_stack(limit=3)]
    return f"{task.get_name()} at {', '.join(stack)}"


def _left_in_trio(runner: Any) -> list[str]:
    tasks = [task for task in runner.system_nursery.child_tasks if task is not runner.main_task]
    return [f"the system task {task.name}" for task in tasks]
