"""Attempts to connect: how long the pauses between them are, what is learnt from one for the next, what is told of them."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import pytest
from anyio.lowlevel import checkpoint
from typing_extensions import override

from hakuban import CircleError, LocalNode, ObjectDescriptor, PeerViolationError, RefusedError
from hakuban._net import connector
from hakuban._net.close_codes import describe
from hakuban._net.connector import Backoff
from hakuban._session_events import ContractAction, Note
from hakuban._wire import Session
from hakuban.testing import MemoryTransport, cut_links
from support.memory_links import Altered, listening
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hakuban.transport import MessageStream, TransportOptions

NOBODY, SOMEBODY, HOPELESS = 0.15, 0.75, 5.0  # seconds that a pause may become


class Failing(MemoryTransport):
    """The memory transport, whose attempts fail for as long as there are errors."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.checked: list[bool] = []

    @override
    def check(self, _url: str, _options: TransportOptions, *, listening: bool) -> None:
        self.checked.append(listening)

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        await checkpoint()
        if self._errors:
            raise self._errors.pop(0)
        async with super().connect(url, options) as stream:
            yield stream


class Clock:
    """What a connector takes for the time, in seconds."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the time stand still between what a test does."""
    clock = Clock()
    monkeypatch.setattr(connector, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def pauses(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the pauses between attempts, each as long as it may be; nobody waits for them."""
    lengths: list[float] = []

    class Hurried(Backoff):
        def __init__(self) -> None:
            super().__init__(jitter=lambda: 1.0)

        @override
        def next(self, now: float, **known: bool) -> float:
            assert now == clock.now
            lengths.append(super().next(now, **known))
            return 0.0

    monkeypatch.setattr(connector, "Backoff", Hurried)
    return lengths


# ---- pauses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (ConnectionRefusedError("nobody listens"), NOBODY),
        (OSError("no route"), NOBODY),
        (ConnectionResetError("reset"), SOMEBODY),
        (ConnectionAbortedError("aborted"), SOMEBODY),
        (BrokenPipeError("broken"), SOMEBODY),
        (TimeoutError("silent"), SOMEBODY),
        (RefusedError("busy", retry=True), SOMEBODY),
        (ZeroDivisionError("a bug"), SOMEBODY),
        (RefusedError("wrong path", retry=False), HOPELESS),
    ],
    ids=repr,
)
async def test_pauses_become_as_long_as_what_was_there_is_worth(
    error: Exception, longest: float, pauses: list[float]
) -> None:
    transport = Failing(*[error] * 100)
    async with LocalNode().connect("memory://x", transport=transport, wait=False):
        await until(lambda: len(pauses) >= 8)
    assert pauses[0] == 0.05
    assert pauses[7] == longest


async def test_somebody_was_there_if_there_was_a_link(pauses: list[float]) -> None:
    """Whatever has ended it."""

    class Dropping(MemoryTransport):
        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            async with super().connect(url, options) as stream, anyio.create_task_group() as group:
                group.start_soon(self.drop)
                yield stream

        async def drop(self) -> NoReturn:
            await checkpoint()
            raise OSError("no route")

    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=Dropping(), wait=False):
            await until(lambda: len(pauses) >= 5)
    assert pauses[4] == SOMEBODY


async def test_pauses_begin_anew_after_a_link_that_has_lasted_for_a_second(
    pauses: list[float], clock: Clock
) -> None:
    """Each is measured from its own beginning."""
    lasted = [0.0, 0.0, 0.0, 1.0, 0.0, 0.9375, 2.0]
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url) as connection:
            for number, seconds in enumerate(lasted):
                await until(lambda: connection.up)
                assert connection.counters.reconnects == number
                clock.now += seconds
                cut_links(listener.url)
                await until(lambda: connection.counters.reconnects > number)  # noqa: B023  # used before the next one
    assert pauses == [0.05, 0.1, 0.2, 0.05, 0.1, 0.2, 0.05]


async def test_an_attempt_that_fails_after_a_good_link_does_not_make_pauses_begin_anew(
    pauses: list[float], clock: Clock
) -> None:
    leaf, url = LocalNode(), "memory://gone"
    async with leaf.connect(url, wait=False) as connection:
        async with LocalNode().listen(url):
            await connection.wait_up()
            del pauses[:]
            clock.now += 1.0
        await until(lambda: len(pauses) >= 3)
    assert pauses[:3] == [0.05, 0.1, 0.15]


def test_an_outage_has_lasted_long_from_the_very_second_on() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    for _ in range(10):
        assert backoff.next(100.0) <= NOBODY
    assert [backoff.next(now) for now in (102.9, 103.0)] == [NOBODY, SOMEBODY]
    assert [backoff.next(now) for now in (159.9, 160.0)] == [SOMEBODY, HOPELESS]


def test_the_outage_after_a_good_link_is_another_one() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    assert backoff.next(0.0) == 0.05
    backoff.reset()
    assert [backoff.next(100.0) for _ in range(4)] == [0.05, 0.1, NOBODY, NOBODY]


async def test_while_there_is_a_circle_it_is_looked_every_few_seconds_and_not_longer(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "CIRCLE", 0.0)
    circle = CircleError(["lab", "hall", "lab"])
    transport = Failing(circle, circle, circle, OSError("no route"))
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=transport, wait=False) as connection:
            with anyio.fail_after(10):
                await connection.wait_up()
    assert pauses == [0.05]


# ---- what is learnt -------------------------------------------------------------------------------------------------


async def test_a_link_begins_with_what_the_last_one_has_taught_of_the_size_of_messages() -> None:
    """Before the other side has said a word."""
    huge, small = ObjectDescriptor(["t"], "x" * 3_000), ObjectDescriptor(["t"], "small")
    links, heard, go_on = 0, list[object](), anyio.Event()

    async def above(stream: MessageStream) -> None:
        nonlocal links
        links += 1
        if links == 1:
            note = Note(node="b2", max_message=2_000)
            await stream.send(Session(listening=True, name="above").opening(note))
            await go_on.wait()
            await stream.aclose()
            return
        session = Session(listening=True, name="above")
        with suppress(anyio.EndOfStream):
            while True:
                for message in await stream.receive():
                    for event in session.receive(message):
                        if isinstance(event, ContractAction):
                            heard.append(event.descriptor)

    leaf = LocalNode()
    async with listening(above) as url:
        with leaf.object(huge).observe(), leaf.object(small).observe():
            async with leaf.connect(url):
                go_on.set()
                await until(lambda: small in heard)
                await anyio.wait_all_tasks_blocked()
    assert heard == [small]


async def test_a_transport_is_told_whether_it_is_to_connect_or_to_listen() -> None:
    listens, connects = Failing(), Failing()
    async with (
        LocalNode().listen("memory://", transport=listens) as listener,
        LocalNode().connect(listener.url, transport=connects),
    ):
        assert (listens.checked, connects.checked) == ([True], [False])


# ---- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("causes", "words"),
    [
        ("ab", "a; b"),
        ("abc", "a; b; c"),
        ("abcd", "a; b; c; and 1 more"),
        ("abcde", "a; b; c; and 2 more"),
    ],
)
async def test_of_many_causes_three_are_told_and_how_many_more_there_are(
    causes: str, words: str
) -> None:
    group = ExceptionGroup("tasks", [OSError(cause) for cause in causes])
    async with LocalNode().connect(
        "memory://x", transport=Failing(group), wait=False
    ) as connection:
        await until(lambda: connection.last_error)
        error = connection.last_error
    assert error is not None
    assert str(error) == words
    assert error.__cause__ is group


def test_a_broken_rule_is_told_with_what_it_concerns_if_it_concerns_anything() -> None:
    broken = "the other side broke the protocol"
    weather = ObjectDescriptor(["weather"], 1)
    about = PeerViolationError("too much", descriptor=weather)
    assert describe(about) == f"{broken}: too much ({weather})"
    assert describe(PeerViolationError("nonsense")) == f"{broken}: nonsense"


# ---- what is no error, and ends a link -------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
async def test_a_link_whose_sending_is_cancelled_by_nobody_ends_and_the_block_does_not() -> None:
    """Else it would be left in the midst, without a word."""
    import asyncio

    stayed = False

    async def send(_messages: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(
            listener.url, transport=Altered(send=send), wait=False
        ) as connection:
            await anyio.wait_all_tasks_blocked()
            stayed = True
    assert stayed
    assert "nobody had asked" in str(connection.last_error)


class Stop(BaseException):
    """What ends a program."""


async def test_what_ends_a_program_ends_the_block() -> None:
    stop = anyio.Event()

    async def receive() -> None:
        await stop.wait()
        raise Stop

    def alter(stream: Any) -> None:
        original = stream.receive

        async def receive_once() -> Any:
            stream.receive = receive
            return await original()

        stream.receive = receive_once

    async with LocalNode().listen("memory://") as listener:

        async def connect() -> None:
            async with LocalNode().connect(listener.url, transport=Altered(alter)):
                stop.set()
                await anyio.sleep_forever()

        with pytest.RaisesGroup(Stop, flatten_subgroups=True), anyio.fail_after(10):
            await connect()


@pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])
async def test_where_there_is_no_asyncio_a_link_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program with trio need not have loaded it."""
    async with LocalNode().listen("memory://") as listener:
        with anyio.CancelScope() as scope:
            async with LocalNode().connect(listener.url) as connection:
                monkeypatch.delitem(sys.modules, "asyncio")
                scope.cancel()
                await anyio.sleep_forever()
        monkeypatch.undo()
        assert not connection.up
