"""Peers that have not said what they take, and end links with 1009: what they got is not sent to them again."""

from __future__ import annotations

import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

from hakuban import RAW, LocalNode, ObjectDescriptor
from hakuban._engine.engine import Engine
from hakuban._exceptions import LinkError, PeerViolationError
from hakuban._net import message_sizes
from hakuban._net.message_sizes import MOST_PEERS, SizeCap, SizeCaps, Skips
from hakuban._remote import Traffic
from hakuban._session_events import (
    ChannelKind,
    ContractAction,
    Note,
    OpenChannel,
    SendContracts,
    StateReceived,
    Verb,
)
from hakuban._wire import Session
from hakuban.testing import MemoryTransport
from hakuban.transport import TransportOptions
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from hakuban._session_events import PeerEvent
    from hakuban.testing import MemoryStream
    from hakuban.transport import MessageStream

LARGE, SMALL = ObjectDescriptor(["t"], "large"), ObjectDescriptor(["t"], "small")
LIMIT = 20_000


# ---- the rule, on a scripted clock ----------------------------------------------------------------------------------


@dataclass
class Peer:
    address: str = "10.0.0.1:4711"
    node: str = "a1"
    max_taken: int | None = None


@dataclass
class Ended:
    """What the rule reads of a link that has ended."""

    largest_sent: int = 0
    reason: Exception | None = field(default_factory=lambda: LinkError("too big", code=1009))
    peer: Peer = field(default_factory=Peer)


def ended(*sizes: int, **what: Any) -> list[Any]:
    return [Ended(size, **what) for size in sizes]


def test_nothing_as_large_as_the_largest_message_of_the_link_is_sent_again() -> None:
    cap = SizeCap("proxy")
    (link,) = ended(50_000)
    cap.ended(link, 0.0)
    assert cap.most(0.0) == 49_999


def test_each_further_1009_within_a_minute_halves_it() -> None:
    cap = SizeCap("proxy")
    for at, (link,), most in (
        (0.0, ended(50_000), 49_999),
        (59.0, ended(40_000), 24_999),
        (118.0, ended(300), 12_499),
        (178.0, ended(9_000), 8_999),
        (400.0, ended(70_000), 8_999),
    ):
        cap.ended(link, at)
        assert cap.most(at) == most


def test_it_is_forgotten_after_ten_minutes_and_both_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cap = SizeCap("proxy")
    (link,) = ended(50_000)
    with caplog.at_level(logging.INFO, "hakuban"):
        cap.ended(link, 0.0)
        assert cap.most(599.9) == 49_999
        assert cap.most(600.0) is None
        assert cap.most(601.0) is None
    begins, ends = caplog.messages
    assert begins.startswith("proxy: ")
    assert "none over 49999 bytes is sent" in begins
    assert ends == "proxy: messages of any size are sent again"


def test_so_much_that_a_link_can_begin_is_always_sent() -> None:
    cap = SizeCap("proxy")
    for _ in range(20):
        (link,) = ended(10_000)
        cap.ended(link, 0.0)
    assert cap.most(0.0) == 1_024


@pytest.mark.parametrize(
    "reason",
    [
        None,
        LinkError("gone", code=1001),
        PeerViolationError("its message was too large", code=1009),
        OSError("reset"),
    ],
)
def test_other_ends_teach_nothing(reason: Exception | None) -> None:
    cap, caps = SizeCap("proxy"), SizeCaps()
    (link,) = ended(50_000, reason=reason)
    cap.ended(link, 0.0)
    caps.ended(link, 0.0, ())
    assert cap.most(0.0) is None
    assert caps.find(link) is None


