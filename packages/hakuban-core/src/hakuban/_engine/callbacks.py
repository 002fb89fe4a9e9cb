"""Calling what users have registered: outside all locks, after everybody was woken, and never in an event loop's thread."""

from __future__ import annotations

import math
import threading
from _thread import allocate_lock, get_ident
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from .._logger import get_logger
from .._loops.wakeups import in_event_loop

if TYPE_CHECKING:
    from collections.abc import Iterable
    from threading import Lock

PATIENCE: Final = 0.01
"""Seconds that an event loop waits for callbacks, so that each is called for each change as long as they are quick."""
_LINGER: Final = 0.1  # seconds that a thread of callbacks waits for more
_logger = get_logger("hakuban.events")


class Called(Protocol):
    """What is called.

    :ivar anywhere: whether an event loop's thread may call it: it hands over to somebody, and returns at once.
    :ivar slow: whether it has taken long lately.
    """

    @property
    def anywhere(self) -> bool: ...

    @property
    def slow(self) -> bool: ...

    def deliver(self) -> None:
        """Call it for all that waits, unless another thread is at it, which goes on with that then."""
        ...


class _Call(Protocol):
    """`Callbacks.call`."""

    def __call__(self, left: dict[Called, None], /, *, looping: bool) -> None: ...


class Callbacks:
    """Whom the changes of one node concern that are registered with a callback. Thread-safe.

    The thread that has made a change calls, before it returns to its caller. One with an event loop leaves that to a
    thread of callbacks, and waits for it for a moment, at most `PATIENCE`: a callback that blocks keeps no loop from
    waking its tasks. So do those that only read, and finalizers, and they do not even wait: their callers may hold
    locks of their own, and have changed nothing.

    :ivar waiting: those for whom there is something, in order, by the thread that has made the change.
    """

    __slots__ = ("_callers", "_helpers", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, dict[Called, None]] = {}
        self._callers: set[int] = set()
        self._helpers = _Helpers()

    def add(self, called: Called) -> None:
        """There is something for one of them. Under the lock of its node; twice is fine."""
        self.waiting.setdefault(get_ident(), {})[called] = None

    def run(self) -> None:
        """Have all called for whom this thread has made a change. Outside the lock."""
        looping = in_event_loop()
        left: dict[Called, None] = {}
        try:
            self.call(left, looping=looping)
        finally:
            if left:
                self._helpers.take(self.call, left, waits=looping)

    def leave(self) -> None:
        """Have them called by another thread, without waiting for that."""
        me = get_ident()
        if me not in self._callers and (left := self.waiting.pop(me, None)):
            self._helpers.take(self.call, left, waits=False)

    def call(self, left: dict[Called, None], /, *, looping: bool) -> None:
        """Call some, and whom that concerns in turn; does nothing within a callback of this thread.

        :param left: those to be called; afterwards those that another thread is to call, or that are left where one raised.
        """
        me = get_ident()
        if me in self._callers:
            return  # further out in this thread it goes on
        self._callers.add(me)
        elsewhere: dict[Called, None] = {}
        try:
            while left or me in self.waiting:
                left.update(self.waiting.pop(me, {}))
                called = next(iter(left))
                if looping and not called.anywhere:
                    elsewhere[called] = None
                else:
                    called.deliver()
                del left[called]
        finally:
            left.update(elsewhere)
            self._callers.discard(me)


class _Order:
    """What one thread leaves to others to call. `done` is released when all of it was called."""

    __slots__ = ("_left", "call", "done")

    def __init__(self, call: _Call, some: Iterable[Called]) -> None:
        self.call: _Call = call
        self.done: Lock = allocate_lock()
        self.done.acquire()
        self._left = [*some]

    def called(self) -> None:
        """One of them was called."""
        self._left.pop()
        if not self._left:
            with suppress(RuntimeError):  # two were, at the same time
                self.done.release()


class _Turn:
    """A thread of callbacks. `began` is the monotonic time since when one callback keeps it; infinity for none."""

    __slots__ = ("began",)

    def __init__(self) -> None:
        self.began: float = math.inf


class _Helpers:
    """Threads that call: one while there is something to call, and a moment longer; another where a callback blocks it.

    Without locks: a finalizer may come at any line.
    """

    __slots__ = ("_orders", "_turn")

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Called, _Order]] = SimpleQueue()
        self._turn: _Turn | None = None  # whose it is to take the next order

    def take(self, call: _Call, some: Iterable[Called], *, waits: bool) -> None:
        """Have some called.

        :param call: does it.
        :param waits: whether to wait for that for a moment, unless one of them is known to take longer.
        """
        order = _Order(call, some)
        for called in some:
            self._orders.put((called, order))
        turn = self._turn
        if turn is None or monotonic() - turn.began > PATIENCE:
            self._start()
        if (
            waits
            and not any(called.slow for called in some)
            and not order.done.acquire(timeout=PATIENCE)
            and not self._orders.empty()
        ):
            self._start()  # one of them blocks

    def _start(self) -> None:
        turn = self._turn = _Turn()
        thread = threading.Thread(
            target=self._work, args=(turn,), name="hakuban callbacks", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # there are too many threads, or the program ends
            self._turn = None  # so the next one who has something tries again
            _logger.warning("callbacks wait, since no thread can be started for them: %s", error)

    def _work(self, turn: _Turn) -> None:
        while self._turn is turn or not self._orders.empty():
            try:
                called, order = self._orders.get(timeout=_LINGER)
            except Empty:
                if self._turn is turn:
                    self._turn = None  # first: who puts one afterwards starts another thread
                continue
            if called.slow and not self._orders.empty():
                self._start()
            turn.began = monotonic()
            _call_to_the_end(order.call, called)
            turn.began = math.inf
            order.called()
            del called, order  # of nodes that may be forgotten while it waits for more


def _call_to_the_end(call: _Call, called: Called) -> None:
    left: dict[Called, None] = {called: None}
    while left:
        try:
            call(left, looping=False)
        except BaseException:  # noqa: ASYNC103  # in a thread: SystemExit of a callback ends none
            _logger.exception(
                "a callback has tried to end its thread, and is called for later events"
            )
