"""Writers at rest: who has nothing to send has no task for it, and begins anew when there is something."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

import hakuban
from hakuban import RAW, LocalNode, ObjectDescriptor
from hakuban._engine.ticker import Timer
from hakuban._net import listener as listener_module
from hakuban._net.link import Link
from hakuban._net.link_writer import LinkWriter
from hakuban._session_events import ContractAction, StateReceived, Verb
from hakuban.testing import MemoryTransport
from hakuban.transport import TransportOptions
from support.memory_links import Altered, Peer, raw_peer
from support.waiting import until

if TYPE_CHECKING:
    from hakuban._transport.options import TransportArguments

QUIET: TransportArguments = {"keep_alive": 3600, "timeout": 7200}
WEATHER, TRAFFIC = ObjectDescriptor(["weather"], 1), ObjectDescriptor(["traffic"], 1)


@pytest.fixture
def rests_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody rest but where the test says so."""
    monkeypatch.setattr(listener_module, "_REST", 3600)


@pytest.fixture
def rests_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "_REST", 0.01)


def writers(node: LocalNode) -> list[LinkWriter]:
    links = node._engine.links.values()
    return [link.writer for link in links if isinstance(link, Link)]


async def let_rest(node: LocalNode) -> None:
    """Look twice at writers that have nothing to send."""
    await anyio.wait_all_tasks_blocked()
    for _ in range(2):
        for writer in writers(node):
            writer.rest()
    await anyio.wait_all_tasks_blocked()


def count_tasks(loop: str) -> int:
    if loop == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


class Hearing:
    """What a peer made of bytes has received, each state of it."""

    def __init__(self, peer: Peer) -> None:
        self.states: list[bytes] = []
        self._peer = peer

    async def run(self) -> None:
        while True:
            for message in await self._peer.stream.receive():
                for event in self._peer.session.receive(message):
                    if isinstance(event, StateReceived):
                        self.states.append(event.content.data)


# ---- what users see -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rests_soon")
async def test_each_state_after_a_rest_arrives_once_whoever_sets_it() -> None:
    """In a task, or in a thread, which finds no task to wake."""
    router = LocalNode(serializer=RAW)
    async with router.listen("memory://", **QUIET) as listener, raw_peer(listener.url) as peer:
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        hearing, sent = Hearing(peer), list[bytes]()
        with router.object(WEATHER).expose() as contract:
            async with anyio.create_task_group() as group:
                group.start_soon(hearing.run)
                for number in range(4):
                    await until(lambda: writers(router) and not writers(router)[0]._running)
                    sent.append(b"%d" % number)
                    if number % 2:
                        await anyio.to_thread.run_sync(contract.set_object_data, sent[-1])
                    else:
                        contract.set_object_data(sent[-1])
                    await until(lambda: hearing.states == sent)
                group.cancel_scope.cancel()


@pytest.mark.usefixtures("rests_by_hand")
async def test_a_link_at_rest_has_a_task_less_and_one_again_while_there_is_something_to_send(
    anyio_backend_name: str,
) -> None:
    """One, however often there is something: two would send at once."""
    router = LocalNode(serializer=RAW)
    async with (
        router.listen("memory://", **QUIET) as listener,
        AsyncExitStack() as stack,
        anyio.create_task_group() as group,
    ):
        heard = []
        for _ in range(3):
            peer = await stack.enter_async_context(raw_peer(listener.url))
            await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
            heard.append(Hearing(peer))
            group.start_soon(heard[-1].run)
        with router.object(WEATHER).expose() as contract:
            await until(lambda: len(listener.peers) == 3)
            await anyio.wait_all_tasks_blocked()
            busy = count_tasks(anyio_backend_name)
            await let_rest(router)
            assert count_tasks(anyio_backend_name) == busy - 3
            sent: list[bytes] = []
            for number in range(3):
                sent.append(b"%d" % number)
                contract.set_object_data(sent[-1])
                await until(lambda: all(one.states == sent for one in heard))
                await anyio.wait_all_tasks_blocked()
                assert count_tasks(anyio_backend_name) == busy
            await let_rest(router)
            assert count_tasks(anyio_backend_name) == busy - 3
        group.cancel_scope.cancel()


