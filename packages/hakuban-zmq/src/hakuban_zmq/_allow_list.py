"""Whose keys are let in: the files of a directory, which are read by a thread and never by an event loop."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.from_thread
from anyio.lowlevel import current_token

from hakuban.transport import get_logger

from ._certificates import Stamp, Unusable, read_public_key, require_file
from ._refusals import Refusals

if TYPE_CHECKING:
    from pathlib import Path

logger = get_logger("hakuban.zmq")

_PERIOD: Final = 2.0
"""Seconds from the end of one look to the next."""
_HURRIED: Final = 0.5
"""The same, when a key has asked that is not known."""
_SHARE: Final = 9
"""So many times the processor time of a look nobody looks again: a large directory costs a tenth of a core at most."""
_LATE: Final = 10.0
"""Seconds without any progress, after which a file system counts as one that does not answer."""
_SETTLED: Final = 2 * 10**9
"""Nanoseconds after which a file that has not changed is believed to be as it was read."""
_MOST_LINES: Final = 10
"""Files that one look reports."""
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""No file's own fault: this process has no descriptor left to look with."""


class _File(NamedTuple):
    """A file of the directory.

    :ivar stamp: of what was read; None: nothing was.
    :ivar key: empty when it lets nobody in.
    :ivar fault: why it does not.
    :ivar settled: it need not be read again until its stamp is another one.
    """

    stamp: Stamp | None
    key: bytes
    fault: str
    settled: bool


class _Look:
    """One look at a directory, to be made in any thread.

    :param before: what the look before has found.
    :ivar files: what this one has found, by name.
    :ivar known: the keys of those let in.
    :ivar faults: the names of files that let nobody in, and why, as far as that is new.
    :ivar steps: counts the files, so that others see whether it gets on.
    :ivar seconds: processor time that it took. Not the time that passed: on a busy loop most of that is waiting for
        the interpreter.
    :ivar failure: why nothing is known about anybody.
    """

    def __init__(self, directory: str, before: dict[str, _File]) -> None:
        self._directory = directory
        self._before = before
        self.files: dict[str, _File] = {}
        self.known: frozenset[bytes] = frozenset()
        self.faults: list[tuple[str, str]] = []
        self.steps = 0
        self.seconds = 0.0
        self.failure: Exception | None = None

    def run(self) -> None:
        """Look. Raises nothing."""
        began = time.thread_time()
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if entry.name.endswith(".key") and not entry.name.startswith("."):
                        self._take(entry)
                    self.steps += 1
            self.known = frozenset(file.key for file in self.files.values() if file.key)
            self.faults = self._new_faults()
        except Exception as error:  # noqa: BLE001 # reported where the loop is; there is nobody else to catch it
            self.failure = error
        self.seconds = time.thread_time() - began

    def _take(self, entry: os.DirEntry[str]) -> None:
        before = self._before.get(entry.name)
        stamp: Stamp | None = None
        try:
            status = entry.stat()
            stamp = Stamp.of(status)
            if before is not None and before.settled and before.stamp == stamp:
                self.files[entry.name] = before
                return
            require_file(entry.path, status)  # else it is not even opened
            key, stamp = read_public_key(entry.path)
            self.files[entry.name] = _File(stamp, key, "", _is_settled(stamp))
        except Unusable as error:
            settled = stamp is not None and _is_settled(stamp)
            self.files[entry.name] = _File(stamp, b"", error.reason, settled)
        except FileNotFoundError:
            if entry.is_symlink():  # else it has just gone
                self.files[entry.name] = _File(None, b"", "is a link to nothing", settled=False)
        except OSError as error:
            if error.errno in _SHORT:
                raise
            reason = f"cannot be read: {error.strerror}"
            self.files[entry.name] = _File(stamp, b"", reason, settled=False)

    def _new_faults(self) -> list[tuple[str, str]]:
        return [
            (name, file.fault)
            for name, file in self.files.items()
            if file.fault and ((before := self._before.get(name)) is None or before[:3] != file[:3])
        ]


def _is_settled(stamp: Stamp) -> bool:
    # Clocks of file systems are coarse: what is new may change again unnoticed.
    return stamp.changed_at < time.time_ns() - _SETTLED