def test_what_was_sent_before_the_peer_had_said_what_it_takes_teaches_nothing() -> None:
    cap = SizeCap("node")
    cap.ended(ended(50_000, peer=Peer(max_taken=20_000))[0], 0.0)
    assert cap.most(0.0) is None
    cap.ended(ended(50_000, peer=Peer(max_taken=100_000))[0], 0.0)
    assert cap.most(0.0) == 49_999, "there is a proxy on the way"
    cap.ended(ended(70_000, peer=Peer(max_taken=60_000))[0], 0.0)
    assert cap.most(0.0) == 49_999, "it is on the way still"
    cap.ended(ended(50_000, peer=Peer(max_taken=49_999))[0], 0.0)
    assert cap.most(0.0) is None, "now the node says so itself"
    cap.ended(ended(20_000, peer=Peer(max_taken=20_000))[0], 0.0)
    assert cap.most(0.0) == 19_999, "it was no more than the node takes"


@pytest.mark.parametrize(
    ("address", "again", "other"),
    [
        ("10.0.0.1:4711", "10.0.0.1:9", "10.0.0.2:4711"),
        ("[fe80::1]:4711", "[fe80::1]:9", "[fe80::2]:4711"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("fe80::1", "fe80::1", "fe80::2"),
        ("memory client 7", "memory client 18", "elsewhere 7"),
    ],
)
def test_hosts_are_told_apart_whatever_their_addresses_look_like(
    address: str, again: str, other: str
) -> None:
    caps = SizeCaps()
    caps.ended(ended(50_000, peer=Peer(address))[0], 0.0, ())
    assert caps.find(ended(0, peer=Peer(again))[0]) is not None
    assert caps.find(ended(0, peer=Peer(other))[0]) is None


def test_a_listener_remembers_a_node_of_a_host_and_no_other() -> None:
    caps = SizeCaps()
    (link,) = ended(50_000)
    caps.ended(link, 0.0, ())
    (again,) = ended(0, peer=Peer("10.0.0.1:9999"))
    found = caps.find(again)
    assert found is not None
    assert found.most(0.0) == 49_999
    for other in (Peer("10.0.0.2:4711"), Peer(node="b2"), Peer(node="")):
        assert caps.find(ended(0, peer=other)[0]) is None


def test_who_has_not_said_the_id_of_a_node_is_not_remembered() -> None:
    caps = SizeCaps()
    (link,) = ended(50_000, peer=Peer(node=""))
    caps.ended(link, 0.0, ())
    assert caps.find(link) is None


def test_from_a_node_that_has_another_link_nothing_is_learnt() -> None:
    caps = SizeCaps()
    link, other = ended(50_000, 0)
    caps.ended(link, 0.0, [other])
    assert caps.find(link) is None


def test_where_nothing_is_learnt_the_other_links_are_not_looked_at() -> None:
    link, other = ended(50_000, 0, reason=LinkError("goodbye", code=1000))
    others = iter([other])
    SizeCaps().ended(link, 0.0, others)
    assert next(others) is other, "10,000 links that end at once would each look at all of them"


def test_a_listener_remembers_only_so_many() -> None:
    caps = SizeCaps()
    links = [ended(50_000, peer=Peer(node=f"{number}"))[0] for number in range(1_100)]
    for link in links:
        caps.ended(link, 0.0, ())
    remembered = [caps.find(link) is not None for link in links]
    assert remembered == [False] * (1_100 - MOST_PEERS) + [True] * MOST_PEERS


def test_what_was_not_sent_is_reported_once() -> None:
    reported: list[object] = []
    engine: Any = SimpleNamespace(not_sent=lambda *what: reported.append(what[1:]))
    session: Any = SimpleNamespace(
        skipped=[(LARGE, 50_000)], oversized=[(SMALL, 60_000)], max_sent=LIMIT
    )
    link: Any = "a link"
    traffic = Traffic()
    skips = Skips(engine, traffic)
    skips.report(link, session)
    assert reported == [([LARGE], [SMALL])]
    assert not session.skipped
    assert not session.oversized
    assert traffic.states_skipped == 1


# ---- and on links ---------------------------------------------------------------------------------------------------


@dataclass
class Above:
    """A node above that says nothing of itself, and takes no message over the limit. It wants both objects.

    :ivar takes_more: it takes larger ones on its second link.
    :ivar links: how many have been made.
    :ivar states: the data it was sent last, by object.
    """

    takes_more: bool = False
    links: int = 0
    states: dict[ObjectDescriptor, bytes] = field(default_factory=dict)

    async def serve(self, stream: MessageStream) -> None:
        self.links += 1
        session = Session(listening=True, name="above")
        batch = session.opening()
        for channel, descriptor in ((2, LARGE), (3, SMALL)):
            batch += session.encode(OpenChannel(channel, ChannelKind.SINK, descriptor))
        try:
            await stream.send(batch)
            while True:
                for message in await stream.receive():
                    if self.takes_more and self.links == 1 and len(message) > LIMIT:
                        raise PeerViolationError("too large", code=1009)
                    self._take(session.receive(message))
        except PeerViolationError as error:
            await stream.aclose(error.code, error.reason)
        except anyio.EndOfStream:
            await stream.aclose()

    def _take(self, events: Iterable[PeerEvent | None]) -> None:
        for event in events:
            if isinstance(event, StateReceived):
                self.states[LARGE if event.channel == 2 else SMALL] = event.content.data


@asynccontextmanager
async def listening(above: Above, limit: int = LIMIT) -> AsyncIterator[str]:
    async with anyio.create_task_group() as group:
        options = TransportOptions(max_message=limit)
        yield await group.start(MemoryTransport().serve, "memory://", options, above.serve)
        group.cancel_scope.cancel()


class NoNode(MemoryTransport):
    """The memory transport to peers that are known to be no nodes of this project."""

    @asynccontextmanager
    @override
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MemoryStream]:
        async with super().connect(url, options) as stream:
            stream.peer_is_ours = False
            yield stream


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(2 * LIMIT)


