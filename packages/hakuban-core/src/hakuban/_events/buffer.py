"""Events that wait to be taken, one after the other."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from typing_extensions import override

from .._changes import Event
from .._checks import checked_timeout
from .._engine.feeds import Subscriber
from .._engine.poll_results import ENDED, PENDING, Ended, Pending
from .._engine.waiting import Loop, Missing, wait_for, wait_for_blocking
from .._exceptions import ClosedError
from .._logger import get_logger
from .._uncopied import Uncopied

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from .._engine.feeds import Emitter

K = TypeVar("K", bound="Hashable")

_logger = get_logger("hakuban.events")


class Mailbox(Subscriber[Any], Generic[K]):
    """What a buffer keeps in the feed, which must not refer to the buffer: so one that was forgotten is noticed.

    :param function: what keys become, or None.
    """

    __slots__ = ("_function",)

    def __init__(self, emitter: Emitter[Any], function: Callable[[Any], K] | None) -> None:
        super().__init__(emitter)
        self._function = function

    @override
    def notify(self) -> None:
        self._emitter.hub.wake(self)

    @override
    def unsubscribe(self) -> None:
        super().unsubscribe()
        self.end()

    def poll(self) -> bool | Pending | Ended:
        if self.pending:
            return True
        return ENDED if self.ended else PENDING

    def take(self) -> list[Event[K]]:
        """Take the first event. There may be none although some were there: what has come and gone is nothing."""
        event = self._emitter.hub.read(self.pop)
        return [] if event is None else self.named([event])

    def named(self, events: Iterable[Event[Any]]) -> list[Event[K]]:
        """Return events with the keys that the source has made of its keys."""
        if self._function is None:
            return [*events]
        named = []
        for event in events:
            try:
                named.append(Event(event.action, self._function(event.key)))
            except (
                Exception
            ):  # code of the program's: the events of other keys must not be lost by that
                _logger.exception("%s: no key can be made for %r", self._emitter.name, event)
        return named


class EventBuffer(Uncopied, Loop[Event[K]]):
    """The events of a source since it was made, the keys that were there then first; at most one a key, folded.

    What a reader has not taken is folded: an INSERT and a CHANGE are an INSERT, an INSERT and a REMOVE nothing, a REMOVE
    and an INSERT a CHANGE. So it takes as much memory as there are keys, however slow its reader is. Thread-safe; tasks
    and threads that read from one buffer share its events. It is `with` block and iterator: a loop over it, `async for`
    in a task or `for` in a thread without event loop, ends when nothing will come any more. One that was forgotten is
    closed.
    """

    __slots__ = ("_hub", "_mailbox", "_name", "_source")

    instead: str = "`buffer.ready()` for what is there now"

    def __init__(self, source: object, emitter: Emitter[Any], mailbox: Mailbox[K]) -> None:
        super().__init__(emitter.hub, mailbox)
        self._hub = emitter.hub
        self._source = (
            source  # or its contract would be collected, and closed, while events are waited for
        )
        self._name = emitter.name
        self._mailbox = mailbox
        self._hub.read(mailbox.subscribe)

    async def get(self) -> Event[K]:
        """Wait for an event, and take it. Nothing is lost when this is cancelled.

        :raises ClosedError: nothing will come any more: the contract, the node or the buffer is closed.
        """
        event = await self._wait()
        if event is None:
            raise self._ended_error()
        return event

    def get_sync(self, timeout: float | None = None) -> Event[K]:
        """Do what `get` does, blocking this thread.

        :param timeout: seconds to wait at most, or None.
        :raises WaitTimeoutError: nothing came in that time.
        :raises ClosedError: nothing will come any more.
        :raises RuntimeError: an event loop runs in this thread.
        """
        event = self._wait_blocking(timeout, "await get()")
        if event is None:
            raise self._ended_error()
        return event

    def ready(self) -> list[Event[K]]:
        """Take all that is there; empty if there is nothing. Never waits."""
        return self._mailbox.named(self._hub.read(self._mailbox.cut))

    def clear(self) -> None:
        """Forget all that is there."""
        self._hub.read(self._mailbox.cut)

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more; what is there can still be taken."""
        return self._mailbox.ended

    def close(self) -> None:
        """Take no more events, and forget those that are there. Never waits; twice is fine."""
        self._hub.quietly(self._mailbox.unsubscribe)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            hub, mailbox = self._hub, self._mailbox
        except AttributeError:
            return  # __init__ was interrupted
        hub.later(mailbox.unsubscribe)

    @override
    async def __anext__(self) -> Event[K]:
        event = await self._wait()
        if event is None:
            raise StopAsyncIteration
        return event

    @override
    def _next_blocking(self) -> Event[K]:
        event = self._wait_blocking(None, "async for")
        if event is None:
            raise StopIteration
        return event

    async def _wait(self) -> Event[K] | None:
        while await wait_for(self._hub, self._place, self._poll) is not ENDED:
            for event in self._mailbox.take():
                return event
        return None

    def _wait_blocking(self, timeout: float | None, spelling: str) -> Event[K] | None:
        seconds = checked_timeout(timeout)
        deadline = None if seconds is None else monotonic() + seconds
        missing = Missing(self._name, "no event", "does anything change there?")
        while True:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            found = wait_for_blocking(self._hub, self._place, self._poll, left, spelling, missing)
            if found is ENDED:
                return None
            for event in self._mailbox.take():
                return event

    @override
    def _poll(self) -> bool | Pending | Ended:
        return self._mailbox.poll()

    @override
    def _goes_on(self) -> bool:
        return not self.closed

    def _ended_error(self) -> ClosedError:
        return ClosedError(self._name, "the events of", "make another contract where it is needed")
