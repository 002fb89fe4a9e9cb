"""Waking whoever waits: tasks of asyncio, uvloop and trio, and blocked threads, from any thread and any signal handler.

Waking a task of another loop goes through that loop's own thread-safe door, and never waits for it: two loops that
wake each other cannot block each other. (anyio's calls from threads wait for the other side to have run.)
Here, and nowhere else, this package speaks to the backends.
"""

from __future__ import annotations

import sys
import threading
from _thread import allocate_lock, get_ident
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from anyio import current_effective_deadline
from anyio.lowlevel import checkpoint
from typing_extensions import override

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import anyio
    import trio


class Waiter(Protocol):
    """Somebody who waits. To wake it twice, or when it waits no more, does no harm."""

    def wake(self) -> None:
        """Wake it up; from any thread, without waiting."""
        ...


class ThreadWaiter:
    """A blocked thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        # a bare lock, since its release may interrupt its acquire: a Condition could deadlock with a signal handler
        self._lock = allocate_lock()
        self._lock.acquire()

    def wake(self) -> None:
        with suppress(RuntimeError):  # released already
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Block for at most `timeout` seconds (-1 for ever); return whether somebody woke this thread."""
        return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))


class _Home(ABC):
    """One event loop as seen from one thread. Keeps at most one wake-up on its way to the loop."""

    __slots__ = ("_on_its_way", "_pending", "_thread")

    def __init__(self) -> None:
        self._thread = get_ident()
        self._pending: deque[Callable[[], None]] = deque()
        self._on_its_way = False

    def run(self, function: Callable[[], None]) -> None:
        """Run a function on the loop: now if the caller is one of its tasks, else soon."""
        if get_ident() == self._thread and self.in_task():
            function()
            return
        self._pending.append(function)
        if self._on_its_way:
            return
        try:
            self._on_its_way = True
            self._call_soon(self._flush)
        except RuntimeError:
            self._on_its_way = False
            self._pending.clear()  # the loop is closed: nobody waits there any more
        except BaseException:
            self._on_its_way = (
                False  # a KeyboardInterrupt; whether or not it is, the next one asks again
            )
            raise

    def _flush(self) -> None:
        # taken down before looking: whoever appends after the last look sends a new wake-up
        self._on_its_way = False
        while self._pending:
            self._pending.popleft()()

    @abstractmethod
    def in_task(self) -> bool:
        """Return whether a task of this loop is running: in a signal handler that interrupts its sleep, none is."""

    @abstractmethod
    def cancelled(self) -> bool:
        """Return whether the current task was cancelled by the backend's own means, beside those of anyio."""

    @abstractmethod
    def _call_soon(self, function: Callable[[], None]) -> None: ...

    @abstractmethod
    def waiter(self) -> TaskWaiter:
        """Make a waiter for the current task."""


class TaskWaiter(ABC):
    """A suspended task."""

    __slots__ = ("_home",)

    def __init__(self, home: _Home) -> None:
        self._home = home

    def wake(self) -> None:
        self._home.run(self.fire)

    @abstractmethod
    def fire(self) -> None:
        """Wake it up, on its loop."""

    @abstractmethod
    async def wait(self) -> None:
        """Suspend the task that made this waiter until it is woken."""


