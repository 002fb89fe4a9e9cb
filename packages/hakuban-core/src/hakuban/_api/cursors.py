"""Loops over the states of one object."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio
from typing_extensions import override

from .._engine.poll_results import Ended, Pending
from .._engine.waiting import Cursor, Missing, wait_for_blocking
from .._exceptions import WaitTimeoutError
from .._states import ObjectState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._contents import View
    from .._engine.hub import Waitable

T = TypeVar("T")

NO_STATE = (
    "is this node connected, and does somebody expose the object? See snapshot() of the router"
)


class StateCursor(Cursor[ObjectState[T]]):
    """Gives the current state, and then the newest whenever version or freshness have changed."""

    __slots__ = ("_make", "_poll_newer", "_seen")

    def __init__(
        self,
        engine: Waitable,
        place: object,
        poll_newer: Callable[[View | None], View | Pending | Ended],
        make: Callable[[View, int], ObjectState[T]],
    ) -> None:
        super().__init__(engine, place)
        self._poll_newer = poll_newer
        self._make = make
        self._seen: View | None = None

    def again(self) -> ObjectState[T]:
        """Return the state that was given last, as it is by now."""
        assert self._seen is not None
        return self._make(self._seen, 0)

    def next_within(self, timeout: float | None, subject: object) -> ObjectState[T]:
        """Wait in this thread for the next state.

        :param timeout: seconds, or None.
        :param subject: what it is a state of.
        :raises WaitTimeoutError: there was none in that time.
        :raises StopIteration: there will not be any.
        """
        missing = Missing(subject, "no state" if self._seen is None else "no change", NO_STATE)
        item = wait_for_blocking(
            self._engine, self._place, self._poll, timeout, "async for", missing
        )
        if isinstance(item, Ended):
            raise StopIteration
        return self._take(item)

    @override
    def _poll(self) -> View | Pending | Ended:
        return self._poll_newer(self._seen)

    @override
    def _take(self, item: Any) -> ObjectState[T]:
        seen, self._seen = self._seen, item
        return self._make(item, 0 if seen is None else max(0, item.number - seen.number - 1))


class TimedCursor(Generic[T]):
    """A loop of a thread that takes a limited time.

    What is there at its first step is given in any case.

    :param timeout: seconds for all of it, or None for no limit.
    :param each: whether that is the time of each step.
    :param subject: what it loops over the states of.
    """

    __slots__ = ("_began", "_cursor", "_deadline", "_each", "_subject", "_timeout")

    def __init__(
        self, cursor: StateCursor[T], timeout: float | None, subject: object, *, each: bool
    ) -> None:
        self._cursor = cursor
        self._timeout = timeout
        self._subject = subject
        self._each = each
        self._began = False
        self._deadline = None if timeout is None else monotonic() + timeout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ObjectState[T]:
        if self._each or self._timeout is None or self._deadline is None:
            return self._cursor.next_within(self._timeout, self._subject)
        left = max(0.0, self._deadline - monotonic())
        if self._began and left <= 0.0:  # however many states are still to come
            raise self._too_late(self._timeout)
        self._began = True
        try:
            return self._cursor.next_within(left, self._subject)
        except WaitTimeoutError:
            raise self._too_late(self._timeout) from None

    def _too_late(self, timeout: float) -> WaitTimeoutError:
        return WaitTimeoutError(
            self._subject, timeout, "not the state that is waited for", NO_STATE
        )


class RepeatingCursor(StateCursor[T]):
    """Gives a stale state again and again.

    :param seconds: after how many.
    :param subject: what it loops over the states of.
    """

    __slots__ = ("_seconds", "_subject")

    def __init__(
        self,
        engine: Waitable,
        place: object,
        poll_newer: Callable[[View | None], View | Pending | Ended],
        make: Callable[[View, int], ObjectState[T]],
        seconds: float,
        subject: object,
    ) -> None:
        super().__init__(engine, place, poll_newer, make)
        self._seconds = seconds
        self._subject = subject

    @property
    def stale(self) -> bool:
        """Whether the state that was given last was not current."""
        return self._seen is not None and self._seen.since is not None

    @override
    async def __anext__(self) -> ObjectState[T]:
        with anyio.move_on_after(self._seconds if self.stale else None):
            return await super().__anext__()
        item = self._poll()  # the time may be over before anybody has looked
        if isinstance(item, Ended):
            raise StopAsyncIteration
        return self.again() if isinstance(item, Pending) else self._take(item)

    @override
    def _next_blocking(self) -> ObjectState[T]:
        try:
            return self.next_within(self._seconds if self.stale else None, self._subject)
        except WaitTimeoutError:
            return self.again()
