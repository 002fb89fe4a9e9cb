"""One link: who has a turn, what violators and silent peers get, what a slow reader costs."""

from __future__ import annotations

import logging
import math
import random
import threading
from contextlib import asynccontextmanager
from time import monotonic, thread_time, time_ns
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from typing_extensions import override

import hakuban
from hakuban import RAW, LocalNode, ObjectDescriptor
from hakuban._contents import Content
from hakuban._engine.engine import Engine
from hakuban._session_events import (
    ChannelKind,
    ContractAction,
    OpenChannel,
    SendContracts,
    SendState,
    StateReceived,
    Verb,
)
from hakuban._wire import Session
from hakuban.testing import MemoryStream, MemoryTransport, cut_links
from hakuban.transport import TransportOptions
from support.memory_links import Altered, Peer, raw_peer
from support.tracing import collector_off
from support.waiting import until
from support.work import LINES, count_work_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hakuban.transport import MessageStream

WEATHER = ObjectDescriptor(["weather"], 1)


class Turns:
    """A task that takes every turn it gets; knows the most work that others did between two of them.

    :param work: how much was done so far; as a rule seconds of CPU time, of which what other processes do is none.
    """

    def __init__(self, work: Callable[[], float]) -> None:
        self.longest = 0.0
        self._work = work

    async def run(self) -> None:
        before = self._work()
        while True:
            await checkpoint()
            now = self._work()
            self.longest = max(self.longest, now - before)
            before = now


@asynccontextmanager
async def turns(work: Callable[[], float] = thread_time) -> AsyncIterator[Turns]:
    watch = Turns(work)
    with (
        collector_off()
    ):  # a full collection of a large heap takes longer than all that is measured here
        async with anyio.create_task_group() as group:
            group.start_soon(watch.run)
            yield watch
            group.cancel_scope.cancel()


# ---- violators ------------------------------------------------------------------------------------------------------

GARBAGE = {
    "noise": (b"\x00garbage\xff" * 3, {1002, 1007}),
    "channel": (bytes.fromhex("00000002010000000500000000"), {1002, 1007}),
    "cut": (b"\x00\x00", {1007}),
}