class _AsyncioHome(_Home):
    __slots__ = ("_current_task", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        super().__init__()
        self.loop = loop
        self._current_task = asyncio.current_task

    @override
    def in_task(self) -> bool:
        return self._current_task(self.loop) is not None

    @override
    def cancelled(self) -> bool:
        task = self._current_task(self.loop)
        return task is not None and task.cancelling() > 0

    @override
    def _call_soon(self, function: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(function)

    @override
    def waiter(self) -> TaskWaiter:
        return _AsyncioWaiter(self)


class _AsyncioWaiter(TaskWaiter):
    __slots__ = ("_future",)

    def __init__(self, home: _AsyncioHome) -> None:
        super().__init__(home)
        self._future: asyncio.Future[None] = home.loop.create_future()

    @override
    def fire(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    @override
    async def wait(self) -> None:
        await self._future


class _TrioHome(_Home):
    __slots__ = ("_lowlevel", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        import trio

        super().__init__()
        self._lowlevel = trio.lowlevel
        self._token = token

    @override
    def in_task(self) -> bool:
        return self._lowlevel.in_trio_task() and self._lowlevel.current_trio_token() is self._token

    @override
    def cancelled(self) -> bool:
        return False

    @override
    def _call_soon(self, function: Callable[[], None]) -> None:
        self._token.run_sync_soon(function)

    @override
    def waiter(self) -> TaskWaiter:
        return _TrioWaiter(self)


class _TrioWaiter(TaskWaiter):
    __slots__ = ("_asleep", "_lowlevel", "_task", "_woken")

    def __init__(self, home: _TrioHome) -> None:
        super().__init__(home)
        self._lowlevel = home._lowlevel  # noqa: SLF001  # of the same module
        self._task = self._lowlevel.current_task()
        self._asleep = self._woken = False

    @override
    def fire(self) -> None:
        self._woken = True
        if self._asleep:
            self._asleep = False
            self._lowlevel.reschedule(self._task)

    @override
    async def wait(self) -> None:
        if not self._woken:
            self._asleep = True
            await self._lowlevel.wait_task_rescheduled(self._give_up)

    def _give_up(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._asleep = False
        succeeded: trio.lowlevel.Abort = self._lowlevel.Abort.SUCCEEDED
        return succeeded


class AutoResetEvent:
    """Wakes a task that waits again and again: an event that a wait takes down when it returns.

    Set while nobody waits, it ends the next wait at once. Belongs to the event loop of the task that makes it, where one
    task waits at a time. It costs next to nothing, while an `anyio.Event`, of which each wait needs a new one, takes 900
    bytes on asyncio.
    """

    __slots__ = ("_home", "_is_set", "_waiter")

    def __init__(self) -> None:
        self._home = _current_home()
        self._waiter: TaskWaiter | None = None
        self._is_set = False

    def set(self) -> None:
        """End the wait, or the next one. Never waits; thread-safe."""
        self._home.run(self._set)

    def _set(self) -> None:
        self._is_set = True
        if self._waiter is not None:
            self._waiter.fire()

    async def wait(self) -> None:
        """Return once it was set since a wait last returned, after a turn of the loop at least. Cancelling it loses nothing."""
        if self._is_set:
            await checkpoint()
        else:
            self._waiter = self._home.waiter()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None
        self._is_set = False


class Canceller:
    """A cancel scope of the current task's loop, to be cancelled from anywhere: whoever is in it is woken by that."""

    __slots__ = ("_home", "_scope")

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._home = _current_home()
        self._scope = scope

    def wake(self) -> None:
        """Cancel it. Never waits; thread-safe."""
        self._home.run(self._scope.cancel)


class _Local(threading.local):
    home: _Home | None = None


_local = _Local()


def new_task_waiter() -> TaskWaiter:
    """Make a waiter for the current task.

    :raises RuntimeError: no event loop runs in this thread.
    """
    return _current_home().waiter()


def was_cancelled() -> bool:
    """Return whether somebody has cancelled the current task: else a cancellation in it came out of nowhere."""
    return current_effective_deadline() == -inf or _current_home().cancelled()


def _current_home() -> _Home:
    home = _local.home
    # before any other question: before Python 3.12, to ask asyncio for the running loop is a system call
    if home is None or not home.in_task():
        home = _local.home = _new_home()
    return home


def _new_home() -> _Home:
    trio_lowlevel = sys.modules.get("trio.lowlevel")
    if trio_lowlevel is not None and trio_lowlevel.in_trio_task():
        return _TrioHome(trio_lowlevel.current_trio_token())
    import asyncio

    return _AsyncioHome(asyncio.get_running_loop())


def in_event_loop() -> bool:
    """Return whether an event loop runs in this thread, so that it must not block."""
    trio_lowlevel = sys.modules.get("trio.lowlevel")
    if trio_lowlevel is not None and trio_lowlevel.in_trio_run():
        return True
    asyncio_events = sys.modules.get("asyncio.events")
    if asyncio_events is None:
        return False
    try:
        asyncio_events.get_running_loop()
    except RuntimeError:
        return False
    return True