async def test_one_object_that_a_silent_peer_does_not_take_costs_that_object(
    caplog: pytest.LogCaptureFixture,
) -> None:
    above, leaf = Above(), LocalNode(serializer=RAW)
    async with (
        listening(above) as url,
        leaf.connect(url, transport=NoNode()) as connection,
    ):
        with leaf.object(LARGE).expose() as large, leaf.object(SMALL).expose() as small:
            await large.wait_assigned()
            await small.wait_assigned()
            large.set_object_data(noise(0))
            await until(lambda: connection.size_cap is not None)
            size = connection.size_cap
            assert size is not None
            assert 2 * LIMIT < size < 2 * LIMIT + 200
            for number in range(3):
                small.set_object_data(b"%d" % number)
                await until(lambda: above.states.get(SMALL) == b"%d" % number)  # noqa: B023  # before the next
                assert connection.up
            assert above.links == 2
            assert connection.counters.states_skipped == 1
            assert LARGE in leaf.snapshot().skipped_states
            assert [*leaf.snapshot().size_caps.values()] == [size]
            large.set_object_data(b"fits")
            await until(lambda: above.states.get(LARGE) == b"fits")
        assert above.links == 2
    told = [line for line in caplog.messages if "1009); for 10 minutes" in line]
    assert len(told) == 1
    (skipped,) = [line for line in caplog.messages if "was skipped" in line]
    assert f": a state of {LARGE} was skipped: its message has" in skipped


async def test_what_was_too_large_is_sent_once_that_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    above, leaf, retries = Above(takes_more=True), LocalNode(serializer=RAW), list[object]()
    retry_oversized = Engine.retry_oversized

    def counted(engine: Engine, link: Any) -> None:
        retries.append(link)
        retry_oversized(engine, link)

    monkeypatch.setattr(Engine, "retry_oversized", counted)
    async with (
        listening(above, 10 * LIMIT) as url,
        leaf.connect(url, transport=NoNode()) as connection,
    ):
        with leaf.object(LARGE).expose() as large, leaf.object(SMALL).expose() as small:
            await large.wait_assigned()
            await small.wait_assigned()
            large.set_object_data(noise(0))
            await until(lambda: connection.counters.states_skipped)
            assert connection.up
            assert above.states.get(LARGE) is None
            monkeypatch.setattr(message_sizes, "REMEMBERED", 0.0)
            small.set_object_data(b"small")
            await until(lambda: above.states.get(LARGE) == noise(0))
            assert connection.size_cap is None
            assert above.links == 2
            small.set_object_data(b"another")
            await until(lambda: above.states.get(SMALL) == b"another")
            assert len(retries) == 1


