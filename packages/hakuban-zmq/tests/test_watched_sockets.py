"""What is taken of a socket and when, who gets its turn meanwhile, and what is left of a socket that was closed."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import pytest
import zmq
from anyio.lowlevel import checkpoint

from hakuban_zmq._watched_sockets import MESSAGES_PER_TURN, Monitor, WatchedSocket, as_os_error
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from anyio.abc import TaskGroup


class Watched:
    """A watched socket, and the one that sends to it.

    :ivar taken: what came.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.taken: list[bytes] = []
        socket, self.sender = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for one in (socket, self.sender):
            one.sndhwm = one.rcvhwm = 0
        socket.bind("inproc://watched")
        self.sender.connect("inproc://watched")
        self.watched = WatchedSocket(socket, self.take)

    def take(self) -> None:
        self.taken.append(self.watched.socket.recv(zmq.NOBLOCK))

    def has_taken(self, count: int) -> bool:
        return len(self.taken) == count

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.sender.send(b"x", zmq.NOBLOCK)


@pytest.fixture
def pair() -> Iterator[Watched]:
    with zmq.Context() as context:
        made = Watched(context)
        yield made
        made.watched.close()
        made.sender.close(0)


class Counting:
    """Starts tasks in a group, and counts them."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self.count = 0

    def start_soon(self, function: Callable[..., Any], *args: object) -> None:
        self.count += 1
        self._tasks.start_soon(function, *args)


# ---- turns ----------------------------------------------------------------------------------------------------------


async def test_what_comes_is_taken_also_when_a_look_has_taken_the_signal_away(
    pair: Watched,
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pair.watched.watch, tasks)
        for count in range(1, 6):
            await anyio.wait_all_tasks_blocked()
            pair.send()
            if count % 2:
                pair.watched.look()
            await until(partial(pair.has_taken, count))
        tasks.cancel_scope.cancel()


async def test_messages_are_taken_in_turns_of_a_hundred(pair: Watched) -> None:
    pair.send(10 * MESSAGES_PER_TURN)
    seen = {0}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pair.watched.watch, tasks)
        while len(pair.taken) < 10 * MESSAGES_PER_TURN:
            await checkpoint()
            seen.add(len(pair.taken))
        tasks.cancel_scope.cancel()
    assert len(seen) > 5
    assert not any(count % MESSAGES_PER_TURN for count in seen)


@asynccontextmanager
async def watching(pair: Watched) -> AsyncIterator[Counting]:
    """Watch a socket in a block, and count who goes on after a look."""
    async with anyio.create_task_group() as tasks:
        counting = Counting(tasks)
        tasks.start_soon(pair.watched.watch, cast("TaskGroup", counting))
        await anyio.wait_all_tasks_blocked()
        yield counting
        tasks.cancel_scope.cancel()


async def test_a_look_takes_a_turn_and_what_is_more_is_taken_without_another_signal(
    pair: Watched,
) -> None:
    async with watching(pair) as counting:
        for round_ in (1, 2):
            pair.send(5 * MESSAGES_PER_TURN)
            assert pair.watched.look()
            assert pair.watched.look()
            assert len(pair.taken) == (5 * round_ - 3) * MESSAGES_PER_TURN
            assert counting.count == round_
            await until(partial(pair.has_taken, 5 * round_ * MESSAGES_PER_TURN))
            await anyio.wait_all_tasks_blocked()
            assert not pair.watched.look()


def test_a_look_that_has_taken_everything_says_so(pair: Watched) -> None:
    assert not pair.watched.look()
    pair.send(MESSAGES_PER_TURN - 1)
    assert not pair.watched.look()
    assert len(pair.taken) == MESSAGES_PER_TURN - 1


def test_nobody_goes_on_after_a_look_at_a_socket_that_is_not_watched_yet(pair: Watched) -> None:
    pair.send(2 * MESSAGES_PER_TURN)
    assert pair.watched.look()
    assert pair.has_taken(MESSAGES_PER_TURN)


async def test_nobody_goes_on_after_a_look_at_a_socket_that_is_not_watched_any_more(
    pair: Watched,
) -> None:
    async with watching(pair) as counting:
        pass
    pair.send(2 * MESSAGES_PER_TURN)
    assert pair.watched.look()
    assert len(pair.taken) == MESSAGES_PER_TURN
    assert not counting.count


def test_a_look_from_within_a_look_takes_nothing(pair: Watched) -> None:
    def take() -> None:
        assert not pair.watched.look()
        pair.take()

    pair.watched._take = take
    pair.send(3)
    assert not pair.watched.look()
    assert len(pair.taken) == 3


# ---- ends -----------------------------------------------------------------------------------------------------------


def test_a_socket_that_was_closed_is_looked_at_in_vain_and_holds_nobody(pair: Watched) -> None:
    pair.send()
    watched = pair.watched
    watched.close()
    assert watched.socket.closed
    assert not watched.look()
    assert not pair.taken
    assert not any(pair in gc.get_referents(part) for part in gc.get_referents(watched))


class Events:
    """What a monitor reports of a socket that somebody connects to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.noted: list[tuple[int, int]] = []
        self.listening = context.socket(zmq.PULL)
        self.monitor = Monitor(context, self.listening, zmq.EVENT_LISTENING, self.note)

    def note(self, event: int, value: int) -> None:
        self.noted.append((event, value))

    def close(self) -> None:
        self.monitor.stop()
        self.listening.close(0)
        self.monitor.stop()  # there is nothing left to switch off
        self.monitor.close()


def test_a_monitor_notes_each_event_and_holds_nobody_after_its_end() -> None:
    with zmq.Context() as context:
        one, other = Events(context), Events(context)
        one.listening.bind_to_random_port("tcp://127.0.0.1")
        while not one.noted:
            one.monitor.look()
        ((event, value),) = one.noted
        assert event == zmq.EVENT_LISTENING
        assert value > 0
        assert not other.noted
        # libzmq's own threads report, and would wait where there is a bound
        assert one.monitor.socket.rcvhwm == 0
        for events in (one, other):
            events.close()
            assert events.monitor.socket.closed
            held = gc.get_referents(events.monitor)
            assert not any(events in gc.get_referents(part) for part in held)


def test_an_error_of_zeromq_is_one_of_the_system_with_where_it_was_and_what_to_do() -> None:
    with pytest.raises(OSError, match=r"^\[Errno 24\] there: Too many open files; let this") as one:
        with as_os_error("there"):
            raise zmq.ZMQError(24)
    assert isinstance(one.value.__cause__, zmq.ZMQError)
    with pytest.raises(OSError, match=r"^\[Errno 5\] there: .*; try another address$"):
        with as_os_error("there"):
            raise OSError
