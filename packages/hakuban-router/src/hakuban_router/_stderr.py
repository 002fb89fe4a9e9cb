"""The standard error of the process, written by a thread: who reads it may be slow, or not read at all.

All that Python writes there goes this way: the log, warnings, tracebacks. Whoever writes waits for nobody, and none of it
talks to the terminal: names, reasons and texts of exceptions are written by peers.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections import deque
from contextlib import contextmanager
from itertools import islice
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from hakuban.transport import printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


MOST_CHARACTERS: Final = 250_000  # that wait to be written: more than a thousand lines
OVERHEAD: Final = 100  # of one write, in characters: about what Python needs to keep it
LONGEST_REST: Final = 64 * 1024  # characters of a line without its end
LINES: Final = 100  # that are written at once, of what may wait
PAUSE: Final = 0.001  # seconds after that
ROOM: Final = MOST_CHARACTERS // 10  # characters that may wait already when they are written
PATIENCE: Final = 0.5  # seconds for what is left at the end of the program


def _plain_notice(count: int) -> str:
    return f"{count} lines were dropped: the standard error was not read"


class StandardError(io.TextIOBase):
    """A text file whose lines are written to the file behind it by a daemon thread, in order, control characters escaped.

    `write` never waits: what comes while a quarter of a million characters wait is dropped until all of these have been
    written; then a line states how many lines were dropped. Thread-safe, also for signal handlers and finalizers, which
    interrupt it. In the child of a fork, which has no such thread, it writes by itself.

    :ivar notice: makes that line, without its end, from the number.
    """

    def __init__(self, behind: Any) -> None:
        """Write to a text file, or to nowhere (None)."""
        self.notice: Callable[[int], str] = _plain_notice
        self._behind = behind
        # Not through the file's own buffer: a thread that holds its lock when the interpreter ends is a fatal error.
        self._raw: Any = getattr(getattr(behind, "buffer", None), "raw", None)
        # reentrant, for whoever interrupts the thread that holds it
        self._changed = threading.Condition(threading.RLock())
        self._rest = ""  # of a line without its end
        self._queue: deque[str] = deque()
        self._size = 0  # of all in the queue
        self._dropping = False
        self._dropped = 0  # lines that were not reported yet
        self._busy = False
        self._ended = False
        self._alone = False
        # now: a finalizer that writes must not start threads
        threading.Thread(target=self._run, name="stderr", daemon=True).start()

    # ---- writing ---------------------------------------------------------------------------------

    @override
    def write(self, text: str, /) -> int:
        fit = printable_lines(text)
        with self._changed:
            lines, end, self._rest = (self._rest + fit).rpartition("\n")
            if end:
                self._put(lines + end)
            elif len(self._rest) > LONGEST_REST:
                self.flush()
        return len(text)

    def write_all(self, lines: Iterable[str]) -> None:
        """Write lines, given without their ends, and drop none: wait for room, until the program ends.

        For threads that may wait. Nearly all of the room is left to others, whose lines are dropped without it. There are
        pauses in between, so that no thread which makes many lines of many things has the interpreter for itself.
        """
        lines = iter(lines)
        while not self._ended and (some := list(islice(lines, LINES))):
            with self._changed:
                while (self._dropping or self._size > ROOM) and not self._ended:
                    self._changed.wait()
                self.write("\n".join([*some, ""]))
            sleep(PAUSE)

    @override
    def flush(self) -> None:
        """Have the beginning of a line written too; waits for nothing."""
        with self._changed:
            if self._rest:
                self._put(self._rest)
                self._rest = ""

    @property
    def _full(self) -> bool:
        return self._size >= MOST_CHARACTERS

    def _put(self, text: str) -> None:
        if self._alone:
            self._write_out(text)
        elif self._dropping or self._full or self._ended:
            self._dropping = True
            self._dropped += text.count("\n")
        else:
            self._queue.append(text)
            self._size += len(text) + OVERHEAD
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._queue:
                    self._changed.wait()
                self._busy = True
                text, dropped = self._take()
            said = f"{text}{self.notice(dropped)}\n" if dropped else text
            if not self._write_out(said):
                with self._changed:
                    self._dropped += dropped + text.count("\n")

    def _take(self) -> tuple[str, int]:
        """Return the next text, and how many lines after it were dropped."""
        text = self._queue.popleft()
        self._size -= len(text) + OVERHEAD
        if self._queue:
            return text, 0
        dropped, self._dropped = self._dropped, 0
        self._dropping = False
        return text, dropped

    # ---- the file behind -------------------------------------------------------------------------

    def _write_out(self, text: str) -> bool:
        """Write to the file behind, for as long as it takes; return whether that worked."""
        if self._behind is None:
            return True
        try:
            if self._raw is None:
                self._behind.write(text)
                self._behind.flush()
            else:
                self._write_raw(memoryview(text.encode(self.encoding, self.errors)))
        except (OSError, ValueError):  # its reader has gone, the disk is full, it was closed
            return False
        return True

    def _write_raw(self, data: memoryview) -> None:
        while data:
            written = self._raw.write(data)
            if written is None:  # somebody has made it non-blocking, and it is full
                select.select([], [self._raw], [])
            else:
                data = data[written:]

    def drain(self, seconds: float) -> None:
        """Wait until all is written, but no longer than that."""
        deadline = monotonic() + seconds
        with self._changed:
            self.flush()
            while self._queue or self._busy:
                left = deadline - monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def end(self) -> None:
        """Take nothing any more, and keep nobody waiting."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def write_alone(self) -> None:
        """Write without the thread, in the child of a fork; what the parent has not written yet is the parent's."""
        self._alone = True
        self._changed = threading.Condition(threading.RLock())
        self._rest = ""

    # ---- what it is asked ------------------------------------------------------------------------

    @property
    @override
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there, which nobody sets
        return getattr(self._behind, "encoding", None) or "utf-8"

    @property
    @override
    def errors(self) -> str:  # type: ignore[override]  # as above
        return getattr(self._behind, "errors", None) or "backslashreplace"

    @override
    def writable(self) -> bool:
        return True

    @override
    def fileno(self) -> int:
        if self._behind is None:
            raise io.UnsupportedOperation("fileno")
        number: int = self._behind.fileno()
        return number

    @override
    def isatty(self) -> bool:
        return self._behind is not None and bool(self._behind.isatty())


@contextmanager
def standard_error_by_thread() -> Iterator[None]:
    """Put a `StandardError` in the place of `sys.stderr`; at the end what it holds is written, for at most half a second.

    An exception that comes out of the block is printed there, and ends the program with 1, as Python would do it.

    :raises SystemExit: for such an exception.
    """
    os.environ["PYTHON_COLORS"] = "0"  # from 3.13 on tracebacks have colours, by control characters
    before = sys.stderr
    sys.stderr = ours = StandardError(before)
    try:
        yield
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(1) from error
    finally:
        sys.stderr = before
        ours.drain(PATIENCE)
        ours.end()


def write_out_errors(seconds: float) -> None:
    """Write what waits for the standard error, for at most so long, before the process ends hard."""
    if isinstance(sys.stderr, StandardError):
        sys.stderr.drain(seconds)


def _after_fork() -> None:
    if isinstance(sys.stderr, StandardError):
        sys.stderr.write_alone()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
