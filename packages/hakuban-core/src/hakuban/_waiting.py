"""The two spellings of waiting: `await` and `async for` in tasks, blocking calls and `for` in threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anyio.lowlevel import checkpoint
from typing_extensions import override

from ._polling import ENDED, PENDING, Ended, Pending
from ._waking import ThreadWaiter, in_event_loop, new_task_waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._descriptors import ObjectDescriptor
    from ._engine import Engine
    from ._entries import ContractEntry, SinkEntry, StreamEntry

__all__ = ["Cursor", "MemberCursor", "wait_for", "wait_for_blocking"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


async def wait_for(engine: Engine, place: object, poll: Callable[[], T | Pending]) -> T:
    """Wait until a poll gives something; it is asked again whenever something changes at the place.

    Nothing is lost when this is cancelled, since a poll changes nothing.
    """
    result = poll()
    if not isinstance(result, Pending):
        await checkpoint()
        result = poll()
    while isinstance(result, Pending):
        waiter = new_task_waiter()
        try:
            if engine.park(place, waiter, poll):
                await waiter.wait()
        except BaseException:
            engine.unpark(place, waiter)
            raise
        result = poll()
    return result


def wait_for_blocking(
    engine: Engine,
    place: object,
    poll: Callable[[], T | Pending],
    timeout: float | None,
    spelling: str,
) -> T:
    """Block this thread until a poll gives something.

    :param timeout: seconds, or None for no limit.
    :param spelling: what to write instead where there is an event loop.
    :raises TimeoutError: it gave nothing in that time.
    :raises RuntimeError: an event loop runs in this thread.
    """
    if in_event_loop():
        raise RuntimeError(f"this would block the event loop of this thread; write `{spelling}`")
    deadline = None if timeout is None else monotonic() + timeout
    result = poll()
    while isinstance(result, Pending):
        waiter = ThreadWaiter()
        in_time = True
        try:
            if engine.park(place, waiter, poll):
                left = -1.0 if deadline is None else max(0.0, deadline - monotonic())
                in_time = waiter.wait(left)
        except BaseException:
            engine.unpark(place, waiter)
            raise
        result = poll()
        if not in_time:
            engine.unpark(place, waiter)
            if isinstance(result, Pending):
                raise TimeoutError
    return result


class Cursor(ABC, Generic[T_co]):
    """One loop: an iterator of both kinds, with a position of its own. For one task or thread at a time.

    Leaving the loop needs no clean-up; the next loop starts anew.
    """

    __slots__ = ("_engine", "_place")

    def __init__(self, engine: Engine, place: object) -> None:
        self._engine = engine
        self._place = place

    def __aiter__(self) -> Cursor[T_co]:
        return self

    async def __anext__(self) -> T_co:
        item = await wait_for(self._engine, self._place, self._poll)
        if item is ENDED:
            raise StopAsyncIteration
        return self._take(item)

    def __iter__(self) -> Cursor[T_co]:
        return self

    def __next__(self) -> T_co:
        item = wait_for_blocking(self._engine, self._place, self._poll, None, "async for")
        if item is ENDED:
            raise StopIteration
        return self._take(item)

    @abstractmethod
    def _poll(self) -> Any:
        """Give the next item, `PENDING` or `ENDED`; change nothing. Under the lock, and outside it."""

    @abstractmethod
    def _take(self, item: Any) -> T_co:
        """Move behind the item, and give it to the user."""


class MemberCursor(Cursor[T_co]):
    """Gives the members of a contract that are there, and each one that comes later, unless it has gone in between."""

    __slots__ = ("_ahead", "_entry", "_last", "_make")

    def __init__(self, engine: Engine, entry: ContractEntry, make: Callable[[Any], T_co]) -> None:
        super().__init__(engine, entry)
        self._entry = entry
        self._make = make
        self._ahead: deque[StreamEntry | SinkEntry] = deque()
        self._last = -1  # the id of the newest member that is or was in `_ahead`; ids grow

    @override
    def _poll(self) -> StreamEntry | SinkEntry | Pending | Ended:
        if self._entry.closed:
            return ENDED
        while True:
            while self._ahead and self._ahead[0].closed:
                self._ahead.popleft()
            if self._ahead:
                return self._ahead[0]
            newest = self._entry.newest
            if newest is None or newest.id <= self._last:
                return PENDING
            # only when all is given: so what is kept here never exceeds what was there at one moment
            self._engine.read(self._look)

    def _look(self) -> None:
        unseen: list[StreamEntry | SinkEntry] = []
        members: dict[ObjectDescriptor, Any] = self._entry.members
        for member in reversed(members.values()):
            if member.id <= self._last:
                break
            unseen.append(member)
        self._ahead.extend(reversed(unseen))
        if self._entry.newest is not None:
            self._last = self._entry.newest.id

    @override
    def _take(self, item: Any) -> T_co:
        self._ahead.popleft()
        return self._make(item)
