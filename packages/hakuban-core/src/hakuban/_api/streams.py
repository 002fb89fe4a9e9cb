"""Reading states: of one object, by a contract of its own or as a member of a tag."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from typing_extensions import override

from .._checks import checked_interval, checked_timeout
from .._contents import View
from .._engine.poll_results import ENDED, PENDING, Ended, Pending
from .._engine.waiting import Missing, wait_for, wait_for_blocking
from .._exceptions import ClosedError
from .._states import ObjectState
from .cursors import NO_STATE, RepeatingCursor, StateCursor, TimedCursor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .._contents import Version
    from .._descriptors import ObjectDescriptor
    from .._engine.engine import Engine
    from .._engine.entries import StreamEntry
    from .contracts import Contract
    from .decoding import Decoder


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StateReader(ABC, Generic[T_co]):
    """The reading half of whatever shows the states of one object.

    Thread-safe. Reading returns what is known now and never waits; iterating and `wait_state` wait. Each loop,
    `async for` in a task or `for` in a thread without event loop, has its own position: it begins with the current
    state, yields the newest one whenever version or freshness have changed since the loop last looked, and skips what
    came in between. A link or exposer that is lost never ends a loop: the state is yielded again, with its age.
    """

    __slots__ = ()

    _engine: Engine
    _decode: Decoder[T_co]

    @property
    @abstractmethod
    def descriptor(self) -> ObjectDescriptor:
        """The object."""

    def object_state(self) -> ObjectState[T_co] | None:
        """Return the current state; None before the first one."""
        view = self._view()
        return None if view is None else self._state(view)

    def object_data(self) -> T_co | None:
        """Return the decoded value of the current state; None before the first one.

        :raises DeserializationError: the data are not what the type or serializer of the contract expects.
        """
        view = self._view()
        return None if view is None else self._decode(view.content, self.descriptor)

    def object_version(self) -> Version | None:
        """Return the version of the current state; None before the first one."""
        view = self._view()
        return None if view is None else view.content.version

    @property
    def synchronized(self) -> bool:
        """Whether an assigned exposer states that this state is the object's state now. False without a state."""
        view = self._view()
        return view is not None and view.since is None

    @property
    def age(self) -> float:
        """Seconds since the current state was last known to be current; 0.0 while synchronized, inf without a state."""
        view = self._view()
        return math.inf if view is None else view.stale_for() or 0.0

    async def wait_state(self) -> ObjectState[T_co]:
        """Return the current state; wait for the first one. Use `anyio.fail_after` for a time limit.

        :raises ClosedError: it was closed before there was one.
        """
        return self._first(await wait_for(self._engine, self._place(), self._poll_any))

    def wait_state_sync(self, timeout: float | None = None) -> ObjectState[T_co]:
        """Do what `wait_state` does, blocking this thread.

        :param timeout: seconds to wait at most, or None.
        :raises WaitTimeoutError: there was none in that time.
        :raises ClosedError: it was closed before there was one.
        :raises RuntimeError: an event loop runs in this thread.
        """
        missing = Missing(self.descriptor, "no state", NO_STATE)
        return self._first(
            wait_for_blocking(
                self._engine, self._place(), self._poll_any, timeout, "await wait_state()", missing
            )
        )

    async def wait(self, predicate: Callable[[ObjectState[T_co]], object]) -> ObjectState[T_co]:
        """Wait for the first state, the current one or a later one, for which a function returns what is true.

        :param predicate: called with each state in turn; what it raises ends the wait.
        :raises TypeError: it is no function, or an `async` one.
        :raises ClosedError: it was closed before.
        """
        _check_predicate(predicate)
        async for state in self:
            if _holds(predicate, state):
                return state
        raise self._ended_error()

    def wait_sync(
        self, predicate: Callable[[ObjectState[T_co]], object], timeout: float | None = None
    ) -> ObjectState[T_co]:
        """Do what `wait` does, blocking this thread.

        :param timeout: seconds to wait at most, or None. The function is called at least once if there is a state.
        :raises TypeError: the predicate is no function, or an `async` one.
        :raises WaitTimeoutError: there was none in that time.
        :raises ClosedError: it was closed before.
        :raises RuntimeError: an event loop runs in this thread.
        """
        _check_predicate(predicate)
        seconds = checked_timeout(timeout)
        for state in TimedCursor(self._cursor(), seconds, self.descriptor, each=False):
            if _holds(predicate, state):
                return state
        raise self._ended_error()

    def iter(self, timeout: float) -> Iterator[ObjectState[T_co]]:
        """Loop over the states in a thread, as `for` does; for a limited time each.

        :param timeout: seconds to wait for each state at most.
        :raises WaitTimeoutError: at a step of the loop, nothing has changed for that time.
        """
        seconds = checked_timeout(timeout)
        return TimedCursor(self._cursor(), seconds, self.descriptor, each=True)

    def every(self, seconds: float) -> RepeatingCursor[T_co]:
        """Loop, by `async for` or `for`, over the states; and over a stale one again and again, so that its age counts.

        :param seconds: after how many, at the latest, the state is given again while it is not synchronized.
        :raises TypeError: it is no number.
        :raises ValueError: it is not more than 0.
        """
        interval, named = checked_interval(seconds), self.descriptor
        return RepeatingCursor(
            self._engine, self._place(), self._poll, self._state, interval, named
        )

    def __aiter__(self) -> AsyncIterator[ObjectState[T_co]]:
        return self._cursor()

    def __iter__(self) -> Iterator[ObjectState[T_co]]:
        return self._cursor()

    def _cursor(self) -> StateCursor[T_co]:
        return StateCursor(self._engine, self._place(), self._poll, self._state)

    def _state(self, view: View, skipped: int = 0) -> ObjectState[T_co]:
        return ObjectState.received(
            view.content, view.stale_for(), self._decode, self.descriptor, skipped
        )

    def _first(self, view: object) -> ObjectState[T_co]:
        if not isinstance(view, View):
            raise self._ended_error()
        return self._state(view)

    def _view(self) -> View | None:
        self._engine.help_out()  # what is read may be what waits to be settled
        entry = self._stream()
        return None if entry is None else entry.view

    def _poll_any(self) -> View | Ended | Pending:
        return self._poll(None)

    def _poll(self, seen: View | None) -> View | Pending | Ended:
        """Return the current view if it is another one than `seen`."""
        if self._over():
            return ENDED
        entry = self._stream()
        if entry is None:
            return PENDING
        # in this order: nothing is shown after a stream has closed, so a view cannot be overlooked
        closed, view = entry.closed, entry.view
        if view is not None and view is not seen and not _alike(view, seen):
            return view
        return ENDED if closed and self._ends_with(entry) else PENDING

    @abstractmethod
    def _over(self) -> bool:
        """Return whether the user has ended it."""

    @abstractmethod
    def _ended_error(self) -> ClosedError:
        """Make what is raised to those who wait for something that will not come."""

    @abstractmethod
    def _place(self) -> object:
        """Return the place at which changes are announced."""

    @abstractmethod
    def _stream(self) -> StreamEntry | None: ...

    @abstractmethod
    def _ends_with(self, entry: StreamEntry) -> bool:
        """Return whether it is at its end when this stream has closed."""


