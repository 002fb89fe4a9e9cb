"""How links end: how long a close may take, what it says, and until when what a peer has sent was current."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import pytest
import trio
from anyio import current_effective_deadline, current_time
from anyio.lowlevel import checkpoint
from typing_extensions import override

from hakuban import LocalNode, ObjectDescriptor
from hakuban._contents import Content
from hakuban._session_events import ChannelKind, ContractAction, OpenChannel, SendState, Verb
from hakuban._wire import Session
from hakuban.testing import MemoryTransport, cut_links
from hakuban.transport import TransportOptions
from support.memory_links import Altered, Peer, listening, raw_peer
from support.waiting import until

if TYPE_CHECKING:
    from hakuban._transport.options import TransportArguments

WEATHER = ObjectDescriptor(["weather"], 1)
QUIET: TransportArguments = {"keep_alive": 3600, "timeout": 7200}


# ---- closing --------------------------------------------------------------------------------------------------------


class Closing:
    """Streams that note the seconds which they are given to close, and the code."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.codes: list[int] = []

    def alter(self, stream: Any) -> None:
        aclose = stream.aclose

        async def noted(code: int = 1000, reason: str = "") -> None:
            self.seconds.append(current_effective_deadline() - current_time())
            self.codes.append(code)
            await aclose(code, reason)

        stream.aclose = noted


@pytest.mark.parametrize(
    ("way", "seconds", "code"),
    [
        ("the block is left", 1.0, 1000),
        ("the peer ends it", 1.0, 1000),
        ("the block is cancelled", 0.5, 1000),
        ("the node is closed", 0.5, 1000),
        ("the node breaks", 1.0, 1011),
    ],
)
async def test_a_transport_has_a_second_to_close_and_half_of_it_where_nothing_is_said(
    way: str, seconds: float, code: int
) -> None:
    closing, router, leaf = Closing(), LocalNode(), LocalNode()
    async with router.listen("memory://") as listener:
        with anyio.CancelScope() as scope:
            async with leaf.connect(listener.url, transport=Altered(closing.alter), **QUIET):
                if way == "the peer ends it":
                    router.close()
                elif way == "the node is closed":
                    leaf.close()
                elif way == "the node breaks":
                    with suppress(ZeroDivisionError):
                        leaf._engine.call(lambda _machine, _now: 1 / 0)
                elif way == "the block is cancelled":
                    scope.cancel()
                if way != "the block is left":
                    await until(lambda: closing.seconds)
    assert seconds - 0.5 < closing.seconds[0] <= seconds
    assert closing.codes[0] == code


async def test_a_listener_that_is_cancelled_closes_its_links_all_the_same() -> None:
    """The transport has its time for that, whoever has cancelled."""
    closing = Closing()
    async with AsyncExitStack() as peers:
        with anyio.CancelScope() as scope:
            transport = Altered(closing.alter)
            async with LocalNode().listen("memory://", transport=transport) as listener:
                await peers.enter_async_context(raw_peer(listener.url))
                await until(lambda: listener.peers)
                scope.cancel()
                await anyio.sleep_forever()
    assert closing.codes == [1001]
    assert 0 < closing.seconds[0] <= 0.5


async def test_a_link_that_its_transport_cancels_has_stopped_sending_when_it_is_closed() -> None:
    """This link alone: its writer runs elsewhere, and would go on."""
    scope, sending, ends = anyio.CancelScope(), anyio.Event(), list[tuple[int, bool]]()

    class Cancelling(MemoryTransport):
        @override
        async def serve(self, url: str, options: Any, handler: Any, /, **keywords: Any) -> None:
            async def accept(stream: Any) -> None:
                busy = False

                async def send(_messages: Any) -> None:
                    nonlocal busy
                    busy = True
                    sending.set()
                    try:
                        await anyio.sleep_forever()
                    finally:
                        busy = False

                async def aclose(code: int = 1000, reason: str = "") -> None:
                    await checkpoint()
                    ends.append((code, busy))

                stream.send, stream.aclose = send, aclose
                with scope:
                    await handler(stream)

            await super().serve(url, options, accept, **keywords)

    async with (
        LocalNode().listen("memory://", transport=Cancelling()) as listener,
        raw_peer(listener.url),
    ):
        await sending.wait()
        scope.cancel()
        await until(lambda: ends)
    assert ends == [(1001, False)]


