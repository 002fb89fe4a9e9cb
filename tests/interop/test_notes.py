"""Notes are for nodes of this project: the crate takes them without noticing, and ours do not send it any."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from hakuban import ObjectDescriptor
from hakuban._contents import Content
from hakuban._session_events import (
    ChannelKind,
    ContractAction,
    Note,
    OpenChannel,
    SendNote,
    SendState,
    StateReceived,
    Verb,
)
from hakuban._wire import Session
from support.cables import Recorder
from support.ours import OurNode
from support.processes import RouterProcess
from support.raw_node import OURS, RawNode, control, expose, note, observe, state
from support.raw_ws import payloads
from support.rust import RustPeer, RustRouter
from support.watching import until
from support.websocket import BINARY, FIN, RawPeer, port_of, raw_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hakuban._session_events import Instruction, PeerEvent
    from support.parties import Party

pytestmark = [pytest.mark.usefixtures("needs_rust"), pytest.mark.promise("interop")]

THING = ObjectDescriptor(["tag"], {"id": 1})
OTHER = ObjectDescriptor(["tag"], {"id": 2})
TAGS, JSON, OTHER_JSON = ['"tag"'], '{"id":1}', '{"id":2}'
HOUR = 3600 * 10**9

FIRST = Note(
    node="7c1e2b90a4d35f68", name="raw", above=(), max_message=1 << 24, clock=1, version="0.1.0"
)
BEHIND = [
    b'hkn1{"clock":1700000000123456789}',
    b'hkn1{"above":[["03d94be81f5a6c27","\xc5\xbc\xc3\xb3\xc5\x82w"]]}',
    b'hkn1{"ignored":[["\\"t\\",[[[[","too deep"]]}',
    b'hkn1{"held":[[["\\"tag\\""],"{\\"id\\":1}",[0,1700000000,1]]]}',
    b'hkn1{"else":"' + b"x" * (64 * 1024 - 20) + b'"}',
    b"hkn1{",
    b'hkn1{"clock":null,"clock":-1,}\xff\x00',
    b"hkn1" + bytes(range(256)),
    b"hkn2" + b"[" * 60_000,
    b"\x01\x01\x01\x01\x02 no note, and looks like messages: \x00\x01\x02\x00\x01\x02\x02\x01\x01",
]
"""What stands behind messages that say nothing: notes, larger than any, broken ones, and none."""


# ---- the crate takes notes ------------------------------------------------------------------------------------------


@pytest.mark.cell("notes", "its router, a node below that sends them", "outcome")
def test_the_router_of_the_crate_serves_a_node_that_has_sent_it_notes() -> None:
    connecting = Session(listening=False, name="raw")
    first = connecting.opening(FIRST)
    (second,) = connecting.encode(SendNote(Note(clock=1)))
    notes = [second, *(control() + data for data in BEHIND)]
    with (
        RustRouter() as router,
        RustPeer() as guest,
        RawNode(router.url, name=None) as node,
    ):
        guest.connect(router.url)
        node.send(*first, *notes)
        node.send(*notes, control(observe(JSON, TAGS)), *notes)
        guest.publish(THING, b'"of the guest"', (1,))
        guest.expose(THING)
        node.wait_version(JSON, (1,))

        node.send(*notes, control(expose(OTHER_JSON, tags=TAGS)), *notes)
        guest.observe(OTHER)
        channel = node.wait_sink(OTHER_JSON)
        for number in range(1, 10):
            node.send(second, state(channel, [number], b'"%d"' % number), *notes)
        guest.wait_state(OTHER, b'"9"')
        guest.publish(THING, b'"still there"', (2,))
        node.wait_version(JSON, (2,))
        assert node.ended is None
        assert guest.returncode is None


class PlainListener:
    """A listening side in the hands of a test, which sends a first note.

    :param notes: messages that it sends before and behind all that it says.
    :param ours: whether it says that it is a node of ours.
    :ivar wants: what the other side has announced.
    :ivar states: the data of the states that came.
    """

    def __init__(self, notes: Sequence[bytes] = (), *, ours: bool = False) -> None:
        self.wants: list[tuple[Verb, object]] = []
        self.states: list[bytes] = []
        self._session = Session(listening=True, name="raw")
        self._notes = notes
        self._headers = OURS.encode() if ours else b""
        self._peer: RawPeer | None = None
        self._happened = anyio.Event()

    async def talk(self, peer: RawPeer) -> None:
        """Speak to who has connected, until it leaves."""
        request = await peer.accept(self._headers)
        assert (b"hakuban.0.8" in request) is bool(self._headers), "the crate knows no sub-protocol"
        self._peer = peer
        await self._send([*self._session.opening(FIRST), *self._notes])
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):  # it leaves without a word
            while True:
                first, payload = await peer.read_frame()
                if first == FIN | BINARY:
                    for event in self._session.receive(payload):
                        self._hear(event)

    def _hear(self, event: PeerEvent | None) -> None:
        if isinstance(event, ContractAction):
            self.wants.append((event.verb, event.descriptor))
        elif isinstance(event, StateReceived):
            self.states.append(event.content.data)
        self._happened.set()
        self._happened = anyio.Event()

    async def send(self, instruction: Instruction) -> None:
        """Say something, with notes around it."""
        await self._send([*self._notes, *self._session.encode(instruction), *self._notes])

    async def _send(self, messages: list[bytes]) -> None:
        assert self._peer is not None
        for message in messages:
            await self._peer.frame(FIN | BINARY, message)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds that depends on what was heard."""
        with anyio.fail_after(10):
            while not condition():
                await self._happened.wait()


