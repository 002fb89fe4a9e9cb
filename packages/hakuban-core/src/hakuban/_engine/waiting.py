"""The two spellings of waiting: `await` and `async for` in tasks, blocking calls and `for` in threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar
from weakref import ref

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from .._checks import checked_timeout
from .._exceptions import WaitTimeoutError
from .._loops.wakeups import ThreadWaiter, in_event_loop, new_task_waiter
from .poll_results import ENDED, PENDING, Ended, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._descriptors import ObjectDescriptor
    from .engine import Engine
    from .entries import ContractEntry, SinkEntry, StreamEntry
    from .hub import Waitable


LOOKED_AT: Final = 256  # members, before it is worth while to copy all of them

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
C = TypeVar("C", bound="Loop[Any]")


class Missing(NamedTuple):
    """What is waited for, in the words of a WaitTimeoutError."""

    subject: object
    what: str
    step: str


async def wait_for(engine: Waitable, place: object, poll: Callable[[], T | Pending]) -> T:
    """Wait until a poll finds something; it is asked again whenever something changes at the place.

    Nothing is lost when this is cancelled, since a poll changes nothing.
    """
    result = poll()
    if not isinstance(result, Pending):
        await checkpoint()
        result = poll()
    while isinstance(result, Pending):
        waiter = new_task_waiter()
        try:
            if not engine.park(place, waiter, poll):
                if engine.step():
                    await checkpoint()
            elif (seconds := engine.until_due()) is None:
                await waiter.wait()
            else:
                with anyio.move_on_after(seconds) as scope:
                    await waiter.wait()
                if scope.cancelled_caught:
                    engine.unpark(place, waiter)
        except BaseException:
            engine.unpark(place, waiter)
            raise
        result = poll()
    return result


def wait_for_blocking(
    engine: Waitable,
    place: object,
    poll: Callable[[], T | Pending],
    timeout: float | None,
    spelling: str,
    missing: Missing | None = None,
) -> T:
    """Block this thread until a poll finds something.

    :param timeout: seconds, or None for no limit.
    :param spelling: what to write instead where there is an event loop.
    :param missing: what to report when it did not come; with a `timeout` alone.
    :raises TypeError: the timeout is no number.
    :raises ValueError: it is not a number of seconds.
    :raises WaitTimeoutError: it found nothing in that time.
    :raises RuntimeError: an event loop runs in this thread.
    """
    if in_event_loop():
        raise RuntimeError(f"this would block the event loop of this thread; write `{spelling}`")
    seconds = checked_timeout(timeout)
    deadline = None if seconds is None else monotonic() + seconds
    result = poll()
    while isinstance(result, Pending):
        if not _park_thread(engine, place, poll, deadline):
            engine.step()
        result = poll()
        if isinstance(result, Pending) and deadline is not None and monotonic() >= deadline:
            assert seconds is not None
            assert missing is not None
            raise WaitTimeoutError(missing.subject, seconds, missing.what, missing.step)
    return result


def _park_thread(
    engine: Waitable, place: object, poll: Callable[[], object], deadline: float | None
) -> bool:
    """Wait until something changes at a place, or something is due that nobody else would do; if not so already.

    :param deadline: the monotonic time until which to wait, or None.
    :return: whether this has waited.
    """
    waiter = ThreadWaiter()
    try:
        if not engine.park(place, waiter, poll):
            return False
        times = [engine.until_due(), None if deadline is None else deadline - monotonic()]
        shortest = min((time for time in times if time is not None), default=None)
        if not waiter.wait(-1.0 if shortest is None else max(0.0, shortest)):
            engine.unpark(place, waiter)
    except BaseException:
        engine.unpark(place, waiter)
        raise
    return True


class Loop(ABC, Generic[T_co]):
    """An iterator of both kinds that waits."""

    __slots__ = ("__weakref__", "_began", "_engine", "_place", "_refused")

    instead: str = "`for item in ...:`, and leave the loop when you have enough"

    def __init__(self, engine: Waitable, place: object) -> None:
        self._engine = engine
        self._place = place
        self._began = False
        self._refused: str | None = None

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> T_co: ...

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        if not self._began:
            self._begin_blocking()
        return self._next_blocking()

    def refuse(self, instead: str) -> None:
        """Have the loop raise TypeError if it has not begun; see `Endless`."""
        self._refused = instead

    def _begin_blocking(self) -> None:
        if self._refused is not None and self._goes_on():
            raise TypeError(
                f"a list of what never ends would never be ready: write {self._refused}"
            )
        self._began = True

    def _goes_on(self) -> bool:
        """Return whether the loop would wait at its end."""
        return self._poll() is not ENDED

    def __length_hint__(self) -> int:
        self.refuse(self.instead)
        return 0

    def __contains__(self, item: object) -> bool:
        raise TypeError(f"`in` would look for ever: write {self.instead}")

    @abstractmethod
    def _next_blocking(self) -> T_co:
        """Wait for the next item in this thread, and take it."""

    @abstractmethod
    def _poll(self) -> Any:
        """Return the next item, `PENDING` or `ENDED`; change nothing. Under the lock, and outside it."""


class Cursor(Loop[T_co]):
    """One loop, with a position of its own. For one task or thread at a time.

    Leaving the loop needs no clean-up; the next loop starts anew.
    """

    __slots__ = ()

    @override
    async def __anext__(self) -> T_co:
        item = await wait_for(self._engine, self._place, self._poll)
        if item is ENDED:
            raise StopAsyncIteration
        return self._take(item)

    @override
    def _next_blocking(self) -> T_co:
        item = wait_for_blocking(self._engine, self._place, self._poll, None, "async for")
        if item is ENDED:
            raise StopIteration
        return self._take(item)

    @abstractmethod
    def _take(self, item: Any) -> T_co:
        """Move behind the item, and return it to the user."""


class Endless:
    """What can be looped over, and never comes to an end by itself: `list` of it, and `in`, would hang.

    `list` and `tuple` ask for the length before the first item, and take a TypeError there for "unknown"; so the loop
    that this thread has begun is notified, and raises it at its first step.
    """

    __slots__ = ()

    _instead: str

    def _looping(self, cursor: C) -> C:
        """Return a new loop, and remember it for `__length_hint__`."""
        _newest.loop = (id(self), ref(cursor))
        return cursor

    def __length_hint__(self) -> int:
        whose, cursor = getattr(_newest, "loop", (None, _nothing))
        loop = cursor()
        if whose == id(self) and loop is not None:
            loop.refuse(self._instead)
        return 0

    def __contains__(self, item: object) -> bool:
        raise TypeError(f"`in` would look for ever: write {self._instead}")


_newest = threading.local()


def _nothing() -> None:
    return None


class MemberCursor(Cursor[T_co]):
    """Returns the members of a contract that are there, and each that comes later, unless it has gone in between."""

    __slots__ = ("_entry", "_make", "_read", "_unseen")

    def __init__(self, engine: Engine, entry: ContractEntry, make: Callable[[Any], T_co]) -> None:
        super().__init__(engine, entry)
        self._read = engine.read
        self._entry = entry
        self._make = make
        # replaced at once, or an interruption could return members twice
        self._unseen = _Unseen(deque(), -1)

    @override
    def _poll(self) -> StreamEntry | SinkEntry | Pending | Ended:
        if self._entry.closed:
            return ENDED
        while True:
            ahead, last = self._unseen
            while ahead and ahead[0].closed:
                ahead.popleft()
            if ahead:
                return ahead[0]
            newest = self._entry.newest
            if newest is None or newest.id <= last:
                return PENDING
            # only when all are returned: so what is kept here never exceeds what was there at one moment
            members = self._read(partial(self._look, last))
            ahead = deque(reversed([member for member in members if member.id > last]))
            self._unseen = _Unseen(ahead, max(newest.id, ahead[-1].id if ahead else -1))

    def _look(self, last: int) -> list[StreamEntry | SinkEntry]:
        """Return the newest members, the newest first: all that are newer than the last one, and perhaps others."""
        members: dict[ObjectDescriptor, Any] = self._entry.members
        newest = list(islice(reversed(members.values()), LOOKED_AT))
        if len(newest) < LOOKED_AT or newest[-1].id <= last:
            return newest
        return [*reversed(members.values())]

    @override
    def _take(self, item: Any) -> T_co:
        self._unseen.ahead.popleft()
        return self._make(item)


class _Unseen(NamedTuple):
    """Members that a loop is still to return, and the id of the newest one that it has looked at; ids grow."""

    ahead: deque[StreamEntry | SinkEntry]
    last: int
