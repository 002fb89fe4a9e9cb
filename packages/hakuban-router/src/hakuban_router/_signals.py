"""Signals, from the first line of the program to the last."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from time import sleep
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from anyio.abc import TaskStatus

    from ._wakeup_event import WakeupEvent


INTERRUPTED: Final = 130  # what shells expect of a command that was interrupted: 128 + SIGINT

PATIENCE: Final = (
    0.9  # seconds from the signal to the end, whatever a link or a resolver still waits for
)
LOG_SECONDS: Final = 0.1  # seconds for the log, if its reader is slow

_ENDING: Final = [
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if name in signal.Signals.__members__
]


def record_signals(interrupted: int = 0) -> Signals:
    """Take care of the signals that ask for the end, from now to the end of the process. Main thread only.

    :param interrupted: the exit code for the case that leaving takes too long after SIGINT; after others it is 0.
    """
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # there is nothing to show yet
    return Signals(interrupted)


class Signals:
    """The first INT, TERM or HUP asks for the end, and a thread sees to it that the process ends soon after.

    The wakeup descriptor notifies the thread at once, whatever the main thread does: a handler of Python's may
    have to wait for that, for ever where the signal came just before a system call that blocks. A second INT ends the process
    by the system's default action, wherever it is.

    :ivar first: the signal, or None as long as there was none.
    """

    def __init__(self, interrupted: int) -> None:
        self.first: int | None = None
        self._interrupted = interrupted
        self._code: int | None = None
        self._event: WakeupEvent | None = None
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        threading.Thread(target=self._see_to_it, name="signals", daemon=True).start()
        for signum in _ENDING:
            signal.signal(signum, self._receive)
        self._listen()

    def _listen(self) -> None:
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)

    @contextmanager
    def beside_a_loop(self) -> Iterator[None]:
        """Let an event loop start and end within a block: some warn of a wakeup descriptor, or forget it."""
        signal.set_wakeup_fd(-1)
        try:
            yield
        finally:
            self._listen()

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        if self.first is None:
            self.first = signum
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            with suppress(OSError):  # full
                self._theirs.send(bytes([signum]))

    async def watch(self, end: Callable[[int], int], *, task_status: TaskStatus[None]) -> None:
        """Wait for the first signal, of the time before this too, and call `end`.

        :param end: receives the signal's number, and returns the exit code for the case that leaving takes too long.
        """
        from ._log import logger
        from ._wakeup_event import WakeupEvent

        with WakeupEvent() as self._event:
            self._listen()  # in the loop's place: the thread wakes it for every signal
            task_status.started()
            while self.first is None:
                await self._event.wait()
            logger.info("%s, leaving", signal.Signals(self.first).name)
            self._code = end(self.first)

    def _see_to_it(self) -> None:
        signum = self._wait()
        sleep(PATIENCE)
        _log_overdue()
        code = self._interrupted if signum == signal.SIGINT else 0
        os._exit(code if self._code is None else self._code)

    def _wait(self) -> int:
        while True:
            for signum in self._ours.recv(1024):
                if self._event is not None:
                    self._event.set()  # the handlers run in the main thread, which may be asleep
                if signum in _ENDING:
                    return signum


def _log_overdue() -> None:
    """Log that leaving took too long; in a thread, for what is in the way of leaving may be in the way of that."""
    thread = threading.Thread(target=_log_in_time, daemon=True)
    with suppress(RuntimeError):  # no thread to be had
        thread.start()
        thread.join(LOG_SECONDS)


def _log_in_time() -> None:
    from ._log import logger
    from ._stderr import write_out_errors

    logger.warning("leaving took longer than %g s: ending", PATIENCE)
    write_out_errors(LOG_SECONDS)


@contextmanager
def usr2_sets(event: WakeupEvent) -> Iterator[None]:
    """Have SIGUSR2 set an event within a block, where there is such a signal. Main thread only."""
    if not hasattr(signal, "SIGUSR2"):
        yield
        return
    signal.signal(signal.SIGUSR2, lambda _signum, _frame: event.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by default it would end the process