@pytest.mark.usefixtures("rests_soon")
async def test_signs_of_life_go_on_over_rests() -> None:
    async with LocalNode().listen("memory://", keep_alive=0.03, timeout=7200) as listener:
        async with raw_peer(listener.url) as peer:
            heard = 0
            with anyio.fail_after(10):
                while heard < 10:
                    heard += len(await peer.stream.receive())


# ---- who rests ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rests_by_hand")
async def test_who_has_sent_something_since_it_was_looked_at_goes_on() -> None:
    router = LocalNode(serializer=RAW)
    async with router.listen("memory://", **QUIET) as listener, raw_peer(listener.url) as peer:
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract:
            await until(lambda: listener.peers)
            (writer,) = writers(router)
            for number in range(3):
                await anyio.wait_all_tasks_blocked()
                writer.rest()
                contract.set_object_data(b"%d" % number)
                await anyio.wait_all_tasks_blocked()
                writer.rest()
                await anyio.wait_all_tasks_blocked()
                assert writer._running
        await let_rest(router)
        assert not writer._running


@pytest.mark.usefixtures("rests_by_hand")
async def test_who_was_looked_at_once_is_left_alone_also_where_it_is_woken_for_nothing() -> None:
    router = LocalNode()
    async with router.listen("memory://", **QUIET) as listener, raw_peer(listener.url):
        await until(lambda: listener.peers)
        (writer,) = writers(router)
        await anyio.wait_all_tasks_blocked()
        waiter = writer._waiter
        writer.rest()
        await anyio.wait_all_tasks_blocked()
        assert writer._waiter is waiter, "it was not woken"
        writer.set()
        await anyio.wait_all_tasks_blocked()
        assert writer._running


async def test_many_links_are_looked_at_with_a_turn_for_others_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def rest(_writer: LinkWriter) -> None:
        done.append("rest")

    async def turn() -> None:
        done.append("turn")
        await checkpoint()

    async with LocalNode().listen("memory://", **QUIET) as listener, AsyncExitStack() as stack:
        for _ in range(7):
            await stack.enter_async_context(raw_peer(listener.url))
        await until(lambda: len(listener.peers) == 7)
        monkeypatch.setattr(LinkWriter, "rest", rest)
        monkeypatch.setattr(listener_module, "checkpoint", turn)
        monkeypatch.setattr(listener_module, "_RESTS_PER_TURN", 3)
        await listener._links.__self__._rest_idle()  # type: ignore[attr-defined]
        monkeypatch.undo()
    assert done.count("rest") == 7
    assert done.count("turn") == 3
    assert "rest rest rest rest" not in " ".join(done)


# ---- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rests_by_hand")
@pytest.mark.parametrize("busy", [False, True])
async def test_a_block_whose_writers_rest_is_left_at_once(*, busy: bool) -> None:
    """Also where there is something to send in that very moment."""
    router = LocalNode(serializer=RAW)
    with anyio.fail_after(10):
        with router.object(WEATHER).expose() as contract:
            async with AsyncExitStack() as stack:
                async with router.listen("memory://", **QUIET) as listener:
                    peer = await stack.enter_async_context(raw_peer(listener.url))
                    await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
                    await until(lambda: listener.peers)
                    await let_rest(router)
                    if busy:
                        contract.set_object_data(b"news")
                assert await peer.end() == (1001, "the listener is closing")


@pytest.mark.usefixtures("rests_by_hand")
async def test_a_link_that_ends_while_another_at_rest_would_hear_of_it_leaves_nothing() -> None:
    """As all links of a block do that is left: nothing runs any more that would start a writer."""
    router = LocalNode(serializer=RAW)
    async with AsyncExitStack() as stack:
        async with router.listen("memory://", **QUIET) as listener:
            for mine, others in ((WEATHER, TRAFFIC), (TRAFFIC, WEATHER)):
                peer = await stack.enter_async_context(raw_peer(listener.url))
                await peer.announce(
                    ContractAction(Verb.EXPOSE, mine, 1), ContractAction(Verb.OBSERVE, others)
                )
            await until(lambda: len(listener.peers) == 2)
            await let_rest(router)
            due = writers(router)[0]._writers._due
            assert not [one for one in writers(router) if one._running]
        assert not due