class AllowList:
    """The public keys in a directory, as they were found by the last look at it.

    While `watch` runs, a thread looks each 2 s, and sooner when a key asks that is not known. A directory that cannot
    be read lets nobody in, and changes neither `known` nor `looks`. Belongs to one event loop.

    :ivar known: the keys, as Z85 writes them.
    :ivar looks: how many looks have come to an end; the same number is the same look.
    :ivar refusals: where to report who was not let in.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, _File] = {}
        self._readable = False
        self._in_outage = False
        self._pause = 0.0  # seconds, at the least
        self._hurry = anyio.Event()
        self._next = anyio.Event()  # set: nobody looks, or without getting an answer
        self._next.set()
        self.known: frozenset[bytes] = frozenset()
        self.looks = 0
        self.refusals = Refusals()

    def __contains__(self, key: bytes) -> bool:
        """Return whether a key is let in, as far as is known. No I/O."""
        return self._readable and key in self.known

    def read(self) -> None:
        """Look now, in this thread: before anybody is let in.

        :raises Unusable: there is no such directory, and has not been before.
        """
        if not self.looks:
            try:
                there = self._directory.is_dir()
            except OSError:  # nobody may look
                there = False
            if not there:
                where = str(self._directory)
                raise Unusable(where, "is no directory of public certificates (*.key)")
        look = self._begin()
        look.run()
        self._take(look)

    def _begin(self) -> _Look:
        return _Look(str(self._directory), self._files)

    async def admits(self, key: bytes) -> bool:
        """Return whether a key is let in. One that is known is answered at once, others after one more look.

        All who ask meanwhile share that look, which begins 0.5 s after the one before at the earliest. Waits for the
        file system, so the caller sets a limit of time; after 10 s without an answer nobody is let in. Without `watch`
        nobody looks. May be cancelled.
        """
        if key not in self:
            self.hurry()
            await self._next.wait()
        return key in self

    def hurry(self) -> None:
        """Have the next look made soon, for somebody who cannot wait for it."""
        self._hurry.set()

    async def watch(self) -> None:
        """Look again and again until cancelled, to be run by one task as long as anybody may be let in.

        A look that does not return delays neither cancellation nor the end of the process.
        """
        self._next = anyio.Event()
        try:
            while True:
                await self._rest()
                # who asks from here on may know of what this look does not see
                self._hurry = anyio.Event()
                asked, self._next = self._next, anyio.Event()
                try:
                    await self._look(asked)
                finally:
                    asked.set()
        finally:
            self._next.set()

    async def _rest(self) -> None:
        least = max(_HURRIED, self._pause)
        await anyio.sleep(least)
        with anyio.move_on_after(max(_PERIOD, self._pause) - least):
            await self._hurry.wait()
        self.refusals.report_rest()

    async def _look(self, asked: anyio.Event) -> None:
        look, returned = self._begin(), anyio.Event()
        try:
            _run_in_daemon(look, returned)
        except RuntimeError as error:  # no more threads
            look.failure = OSError(errno.EAGAIN, str(error))
            returned.set()
        steps = -1
        while not returned.is_set():
            if look.steps == steps:
                self._fail(f"{self._directory} does not answer")
                asked.set()
                self._next.set()
            steps = look.steps
            with anyio.move_on_after(_LATE):
                await returned.wait()
        if self._next.is_set():  # it was late
            self._next = anyio.Event()
        self._take(look)

    def _take(self, look: _Look) -> None:
        self._pause = _SHARE * look.seconds
        failure, look.failure = look.failure, None  # a frame of its traceback knows the look
        if failure is not None:
            self._fail(failure)
            return
        for name, fault in look.faults[:_MOST_LINES]:
            logger.warning("%s lets nobody in: it %s", self._directory / name, fault)
        if len(look.faults) > _MOST_LINES:
            more = len(look.faults) - _MOST_LINES
            logger.warning("%d more files of %s let nobody in", more, self._directory)
        if self._in_outage:
            logger.info("%s can be read again", self._directory)
        self._files, self.known = look.files, look.known
        self._readable, self._in_outage = True, False
        self.looks += 1

    def _fail(self, reason: str | Exception) -> None:
        self._readable = False
        if not self._in_outage:
            self._in_outage = True
            # a fault of ours has a traceback
            fault = None if isinstance(reason, (str, OSError)) else reason
            logger.error("nobody is let in: %s", reason, exc_info=fault)


def _run_in_daemon(look: _Look, returned: anyio.Event) -> None:
    """Make a look in a thread, and set an event of this loop after that.

    :raises RuntimeError: there cannot be another thread.
    """
    # Not `anyio.to_thread`: on asyncio its threads are no daemons, and a program waits for such at its end.
    token = current_token()

    def work() -> None:
        look.run()
        with suppress(RuntimeError):  # the loop has ended
            anyio.from_thread.run_sync(returned.set, token=token)

    threading.Thread(target=work, name="hakuban allow-list", daemon=True).start()