@pytest.mark.cell("notes", "its node, a listener that sends them", "outcome")
async def test_a_node_of_the_crate_is_served_by_a_listener_that_sends_it_notes() -> None:
    plain = Session(listening=True, name="raw")
    (second,) = plain.encode(SendNote(Note(clock=1, above=(("a", "A"),))))
    listener = PlainListener([second, *(plain.keep_alive() + data for data in BEHIND)])
    with RustPeer() as node:
        async with raw_listener(listener.talk) as url:
            await to_thread.run_sync(node.connect, url)
            await to_thread.run_sync(node.observe, THING)
            await listener.until(lambda: (Verb.OBSERVE, THING) in listener.wants)
            await listener.send(OpenChannel(2, ChannelKind.STREAM, THING))
            for number in range(1, 10):
                content = Content(b'"%d"' % number, ("JSON",), (number,))
                await listener.send(SendState(2, content, 0))
            await to_thread.run_sync(node.wait_state, THING, b'"9"')

            await to_thread.run_sync(node.publish, OTHER, b'"first"')
            await to_thread.run_sync(node.expose, OTHER)
            await listener.until(lambda: (Verb.EXPOSE, OTHER) in listener.wants)
            await listener.send(OpenChannel(3, ChannelKind.SINK, OTHER))
            await listener.until(lambda: b'"first"' in listener.states)
            await to_thread.run_sync(node.publish, OTHER, b'"second"')
            await listener.until(lambda: b'"second"' in listener.states)
            assert not node.count("disconnected")
            assert node.returncode is None
            await to_thread.run_sync(node.disconnect)


# ---- ours send it none ----------------------------------------------------------------------------------------------


@contextmanager
def fast_leaf(url: str, ahead: int) -> Iterator[None]:
    """Have a node of ours at a listener of ours whose clock is ahead, by nanoseconds."""
    clock = time.time_ns() + ahead
    first = note(node=f"fast by {ahead}", name="fast", above=[], max_message=1 << 24, clock=clock)
    with RawNode(url, first=first, headers=OURS):
        yield


def hours_ahead(node: OurNode) -> float:
    """Give by how many hours the version clock of a node is ahead of this machine's."""
    engine = node.node._engine
    clock = engine.call(lambda machine, now: machine.read_clock(now, time.time_ns()))
    return (clock - time.time_ns()) / HOUR


def restate_clocks(url: str, witness: OurNode) -> None:
    """Have the clock of a listening node of ours jump three times, and wait until its peers were told."""
    for hour in (1, 2, 3):
        with fast_leaf(url, hour * HOUR):
            until(partial(_is_ahead, witness, hour), f"the clock jumps by {hour} h")


def _is_ahead(witness: OurNode, hours: int) -> bool:
    return hours_ahead(witness) > hours - 0.1


def exchange_states(one: Party, other: Party) -> None:
    """Have states go both ways between two nodes; what was said before has arrived then."""
    for exposing, observing, thing in ((one, other, THING), (other, one, OTHER)):
        data = json.dumps(exposing.name).encode()
        observing.observe(thing)
        exposing.publish(thing, data)
        exposing.expose(thing)
        observing.wait_state(thing, data)