class ObjectStateStream(StateReader[T_co]):
    """One object as a tag contract sees it: an item of the loop over a `TagObserve`.

    It ends when the object ceases to exist for this node, or the stream or the contract is closed. Reads and loops as
    `ObjectObserve` does.
    """

    __slots__ = ("_closed", "_contract", "_decode", "_engine", "_entry", "_last")

    def __init__(
        self,
        engine: Engine,
        entry: StreamEntry,
        decode: Decoder[T_co],
        contract: Contract,
    ) -> None:
        self._engine = engine
        self._entry = entry
        self._decode = decode
        self._contract = (
            contract  # or it would be collected, and closed, while its streams are in use
        )
        self._closed = False
        self._last: View | None = None

    @property
    @override
    def descriptor(self) -> ObjectDescriptor:
        """The object."""
        return self._entry.descriptor

    @property
    def closed(self) -> bool:
        """Whether the stream has ended. The last state stays readable, and is not synchronized any more."""
        return self._closed or self._entry.closed

    def close(self) -> None:
        """End the loops over this stream. Never waits, from signal handlers and finalizers too; twice is fine.

        The contract goes on: the object is produced for it as before, and its next loop yields another stream of the
        object, which begins with the current state.
        """
        if not self._closed:
            self._last = self._entry.last_view(monotonic())
            self._closed = True  # at once: also where waking has to be left to the operation that this interrupts
        self._engine.close_quietly(lambda _machine, _now: self._engine.wake(self._entry))

    @override
    def _over(self) -> bool:
        return self._closed or self._contract.closed

    @override
    def _ended_error(self) -> ClosedError:
        step = "the object has ceased, or the contract was closed; loop over the contract for the next one"
        return ClosedError(self.descriptor, "the stream of", step)

    @override
    def _place(self) -> object:
        return self._entry

    @override
    def _stream(self) -> StreamEntry:
        return self._entry

    @override
    def _view(self) -> View | None:
        return self._last if self._closed else super()._view()

    @override
    def _ends_with(self, entry: StreamEntry) -> bool:
        return True

    @override
    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<ObjectStateStream {self.descriptor}{closed}>"


def _check_predicate(predicate: object) -> None:
    if not callable(predicate):
        raise TypeError(
            f"a predicate is a function of a state, not {predicate!r:.100}: write `lambda state: ...`"
        )


def _holds(predicate: Callable[[ObjectState[T]], object], state: ObjectState[T]) -> bool:
    answer = predicate(state)
    if inspect.isawaitable(answer):  # which is true, whatever would come of it
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that nobody has awaited it
        raise TypeError(
            "a predicate answers at once: write a function without `async`, or loop by `async for`"
        )
    return bool(answer)


def _alike(view: View, seen: View | None) -> bool:
    """Return whether the state went stale and became current again, unchanged, while nobody looked."""
    return (
        seen is not None
        and view.content.version == seen.content.version
        and view.since is None
        and seen.since is None
        and view.content.data == seen.content.data
        and view.content.format == seen.content.format
    )
