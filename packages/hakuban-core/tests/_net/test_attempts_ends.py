"""How attempts end: what is in the way while a block is left, or a node closed, and what is known afterwards."""

from __future__ import annotations

import gc
import logging
import math
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from typing_extensions import override

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from hakuban._core.machine import Machine
from hakuban._engine import ticker
from hakuban._net import connector
from hakuban._net.connection import Connection, ConnectionState
from hakuban._wire import Session
from hakuban.testing import MemoryTransport, cut_links
from support.memory_links import Altered, listening
from support.tracing import collector_off
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hakuban.transport import MessageStream, TransportOptions

WEATHER = ObjectDescriptor(["weather"], 1)


async def greet_and_close(stream: MessageStream) -> None:
    """Do what a listening node does that is closed at once."""
    await stream.send(Session(listening=True, name="above").opening())
    await stream.aclose()


class CleaningUp(MemoryTransport):
    """The memory transport, which has something to do once a link has ended."""

    def __init__(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        self._clean_up = clean_up
        self.made = 0

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        self.made += 1
        async with super().connect(url, options) as stream:
            yield stream
            await self._clean_up()


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hakuban")


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first pause last until the end of the test."""
    for pause in ("FIRST_PAUSE", "LONGEST_AT_FIRST", "LONGEST_PAUSE", "LONGEST_LATER"):
        monkeypatch.setattr(connector, pause, 3600.0)


# ---- a block is left ------------------------------------------------------------------------------------------------


async def test_a_link_that_breaks_while_its_block_is_left_is_not_made_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it had to send yet is in the way."""
    stuck, made = anyio.Event(), 0

    def alter(stream: Any) -> None:
        nonlocal made
        made += 1
        send = stream.send

        async def send_once(messages: Any) -> None:
            stream.send = get_stuck
            await send(messages)

        stream.send = send_once

    async def get_stuck(_messages: Any) -> None:
        stuck.set()
        await anyio.sleep_forever()

    leaf = LocalNode("oven")
    async with LocalNode("lab").listen("memory://") as listener:
        async with leaf.connect(listener.url, transport=Altered(alter)) as connection:
            with leaf.object(WEATHER).observe():
                await stuck.wait()
                await until(lambda: listener.peers)
            cut_links(listener.url)
        assert made == 1
        with pytest.raises(hakuban.ClosedError):
            await connection.wait_up()
    assert f"link down: lab at {listener.url} (memory): the connection broke" in caplog.messages
    assert "trying again" not in caplog.text


async def test_all_that_there_is_to_send_is_sent_before_its_block_is_left() -> None:
    """Although the transport takes its time."""

    def alter(stream: Any) -> None:
        send = stream.send

        async def send_slowly(messages: Any) -> None:
            for _ in range(20):
                await checkpoint()
            await send(messages)

        stream.send = send_slowly

    router, leaf = LocalNode(), LocalNode()
    with router.object(WEATHER).observe() as seen, leaf.object(WEATHER).expose() as contract:
        async with router.listen("memory://") as listener:
            async with leaf.connect(listener.url, transport=Altered(alter)):
                await contract.wait_assigned()
                contract.set_object_data("last")
            await until(lambda: not listener.peers)
        assert seen.object_data() == "last"


async def test_a_transport_cleans_up_in_peace_when_its_block_is_left() -> None:
    cleaned_up = False

    async def clean_up() -> None:
        nonlocal cleaned_up
        for _ in range(20):
            await checkpoint()
        cleaned_up = True

    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=CleaningUp(clean_up)):
            pass
    assert cleaned_up


async def test_what_a_transport_does_wrong_while_its_block_is_left_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def clean_up() -> None:
        raise ZeroDivisionError("a bug")

    async with LocalNode("lab").listen("memory://") as listener:
        async with LocalNode("oven").connect(listener.url, transport=CleaningUp(clean_up)):
            pass
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.getMessage() == (
        f"link down: lab at {listener.url} (memory): ZeroDivisionError: a bug"
    )


async def test_a_block_that_is_cancelled_after_its_link_broke_says_why_it_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cleaning = anyio.Event()

    async def clean_up() -> None:
        cleaning.set()
        await anyio.sleep_forever()

    async with LocalNode("lab").listen("memory://") as listener:
        with anyio.CancelScope() as scope:
            async with LocalNode("oven").connect(listener.url, transport=CleaningUp(clean_up)):
                cut_links(listener.url)
                await cleaning.wait()
                scope.cancel()
                await anyio.sleep_forever()
    told = [line for line in caplog.messages if f"lab at {listener.url}" in line]
    assert told[1:] == [f"link down: lab at {listener.url} (memory): the connection broke"]


async def test_a_node_that_never_gets_done_keeps_no_block_from_being_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ticker, "LEFT_OVER", 3600.0)
    monkeypatch.setattr(connector, "LEAVING_TIME", 0.0)
    leaf, times = LocalNode(), iter([0.0] * 10_000)
    async with leaf.connect("memory://nobody", wait=False):
        monkeypatch.setattr(Machine, "next_deadline", lambda _: next(times, None))
        leaf._engine.call(lambda _machine, _now: None)
    assert next(times, None) == 0.0


