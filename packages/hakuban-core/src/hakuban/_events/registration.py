"""Callbacks."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from typing_extensions import override

from .._changes import Event
from .._engine.feeds import Subscriber
from .._engine.lock import NodeLock
from .._logger import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .._engine.feeds import Emitter
    from .._engine.hub import Hub

K = TypeVar("K", bound="Hashable")

SLOW: Final = 0.01  # seconds
_QUICK: Final = 10  # calls after which one that was slow is waited for again
_logger = get_logger("hakuban.events")


class Delivery(Subscriber[Any], Generic[K]):
    """Calls a callback for the events of a feed: one call at a time, in whatever thread the change was made.

    :param function: what keys become, or None.
    :param owner: what it needs, and perhaps nobody else keeps.
    :ivar anywhere: whether an event loop's thread may call it.
    :ivar slow: whether it has taken long lately.
    :ivar stopped: whether it is called no more.
    """

    __slots__ = (
        "_callback", "_calling", "_function", "_owner", "_quick", "_via", "_warned", "anywhere", "stopped",
    )  # fmt: skip

    def __init__(
        self,
        emitter: Emitter[Any],
        function: Callable[[Any], K] | None,
        callback: Callable[[Event[K]], object],
        via: Callable[[Callable[[Event[K]], object], Event[K]], object] | None,
        *,
        anywhere: bool,
        owner: object = None,
    ) -> None:
        super().__init__(emitter)
        self._function = function
        self._callback = callback
        self._via = via
        self._calling = NodeLock()
        self._owner = owner
        self.anywhere: bool = anywhere
        self._quick = _QUICK  # calls one after the other that took no time
        self._warned = False
        self.stopped: bool = False

    @property
    def slow(self) -> bool:
        """See `Called.slow`."""
        return self._quick < _QUICK

    @property
    def hub(self) -> Hub:
        """Whose lock guards what it is called for."""
        return self._emitter.hub

    @property
    def over(self) -> bool:
        """Whether nothing will be called any more."""
        return self.stopped or (self.ended and not self.pending)

    def start(self) -> None:
        """Subscribe; the callback is called for the keys that are there."""
        try:
            self._emitter.hub.read(self.subscribe, changes=True)
        except BaseException:  # of a callback that ends the program: nobody gets what would end it
            self.stop()
            raise

    def stop(self) -> None:
        """Call no more, and forget what waits. Never waits itself."""
        self.stopped = True
        self._owner = None
        self._emitter.hub.quietly(self.unsubscribe)

    def deliver(self) -> None:
        """See `Called.deliver`."""
        while self.pending and not self.stopped:
            if not self._calling.try_run(self._deliver):
                return  # another thread, or this one further out, looks again when it is through

    @override
    def notify(self) -> None:
        # also if nothing is pending: at the end it is dropped outside the lock then, with what is the program's
        self._emitter.hub.callbacks.add(self)

    def _deliver(self) -> None:
        while not self.stopped:
            event = self._emitter.hub.read(self.pop)
            if event is not None:
                self._call(event)
            elif not self.pending:
                return

    def _hand_over(self, event: Event[K]) -> None:
        """Call it for an event with the key that the source has made of its key."""
        if self._via is None:
            self._callback(event)
        else:
            self._via(self._callback, event)

    def _call(self, event: Event[Any]) -> None:
        began = monotonic()
        try:
            self._hand_over(
                event if self._function is None else Event(event.action, self._function(event.key))
            )
        except Exception:  # code of the program's, which may raise whatever it likes
            _logger.exception("%s: %r raised, for %r", self._emitter.name, self._callback, event)
        self._note_time(monotonic() - began)

    def _note_time(self, seconds: float) -> None:
        if seconds <= SLOW:
            self._quick = min(self._quick + 1, _QUICK)
            return
        self._quick = 0
        if not self._warned:
            self._warned = True
            _logger.warning(
                "%s: %r took %.0f ms, and whoever made the change may have waited: hand events over with `via=`",
                self._emitter.name,
                self._callback,
                1000.0 * seconds,
            )


class Registration:
    """A callback that is called for each event of a source, until `unregister`, the end of its `with`, or of the source.

    Nobody has to keep it: a registration that was forgotten goes on. Thread-safe.
    """

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery[Any]) -> None:
        self._delivery = delivery

    @property
    def closed(self) -> bool:
        """Whether nothing will be called any more."""
        return self._delivery.over

    def unregister(self) -> None:
        """Have the callback called no more; a call that is running in another thread goes on. Twice is fine.

        Never waits, from signal handlers, finalizers and the callback itself too.
        """
        self._delivery.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()
