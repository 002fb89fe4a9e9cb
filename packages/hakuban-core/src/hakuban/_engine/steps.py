"""Steps of a machine: one at a time, under one lock, and what has to happen because of them outside that lock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from time import monotonic, sleep, time_ns
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from .._core.events import Event, Tick
from .._exceptions import NodeBrokenError, NodeForkedError
from .callbacks import Callbacks
from .lock import NodeLock
from .log_box import LogBox
from .outbox import Outbox
from .parking import Parking
from .poll_results import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._core.machine import Machine
    from .._exceptions import LinkError
    from .._loops.wakeups import Waiter
    from .._session_events import PeerEvent


T = TypeVar("T")

_LEAST_IN_A_STEP: Final = 8  # objects settled, as a rule
_MOMENT: Final = 0.0002  # seconds


class Steps(ABC):
    """Runs the machine of a node. Thread-safe; nothing here waits for anything but the lock.

    The machine, and the bookkeeping that mirrors its effects, run under the lock. Whom that concerns goes to an outbox,
    which one thread at a time empties outside the lock, in order; each entry stays until it has been done, and may
    be done twice. What is to be logged has a box of its own, which is emptied after that: handlers are user code, which
    may block, raise and call the node, and nobody who is to be woken waits for them. Registered callbacks come last. An exception under the lock leaves
    `_half_done` set: the node is broken.

    No step takes long. What is left over is due at once: a timer does it, that is a task beside the links of the node;
    without one whoever waits for something on the node does it, else whoever makes the next call.

    :ivar callbacks: those for whom there are events.
    :ivar cause: what broke the node, or None.
    :ivar deadline: the monotonic time at which the machine wants a tick, or None.
    """

    __slots__ = (
        "_deferred", "_due", "_half_done", "_lock", "_log", "_machine", "_outbox", "_parking",
        "_winding_up", "callbacks", "cause", "deadline",
    )  # fmt: skip

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = NodeLock()
        self._half_done = False
        self._due = False  # something is due, and no timer does it
        self._winding_up = (
            False  # contracts are left to be closed of which nobody waits for the end
        )
        self._deferred: deque[Callable[[Machine, float], object]] = deque()
        self._outbox = Outbox()
        self._log = LogBox()
        self._parking = Parking(self._outbox.calls.append)
        self.callbacks: Callbacks = Callbacks()
        self.cause: BaseException | None = None
        self.deadline: float | None = None

    @abstractmethod
    def _take_effects(self, now: float) -> None:
        """Take in what the machine has to report, and when it wants its next tick. Under the lock."""

    @abstractmethod
    def until_due(self) -> float | None:
        """Return the seconds until somebody who waits has to do what is due; None where nobody has to."""

    @abstractmethod
    def _stop_links(self) -> None:
        """Have all links end. Under the lock."""

    # ---- calling the machine ----------------------------------------------------------------------------------------

    def call(self, operation: Callable[[Machine, float], T], *, changes: bool = True) -> T:
        """Run an operation on the machine, at a monotonic time, and return its result. It must not raise.

        :param changes: whether it changes something; else no callback is called, whatever is done on the way.
        :raises NodeBrokenError: an earlier operation raised.
        :raises NodeForkedError: the node belongs to the parent process.
        :raises RuntimeError: called by a signal handler or finalizer that interrupts another operation.
        """
        if self._lock.refuses_caller():
            self._refuse()
        try:
            return self._lock.run(self._apply, operation)
        finally:
            self._afterwards(changes=changes)

    def catch_up(self, *, changes: bool = False) -> None:
        """Do what is due, where no timer does it, for a call that concerns as many objects as there are.

        That takes time in proportion, in steps that let go of the lock in between; whatever others add meanwhile.

        :param changes: whether the call has changed something, see `Callbacks`.
        """
        most = 2 + len(self._machine.world.objects) // _LEAST_IN_A_STEP
        while most and self.step(changes=changes):
            most -= 1
            self.yield_thread()

    def step(self, *, changes: bool = False) -> bool:
        """Do a slice of what is due, where no timer does it; return whether there was anything."""
        if self.until_due() != 0.0 or self._lock.refuses_caller():
            return False
        self._due = True
        try:
            self._lock.run(self._apply_tick)
        finally:
            self._afterwards(changes=changes)
        return True

    def help_out(self) -> None:
        """Do a slice of what is due, where no timer does it, and nobody else is at it. Never waits: for readers."""
        if self._due:
            self._afterwards()

    def yield_thread(self) -> None:
        """Let other threads go on; and for a moment, if they wait for the lock, which they would not get otherwise."""
        sleep(_MOMENT if self._lock.wanted else 0.0)

    def submit(self, operation: Callable[[Machine, float], T]) -> T | None:
        """Run an operation now, or at the next occasion where `call` would raise RuntimeError; then return None."""
        if self._lock.inside:
            self._deferred.append(operation)
            return None
        return self.call(operation)

    def handle(self, event: Event) -> None:
        """Notify the machine of what has happened."""
        self.call(lambda machine, now: machine.handle(event, now))

    def receive(self, link: int, events: Sequence[PeerEvent]) -> LinkError | None:
        """Pass to the machine what the peer of a link has sent: in several steps, where it leads to much.

        :return: the rule that the peer has broken.
        """
        while True:
            taken, fault = self.call(partial(_receive, link, events))
            if taken == len(events):
                return fault
            events = events[taken:]

    def read(self, function: Callable[[], T], *, changes: bool = False) -> T:
        """Run a function that reads several entries, while none of them changes.

        :param changes: whether there is something to be told to callbacks by it.
        """
        if self._lock.inside:
            return function()
        if self._lock.refuses_caller():
            self._refuse()
        try:
            return self._lock.run(function)
        finally:
            self._afterwards(changes=changes)

    def update(self, place: object, function: Callable[[], None]) -> None:
        """Change what is waited for at a place, and wake those who wait there. Works on a broken node."""

        def change() -> None:
            function()
            self.wake(place)

        if self._lock.forked:
            return
        try:
            self._lock.run(change)
        finally:
            self._afterwards()

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that made the node."""
        return self._lock.forked

    def _refuse(self) -> NoReturn:
        if self._lock.forked:
            raise NodeForkedError
        raise RuntimeError(
            "a signal handler or finalizer has interrupted this node and asks it for an answer, which would wait"
            " for ever; there, only close, set and set_object_data can be called: leave the rest to a thread or task"
        )

    def _apply(self, operation: Callable[[Machine, float], T]) -> T:
        if self._half_done:
            raise self.broken()
        self._half_done = True
        try:
            now = monotonic()
            while self._deferred:
                self._deferred.popleft()(self._machine, now)
            result = operation(self._machine, now)
            self._take_effects(now)
        except BaseException as error:
            self._break(error)
            raise
        self._half_done = False
        return result

    def broken(self) -> NodeBrokenError:
        """Make the error of a node that is broken."""
        if self.cause is None:
            # the thread inside was interrupted before it could report why
            self._break(RuntimeError("an operation on the node was interrupted"))
        error = NodeBrokenError()
        error.__cause__ = self.cause
        return error

    def _break(self, error: BaseException) -> None:
        self.cause = error
        self._parking.wake_all()
        self._stop_links()

    def _afterwards(self, *, changes: bool = False) -> None:
        """Do what is left to do outside the lock, or leave it to the thread that is at it.

        :param changes: whether the caller has changed something, see `Callbacks`.
        """
        while self._deferred and self._lock.try_run(self._apply_deferred):
            pass
        # else whoever waits on this node does it, or makes the next call: this one may be about one object alone
        if self._due or self._winding_up:
            self._lock.try_run(self._apply_tick)
            while self._winding_up and self.deadline != 0.0:  # a finalizer has come in the middle
                if not self._lock.try_run(self._apply_tick):
                    break
        if self._outbox.calls:
            self._outbox.carry_out()
        if self._log.lines and not self._outbox.inside:  # a finalizer may come in the middle
            self._log.log_all()
        if self.callbacks.waiting:
            if changes and not self._outbox.inside and not self._lock.inside:
                self.callbacks.run()
            elif not self._lock.inside:
                self.callbacks.leave()

    def _apply_deferred(self) -> None:
        if self._half_done:
            self._deferred.clear()
        else:
            self._apply(lambda _machine, _now: None)

    def _apply_tick(self) -> None:
        if self._half_done:
            self._due = self._winding_up = False
        elif self._due or self._winding_up:
            self._apply(lambda machine, now: machine.handle(Tick(time_ns()), now))

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def park(self, place: object, waiter: Waiter, poll: Callable[[], object]) -> bool:
        """Have a waiter woken when something changes at a place, unless the poll finds something: then return False.

        The same where something is due and no timer does it: whoever waits makes a `step`, and parks again.
        The poll must not raise. Whoever stops waiting unparks; a waiter that is woken has been unparked.
        """
        if self._lock.refuses_caller():
            self._refuse()
        try:
            return self._lock.run(self._park, place, waiter, poll)
        finally:
            self._afterwards()

    def _park(self, place: object, waiter: Waiter, poll: Callable[[], object]) -> bool:
        if self._half_done:
            raise self.broken()
        if self.until_due() == 0.0 or poll() is not PENDING:
            return False
        self._parking.add(place, waiter)
        return True

    def unpark(self, place: object, waiter: Waiter) -> None:
        """Forget a waiter; nothing if it was woken."""
        if not self._lock.forked:
            self._lock.run(self._unpark, place, waiter)
            self._afterwards()

    def _unpark(self, place: object, waiter: Waiter) -> None:
        self._parking.remove(place, waiter)
        if self.until_due() is not None:
            self._parking.wake_some(1)  # it may have been this one who was to do what is due

    def wake(self, place: object) -> None:
        """Have everybody woken who is parked at a place. Only under the lock."""
        self._parking.wake(place)


def _receive(
    link: int, events: Sequence[PeerEvent], machine: Machine, now: float
) -> tuple[int, LinkError | None]:
    return machine.receive(link, events, now)
