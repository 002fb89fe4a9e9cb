"""What a link does to send: in which batches, who has turns meanwhile, what it keeps, and how it comes to its end."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hakuban import RAW, LocalNode, ObjectDescriptor
from hakuban._engine.engine import Engine
from hakuban._loops.time_slice import TimeSlice
from hakuban._net.link_writer import BATCH
from hakuban._session_events import ContractAction, SendState, StateReceived, Verb
from hakuban._wire import Session
from hakuban.testing import cut_links
from support.memory_links import Altered, Peer, listening, raw_peer
from support.much_to_do import nothing_is_due
from support.tracing import collector_off
from support.waiting import Turns, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hakuban._transport.options import TransportArguments

QUIET: TransportArguments = {"keep_alive": 3600, "timeout": 7200}
WEATHER = ObjectDescriptor(["weather"], 1)
CLOCK = "hakuban._loops.time_slice.monotonic"
SLICE = "hakuban._loops.time_slice.LENGTH"


def sending(send: Callable[[Any, list[bytes]], Awaitable[None]]) -> Altered:
    """Give a transport that sends all but the introduction by a function, which gets the stream's own `send` too."""

    def alter(stream: Any) -> None:
        own, introduced = stream.send, False

        async def altered(messages: list[bytes]) -> None:
            nonlocal introduced
            await (send(own, messages) if introduced else own(messages))
            introduced = True

        stream.send = altered

    return Altered(alter)