@pytest.mark.promise("isolation")
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_violator_is_told_why_and_nobody_else_notices(
    garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    message, codes = GARBAGE[garbage]
    router, leaf = LocalNode("router"), LocalNode("leaf")
    async with router.listen("memory://") as listener, leaf.connect(listener.url) as connection:
        async with raw_peer(listener.url) as peer:
            await until(lambda: len(listener.peers) == 2)
            began = monotonic()
            await peer.stream.send([message])
            code, reason = await peer.end()
            assert monotonic() - began < 0.4, "a peer of ours is told at once"
            assert code in codes
            assert reason
            assert "\n" not in reason
        await until(lambda: len(listener.peers) == 1)
        with router.object(WEATHER).observe() as watcher, leaf.object(WEATHER).expose() as contract:
            contract.set_object_data("fine")
            with anyio.fail_after(5):
                assert (await watcher.wait_state()).data == "fine"
        assert connection.counters.reconnects == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "raw" in caplog.text
    assert reason in caplog.text


async def test_what_a_violator_sent_before_in_the_same_message_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here its name: the line in the log has to say who that was."""
    async with (
        LocalNode().listen("memory://") as listener,
        MemoryTransport().connect(listener.url, TransportOptions()) as stream,
    ):
        peer = Peer(stream)
        *first, last = peer.session.opening()
        await stream.send([*first, last[:-1]])
        await peer.end()
        await until(lambda: caplog.records)
    (record,) = caplog.records
    assert "raw at memory client" in record.getMessage()
    assert record.levelname == "WARNING"


async def test_a_violator_that_may_come_back_at_once_is_told_later() -> None:
    router = LocalNode()
    transport = Altered(peer_is_ours=False)
    async with router.listen("memory://", transport=transport) as listener:
        async with raw_peer(listener.url) as peer:
            await peer.announce(ContractAction(Verb.EXPOSE, WEATHER, 1))
            with router.object(WEATHER).observe():
                await until(lambda: "DownstreamConnection" in str(router.snapshot().objects[0]))
                began = monotonic()
                await peer.stream.send([b"garbage"])
                # its facts are void at once, whatever it still sends
                await until(lambda: router.snapshot().objects[0]["assigned_exposer"] is None)
                assert monotonic() - began < 0.4
                assert router.peers == ()
                await peer.stream.send([b"more"] * 10)
                code, _ = await peer.end()
            assert code == 1007
            assert monotonic() - began >= 0.5


async def test_a_peer_that_breaks_a_rule_of_contracts_is_a_violator() -> None:
    router = LocalNode()
    async with router.listen("memory://") as listener, raw_peer(listener.url) as peer:
        await peer.announce(*[ContractAction(Verb.OBSERVE, WEATHER)] * 2)
        code, reason = await peer.end()
        assert code == 1002
        assert reason


async def test_a_listener_that_speaks_nonsense_is_given_up_at_the_first_connection() -> None:
    async def nonsense(stream: MessageStream) -> None:
        await stream.send([b"HTTP/1.1 200 OK"])
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        transport = MemoryTransport()
        url = await group.start(transport.serve, "memory://", TransportOptions(), nonsense)
        with pytest.raises(hakuban.PeerViolationError), anyio.fail_after(5):
            async with LocalNode().connect(url):
                pass
        group.cancel_scope.cancel()


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError("gone")])
async def test_a_transport_that_fails_ends_its_own_link_only(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise error

    async with (
        LocalNode().listen("memory://", transport=Altered(receive=fail)) as listener,
        raw_peer(listener.url) as peer,
    ):
        bug = isinstance(error, ZeroDivisionError)
        code, _ = await peer.end()
        assert code == (1011 if bug else 1001)
        await until(lambda: not listener.peers)
    assert caplog.text.count("Traceback") == bug


# ---- silence --------------------------------------------------------------------------------------------------------


async def test_a_silent_peer_is_dropped_after_the_timeout() -> None:
    async with LocalNode().listen("memory://#timeout=300ms,keep-alive=100ms") as listener:
        async with raw_peer(listener.url) as peer:
            began = monotonic()
            code, reason = await peer.end()
            assert 0.3 <= monotonic() - began < 0.3 + 1
            assert code == 1001
            assert reason == "nothing received for 0.3 s"


async def test_signs_of_life_keep_a_quiet_link_up() -> None:
    url = "memory://quiet#timeout=200ms,keep-alive=40ms"
    async with LocalNode().listen(url) as listener, LocalNode().connect(url) as connection:
        await anyio.sleep(0.7)
        assert connection.up
        assert connection.counters.reconnects == 0
        assert len(listener.peers) == 1
        assert 8 <= connection.counters.messages_in <= 40


async def test_a_tiny_keep_alive_floods_nobody() -> None:
    url = "memory://tiny#timeout=60s,keep-alive=1ns"
    async with LocalNode().listen(url), LocalNode().connect(url) as connection:
        began = monotonic()
        await until(lambda: connection.counters.messages_in >= 20)
        assert connection.counters.messages_in <= 20 + 120 * (monotonic() - began)
        assert monotonic() > began + 0.1, "they come 10 ms after each other at least"


async def test_a_peer_is_not_silent_while_this_side_deals_with_what_it_has_said() -> None:
    router = LocalNode()
    many = [ContractAction(Verb.OBSERVE, ObjectDescriptor(["many"], n)) for n in range(30_000)]
    async with router.listen("memory://#timeout=100ms,keep-alive=30ms") as listener:
        async with raw_peer(listener.url) as peer:
            await until(lambda: listener.peers)
            (message,) = peer.session.encode(SendContracts(many))
            began = monotonic()
            async with turns():  # without collections, whose standing still is made allowance for
                await peer.stream.send([message])
                while len(router._engine._machine.world.objects) < len(many):
                    await peer.stream.send([peer.session.keep_alive()])
                    await anyio.sleep(0.01)
            assert monotonic() - began > 0.2, "this has to take longer than the timeout"
            assert listener.peers


async def test_a_transport_that_watches_silence_itself_is_left_alone() -> None:
    transport = Altered(detects_silence=True)
    options = "#timeout=100ms,keep-alive=20ms"
    async with LocalNode().listen(f"memory://{options}", transport=transport) as listener:
        async with raw_peer(listener.url) as peer:
            await until(lambda: listener.peers)
            received = 0
            with anyio.move_on_after(0.3):
                while True:
                    received += len(await peer.stream.receive())
            assert received == 4, "nothing but the opening, with a note"


async def test_the_defaults_are_six_and_twenty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from hakuban._transport import keep_alive as _keep_alive

    for name in ("OUR_TIMEOUT", "OTHER_TIMEOUT"):
        assert getattr(_keep_alive, name) in (6.0, 20.0)
        monkeypatch.setattr(_keep_alive, name, getattr(_keep_alive, name) / 40)
    for ours, timeout in ((True, 0.15), (False, 0.5)):
        transport = Altered(peer_is_ours=ours)
        async with LocalNode().listen("memory://", transport=transport) as listener:
            async with raw_peer(listener.url) as peer:
                began = monotonic()
                await peer.end()
                assert timeout <= monotonic() - began < timeout + 1


async def test_a_connection_knows_for_how_long_the_other_side_has_been_silent() -> None:
    async def silent(stream: MessageStream) -> None:
        await stream.send(Session(listening=True, name="silent").opening())
        await heard_enough.wait()
        await stream.send([Session(listening=True, name="silent").keep_alive()])
        await leaving.wait()
        await stream.aclose()

    heard_enough, leaving = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        url = await group.start(MemoryTransport().serve, "memory://", TransportOptions(), silent)
        async with LocalNode().connect(url) as connection:
            assert 0 <= connection.silent_for < 1
            await until(lambda: connection.silent_for > 0.2)
            heard_enough.set()
            await until(lambda: connection.silent_for < 0.2)
            leaving.set()
            await until(lambda: not connection.up)
            assert connection.silent_for == math.inf
        group.cancel_scope.cancel()


def hearing(heard: object) -> MemoryTransport:
    """Give a transport whose streams say when they have heard their peers; an exception is raised instead."""

    class HearingStream(MemoryStream):
        @property
        def last_heard(self) -> object:
            if isinstance(heard, Exception):
                raise heard
            return heard

    class Hearing(MemoryTransport):
        @asynccontextmanager
        @override
        async def connect(
            self, url: str, options: TransportOptions, /
        ) -> AsyncIterator[MemoryStream]:
            async with super().connect(url, options) as stream:
                stream.__class__ = HearingStream
                yield stream

    return Hearing()


async def test_what_a_transport_has_heard_counts_too() -> None:
    later = monotonic() + 3600  # whatever it says, nobody is heard in the future
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=hearing(later)) as connection:
            await until(lambda: connection.silent_for == 0)


@pytest.mark.parametrize("heard", ["now", math.nan, None, -5, RuntimeError("not today")])
async def test_a_transport_that_says_nonsense_of_that_breaks_nothing(heard: object) -> None:
    router, leaf = LocalNode(), LocalNode()
    async with router.listen("memory://") as listener:
        with router.object(WEATHER).expose() as exposed, leaf.object(WEATHER).observe() as seen:
            exposed.set_object_data("data")
            async with leaf.connect(listener.url, transport=hearing(heard)) as connection:
                await until(lambda: seen.synchronized)
                assert 0 <= connection.silent_for < 10
                cut_links(listener.url)
                await until(lambda: not seen.synchronized)
                assert 0 <= seen.age < 10
                await until(lambda: seen.synchronized)


async def test_who_leaves_a_peer_that_is_silent_knows_nothing_since_then() -> None:
    async def frozen(stream: MessageStream) -> None:
        session = Session(listening=True, name="frozen")
        batch = session.opening()
        batch += session.encode(OpenChannel(2, ChannelKind.STREAM, WEATHER))
        batch += session.encode(SendState(2, Content(b"1", ("JSON",), (1,)), 0))
        await stream.send(batch)
        await anyio.sleep_forever()

    leaf = LocalNode()
    async with anyio.create_task_group() as group:
        url = await group.start(MemoryTransport().serve, "memory://", TransportOptions(), frozen)
        with leaf.object(WEATHER).observe() as seen:
            async with leaf.connect(url, keep_alive=0.1, timeout=30) as connection:
                await until(lambda: seen.synchronized and connection.silent_for > 0.3)
            await until(lambda: not seen.synchronized)
            assert seen.age >= 0.3
        group.cancel_scope.cancel()


async def test_the_word_of_a_peer_that_ends_the_link_is_heard_although_writing_fails_first() -> (
    None
):
    class Failing(MemoryTransport):
        """Streams that cannot be written to any more once the peer is about to close."""

        @asynccontextmanager
        @override
        async def connect(
            self, url: str, options: TransportOptions, /
        ) -> AsyncIterator[MemoryStream]:
            async with super().connect(url, options) as stream:

                async def send(messages: Any, /) -> None:
                    if leaving.is_set():
                        raise anyio.BrokenResourceError
                    await MemoryStream.send(stream, messages)

                stream.send = send  # type: ignore[method-assign]
                yield stream

    async def leave(stream: MessageStream) -> None:
        await stream.send(Session(listening=True, name="leaving").opening())
        await leaving.wait()
        await stream.aclose(1009, "too large for me")

    leaving = anyio.Event()
    leaf = LocalNode()
    async with anyio.create_task_group() as group:
        url = await group.start(MemoryTransport().serve, "memory://", TransportOptions(), leave)
        async with leaf.connect(url, transport=Failing()) as connection:
            leaving.set()
            with leaf.object(WEATHER).observe():
                await until(lambda: connection.last_error is not None)
            error = connection.last_error
            assert isinstance(error, hakuban.LinkError)
            assert (error.code, str(error)) == (
                1009,
                "the other side closed the link (1009): too large for me",
            )
        group.cancel_scope.cancel()


# ---- slow and fast --------------------------------------------------------------------------------------------------


@pytest.mark.promise("slow-reader")
async def test_what_a_thread_sets_while_the_writer_looks_for_the_last_time_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Just after the machine has returned that there is nothing more to send on the link."""
    exposer, router = LocalNode("exposer"), LocalNode("router")
    pull, late = Engine.pull, [2]

    def pull_and_be_overtaken(engine: Engine, link: Any) -> Any:
        batch, more = pull(engine, link)
        if engine is exposer._engine and late and any(isinstance(one, SendState) for one in batch):
            thread = threading.Thread(target=contract.set_object_data, args=(late.pop(),))
            thread.start()
            thread.join()
        return batch, more

    monkeypatch.setattr(Engine, "pull", pull_and_be_overtaken)
    async with (
        router.listen("memory://", keep_alive=3600, timeout=7200) as listener,
        exposer.connect(listener.url, keep_alive=3600, timeout=7200),
    ):
        with (
            router.object(WEATHER).observe() as watcher,
            exposer.object(WEATHER).expose() as contract,
        ):
            contract.set_object_data(1)
            await until(lambda: watcher.object_data() == 2)
    assert not late


async def test_a_reader_that_does_not_read_costs_a_buffer_and_gets_the_newest_state() -> None:
    router = LocalNode(serializer=RAW)
    quick: list[bytes] = []
    async with router.listen("memory://") as listener, raw_peer(listener.url) as peer:
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract, router.object(WEATHER).observe() as local:
            await contract.wait_assigned()
            states = aiter(local)
            for number in range(500):
                contract.set_object_data(number.to_bytes(2, "big") + bytes(20_000))
                quick.append((await anext(states)).raw[:2])
            assert len(quick) == 500
            contract.set_object_data(b"newest")
            received, last = 0, b""
            with anyio.fail_after(10):
                while last != b"newest":
                    for message in await peer.stream.receive():
                        received += len(message)
                        for event in peer.session.receive(message):
                            if isinstance(event, StateReceived):
                                last = event.content.data
    assert received < 400_000, "skipped states are not sent"


async def test_a_flood_from_one_peer_leaves_turns_to_everybody_else() -> None:
    router = LocalNode()
    actions = [
        ContractAction(Verb.OBSERVE, ObjectDescriptor(["flood"], number)) for number in range(5_000)
    ]
    async with router.listen("memory://") as listener, raw_peer(listener.url) as peer:
        await until(lambda: listener.peers)
        message = peer.session.encode(SendContracts(actions))
        async with turns() as watch:
            await peer.stream.send(message)
            await until(lambda: len(router._engine._machine.world.objects) == 5_000)
        assert watch.longest < 0.05


async def test_the_loss_of_a_peer_with_many_contracts_stops_nobody() -> None:
    router = LocalNode()
    world = router._engine._machine.world
    observed = [ObjectDescriptor(["many"], number) for number in range(1_000)]
    async with router.listen("memory://") as listener, raw_peer(listener.url) as peer:
        await peer.announce(*(ContractAction(Verb.OBSERVE, one) for one in observed))
        await until(lambda: len(world.objects) == len(observed))
        work = count_work_of(router)
        async with turns(lambda: work.total) as watch:
            cut_links(listener.url)
            await until(lambda: not world.objects)
    if work.blind:
        return
    assert work.total > 2 * LINES, f"{work.total} lines in all: this does not try anything"
    assert work.most <= LINES, f"{work.most} lines under the lock at a time"
    assert watch.longest <= LINES, f"{watch.longest} lines until others had a turn"


async def test_many_objects_all_arrive() -> None:
    router, leaf = LocalNode(), LocalNode()
    async with router.listen("memory://") as listener, leaf.connect(listener.url):
        with router.tag("many").observe() as watchers:
            contracts = [leaf.object(["many"], number).expose() for number in range(2_000)]
            for number, contract in enumerate(contracts):
                contract.set_object_data(number)
            for number in range(2_000):
                descriptor = ObjectDescriptor(["many"], number)
                await until(lambda: watchers.object_data(descriptor) == number)  # noqa: B023  # used before the next one
            for contract in contracts:
                contract.close()
            await until(lambda: not watchers.object_descriptors())


async def test_a_state_that_fits_no_message_is_skipped_and_the_stream_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router, leaf = LocalNode(serializer=RAW), LocalNode(serializer=RAW)
    async with (
        router.listen("memory://") as listener,
        leaf.connect(listener.url, max_message=5_000) as connection,
    ):
        with router.object(WEATHER).observe() as watcher, leaf.object(WEATHER).expose() as contract:
            await contract.wait_assigned()
            contract.set_object_data(b"small")
            await until(lambda: watcher.object_data() == b"small")
            for number in range(2):
                contract.set_object_data(random.Random(number).randbytes(10_000))
                await until(lambda: connection.counters.states_skipped == number + 1)  # noqa: B023  # used before the next one
            await until(lambda: not watcher.synchronized)
            assert watcher.object_data() == b"small"
            contract.set_object_data(b"again small")
            await until(lambda: watcher.object_data() == b"again small" and watcher.synchronized)
            assert leaf.snapshot().skipped_states == {WEATHER: 2}
        assert connection.counters.states_skipped == 2
        assert connection.counters.reconnects == 0
    warnings = [record for record in caplog.records if "skipped" in record.getMessage()]
    assert [record.levelno for record in warnings] == [logging.WARNING]


# ---- what is said at the beginning ----------------------------------------------------------------------------------


async def test_a_load_limit_is_declared_sorted_and_arguments_go_before_the_url() -> None:
    router = LocalNode()

    def limits() -> list[Any]:
        return [item["load_limit"] for item in router.snapshot().downstream_connections]

    async with router.listen("memory://") as listener:
        async with LocalNode().connect(f"{listener.url}#load-limit=3"):
            await until(lambda: limits() == [3.0])
        await until(lambda: limits() == [])
        points = [(1_000.0, 8), (0.0, 4)]
        async with LocalNode().connect(f"{listener.url}#load-limit=3", load_limit=points):
            await until(lambda: limits() and 4.0 <= limits()[0] < 4.1)


async def test_default_versions_run_on_the_clock_of_the_node_above() -> None:
    ahead = 3_600

    class Clocked(MemoryTransport):
        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            async with super().connect(url, options) as stream:
                stream.peer_clock = time_ns() + ahead * 10**9
                yield stream

    leaf = LocalNode()
    async with LocalNode().listen("memory://") as listener:
        async with leaf.connect(listener.url, transport=Clocked()):
            pass
    with leaf.object(WEATHER).observe() as watcher, leaf.object(WEATHER).expose() as contract:
        contract.set_object_data(1)
        version = watcher.object_version()
        assert version is not None
        assert version[0] == 0
        assert abs(version[1] - time_ns() // 10**9 - ahead) <= 2