async def test_a_contract_that_a_silent_peer_does_not_take_is_left_out_from_the_next_link_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before the peer has said a word there, since the first that it hears are contracts."""
    huge, leaf = ObjectDescriptor(["t"], "x" * 2 * LIMIT), LocalNode()
    links, heard = 0, set[object]()

    async def above(stream: MessageStream) -> None:
        nonlocal links
        links += 1
        session = Session(listening=True, name="above")
        try:
            while True:
                for message in await stream.receive():
                    for event in session.receive(message):
                        if isinstance(event, ContractAction):
                            heard.add(event.descriptor)
                            if event.descriptor == SMALL:
                                await stream.send(session.opening())
        except PeerViolationError as error:
            await stream.aclose(error.code, error.reason)
        except anyio.EndOfStream:
            await stream.aclose()

    async with anyio.create_task_group() as group:
        options = TransportOptions(max_message=LIMIT)
        url = await group.start(MemoryTransport().serve, "memory://", options, above)
        with leaf.object(huge).observe(), leaf.object(SMALL).observe():
            async with leaf.connect(url, transport=NoNode()) as connection:
                await until(lambda: connection.size_cap is not None and connection.up)
                with leaf.object(LARGE).observe():
                    await until(lambda: LARGE in heard)
        group.cancel_scope.cancel()
    assert links == 2
    assert huge not in heard
    (skipped,) = [line for line in caplog.messages if "was skipped" in line]
    assert ": a contract or channel of " in skipped


async def gets(stream: MemoryStream, session: Session, data: bytes) -> bool:
    """Read until a state comes, and the end of the link if one is too large."""
    try:
        while True:
            for message in await stream.receive():
                for event in session.receive(message):
                    if isinstance(event, StateReceived) and event.content.data == data:
                        return True
    except PeerViolationError as error:
        await stream.aclose(error.code, error.reason)
        return False


@asynccontextmanager
async def below(
    url: str, note: Note | None, limit: int = LIMIT
) -> AsyncIterator[tuple[MemoryStream, Session]]:
    """Connect as a node that says a note, or none, and observes both objects; it takes no message over the limit."""
    options = TransportOptions(max_message=limit)
    async with MemoryTransport().connect(url, options) as stream:
        session = Session(listening=False, name="below")
        observe = [ContractAction(Verb.OBSERVE, one) for one in (LARGE, SMALL)]
        await stream.send([*session.opening(note), *session.encode(SendContracts(observe))])
        yield stream, session


async def test_who_claims_the_id_of_a_node_that_is_there_teaches_nothing_about_it() -> None:
    router, note = LocalNode(serializer=RAW), Note(node="mid", name="mid")
    async with router.listen("memory://") as listener:
        with router.object(LARGE).expose() as large:
            large.set_object_data(noise(0))
            async with below(listener.url, note, 10 * LIMIT) as (mid, session):
                assert await gets(mid, session, noise(0))
                async with below(listener.url, note) as (forger, of_forger):
                    assert not await gets(forger, of_forger, noise(0))
                await until(lambda: len(listener.peers) == 1)
            with anyio.fail_after(10):
                async with below(listener.url, note, 10 * LIMIT) as (mid, session):
                    assert await gets(mid, session, noise(0))


async def test_a_listener_does_not_send_to_a_node_what_it_has_ended_a_link_for() -> None:
    router = LocalNode(serializer=RAW)
    note = Note(node="a leaf", name="leaf")

    async with router.listen("memory://") as listener:
        with router.object(LARGE).expose() as large, router.object(SMALL).expose() as small:
            large.set_object_data(noise(0))
            small.set_object_data(b"small")
            for said, served in ((note, False), (note, True), (None, False), (None, False)):
                with anyio.fail_after(10):
                    async with below(listener.url, said) as (stream, session):
                        assert await gets(stream, session, b"small" if served else b"") is served
                        if served:
                            assert len(router.snapshot().size_caps) == 1
                await until(lambda: not listener.peers)
