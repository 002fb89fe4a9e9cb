"""Calling what users have registered: outside all locks, after everybody was woken, and never in an event loop's thread."""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from .._loops.wakeups import in_event_loop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Lock

PATIENCE: Final = 0.01
"""Seconds that an event loop waits for callbacks, so that each is called for each change as long as they are quick."""
_LINGER: Final = 0.1  # seconds that the thread of callbacks waits for more


class Called(Protocol):
    """What is called.

    :ivar anywhere: whether an event loop's thread may call it: it hands over to somebody, and returns at once.
    :ivar slow: whether it has taken long before.
    """

    @property
    def anywhere(self) -> bool: ...

    @property
    def slow(self) -> bool: ...

    def deliver(self) -> None:
        """Call it for all that waits, unless another thread is at it, which goes on with that then."""
        ...


class Callbacks:
    """Whom the changes of one node concern that are registered with a callback. Thread-safe.

    The thread that has made a change calls, before it returns to its caller. One with an event loop leaves that to a
    thread of their own, and waits for it for a moment, at most `PATIENCE`: a callback that blocks keeps no loop from
    waking its tasks.

    :ivar waiting: those for whom there is something, in order.
    """

    __slots__ = ("_callers", "_helper", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Called, None] = {}
        self._callers: set[int] = set()
        self._helper = _Helper()

    def add(self, called: Called) -> None:
        """There is something for one of them. Under the lock of its node; twice is fine."""
        self.waiting[called] = None

    def run(self) -> None:
        """Have all called for whom there is something. Outside the lock; does nothing within a callback of this thread."""
        me = get_ident()
        if me in self._callers:
            return  # further out in this thread it goes on
        try:
            self._callers.add(me)
            looping = in_event_loop()
            left: list[Called] = []
            while (called := self._next()) is not None:
                if looping and not called.anywhere:
                    left.append(called)
                else:
                    called.deliver()
            if left:
                self._helper.run(left)
        finally:
            self._callers.discard(me)

    def _next(self) -> Called | None:
        while self.waiting:
            try:
                called = next(iter(self.waiting))
                del self.waiting[called]
            except (KeyError, RuntimeError, StopIteration):
                continue  # another thread was quicker, or added one just now
            return called
        return None


class _Helper:
    """A thread that calls; there is one while there is something to call, and a moment longer."""

    __slots__ = ("_lock", "_orders", "_running")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._orders: SimpleQueue[tuple[Sequence[Called], Lock]] = SimpleQueue()
        self._running = False

    def run(self, some: Sequence[Called]) -> None:
        """Have some called; wait for that for a moment, unless one of them is known to take longer."""
        done = threading.Lock()
        done.acquire()
        with self._lock:
            self._orders.put((some, done))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="hakuban callbacks", daemon=True).start()
        if not any(called.slow for called in some):
            done.acquire(timeout=PATIENCE)

    def _run(self) -> None:
        while True:
            try:
                some, done = self._orders.get(timeout=_LINGER)
            except Empty:
                with self._lock:
                    if self._orders.empty():
                        self._running = False
                        return
                continue
            for called in some:
                called.deliver()
            done.release()
            del some, called  # of nodes that may be forgotten while it waits for more