@pytest.mark.parametrize("way", ["it breaks", "the peer has gone"])
async def test_a_link_that_ends_before_its_writer_has_begun_ends_nothing_else(way: str) -> None:
    sent: list[Any] = []

    async def end() -> NoReturn:
        raise anyio.BrokenResourceError if way == "it breaks" else anyio.EndOfStream

    async def send(messages: Any) -> None:
        sent.append(messages)

    transport = Altered(receive=end, send=send, detects_silence=True)
    router = LocalNode()
    async with router.listen("memory://", transport=transport) as listener:
        for _ in range(3):
            async with MemoryTransport().connect(listener.url, TransportOptions()) as stream:
                code, _ = await Peer(stream).end()
                assert code == 1001
        await anyio.wait_all_tasks_blocked()
        assert not writers(router)
    assert not sent


async def test_a_listener_is_left_in_time_although_work_goes_on_coming_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the end of its links has left to be done."""
    working = False

    async def work(_timer: Timer) -> None:
        nonlocal working
        working = True
        await anyio.sleep_forever()

    monkeypatch.setattr("hakuban._engine.ticker.LEFT_OVER", 3600)
    monkeypatch.setattr("hakuban._net.listener.LEAVING_TIME", 0.05)
    with anyio.fail_after(10):
        async with LocalNode().listen("memory://", **QUIET):
            monkeypatch.setattr(Timer, "_tick", work)
    assert working


# ---- other things that listeners do -----------------------------------------------------------------------------------


async def test_a_peer_that_has_not_said_its_name_is_served() -> None:
    """A node that connects has to wait for that where there was a circle, and no listener."""
    router = LocalNode(serializer=RAW)
    async with (
        router.listen("memory://", **QUIET) as listener,
        MemoryTransport().connect(listener.url, TransportOptions()) as stream,
    ):
        peer = Peer(stream)
        await stream.send(peer.session.opening()[:-1])
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract:
            contract.set_object_data(b"data")
            async with anyio.create_task_group() as group:
                hearing = Hearing(peer)
                group.start_soon(hearing.run)
                await until(lambda: hearing.states == [b"data"])
                group.cancel_scope.cancel()


class Odd(BaseException):
    """No Exception."""


class Serving:
    """A transport that does nothing but to end.

    :param error: raised at last; None to return.
    :param begun: whether it listens first, and how its end begins: at once, or when it is cancelled.
    """

    def __init__(self, error: BaseException | None, begun: str) -> None:
        self._error = error
        self._begun = begun

    def connect(self, _url: str, _options: TransportOptions, /) -> Any:
        raise AssertionError("nobody connects")

    async def serve(self, _url: str, _options: Any, _handler: Any, /, *, task_status: Any) -> None:
        if self._begun != "never":
            task_status.started("serving://here")
        if self._begun == "until cancelled":
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            return
        await checkpoint()
        if self._error is not None:
            raise self._error


async def ended(error: BaseException | None, begun: str) -> list[BaseException]:
    """Return what came out of a block whose transport ends."""
    found: list[BaseException] = []
    try:
        with anyio.fail_after(10):
            async with LocalNode().listen("serving://here", transport=Serving(error, begun)):
                if begun != "until cancelled":
                    await anyio.sleep_forever()
    except BaseException as caught:  # noqa: BLE001, ASYNC103  # it is what the test looks at
        pending: list[BaseException] = [caught]
        while pending:
            one = pending.pop()
            if isinstance(one, BaseExceptionGroup):
                pending += one.exceptions
            else:
                found.append(one)
    return found


async def test_what_a_transport_ends_with_before_it_listens_comes_out_as_it_is() -> None:
    odd = Odd()
    assert await ended(odd, "never") == [odd]


async def test_a_transport_that_returns_before_it_listens_is_no_listener_that_has_ended() -> None:
    (error,) = await ended(None, "never")
    assert isinstance(error, RuntimeError)
    assert not isinstance(error, hakuban.PluginError)


async def test_an_interrupt_within_a_group_stays_one() -> None:
    interrupt = KeyboardInterrupt()
    found = await ended(BaseExceptionGroup("tasks", [interrupt]), "and ends")
    assert found == [interrupt]


async def test_a_transport_may_return_when_its_block_is_left() -> None:
    assert await ended(None, "until cancelled") == []
