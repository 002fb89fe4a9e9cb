"""The memory transport, and that it keeps the contract that it is tested with."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
import hakuban.sync
from hakuban._exceptions import InvalidURLError
from hakuban.testing import MemoryStream, MemoryTransport, check_transport, cut_links
from hakuban.transport import (
    ConnectionRequest,
    Identity,
    MessageStream,
    PeerViolationError,
    RefusedError,
    Transport,
    TransportOptions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

KIB = 1024
OPTIONS = TransportOptions()
TRANSPORT = MemoryTransport()


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[MessageStream], Awaitable[None]],
    url: str = "memory://",
    **options: Any,
) -> AsyncIterator[str]:
    async with anyio.create_task_group() as group:
        yield await group.start(TRANSPORT.serve, url, TransportOptions(**options), handler)
        group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def link(**options: Any) -> AsyncIterator[tuple[MemoryStream, MemoryStream]]:
    accepted: list[MessageStream] = []
    there = anyio.Event()

    async def handler(stream: MessageStream) -> None:
        accepted.append(stream)
        there.set()
        await anyio.sleep_forever()

    async with (
        serving(handler, **options) as url,
        TRANSPORT.connect(url, TransportOptions(**options)) as connected,
    ):
        with anyio.fail_after(5):
            await there.wait()
        stream = accepted[0]
        assert isinstance(stream, MemoryStream)
        yield connected, stream


async def nothing(stream: MessageStream) -> None:
    await stream.aclose()


async def test_the_memory_transport_keeps_the_contract() -> None:
    await check_transport(TRANSPORT, "memory://", process=False)


def test_the_memory_transport_is_a_transport() -> None:
    transport: Transport = TRANSPORT
    assert isinstance(transport, Transport)


# ---- names ----------------------------------------------------------------------------------------------------------


async def test_without_a_name_each_listener_gets_one_of_its_own() -> None:
    async with serving(nothing) as one, serving(nothing) as other:
        assert one != other


async def test_a_name_is_bound_once_and_free_after_the_listener_has_ended() -> None:
    for _ in range(2):
        async with serving(nothing, "memory://lab") as url:
            assert url == "memory://lab"
            async with anyio.create_task_group() as group:
                with pytest.raises(OSError, match="memory://lab is in use"):
                    await group.start(TRANSPORT.serve, "memory://lab", OPTIONS, nothing)


async def test_nobody_listening_is_a_refused_connection() -> None:
    with pytest.raises(ConnectionRefusedError, match="memory://nobody"):
        async with TRANSPORT.connect("memory://nobody", OPTIONS):
            pass


@pytest.mark.parametrize("url", ["ws://lab", "memory:lab"])
async def test_a_url_of_another_form_is_invalid(url: str) -> None:
    with pytest.raises(InvalidURLError):
        async with TRANSPORT.connect(url, OPTIONS):
            pass


@pytest.mark.parametrize("url", ["memory://", "memory:///", "MEMORY://"])
async def test_a_name_is_needed_to_connect_and_not_to_listen(url: str) -> None:
    with hakuban.LocalNode() as node:
        for call in (
            lambda: node.connect(url, transport=TRANSPORT),
            lambda: node.connect(url, transport=TRANSPORT, wait=False),
            lambda: hakuban.sync.connect(node, url, transport=TRANSPORT),
        ):
            with pytest.raises(InvalidURLError, match="a name is missing"):
                call()
        with pytest.raises(InvalidURLError, match="a name is missing"):
            async with TRANSPORT.connect(url, OPTIONS):
                pass
        async with node.listen(url, transport=TRANSPORT) as listener:
            assert listener.url.rpartition("/")[2]


async def test_another_event_loop_is_refused_for_good_with_advice() -> None:
    caught: list[RefusedError] = []

    async def visit(url: str) -> None:
        with pytest.raises(RefusedError, match=r"ws://127\.0\.0\.1:0") as refusal:
            async with TRANSPORT.connect(url, OPTIONS):
                pass
        caught.append(refusal.value)

    async with serving(nothing) as url:
        thread = threading.Thread(target=anyio.run, args=(visit, url))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
    assert [refusal.retry for refusal in caught] == [False]


# ---- back-pressure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1_000, 60_000])
async def test_at_most_64_kib_are_accepted_while_nobody_receives(size: int) -> None:
    async with link() as (sender, receiver), anyio.create_task_group() as group:
        accepted = 0

        async def flood() -> None:
            nonlocal accepted
            while True:
                await sender.send([bytes(size)])
                accepted += 1

        group.start_soon(flood)
        await anyio.wait_all_tasks_blocked()
        assert 0 < accepted <= 1_024
        assert accepted * size <= 64 * KIB
        stuck = accepted
        with anyio.fail_after(5):
            await receiver.receive()
        await anyio.wait_all_tasks_blocked()
        assert accepted > stuck
        group.cancel_scope.cancel()


async def test_a_large_message_is_accepted_when_it_is_received() -> None:
    async with link() as (sender, receiver), anyio.create_task_group() as group:
        sent = anyio.Event()

        async def send() -> None:
            await sender.send([bytes(5_000 * KIB)])
            sent.set()

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert not sent.is_set()
        with anyio.fail_after(5):
            assert [len(message) for message in await receiver.receive()] == [5_000 * KIB]
            await sent.wait()


# ---- ends -----------------------------------------------------------------------------------------------------------


async def test_code_and_reason_of_a_close_arrive_after_what_was_sent() -> None:
    async with link() as (connected, accepted):
        await connected.send([b"last words"])
        await connected.aclose(1001, "going away")
        await connected.aclose(1002, "too late")
        assert await accepted.receive() == [b"last words"]
        told: list[object] = [accepted.close_code]
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await accepted.receive()
        told += [accepted.close_code, accepted.close_reason]
        assert told == [None, 1001, "going away"]
        with pytest.raises(anyio.BrokenResourceError):
            await accepted.send([b"hello?"])


async def test_a_waiting_sender_learns_that_the_other_side_has_closed() -> None:
    async with link() as (connected, accepted), anyio.create_task_group() as group:

        async def send() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await connected.send([bytes(100 * KIB)])

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await accepted.aclose()


async def test_closing_wakes_the_own_tasks_that_wait() -> None:
    async with link() as (connected, _):

        async def expect_closed(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await call()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(expect_closed, connected.receive)
                group.start_soon(expect_closed, lambda: connected.send([bytes(100 * KIB)]))
                await anyio.wait_all_tasks_blocked()
                await connected.aclose()


async def test_a_cut_link_is_broken_at_both_ends_and_loses_what_was_under_way() -> None:
    async with link() as (connected, accepted):
        await connected.send([b"lost"])
        accepted.cut()
        for stream in (connected, accepted):
            assert not stream.up
            for _ in range(2):
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.send([b"x"])
            await stream.aclose()


async def test_a_cut_wakes_whoever_waits() -> None:
    async with link() as (connected, _):

        async def expect_broken(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await call()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(expect_broken, connected.receive)
                group.start_soon(expect_broken, lambda: connected.send([bytes(100 * KIB)]))
                await anyio.wait_all_tasks_blocked()
                connected.cut()


async def test_all_links_of_a_listener_can_be_cut_and_the_listener_stays() -> None:
    async def wait(stream: MessageStream) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()

    async with serving(wait, "memory://lab") as url:
        async with TRANSPORT.connect(url, OPTIONS) as one, TRANSPORT.connect(url, OPTIONS) as two:
            await anyio.wait_all_tasks_blocked()
            assert cut_links(url) == 2
            for stream in (one, two):
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
        assert cut_links(url) == 0
        async with TRANSPORT.connect(url, OPTIONS) as again:
            assert again.up
    with pytest.raises(ValueError, match="nobody listens"):
        cut_links(url)


async def test_a_message_over_the_limit_is_a_violation_whatever_came_before() -> None:
    async with link(max_message=10) as (connected, accepted):
        await connected.send([b"short", bytes(11)])
        assert await accepted.receive() == [b"short"]
        for _ in range(2):
            with pytest.raises(
                PeerViolationError, match="11 bytes is over max_message=10"
            ) as caught:
                await accepted.receive()
            assert caught.value.code == 1009


async def test_two_tasks_that_receive_at_the_same_time_are_told() -> None:
    async with link() as (connected, _), anyio.create_task_group() as group:
        group.start_soon(connected.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await connected.receive()
        group.cancel_scope.cancel()


# ---- who is there ---------------------------------------------------------------------------------------------------


async def test_both_ends_know_that_the_peer_is_of_this_project_and_what_it_is_called() -> None:
    async with link() as (connected, accepted):
        assert connected.peer_is_ours
        assert accepted.peer_is_ours
        assert connected.remote_address == accepted.local_address
        assert accepted.remote_address == connected.local_address


async def test_the_connecting_side_is_told_the_clock_of_the_listening_side() -> None:
    async with link(clock=lambda: 17) as (connected, accepted):
        assert connected.peer_clock == 17
        assert accepted.peer_clock is None


async def test_a_listener_asks_who_a_peer_is() -> None:
    requests: list[ConnectionRequest] = []

    def authorize(request: ConnectionRequest) -> Identity:
        requests.append(request)
        return Identity("somebody")

    async with link(authorize=authorize, headers={"X-Token": "1"}) as (connected, accepted):
        assert accepted.identity == Identity("somebody")
        assert requests == [
            ConnectionRequest(
                url=connected.remote_address,
                headers={"x-token": "1"},
                remote_address=connected.local_address,
            )
        ]


async def test_a_peer_that_is_turned_away_gets_the_refusal_and_no_handler_runs() -> None:
    def authorize(_request: ConnectionRequest) -> Identity:
        raise RefusedError("not you", retry=False)

    async def handler(stream: MessageStream) -> None:
        await stream.aclose()
        raise AssertionError("a peer was let in")

    async with serving(handler, authorize=authorize) as url:
        with pytest.raises(RefusedError, match="not you"):
            async with TRANSPORT.connect(url, OPTIONS):
                pass
        await anyio.wait_all_tasks_blocked()