async def test_the_peers_of_a_broken_node_are_told_that_the_fault_is_there() -> None:
    router = LocalNode()
    async with router.listen("memory://") as listener, raw_peer(listener.url) as peer:
        await until(lambda: listener.peers)
        with pytest.raises(ZeroDivisionError):
            router._engine.call(lambda _machine, _now: 1 / 0)
        assert await peer.end() == (1011, "internal error")


@pytest.mark.parametrize(
    ("error", "lines"),
    [(anyio.BrokenResourceError(), 0), (OSError("gone"), 0), (ZeroDivisionError("a bug"), 1)],
    ids=lambda value: type(value).__name__,
)
async def test_a_close_that_fails_changes_nothing_of_why_the_link_ended(
    error: Exception, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """That it was gone already is no news; a bug of the transport is."""

    async def fail(code: int = 1000, reason: str = "") -> NoReturn:
        raise error

    async with LocalNode().listen("memory://", transport=Altered(aclose=fail)) as listener:
        async with raw_peer(listener.url) as peer:
            await until(lambda: listener.peers)
            address = listener.peers[0].address
            await peer.stream.aclose()
            await until(lambda: not listener.peers)
        async with raw_peer(listener.url) as peer:  # the listener goes on
            await until(lambda: listener.peers)
            await peer.stream.aclose()
            await until(lambda: not listener.peers)
    told = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert (
        told[:1]
        == [f"raw at {address} (memory): the link could not be closed in good order"][:lines]
    )
    assert len(told) == 2 * lines
    assert caplog.text.count("ZeroDivisionError: a bug") == len(told)


def count_tasks(loop: str) -> int:
    if loop == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


async def test_a_link_that_has_ended_leaves_no_task_on_either_side(anyio_backend_name: str) -> None:
    """Whichever side has ended it, and whether or not it was about to send something."""
    router, leaf = LocalNode(), LocalNode()
    async with router.listen("memory://", **QUIET) as listener:
        await checkpoint()
        before = count_tasks(anyio_backend_name)
        for _ in range(5):
            async with raw_peer(listener.url) as peer:
                await until(lambda: listener.peers)
                await peer.announce(ContractAction(Verb.OBSERVE, WEATHER))
                await peer.stream.aclose()
                await until(lambda: not listener.peers)
        await until(lambda: count_tasks(anyio_backend_name) == before)
        async with leaf.connect(listener.url, **QUIET) as connection:
            await until(lambda: listener.peers)
            before = count_tasks(anyio_backend_name)
            for number in range(3):
                cut_links(listener.url)
                await until(lambda: connection.counters.reconnects == number + 1)  # noqa: B023  # used before the next one
            await until(lambda: count_tasks(anyio_backend_name) == before)


# ---- since when is what a peer has sent not current -------------------------------------------------------------------


@pytest.mark.parametrize("way", ["the peer closes", "the peer violates", "it is left", "it is cut"])
async def test_what_a_peer_has_sent_was_current_until_the_end_unless_the_link_was_cut(
    way: str,
) -> None:
    """Then nobody knows what the peer would have sent since it was last heard."""
    ending = anyio.Event()

    async def above(stream: Any) -> None:
        if not ending.is_set():
            session = Session(listening=True, name="above")
            batch = session.opening()
            batch += session.encode(OpenChannel(2, ChannelKind.STREAM, WEATHER))
            batch += session.encode(SendState(2, Content(b"1", ("JSON",), (1,)), 0))
            await stream.send(batch)
            await ending.wait()
            if way == "the peer closes":
                await stream.aclose()
            elif way == "the peer violates":
                await stream.send([b"garbage"])
            elif way == "it is cut":
                stream.cut()
        await anyio.sleep_forever()

    leaf = LocalNode()
    async with listening(above) as url:
        with leaf.object(WEATHER).observe() as seen:
            async with leaf.connect(url, **QUIET) as connection:
                await until(lambda: seen.synchronized and connection.silent_for > 0.05)
                ended_at = monotonic()
                ending.set()
                if way != "it is left":
                    await until(lambda: not seen.synchronized)
            assert not seen.synchronized
            before, age, after = monotonic(), seen.age, monotonic()
    if way == "it is cut":
        assert before - age < ended_at
    else:
        assert after - age >= ended_at


async def test_an_end_that_a_stream_keeps_keeps_nothing_of_the_link() -> None:
    end = anyio.EndOfStream()

    async def receive() -> NoReturn:
        raise end

    async with LocalNode().listen("memory://", transport=Altered(receive=receive)) as listener:
        async with raw_peer(listener.url) as peer:
            await peer.end()
            await until(lambda: listener.peers == ())
    assert end.__traceback__ is None


# ---- violators that would be back at once ---------------------------------------------------------------------------


async def test_a_violator_that_would_be_back_waits_also_where_its_stream_raises_at_once() -> None:
    """As where a message is too large, which stays where it is: receiving raises the same again."""
    transport = Altered(peer_is_ours=False)
    async with LocalNode().listen("memory://", transport=transport, max_message=1_000) as listener:
        async with raw_peer(listener.url) as peer:
            await until(lambda: listener.peers)
            began = monotonic()
            await peer.stream.send([bytes(1_001)])
            code, reason = await peer.end()
            assert monotonic() - began >= 0.5
    assert code == 1009
    assert reason == "a message of 1001 bytes is over max_message=1000"


async def test_what_a_violator_goes_on_to_send_is_taken_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would sit in its own send, and see nothing of the close."""
    monkeypatch.setattr("hakuban._net.link.PATIENCE", 3600)
    transport = Altered(peer_is_ours=False)
    async with LocalNode().listen("memory://", transport=transport) as listener:
        async with raw_peer(listener.url) as peer:
            with anyio.fail_after(10):
                await peer.stream.send([b"garbage", *[bytes(10_000)] * 100])


async def test_a_violator_whose_transport_never_waits_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._net.link.PATIENCE", 0.05)

    async def receive() -> list[bytes]:
        return [b"garbage"]

    transport = Altered(peer_is_ours=False, receive=receive)
    async with LocalNode().listen("memory://", transport=transport) as listener:
        async with raw_peer(listener.url) as peer:
            code, _ = await peer.end()
    assert code == 1007


async def test_a_violator_hears_first_what_this_side_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the transport has not sent the introduction yet when the garbage comes."""
    monkeypatch.setattr("hakuban._net.link.GRACE", 3600)
    refused = anyio.Event()

    def slow(stream: Any) -> None:
        send, receive = stream.send, stream.receive

        async def send_later(messages: Any) -> None:
            await refused.wait()
            await anyio.wait_all_tasks_blocked()
            await send(messages)

        async def receive_garbage() -> Any:
            messages = await receive()
            refused.set()
            return messages

        stream.send, stream.receive = send_later, receive_garbage

    async with (
        LocalNode().listen("memory://", transport=Altered(slow)) as listener,
        MemoryTransport().connect(listener.url, TransportOptions()) as stream,
    ):
        await stream.send([b"garbage"])
        heard = await stream.receive()
        assert heard[0] == Session(listening=True, name="").opening()[0]
        code, _ = await Peer(stream).end()
    assert code == 1007


async def test_a_violator_that_cannot_be_sent_to_is_told_all_the_same() -> None:
    async def stuck(_messages: Any) -> None:
        await anyio.sleep_forever()

    async with LocalNode().listen("memory://", transport=Altered(send=stuck)) as listener:
        async with raw_peer(listener.url) as peer:
            await peer.stream.send([b"garbage"])
            code, _ = await peer.end()
    assert code == 1007