async def test_after_its_block_a_connection_is_down_for_good() -> None:
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url) as connection:
            assert repr(connection) == f"<Connection {listener.url} up>"
            assert connection.silent_for < math.inf
    assert repr(connection) == f"<Connection {listener.url} down>"
    assert connection.silent_for == math.inf

    def wait() -> None:
        for patience in (None, 10):
            with pytest.raises(hakuban.ClosedError, match="the connection to"):
                connection.wait_up_sync(patience)

    await anyio.to_thread.run_sync(wait)


def test_a_thread_that_looks_while_a_link_goes_sees_none() -> None:
    """That the peer has gone comes before that the link has; that it has come, too."""
    state = ConnectionState(LocalNode()._engine, "memory://x")
    peer: Any = object()
    for up, state.peer in ((True, None), (False, peer)):
        state.status = hakuban.ConnectionStatus(up=up)
        assert Connection(state).silent_for == math.inf


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
async def test_a_connection_whose_tasks_a_loop_cancels_before_they_begin_is_over_too() -> None:
    """As `asyncio.run` does at its end."""
    import asyncio

    leaf, before = LocalNode(), asyncio.all_tasks()
    async with leaf.connect("memory://nobody", wait=False) as connection:
        tasks = asyncio.all_tasks() - before
        while tasks:
            tasks.pop().cancel()
    with anyio.fail_after(10), pytest.raises(hakuban.ClosedError):
        await connection.wait_up()
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what has never begun complains of that when it goes


# ---- a node is closed, or breaks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["closed", "broken"])
async def test_an_attempt_that_fails_after_its_node_has_ended_is_the_last_and_no_news(
    way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "FIRST_PAUSE", 0.0)
    leaf, go_on, attempts = LocalNode(), anyio.Event(), 0

    class Late(MemoryTransport):
        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                await anyio.sleep_forever()
            await go_on.wait()
            async with super().connect(url, options) as stream:
                yield stream

    async with leaf.connect("memory://nobody", transport=Late(), wait=False) as connection:
        await until(lambda: attempts)
        if way == "closed":
            leaf.close()
        else:
            with pytest.raises(ZeroDivisionError):
                leaf._engine.call(lambda _machine, _now: 1 / 0)
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert attempts == 1
        with anyio.fail_after(10):
            assert [status async for status in connection.statuses()] == []
    assert "trying again" not in caplog.text


# ---- a link is lost -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_attempt")
async def test_a_lost_link_is_no_failed_attempt() -> None:
    cleaned_up = anyio.Event()

    async def clean_up() -> None:
        cleaned_up.set()

    transport = CleaningUp(clean_up)
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=transport) as connection:
            cut_links(listener.url)
            await cleaned_up.wait()
            await anyio.wait_all_tasks_blocked()
            status = await anext(connection.statuses())
            error = connection.last_error
    assert (status.up, status.attempts) == (False, 0)
    assert status.error is error
    assert isinstance(error, hakuban.LinkError)
    assert isinstance(error.__cause__, anyio.BrokenResourceError)


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("gone already"), "the other side closed the link (1000)"),
        (ZeroDivisionError("a bug"), "a bug"),
    ],
    ids=["what was to be expected", "a bug"],
)
async def test_what_comes_up_while_a_transport_cleans_up_counts_if_it_is_a_bug(
    error: Exception, words: str
) -> None:
    failed = anyio.Event()

    async def clean_up() -> None:
        failed.set()
        raise error

    async with (
        listening(greet_and_close) as url,
        LocalNode().connect(url, transport=CleaningUp(clean_up), wait=False) as connection,
    ):
        await failed.wait()
        await anyio.wait_all_tasks_blocked()
        status = await anext(connection.statuses())
        assert str(connection.last_error) == words
        assert status.error is connection.last_error


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize("place", ["in a group", "after the end of the link"])
async def test_nothing_stays_of_what_a_transport_has_raised_beside_the_reason(place: str) -> None:
    """The collector need not come by for that."""

    class Known:
        """Something that its frames hold."""

    held: list[ref[Known]] = []

    async def clean_up() -> None:
        known = Known()
        held.append(ref(known))
        if place == "in a group":
            raise ExceptionGroup("tasks", [ZeroDivisionError("a bug")])
        raise OSError("gone already")

    with collector_off():
        async with (
            listening(greet_and_close) as url,
            LocalNode().connect(url, transport=CleaningUp(clean_up), wait=False) as connection,
        ):
            await until(lambda: held)
            await anyio.wait_all_tasks_blocked()
            assert connection.last_error is not None
            assert held[0]() is None


class Cancelling(MemoryTransport):
    """The memory transport, in a scope of its own, by which it ends its links."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        with anyio.CancelScope() as self.scope:
            async with super().connect(url, options) as stream:
                yield stream


async def test_a_link_that_its_transport_cancels_is_lost_and_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connector, "FIRST_PAUSE", 0.0)
    transport = Cancelling()
    async with LocalNode("top").listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=transport) as connection:
            transport.scope.cancel()
            await until(lambda: connection.counters.reconnects == 1 and connection.up)
            assert "its transport ended it" in str(connection.last_error)


async def test_nothing_stays_of_a_lost_link_whose_transport_fails_afterwards(
    one_attempt: None,
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async with LocalNode("top").listen("memory://") as listener:
        transport = CleaningUp(fail)
        async with LocalNode().connect(listener.url, transport=transport, wait=False) as lost:
            await lost.wait_up()
            cut_links(listener.url)
            await until(lambda: isinstance(lost.last_error, ZeroDivisionError))
