"""Signals, from the first line of the program to the last."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

    from anyio.abc import TaskStatus

__all__ = ["record_signals", "watch_signals"]

PATIENCE: Final = (
    0.9  # seconds from the signal to the end, whatever a link or a resolver still waits for
)
LAST_WORDS: Final = 0.1  # seconds for the log, if its reader is slow
GLANCE: Final = (
    0.2  # seconds between two looks at what was recorded, where event loops receive no signals
)

_ENDING: Final = [
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if name in signal.Signals.__members__
]


def record_signals() -> Sequence[int]:
    """Write down the signals that ask for the end, instead of dying half started; for `watch_signals`."""
    recorded: list[int] = []
    for signum in _ENDING:
        signal.signal(signum, lambda received, _frame: recorded.append(received))
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # there is nothing to show yet
    return recorded


async def watch_signals(
    recorded: Sequence[int],
    end: Callable[[int], int],
    report: Callable[[], object] | None = None,
    *,
    task_status: TaskStatus[None],
) -> None:
    """Call `end` at the first INT, TERM or HUP, and `report`, in a thread, at each USR2, until cancelled.

    A second INT ends the process by the system's default action, wherever it is. It ends by itself when leaving takes
    too long: a resolver that blocks a thread cannot be cancelled.

    :param end: is told which signal it was, and gives the exit code for the case that leaving takes too long.
    """
    import anyio

    if sys.platform == "win32":
        task_status.started()
        while not recorded:  # noqa: ASYNC110  # a signal handler cannot set an event of the loop
            await anyio.sleep(GLANCE)
        _leave(recorded[0], end)
        return
    wanted = _ENDING if report is None else [*_ENDING, signal.SIGUSR2]
    # one may wait while another is written: who reads that may be slow, and other signals are heard meanwhile
    ask, asked = anyio.create_memory_object_stream[None](1)
    with ask, asked, anyio.open_signal_receiver(*wanted) as received:
        async with anyio.create_task_group() as group:
            if report is not None:
                group.start_soon(_report_each, asked, report)
            task_status.started()
            leaving = bool(recorded)
            if leaving:
                _leave(recorded[0], end)
            async for signum in received:
                if report is not None and signum == signal.SIGUSR2:
                    with suppress(anyio.WouldBlock):
                        ask.send_nowait(None)
                elif not leaving:
                    leaving = True
                    _leave(signum, end)


async def _report_each(asked: AsyncIterable[None], report: Callable[[], object]) -> None:
    import anyio.to_thread

    async for _ in asked:
        await anyio.to_thread.run_sync(report, abandon_on_cancel=True)


def _leave(signum: int, end: Callable[[int], int]) -> None:
    from ._log import logger

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logger.info("%s, leaving", signal.Signals(signum).name)
    watchdog = threading.Timer(PATIENCE, _end_hard, (end(signum),))
    watchdog.daemon = True
    watchdog.start()


def _end_hard(code: int) -> None:
    from ._log import logger
    from ._stderr import write_out_errors

    logger.warning("leaving took longer than %g s: ending", PATIENCE)
    write_out_errors(LAST_WORDS)
    os._exit(code)
