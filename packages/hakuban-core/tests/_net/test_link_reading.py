"""What a link does with what comes in: in which steps, how silence is noticed, and what it holds meanwhile."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban import LocalNode, ObjectDescriptor
from hakuban._engine.engine import Engine
from hakuban._loops.time_slice import TimeSlice
from hakuban._session_events import ContractAction, Verb
from hakuban._wire import Session
from hakuban.testing import MemoryTransport
from hakuban.transport import TransportOptions
from support.memory_links import Altered, Peer, listening, raw_peer
from support.waiting import Turns, until

if TYPE_CHECKING:
    from hakuban._transport.options import TransportArguments

QUIET: TransportArguments = {"keep_alive": 3600, "timeout": 7200}


def observing(count: int) -> list[ContractAction]:
    return [
        ContractAction(Verb.OBSERVE, ObjectDescriptor(["many"], number)) for number in range(count)
    ]


# ---- in steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slice_length", "sizes"), [(math.inf, [32, 32, 32, 4]), (-1, [1] * 100)])
async def test_what_one_message_says_is_taken_in_steps_of_32_things_or_as_many_as_time_allows(
    slice_length: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where a step takes all the time there is, others have a turn after each."""
    steps: list[int] = []
    turns = Turns()
    turns_at: list[int] = []
    receive = Engine.receive

    def noted(engine: Engine, link: int, events: Any) -> Any:
        if all(isinstance(event, ContractAction) for event in events):
            steps.append(len(events))
            turns_at.append(turns.taken)
        return receive(engine, link, events)

    router = LocalNode()
    async with router.listen("memory://", **QUIET) as listener, raw_peer(listener.url) as peer:
        await until(lambda: listener.peers)
        monkeypatch.setattr(Engine, "receive", noted)
        monkeypatch.setattr("hakuban._loops.time_slice.LENGTH", slice_length)
        async with anyio.create_task_group() as group:
            group.start_soon(turns.run)
            await peer.announce(*observing(100))
            await until(lambda: sum(steps) == 100)
            group.cancel_scope.cancel()
        assert len(router.snapshot().objects) == 100
    assert steps == sizes
    if slice_length < 0:
        assert turns_at[-1] - turns_at[0] >= 25


# ---- silence --------------------------------------------------------------------------------------------------------


async def test_who_never_says_a_word_is_silent_and_who_waits_for_this_side_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One peer has said something that takes longer to handle than the timeout; the other came later, and says nothing."""
    handling, go_on = anyio.Event(), anyio.Event()
    yield_to_loop = TimeSlice.yield_to_loop

    async def stay_away(time_slice: TimeSlice) -> None:
        handling.set()
        await go_on.wait()
        await yield_to_loop(time_slice)

    router = LocalNode()
    async with (
        router.listen("memory://", keep_alive=0.03, timeout=0.1) as listener,
        raw_peer(listener.url) as busy,
    ):
        await until(lambda: listener.peers)
        monkeypatch.setattr("hakuban._loops.time_slice.LENGTH", -1)
        monkeypatch.setattr(TimeSlice, "yield_to_loop", stay_away)
        await busy.announce(*observing(2))
        await handling.wait()
        async with MemoryTransport().connect(listener.url, TransportOptions()) as mute:
            assert await Peer(mute).end() == (1001, "nothing received for 0.1 s")
        assert listener.peers, "it was not silent: nobody has listened"
        monkeypatch.undo()
        go_on.set()
        await until(lambda: len(router.snapshot().objects) == 2)


# ---- what it holds --------------------------------------------------------------------------------------------------


class Batch(list[bytes]):
    """Messages whose end can be seen."""


async def test_what_was_received_is_not_kept_while_nothing_comes() -> None:
    """It may be a megabyte, for each of thousands of links."""
    batches: list[weakref.ref[Batch]] = []

    def alter(stream: Any) -> None:
        receive = stream.receive

        async def receive_batch() -> Batch:
            batch = Batch(await receive())
            batches.append(weakref.ref(batch))
            return batch

        stream.receive = receive_batch

    async with (
        LocalNode().listen("memory://", transport=Altered(alter), **QUIET) as listener,
        raw_peer(listener.url) as peer,
    ):
        await until(lambda: listener.peers)
        await peer.announce(*observing(1))
        await until(lambda: len(batches) == 2)
        await until(lambda: not [one for one in batches if one() is not None])


async def test_each_message_and_each_byte_is_counted_both_ways() -> None:
    heard: list[bytes] = []
    sent: list[bytes] = []

    async def above(stream: Any) -> None:
        session = Session(listening=True, name="above")
        for batch in (session.opening(), [session.keep_alive()]):
            sent.extend(batch)
            await stream.send(batch)
        with suppress(anyio.EndOfStream):
            while True:
                heard.extend(await stream.receive())
        await stream.aclose()

    leaf = LocalNode()
    async with listening(above) as url:
        async with leaf.connect(url, **QUIET) as connection:
            with leaf.object(["many"], 1).observe():
                await until(lambda: connection.counters.messages_in == len(sent) > 2)
        await until(lambda: connection.counters.messages_out == len(heard))
    counters = connection.counters
    assert counters.bytes_in == sum(map(len, sent))
    assert counters.bytes_out == sum(map(len, heard))


# ---- what it says of itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_pictures_have_the_addresses_of_a_link_as_far_as_the_transport_knows_them(
    *, known: bool
) -> None:
    nothing = {} if known else {"local_address": None, "remote_address": None}
    router, leaf = LocalNode("router"), LocalNode("leaf")
    async with (
        router.listen("memory://", transport=Altered(**nothing)) as listener,
        leaf.connect(listener.url, transport=Altered(**nothing)),
    ):
        await until(lambda: listener.peers)
        above = leaf.snapshot().upstream
        [below] = router.snapshot().downstream_connections
        (line,) = str(listener).splitlines()[1:]
    assert above is not None
    assert above["local_address"] == below["remote_address"]
    if known:
        assert above["local_address"].startswith("memory client ")
        assert f"leaf at {above['local_address']} (memory)" in line
    else:
        assert above["local_address"] == ""
        assert "leaf at an unknown address (memory)" in line