async def read_states(peer: Peer, count: int) -> list[bytes]:
    """Receive until a peer made of bytes has got so many states."""
    states: list[bytes] = []
    with anyio.fail_after(10):
        while len(states) < count:
            for message in await peer.stream.receive():
                events = peer.session.receive(message)
                states += [one.content.data for one in events if isinstance(one, StateReceived)]
    return states


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", ["stands still", "is over at once"])
async def test_a_batch_has_64_kib_or_as_much_as_time_allows(
    time: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where all of it is one step of the machine's, that has 32 things."""
    number_of, size, router = 400, 1_000, LocalNode(serializer=RAW)
    go, sizes = anyio.Event(), list[list[int]]()

    async def hold_back(send: Any, messages: list[bytes]) -> None:
        await go.wait()
        sizes.append(list(map(len, messages)))
        await send(messages)

    many = [ObjectDescriptor(["many"], number) for number in range(number_of)]
    async with (
        router.listen("memory://", transport=sending(hold_back), **QUIET) as listener,
        raw_peer(listener.url) as peer,
    ):
        await until(lambda: listener.peers)
        contracts = [router.object(one).expose() for one in many]
        for contract in contracts:
            contract.set_object_data(os.urandom(size))
        await peer.announce(*[ContractAction(Verb.OBSERVE, one) for one in many])
        await anyio.wait_all_tasks_blocked()
        await until(lambda: nothing_is_due(router))
        await anyio.wait_all_tasks_blocked()
        if time == "stands still":
            later = monotonic() + 3600
            monkeypatch.setattr(CLOCK, lambda: later)
        else:
            monkeypatch.setattr(SLICE, -1)
        go.set()
        assert len(set(await read_states(peer, number_of))) == number_of
        monkeypatch.undo()
        for contract in contracts:
            contract.close()
    full = sizes[1:-1]  # the first was there before all was
    assert len(full) >= 3
    if time == "stands still":
        assert all(BATCH <= sum(one) < BATCH + 32 * (size + 100) for one in full)
    else:
        assert all(len(one) <= 3 * 32 and sum(one) < BATCH for one in full)


# ---- turns ----------------------------------------------------------------------------------------------------------


async def test_who_always_has_something_for_a_transport_that_takes_all_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that the writer awaits has to wait there, and each batch takes longer than a turn may."""
    router, turns, clock = LocalNode(serializer=RAW), Turns(), count(1_000.0, 0.01)
    turns_at: list[int] = []

    async def take(_send: Any, _messages: list[bytes]) -> None:
        turns_at.append(turns.taken)
        if len(turns_at) < 100:
            contract.set_object_data(b"%d" % len(turns_at))

    with router.object(WEATHER).expose() as contract:
        async with (
            router.listen("memory://", transport=sending(take), **QUIET) as listener,
            raw_peer(listener.url) as peer,
            anyio.create_task_group() as group,
        ):
            await until(lambda: listener.peers)
            group.start_soon(turns.run)
            monkeypatch.setattr(CLOCK, lambda: next(clock))
            await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
            await until(lambda: len(turns_at) == 100)
            monkeypatch.undo()
            group.cancel_scope.cancel()
    assert turns_at[-1] - turns_at[9] >= 45


async def test_who_has_little_now_and_then_takes_no_turn_besides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it waits for more, others have theirs."""
    router, now, yields = LocalNode(serializer=RAW), 1_000.0, list[float]()
    pull = Engine.pull

    def pull_in_time(engine: Engine, link: Any) -> Any:
        nonlocal now
        now += 0.0015  # of the two thousandths of a second of a turn
        return pull(engine, link)

    async def noted(_time_slice: TimeSlice) -> None:
        yields.append(now)
        await checkpoint()

    async with router.listen("memory://", **QUIET) as listener, raw_peer(listener.url) as peer:
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract:
            await anyio.wait_all_tasks_blocked()
            monkeypatch.setattr(TimeSlice, "yield_to_loop", noted)
            monkeypatch.setattr(CLOCK, lambda: now)
            monkeypatch.setattr(Engine, "pull", pull_in_time)
            for number in range(10):
                contract.set_object_data(b"%d" % number)
                await read_states(peer, 1)
                await anyio.wait_all_tasks_blocked()
            monkeypatch.undo()
    assert not yields


async def test_others_have_turns_while_the_difference_of_a_large_state_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router, turns = LocalNode(serializer=RAW), Turns()
    turns_at: list[int] = []
    pull = Engine.pull

    def noted_pull(engine: Engine, link: Any) -> Any:
        batch, more = pull(engine, link)
        if any(isinstance(one, SendState) for one in batch):
            turns_at.append(turns.taken)
        return batch, more

    async def noted_send(send: Any, messages: list[bytes]) -> None:
        if turns_at:
            turns_at.append(turns.taken)
        await send(messages)

    data = bytearray(os.urandom(1_000_000))
    async with (
        router.listen("memory://", transport=sending(noted_send), **QUIET) as listener,
        raw_peer(listener.url) as peer,
        anyio.create_task_group() as group,
    ):
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract:
            contract.set_object_data(bytes(data))
            await read_states(peer, 1)
            for at in range(0, len(data), 1_000):
                data[at] ^= 1
            group.start_soon(turns.run)
            monkeypatch.setattr(SLICE, -1)
            monkeypatch.setattr(Engine, "pull", noted_pull)
            contract.set_object_data(bytes(data))
            await read_states(peer, 1)
            monkeypatch.undo()
        group.cancel_scope.cancel()
    assert turns_at[1] - turns_at[0] >= 5


# ---- what it knows and keeps ----------------------------------------------------------------------------------------


async def test_a_batch_that_was_sent_is_not_kept_while_there_is_no_other() -> None:
    """It may be a megabyte, for each of thousands of links."""
    batches, nobodys = list[Any](), [[b""]]

    async def noted(send: Any, messages: list[bytes]) -> None:
        batches.append(messages)
        await send(messages)

    router = LocalNode()
    async with (
        router.listen("memory://", transport=sending(noted), **QUIET) as listener,
        raw_peer(listener.url) as peer,
    ):
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract:
            for number in range(3):
                await anyio.wait_all_tasks_blocked()
                contract.set_object_data(number)
                await read_states(peer, 1)
                await anyio.wait_all_tasks_blocked()
                assert sys.getrefcount(batches[-1]) == sys.getrefcount(nobodys[-1])


async def test_a_link_knows_when_something_was_last_sent() -> None:
    """Its signs of life count from there."""
    router = LocalNode()
    async with router.listen("memory://", **QUIET) as listener, raw_peer(listener.url) as peer:
        await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
        with router.object(WEATHER).expose() as contract:
            await anyio.wait_all_tasks_blocked()
            link: Any = next(iter(router._engine.links.values()))
            await until(lambda: monotonic() > link.writer.last_sent)
            before = monotonic()
            contract.set_object_data("data")
            await read_states(peer, 1)
            await until(lambda: link.writer.last_sent >= before)


class Gone(OSError):
    """An error whose end can be seen."""

    def __init__(self, seen: list[weakref.ref[Gone]]) -> None:
        super().__init__()
        seen.append(weakref.ref(self))


async def test_what_sending_failed_with_is_not_kept_where_the_peer_has_said_why_it_left() -> None:
    """It has frames, and they have the link."""
    errors, leaving = list[weakref.ref[Gone]](), anyio.Event()

    async def fail_later(send: Any, messages: list[bytes]) -> None:
        if leaving.is_set():
            raise Gone(errors)
        await send(messages)

    async def leave(stream: Any) -> None:
        await stream.send(Session(listening=True, name="leaving").opening())
        await leaving.wait()
        await until(lambda: errors)
        await stream.aclose(1001, "good night")

    leaf = LocalNode()
    gc.collect()
    with collector_off():
        async with listening(leave) as url:
            async with leaf.connect(url, transport=sending(fail_later), **QUIET) as connection:
                leaving.set()
                with leaf.object(WEATHER).observe():
                    await until(lambda: connection.last_error is not None)
                assert "good night" in str(connection.last_error)
                await until(lambda: not [one for one in errors if one() is not None])


# ---- the end --------------------------------------------------------------------------------------------------------


async def test_what_was_set_before_a_block_was_left_arrives_however_slow_the_transport_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._net.connector.FLUSH", 3600)

    async def send_later(send: Any, messages: list[bytes]) -> None:
        for _ in range(50):
            await checkpoint()
        await send(messages)

    above, leaf = LocalNode(), LocalNode()
    with above.object(WEATHER).observe() as seen, leaf.object(WEATHER).expose() as contract:
        async with above.listen("memory://", **QUIET) as listener:
            async with leaf.connect(listener.url, transport=sending(send_later), **QUIET):
                await until(lambda: contract.assigned)
                for number in range(3):
                    contract.set_object_data(number)
            await until(lambda: seen.object_data() == 2)


async def test_who_leaves_waits_no_more_for_what_it_has_to_send_when_the_link_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._net.connector.FLUSH", 3600)
    stuck = anyio.Event()

    async def cut(url: str) -> None:
        await anyio.wait_all_tasks_blocked()
        cut_links(url)

    async def get_stuck(_send: Any, _messages: list[bytes]) -> None:
        stuck.set()
        await anyio.sleep_forever()

    leaf = LocalNode()
    with anyio.fail_after(10), leaf.object(WEATHER).observe():
        async with LocalNode().listen("memory://", **QUIET) as listener:
            async with anyio.create_task_group() as group:
                async with leaf.connect(listener.url, transport=sending(get_stuck), **QUIET):
                    await stuck.wait()
                    group.start_soon(cut, listener.url)


async def test_a_stream_is_closed_when_nothing_is_sent_on_it_any_more() -> None:
    """However long the transport takes to stop that."""
    sending, ends = anyio.Event(), list[bool]()

    def alter(stream: Any) -> None:
        busy = False
        aclose = stream.aclose

        async def send(_messages: Any) -> None:
            nonlocal busy
            busy = True
            sending.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(20):
                        await checkpoint()
                busy = False

        async def noted(code: int = 1000, reason: str = "") -> None:
            ends.append(busy)
            await aclose(code, reason)

        stream.send, stream.aclose = send, noted

    async with LocalNode().listen("memory://", transport=Altered(alter), **QUIET) as listener:
        async with raw_peer(listener.url):
            await sending.wait()
        await until(lambda: ends)
    assert ends == [False]


async def test_a_violator_to_which_sending_fails_is_told_without_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is nothing to wait for."""
    monkeypatch.setattr("hakuban._net.link.GRACE", 3600)
    monkeypatch.setattr("hakuban._net.link_writer.GRACE", 3600)
    failed = anyio.Event()

    async def fail(_messages: Any) -> NoReturn:
        failed.set()
        raise OSError("one way only")

    transport = Altered(send=fail)
    async with LocalNode().listen("memory://", transport=transport, **QUIET) as listener:
        async with raw_peer(listener.url) as peer:
            await failed.wait()
            await peer.stream.send([b"garbage"])
            code, _ = await peer.end()
    assert code == 1007
