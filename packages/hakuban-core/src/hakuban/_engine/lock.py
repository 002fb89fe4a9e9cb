"""The lock of a node: for code that signal handlers, finalizers and KeyboardInterrupt may interrupt at any line."""

from __future__ import annotations

import os
import threading
from _thread import get_ident
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_process = object()  # replaced in the child of a fork


def _after_fork() -> None:
    global _process  # noqa: PLW0603  # the one fact about this process
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class NodeLock:
    """Lets one thread at a time run a function; knows when a thread comes back while it is inside already.

    Whoever comes back (a signal handler, a finalizer, run in the middle of the function) must not wait: it asks
    `inside` first. The lock is a reentrant one although it is never taken twice, since that one refuses to be released
    by a thread that does not hold it: so leaving may be tried again, which makes it proof against an exception at any
    line.
    """

    __slots__ = ("_lock", "_process", "_threads")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._threads: set[int] = set()  # those on their way in, inside, or on their way out
        self._process = _process

    def refuses_caller(self) -> bool:
        """Return whether the calling thread must not run anything: it is `inside`, or the process has `forked`."""
        return get_ident() in self._threads or self._process is not _process

    @property
    def inside(self) -> bool:
        """Whether the calling thread is in the middle of a function of this lock."""
        return get_ident() in self._threads

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that made the lock: then the lock may be held for ever."""
        return self._process is not _process

    @property
    def wanted(self) -> bool:
        """Whether another thread waits for this lock, or is in it."""
        return len(self._threads) > (get_ident() in self._threads)

    def run(self, function: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Wait for the lock and run a function."""
        me = get_ident()
        try:
            try:
                self._threads.add(me)
                self._lock.acquire()
                return function(*arguments)
            finally:
                self._leave(me)
        finally:
            if me in self._threads:
                self._leave(me)  # the first try was interrupted

    def try_run(self, function: Callable[[], object]) -> bool:
        """Run a function if the lock is free; return whether it was: it is not for whoever is inside."""
        me = get_ident()
        if me in self._threads:
            return False
        try:
            try:
                self._threads.add(me)
                free = self._lock.acquire(blocking=False)
                if free:
                    function()
                return free
            finally:
                self._leave(me)
        finally:
            if me in self._threads:
                self._leave(me)

    def _leave(self, me: int) -> None:
        # not `suppress`: this runs for every operation, and that would cost more than all the rest of it
        try:
            self._lock.release()
        except RuntimeError:
            pass  # not ours (any more)
        self._threads.discard(me)
