"""The engine of a node: one machine behind one lock, and what has to happen because of it outside that lock."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from functools import partial
from time import monotonic, sleep, time_ns
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from ._core.events import Event, LinkDown, LinkUp, Tick
from ._entries import NOT_OPEN
from ._exceptions import ClosedError, NodeBrokenError, NodeForkedError
from ._gate import Gate
from ._log import LogBox
from ._mirror import Mirror
from ._polling import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._core.effects import Effect
    from ._core.machine import Machine
    from ._entries import ContractEntry
    from ._links import Link
    from ._messages import PeerEvent
    from ._timer import Timer
    from ._waking import Waiter

__all__ = ["Engine"]

T = TypeVar("T")

_LEAST_IN_A_STEP: Final = 8  # objects settled, as a rule
_MOMENT: Final = 0.0002  # seconds


class Engine:
    """Owns the machine of a node. Thread-safe; nothing here waits for anything but the lock.

    Under the lock runs the machine, and the bookkeeping in entries that mirrors its effects. Whom that concerns is put
    into an outbox, which one thread at a time empties outside the lock, in order; each thing in it stands until it has
    been done, and may be done twice. What is to be logged has a box of its own, which is emptied after that: handlers are
    user code, which may block, raise and call the node, and nobody who is to be woken waits for them. An exception under the lock leaves `_half_done` set: the node is broken.

    :ivar cause: what broke the node, or None.
    :ivar closed: whether the user has closed the node.
    :ivar deadline: the monotonic time at which the machine wants a tick, or None.
    :ivar links: the links by their ids.
    :ivar name: the name of the node.
    """

    __slots__ = (
        "_deferred",
        "_dispatching",
        "_due",
        "_gate",
        "_half_done",
        "_log",
        "_machine",
        "_mirror",
        "_outbox",
        "_parked",
        "_released",
        "cause",
        "closed",
        "deadline",
        "links",
        "name",
        "timers",
        "upstream_url",
    )

    def __init__(self, machine: Machine, name: str) -> None:
        self.name: str = name
        self._machine = machine
        self._gate = Gate()
        self._dispatching = Gate()
        self._half_done = False
        self._due = False  # something is due, and there is no timer to do it
        self._deferred: deque[Callable[[Machine, float], object]] = deque()
        # contracts that nobody holds any more, and what to say of that: closed in slices
        self._released: deque[tuple[ContractEntry, str]] = deque()
        self._outbox: deque[Waiter] = deque()
        self._log = LogBox()
        self._parked: dict[object, dict[Waiter, None]] = {}
        self._mirror = Mirror(machine, self.wake, self._outbox.append, self.say)
        self.links: dict[int, Link] = self._mirror.links
        self.timers: list[Timer] = []
        self.cause: BaseException | None = None
        self.closed: bool = False
        self.deadline: float | None = None
        self.upstream_url: str | None = None

    # ---- calling the machine ----------------------------------------------------------------------------------------

    def call(self, operation: Callable[[Machine, float], T]) -> T:
        """Run an operation on the machine, at a monotonic time, and give its answer. It must not raise.

        :raises NodeBrokenError: an earlier operation raised.
        :raises NodeForkedError: the node belongs to the parent process.
        :raises RuntimeError: called by a signal handler or finalizer that interrupts another operation.
        """
        if self._gate.closed_to_caller():
            self._refuse()
        try:
            return self._gate.run(self._apply, operation)
        finally:
            self._afterwards()

    def call_for_all(self, operation: Callable[[Machine, float], T]) -> T:
        """Run an operation that concerns as many objects as there are, and what is to be done because of it.

        That may take time in proportion, in steps that let go of the lock in between. With a timer it is the timer's.
        """
        result = self.call(operation)
        self.catch_up()
        return result

    def catch_up(self) -> None:
        """Do what is due, in steps, where no timer does it; as much as may be due now, whatever others add."""
        most = 2 + len(self._machine.world.objects) // _LEAST_IN_A_STEP
        while most and self.step():
            most -= 1
            self.give_way()

    def step(self) -> bool:
        """Do a slice of what is due, where no timer does it; say whether there was anything."""
        if not self._due or self._gate.closed_to_caller():
            return False
        try:
            self._gate.run(self._apply_tick)
        finally:
            self._afterwards()
        return True

    def give_way(self) -> None:
        """Let other threads have the lock for a moment, if they wait for it: they would not get it by themselves."""
        if self._gate.wanted:
            sleep(_MOMENT)

    def until_due(self) -> float | None:
        """Give the seconds until somebody who waits has to do what is due; None where nobody has to."""
        deadline = self.deadline
        return None if deadline is None or self.timers else max(0.0, deadline - monotonic())

    def submit(self, operation: Callable[[Machine, float], T]) -> T | None:
        """Run an operation now, or at the next occasion where `call` would raise RuntimeError; then give None."""
        if self._gate.inside:
            self._deferred.append(operation)
            return None
        return self.call(operation)

    def handle(self, event: Event) -> None:
        """Tell the machine what has happened."""
        self.call(lambda machine, now: machine.handle(event, now))

    def hear(self, link: int, events: Sequence[PeerEvent]) -> None:
        """Tell the machine what the peer of a link has said: in several steps, where it leads to much."""
        while events:
            taken = self.call(partial(_hear, link, events))
            events = events[taken:]

    def read(self, function: Callable[[], T]) -> T:
        """Run a function that reads several entries, while none of them changes."""
        if self._gate.inside:
            return function()
        if self._gate.closed_to_caller():
            self._refuse()
        try:
            return self._gate.run(function)
        finally:
            self._afterwards()

    def update(self, place: object, function: Callable[[], None]) -> None:
        """Change what is waited for at a place, and wake those who wait there. Works on a broken node."""

        def change() -> None:
            function()
            self.wake(place)

        if self._gate.forked:
            return
        try:
            self._gate.run(change)
        finally:
            self._afterwards()

    def clock(self) -> int:
        """Give the time for default versions: Unix nanoseconds by the clock of the tree's root."""
        return self._machine.read_clock(monotonic(), time_ns())

    def count(self) -> tuple[int, int]:
        """Count the open contracts of this process, and the objects that the node knows. Never waits."""
        return len(self._mirror.contracts), len(self._machine.world.objects)

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that made the node."""
        return self._gate.forked

    def _refuse(self) -> NoReturn:
        if self._gate.forked:
            raise NodeForkedError
        raise RuntimeError(
            "a signal handler or finalizer has interrupted this node and asks it for an answer, which would wait"
            " for ever; there, only close, set and set_object_data can be called: leave the rest to a thread or task"
        )

    def _apply(self, operation: Callable[[Machine, float], T]) -> T:
        if self._half_done:
            raise self._broken()
        self._half_done = True
        try:
            now = monotonic()
            while self._deferred:
                self._deferred.popleft()(self._machine, now)
            result = operation(self._machine, now)
            if self._winding_up:
                self._wind_up(now)
            self._absorb(self._machine.take_effects(), now)
        except BaseException as error:
            self._break(error)
            raise
        self._half_done = False
        return result

    def _broken(self) -> NodeBrokenError:
        if self.cause is None:
            # the thread inside was interrupted before it could say why
            self._break(RuntimeError("an operation on the node was interrupted"))
        error = NodeBrokenError()
        error.__cause__ = self.cause
        return error

    def _break(self, error: BaseException) -> None:
        self.cause = error
        for waiters in self._parked.values():
            self._outbox.extend(waiters)
        self._parked.clear()
        for link in self.links.values():
            self._stop(link)

    def _afterwards(self) -> None:
        """Do what is left to do outside the lock, or leave it to the thread that is at it."""
        while self._deferred and self._gate.try_run(self._apply_deferred):
            pass
        # else whoever waits on this node does it, or makes the next call: this one may be about one object alone
        if self._due:
            self._gate.try_run(self._apply_tick)
        while self._outbox and self._dispatching.try_run(self._carry_out):
            pass
        if self._log.lines:
            self._log.log_all()

    def _apply_deferred(self) -> None:
        if self._half_done:
            self._deferred.clear()
        else:
            self._apply(lambda _machine, _now: None)

    def _apply_tick(self) -> None:
        if self._half_done:
            self._due = False
        elif self._due:
            self._apply(lambda machine, now: machine.handle(Tick(time_ns()), now))

    def _carry_out(self) -> None:
        while self._outbox:
            self._outbox[0].wake()
            self._outbox.popleft()

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def park(self, place: object, waiter: Waiter, poll: Callable[[], object]) -> bool:
        """Have a waiter woken when something changes at a place, unless the poll gives something: then say False.

        So it is where something is due and no timer does it: whoever waits makes a `step`, and parks again.
        The poll must not raise. Whoever stops waiting unparks; a waiter that is woken has been unparked.
        """
        if self._gate.closed_to_caller():
            self._refuse()
        try:
            return self._gate.run(self._park, place, waiter, poll)
        finally:
            self._afterwards()

    def _park(self, place: object, waiter: Waiter, poll: Callable[[], object]) -> bool:
        if self._half_done:
            raise self._broken()
        if self._due or poll() is not PENDING:
            return False
        self._parked.setdefault(place, {})[waiter] = None
        return True

    def unpark(self, place: object, waiter: Waiter) -> None:
        """Forget a waiter; nothing if it was woken."""
        if not self._gate.forked:
            self._gate.run(self._unpark, place, waiter)
            self._afterwards()

    def _unpark(self, place: object, waiter: Waiter) -> None:
        waiters = self._parked.get(place)
        if waiters is not None and waiter in waiters:
            del waiters[waiter]
            if not waiters:
                del self._parked[place]

    def wake(self, place: object) -> None:
        """Have everybody woken who is parked at a place. Only under the lock."""
        waiters = self._parked.get(place)
        if waiters is not None:
            self._outbox.extend(waiters)  # first, or an interruption could lose them
            del self._parked[place]

    # ---- contracts and links ----------------------------------------------------------------------------------------

    def open_entry(self, entry: ContractEntry, operation: Callable[[Machine, float], int]) -> None:
        """Open a contract.

        :raises ClosedError: the node is closed.
        """

        def open(machine: Machine, now: float) -> None:
            if not self.closed:
                entry.id = operation(machine, now)
                self._mirror.contracts[entry.id] = entry

        self.call(open)
        if entry.id == NOT_OPEN:
            self.expect_open()

    def expect_open(self) -> None:
        """Raise ClosedError if the node is closed."""
        if self.closed:
            raise ClosedError(self.name, "the node", "make a new LocalNode")

    def close_entry(self, entry: ContractEntry) -> None:
        """Close a contract, now or at the next occasion."""
        self.close_quietly(lambda machine, now: self._close_entry(machine, entry, now))
        if self.cause is not None:
            entry.closed = True  # all that can be done for it

    def close_quietly(self, operation: Callable[[Machine, float], object]) -> None:
        """Run an operation that ends something; where it has no meaning any more, do nothing."""
        if not self._gate.forked and self.cause is None:
            with suppress(NodeBrokenError):
                self.submit(operation)

    def release_entry(self, entry: ContractEntry, warning: str) -> bool:
        """Close a contract that nobody holds any more, and log that, without ever waiting: for finalizers.

        :return: whether the caller may do anything, for example give the warning; else there is only the log.
        """
        free = not self._gate.inside
        self._released.append((entry, warning))
        if free:
            self._afterwards()
        return free

    def _close_entry(self, machine: Machine, entry: ContractEntry, now: float) -> None:
        if not entry.closed:
            entry.closed = True
            self._mirror.contracts.pop(entry.id, None)
            machine.close_contract(entry.id, now)
            self.wake(entry)

    def close(self) -> None:
        """Close all links and contracts, and open none any more: from the first step on, and the contracts in slices."""

        def close(_machine: Machine, _now: float) -> None:
            self.closed = True
            for link in self.links.values():
                self._stop(link)
            self.wake(self)

        self.close_quietly(close)
        with suppress(NodeBrokenError):
            while self._winding_up and not self._gate.closed_to_caller():
                self.call(lambda _machine, _now: None)
                self.give_way()
            self.catch_up()

    @property
    def _winding_up(self) -> bool:
        """Whether contracts are left to be closed of which nobody waits for the end."""
        return bool(self._released or (self.closed and self._mirror.contracts))

    def _wind_up(self, now: float) -> None:
        """Close some of them. Under the lock."""
        machine = self._machine
        while machine.has_room and self._winding_up:
            if self._released:
                entry, warning = self._released[0]
                if not entry.closed:
                    self._close_entry(machine, entry, now)
                    self.say(logging.WARNING, "%s", warning)
                self._released.popleft()
            else:
                self._close_entry(machine, next(reversed(self._mirror.contracts.values())), now)

    def enter_link(self, link: Link, event: LinkUp) -> None:
        """Make a link known to the machine, and give it its id."""

        def enter(machine: Machine, now: float) -> None:
            link.id = event.link = machine.new_link()
            self.links[link.id] = link
            machine.handle(event, now)
            if self.closed:
                self._stop(link)

        self.call(enter)

    def exit_link(self, link: Link) -> None:
        """A link has ended; twice does no harm."""

        def forget() -> None:
            if self.links.pop(link.id, None) is not None:
                link.ended()

        def exit(machine: Machine, now: float) -> None:
            forget()
            machine.handle(LinkDown(link.id, link.vouched_until), now)

        self.close_quietly(exit)
        if self.cause is not None:
            self.update(link, forget)

    def add_timer(self, timer: Timer) -> None:
        """Leave ticking to a timer; without any, whoever calls does what is due."""
        self.call(lambda _machine, _now: self.timers.append(timer))

    def remove_timer(self, timer: Timer) -> None:
        """Undo `add_timer`."""


        def remove(_machine: Machine, _now: float) -> None:
            self.timers.remove(timer)
            self.deadline = None  # who waits has not heard of it: it was the timer's

        self.close_quietly(remove)

    def say(self, level: int, text: str, *arguments: object) -> None:
        """Have something logged. Only under the lock, where nothing else may log."""
        self._log.add(level, text, *arguments)

    def _stop(self, link: Link) -> None:
        self._outbox.append(link.canceller)

    def _absorb(self, effects: list[Effect], now: float) -> None:
        """Take effects in; then see when the machine wants its next tick. Under the lock."""
        if effects:
            self._mirror.absorb(effects)
        before = self.deadline
        deadline = self.deadline = 0.0 if self._winding_up else self._machine.next_deadline()
        if deadline is None:
            self._due = False
            return
        self._due = deadline <= now and not self.timers
        for timer in self.timers:
            if deadline < timer.until:
                self.wake(timer)
        if not self.timers and deadline != before:
            for place in list(self._parked):
                self.wake(place)  # whoever waits has to look at the time


def _hear(link: int, events: Sequence[PeerEvent], machine: Machine, now: float) -> int:
    return machine.hear(link, events, now)