def state_again(one: Party, other: Party, data: bytes) -> None:
    for exposing, observing, thing in ((one, other, THING), (other, one, OTHER)):
        exposing.publish(thing, data)
        observing.wait_state(thing, data)


def notes_in(recorder: Recorder) -> list[int]:
    """Count the notes that went to the listener, and that came from it."""
    assert len(recorder.records) == 2, "there was one connection"
    said = [payloads(bytes(record)) for record in recorder.records]
    assert all(JSON.encode() in one for one in said), "both speak of the object"
    return [one.count(b"hkn1") for one in said]


@pytest.mark.cell("notes", "none from our router to its node", "outcome")
@pytest.mark.parametrize("guest", ["Rust", "ours"])
def test_our_router_sends_notes_to_nodes_of_ours_and_never_one_of_the_crate(guest: str) -> None:
    with (
        RouterProcess("--name", "host") as router,
        Recorder(port_of(router.url)) as recorder,
        RustPeer("guest") if guest == "Rust" else OurNode("guest") as node,
        OurNode("witness") as witness,
    ):
        witness.connect(router.url)
        node.connect(f"ws://127.0.0.1:{recorder.port}")
        exchange_states(node, witness)
        restate_clocks(router.url, witness)
        state_again(node, witness, b'"once more"')
        up, down = notes_in(recorder)
        if guest == "Rust":
            assert (up, down) == (0, 0)
        else:
            assert up >= 1
            assert down >= 1 + 3, "the first one, and one for each jump"


@pytest.mark.cell("notes", "none from our node to its router", "outcome")
@pytest.mark.parametrize("router", ["Rust", "ours"])
def test_our_leaf_sends_notes_to_routers_of_ours_and_never_one_of_the_crate(router: str) -> None:
    with ExitStack() as stack:
        if router == "Rust":
            url = stack.enter_context(RustRouter()).url
            beside: Party = stack.enter_context(RustPeer("beside"))
        else:
            url = stack.enter_context(RouterProcess("--name", "host")).url
            beside = stack.enter_context(OurNode("beside"))
        recorder = stack.enter_context(Recorder(port_of(url)))
        leaf = stack.enter_context(OurNode("guest"))
        witness = stack.enter_context(OurNode("witness"))
        beside.connect(url)
        leaf.connect(f"ws://127.0.0.1:{recorder.port}")
        listening = leaf.listen()
        witness.connect(listening)
        exchange_states(leaf, beside)
        restate_clocks(listening, witness)
        state_again(leaf, beside, b'"once more"')
        up, down = notes_in(recorder)
        if router == "Rust":
            assert (up, down) == (0, 0)
        else:
            assert down >= 1
            assert up >= 1 + 3, "the first one, and one for each jump"


@pytest.mark.cell("notes", "none of a version held above to its exposer", "outcome")
@pytest.mark.parametrize("guest", ["Rust", "ours"])
async def test_what_is_held_above_is_told_to_an_exposer_of_ours_and_never_to_one_of_the_crate(
    guest: str,
) -> None:
    root = PlainListener(ours=True)
    far = (1 << 40,)
    with (
        OurNode("hall") as hall,
        RustPeer("guest") if guest == "Rust" else OurNode("guest") as node,
    ):
        async with raw_listener(root.talk) as url:
            await to_thread.run_sync(hall.connect, url)
            with Recorder(port_of(await to_thread.run_sync(hall.listen))) as recorder:
                await to_thread.run_sync(node.connect, f"ws://127.0.0.1:{recorder.port}")
                await to_thread.run_sync(node.publish, THING, b'"before"')
                await to_thread.run_sync(node.expose, THING)
                await root.until(lambda: (Verb.EXPOSE, THING) in root.wants)
                await root.send(OpenChannel(2, ChannelKind.SINK, THING))
                await root.until(lambda: root.states == [b'"before"'])
                await root.send(SendNote(Note(held=((tuple(TAGS), JSON, far),))))
                if guest == "Rust":  # only its user can make it exceed that
                    await to_thread.run_sync(node.publish, THING, b'"before"', (*far, 1))
                await root.until(lambda: root.states == [b'"before"'] * 2)
                up, down = notes_in(recorder)
                assert (up, down) == ((0, 0) if guest == "Rust" else (1, 2))
            await to_thread.run_sync(hall.disconnect)
