"""The life of connections: making, losing, mending and leaving links."""

from __future__ import annotations

import itertools
import logging
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from typing_extensions import override

import hakuban
from hakuban import JSON, LocalNode, ObjectDescriptor, RefusedError
from hakuban._net.connector import Backoff
from hakuban.testing import MemoryTransport, cut_links, linked_nodes
from hakuban.transport import Identity, TransportOptions
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hakuban._transport.options import TransportArguments
    from hakuban.transport import ConnectionRequest, MessageStream

WEATHER = ObjectDescriptor(["weather"], 1)


async def next_where(states: Any, condition: Callable[[Any], bool]) -> Any:
    with anyio.fail_after(10):
        async for state in states:
            if condition(state):
                return state
    raise AssertionError("the loop ended")


class Scripted(MemoryTransport):
    """The memory transport, with something to go wrong at each attempt: an error, or a function of the stream."""

    def __init__(self, *script: Exception | Callable[[MessageStream], Any] | None) -> None:
        self.script = list(script)
        self.attempts: list[float] = []

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        self.attempts.append(monotonic())
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            await checkpoint()
            raise step
        async with super().connect(url, options) as stream:
            if step is not None:
                await step(stream)
            yield stream


# ---- making a connection --------------------------------------------------------------------------------------------


async def test_entering_waits_for_an_established_link() -> None:
    router, leaf = LocalNode("router"), LocalNode("leaf")
    async with router.listen("memory://") as listener, leaf.connect(listener.url) as connection:
        ups = [connection.up]
        assert connection.remote_name == "router"
        assert connection.remote == leaf.peers[0]
        assert connection.remote.upstream
        assert connection.last_error is None
        await until(lambda: listener.peers)
        [peer] = listener.peers
        assert (peer.name, peer.upstream, peer.identity) == ("leaf", False, None)
        assert router.peers == listener.peers
        assert connection.counters.messages_in > 0
        assert connection.counters.bytes_out > 0
        with anyio.fail_after(5):
            await connection.wait_up()
    assert [*ups, connection.up] == [True, False]
    assert leaf.peers == ()
    with pytest.raises(
        hakuban.ClosedError, match=r"the connection to memory://\S+ is closed; enter a new"
    ):
        await connection.wait_up()


async def test_names_come_from_arguments_then_urls_then_nodes() -> None:
    unnamed = LocalNode()
    async with (
        LocalNode().listen("memory://#name=by-url") as listener,
        LocalNode("node").connect(listener.url) as by_node,
        LocalNode("node").connect(f"{listener.url}#name=url") as by_url,
        LocalNode("node").connect(f"{listener.url}#name=url", name="argument"),
        unnamed.connect(listener.url),
    ):
        assert by_node.remote_name == by_url.remote_name == "by-url"
        await until(lambda: len(listener.peers) == 4)
        assert [peer.name for peer in listener.peers] == [
            "node",
            "url",
            "argument",
            unnamed.name,
        ]


async def test_a_second_connection_is_refused_until_the_first_is_left() -> None:
    leaf = LocalNode()
    async with LocalNode().listen("memory://") as listener:
        async with leaf.connect(listener.url):
            with pytest.raises(hakuban.AlreadyConnectedError) as caught:
                async with leaf.connect(listener.url):
                    pass
            assert caught.value.url == listener.url
        async with leaf.connect(listener.url) as connection:
            assert connection.up


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nowhere", hakuban.InvalidURLError),
        ("memory://x#bad-option=1", hakuban.InvalidURLError),
        ("no-such-scheme://x", hakuban.UnknownSchemeError),
    ],
)
async def test_what_cannot_work_is_raised_at_once(url: str, error: type[Exception]) -> None:
    node = LocalNode()
    for wait in (True, False):
        with pytest.raises(error):
            async with node.connect(url, wait=wait):
                pass
    with pytest.raises(error):
        async with node.listen(url):
            pass


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("wrong path", retry=False),
        hakuban.ProtocolMismatchError("another protocol"),
        hakuban.InvalidURLError("memory://x", "no port"),
        ZeroDivisionError("a plugin's bug"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_final_refusal_of_the_first_attempt_is_raised(error: Exception) -> None:
    node = LocalNode()
    transport = Scripted(error)
    with pytest.raises(type(error)) as caught, anyio.fail_after(5):
        async with node.connect("memory://x", transport=transport):
            pass
    assert caught.value is error
    assert len(transport.attempts) == 1
    with pytest.raises(type(error)), anyio.fail_after(5):
        async with node.connect("memory://x", transport=transport):
            pass  # the failure left the node free


@pytest.mark.parametrize(
    "error",
    [OSError("unreachable"), TimeoutError("slow"), RefusedError("busy", retry=True)],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_pass_is_tried_again_with_one_warning(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    transport = Scripted(error, error, error, None)
    async with LocalNode("router").listen("memory://") as listener:
        with caplog.at_level(logging.INFO, "hakuban"), anyio.fail_after(10):
            async with LocalNode().connect(listener.url, transport=transport) as connection:
                assert connection.up
                assert connection.last_error is error
    assert len(transport.attempts) == 4
    failed, *lines = caplog.messages
    assert caplog.records[0].levelname == "WARNING"
    assert failed == f"cannot connect to {listener.url}: {error}; trying again until it works"
    assert (
        len([line for line in lines if f"the link to {listener.url} is up after 0." in line]) == 1
    )


async def test_a_transport_may_wrap_its_error_into_a_group(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group = ExceptionGroup("task group of a transport", [ConnectionRefusedError("not yet")])
    async with LocalNode().listen("memory://") as listener:
        with anyio.fail_after(10):
            async with LocalNode().connect(listener.url, transport=Scripted(group, None)):
                pass
    assert "not yet" in caplog.text


async def test_connecting_can_wait_for_a_listener_and_be_cancelled_at_any_time() -> None:
    leaf = LocalNode()
    with anyio.move_on_after(0.02) as scope:
        async with leaf.connect("memory://later"):
            raise AssertionError("nobody listens")
    assert scope.cancelled_caught
    connected = anyio.Event()

    async def connect() -> None:
        async with leaf.connect("memory://later"):
            connected.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(connect)
            await anyio.sleep(0.01)
            async with LocalNode().listen("memory://later"):
                await connected.wait()


async def test_not_waiting_enters_at_once_and_retries_everything() -> None:
    error = RefusedError("wrong path", retry=False)
    async with (
        LocalNode().listen("memory://") as listener,
        LocalNode().connect(
            listener.url, transport=Scripted(error, None), wait=False
        ) as connection,
    ):
        assert not connection.up
        assert connection.remote is None
        assert connection.remote_name is None
        with anyio.fail_after(10):
            statuses = aiter(connection.statuses())
            assert await anext(statuses) == hakuban.ConnectionStatus()
            failed = await anext(statuses)
            assert (failed.up, failed.error, failed.attempts) == (False, error, 1)
            up = await anext(statuses)
            assert (up.up, up.remote, up.error) == (True, connection.remote, None)
            await connection.wait_up()


async def test_an_exception_of_the_body_comes_out_as_it_is() -> None:
    router, leaf = LocalNode(), LocalNode()
    with pytest.raises(ZeroDivisionError):
        async with router.listen("memory://") as listener, leaf.connect(listener.url):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        async with leaf.connect("memory://nobody", wait=False):
            raise ZeroDivisionError
    with pytest.raises(SystemExit) as caught:
        async with leaf.connect("memory://nobody", wait=False):
            raise SystemExit(3)
    assert caught.value.code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "x" * 1_025},
        {"load_limit": [(-1.0, 1)]},
        {"load_limit": [(0.0, 2**32)]},
        {"load_limit": [(0.0, 1)] * 1_001},
        {"timeout": -1.0},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
async def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    node = LocalNode()
    with pytest.raises(ValueError, match=r"name|load_limit|timeout"):
        async with node.connect("memory://x", **arguments):
            pass
    with pytest.raises(ValueError, match="name"):
        LocalNode("x" * 1_025)


async def test_a_closed_node_makes_no_links() -> None:
    node = LocalNode()
    node.close()
    with pytest.raises(anyio.ClosedResourceError):
        async with node.listen("memory://"):
            pass
    with pytest.raises(anyio.ClosedResourceError):
        async with node.connect("memory://x", wait=False):
            pass


async def test_a_node_that_is_closed_while_somebody_enters_says_so() -> None:
    leaf = LocalNode()

    async def close() -> None:
        await until(lambda: leaf._engine.upstream_url)
        leaf.close()

    async with LocalNode().listen("memory://quiet") as listener, anyio.create_task_group() as group:

        async def silent(stream: MessageStream) -> None:
            await until(lambda: leaf.closed)

        group.start_soon(close)
        with pytest.raises(
            hakuban.ClosedError, match=r"the connection to .* is closed; make a new"
        ):
            async with leaf.connect(listener.url, transport=Scripted(silent)):
                pass


@pytest.mark.parametrize("closing", ["connecting", "listening"])
async def test_a_node_that_is_closed_while_a_link_is_made_leaves_none(closing: str) -> None:
    """The transport is slow; what comes of its attempt is ended, and not left up for ever."""
    above, leaf = LocalNode(), LocalNode()
    entered, go_on = anyio.Event(), anyio.Event()
    ends: list[type[BaseException]] = []

    class Slow(MemoryTransport):
        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            async with super().connect(url, options) as stream:
                entered.set()
                await go_on.wait()
                yield stream

        @override
        async def serve(
            self, url: str, options: TransportOptions, handler: Any, /, **kw: Any
        ) -> None:
            async def slow(stream: MessageStream) -> None:
                await go_on.wait()
                await handler(stream)
                with pytest.raises(anyio.ClosedResourceError):
                    await stream.receive()
                ends.append(anyio.ClosedResourceError)

            await super().serve(url, options, slow, **kw)

    quiet: TransportArguments = {"keep_alive": 3600, "timeout": 7200}
    async with above.listen("memory://", transport=Slow(), **quiet) as listener:
        async with leaf.connect(listener.url, transport=Slow(), wait=False, **quiet) as connection:
            await entered.wait()
            (leaf if closing == "connecting" else above).close()
            go_on.set()
            await until(lambda: ends)
            assert not connection.up
            assert (listener.peers, leaf.peers, above.peers) == ((), (), ())


# ---- losing and mending it ------------------------------------------------------------------------------------------


@pytest.mark.promise("self-healing", "stale-visible")
async def test_a_lost_link_is_seen_and_mended_without_anybody_doing_anything() -> None:
    async with LocalNode("router").listen("memory://") as listener:
        here, there = LocalNode(), LocalNode()
        async with here.connect(listener.url) as connection, there.connect(listener.url):
            with (
                here.object(WEATHER).observe() as watcher,
                there.tag("weather").expose() as contract,
            ):
                states = aiter(watcher)
                async for sink in contract:
                    sink.set([1])
                    break
                assert (await next_where(states, lambda state: state.synchronized)).data == [1]
                assert cut_links(listener.url) == 2
                lost = await next_where(states, lambda state: not state.synchronized)
                assert (lost.data, lost.age >= 0) == ([1], True)
                assert connection.last_error is not None
                async for sink in contract:
                    sink.set([2])
                    break
                mended = await next_where(states, lambda state: state.data == [2])
                assert mended.synchronized
                await connection.wait_up()
                assert connection.counters.reconnects == 1
                sink.set([3])
                assert (await next_where(states, lambda state: state.data == [3])).synchronized


async def test_a_router_that_comes_back_gets_all_contracts_again() -> None:
    leaf = LocalNode()
    async with leaf.connect("memory://coming-and-going", wait=False) as connection:
        with leaf.object(WEATHER).expose() as contract:
            contract.set_object_data("kept")
            for _ in range(2):
                router = LocalNode()
                with router.object(WEATHER).observe() as watcher:
                    async with router.listen("memory://coming-and-going"):
                        state = await next_where(watcher, lambda state: state.synchronized)
                        assert state.data == "kept"
                    assert not watcher.synchronized
                    assert watcher.object_data() == "kept"
                await until(lambda: not connection.up)


async def test_a_peer_that_accepts_and_closes_is_not_hammered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def close(stream: MessageStream) -> None:
        await stream.aclose()

    transport = Scripted(close)
    began = monotonic()
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=transport, wait=False):
            await anyio.sleep(1)
    # 20 in 5 s is the promise; at most this many fit into the first second
    assert 2 <= len(transport.attempts) <= 1 + 6 * (monotonic() - began)
    assert len([record for record in caplog.records if "memory://" in record.getMessage()]) == 1


async def test_links_that_come_up_and_are_lost_at_once_are_made_more_and_more_seldom() -> None:
    transport = Scripted(None)
    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(listener.url, transport=transport) as connection:
            for _ in range(5):
                await until(lambda: connection.up)
                cut_links(listener.url)
                await until(lambda: not connection.up)
            await until(lambda: len(transport.attempts) == 6)
    pauses = [later - earlier for earlier, later in itertools.pairwise(transport.attempts)]
    assert pauses[-1] > 0.37, pauses  # of 0.375 to 0.75 s; the first has 0.025 to 0.05


def test_pauses_grow_stay_bounded_and_begin_anew() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    now, pauses = 0.0, []
    while now < 70:
        pauses.append(backoff.next(now, answered=True))
        now += pauses[-1]
    assert pauses[:5] == [0.05, 0.1, 0.2, 0.4, 0.75]
    assert set(pauses[5:-4]) == {0.75}
    assert pauses[-1] == 5.0
    backoff.reset()
    assert backoff.next(now) == 0.05
    for _ in range(10):
        refused = backoff.next(now, hopeful=False)
    assert refused == 5.0
    least = Backoff(jitter=lambda: 0.0)
    assert least.next(0.0) == 0.025


def test_where_nobody_answers_pauses_stay_short_for_three_seconds() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    now, pauses = 0.0, []
    while now < 5:
        pauses.append(backoff.next(now))
        now += pauses[-1]
    short = [pause for pause in pauses if pause <= 0.15]
    assert pauses[: len(short)] == short
    assert pauses[len(short) :] == [0.75] * (len(pauses) - len(short))
    assert 3.0 <= sum(short) <= 3.15


def test_at_most_twenty_attempts_in_five_seconds_go_to_somebody_who_ends_each_link() -> None:
    backoff = Backoff(jitter=lambda: 0.0)
    now, attempts = 0.0, 0
    while now < 5:
        attempts += 1
        now += backoff.next(now, answered=True)
    assert attempts <= 20


# ---- leaving it -----------------------------------------------------------------------------------------------------


async def test_a_last_value_arrives_although_the_block_is_left_right_after_it() -> None:
    router, leaf = LocalNode(), LocalNode()
    with router.object(WEATHER).observe() as watcher:
        async with router.listen("memory://") as listener:
            with leaf.object(WEATHER).expose() as contract:
                async with leaf.connect(listener.url):
                    await contract.wait_assigned()
                    contract.set_object_data("last")
            state = await next_where(watcher, lambda state: state.data == "last")
            assert state.data == "last"
            await until(lambda: not watcher.synchronized)


async def test_contracts_outlive_the_connection_and_states_turn_stale() -> None:
    router, leaf = LocalNode(), LocalNode()
    async with router.listen("memory://") as listener:
        with router.object(WEATHER).expose() as contract, leaf.object(WEATHER).observe() as watcher:
            contract.set_object_data(1)
            async with leaf.connect(listener.url):
                await next_where(watcher, lambda state: state.synchronized)
            assert not watcher.synchronized
            assert watcher.object_data() == 1
            async with leaf.connect(listener.url):
                contract.set_object_data(2)
                await next_where(watcher, lambda state: state.data == 2)


@pytest.mark.promise("cancellation")
async def test_a_cancelled_block_closes_its_link_quickly() -> None:
    ended = anyio.Event()

    class Deaf(MemoryTransport):
        """A transport that takes nothing and whose close takes long."""

        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            async with super().connect(url, options) as stream:
                stream.aclose = self.aclose  # type: ignore[method-assign]  # that is the point
                yield stream

        async def aclose(self, code: int = 1000, reason: str = "") -> None:
            assert (code, reason) == (1000, "")
            try:
                await anyio.sleep(60)
            finally:
                ended.set()

    async with LocalNode().listen("memory://") as listener:
        with anyio.CancelScope() as scope:
            async with LocalNode().connect(listener.url, transport=Deaf()):
                began = monotonic()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert monotonic() - began < 5
        await ended.wait()


async def test_closing_the_node_ends_its_links() -> None:
    async with LocalNode().listen("memory://") as listener:
        leaf = LocalNode()
        async with leaf.connect(listener.url) as connection:
            leaf.close()
            await until(lambda: not connection.up)
            await until(lambda: not listener.peers)
            with pytest.raises(anyio.ClosedResourceError):
                await connection.wait_up()
            assert [status async for status in connection.statuses()] == []
        with pytest.raises(anyio.ClosedResourceError):
            async with leaf.connect(listener.url):
                pass
        router = LocalNode()
        async with router.listen("memory://") as other:
            async with LocalNode().connect(other.url) as connection:
                router.close()
                await until(lambda: not connection.up)


@pytest.mark.parametrize("broken", ["above", "below"])
async def test_a_broken_node_closes_its_links_at_once(broken: str) -> None:
    quiet: TransportArguments = {"keep_alive": 3600, "timeout": 7200}  # so silence ends none
    above = LocalNode()
    async with above.listen("memory://", **quiet) as listener:
        leaf = LocalNode()
        async with leaf.connect(listener.url, **quiet) as connection:
            await until(lambda: listener.peers)
            node = above if broken == "above" else leaf
            with pytest.raises(ZeroDivisionError):
                node._engine.call(lambda _machine, _now: 1 / 0)
            await until(lambda: not (connection.up or listener.peers))
            if node is above:
                return
            await until(lambda: connection.last_error is not None)
            assert isinstance(connection.last_error, hakuban.NodeBrokenError)
            assert isinstance(connection.last_error.__cause__, ZeroDivisionError)
        with pytest.raises(hakuban.NodeBrokenError):
            async with leaf.connect(listener.url):
                pass


# ---- listening ------------------------------------------------------------------------------------------------------


async def test_a_listener_that_cannot_bind_fails_at_once() -> None:
    node = LocalNode()
    async with node.listen("memory://taken"):
        with pytest.raises(OSError, match="in use"):
            async with node.listen("memory://taken"):
                pass
    async with node.listen("memory://taken") as listener:
        assert listener.url == "memory://taken"


async def test_closing_a_listener_closes_its_links_at_once() -> None:
    router = LocalNode()
    ends: list[tuple[int | None, str | None]] = []
    async with anyio.create_task_group() as group:
        async with router.listen("memory://") as listener, router.listen("memory://") as other:

            async def peer() -> None:
                async with MemoryTransport().connect(listener.url, TransportOptions()) as stream:
                    try:
                        while True:
                            await stream.receive()
                    except anyio.EndOfStream:
                        ends.append((stream.close_code, stream.close_reason))

            group.start_soon(peer)
            group.start_soon(peer)
            async with LocalNode().connect(other.url):
                await until(lambda: len(router.peers) == 1)
    assert ends == [(1001, "the listener is closing")] * 2
    assert router.snapshot().downstream_connections == []


async def test_an_authorising_function_decides_who_comes_in() -> None:
    def authorize(request: ConnectionRequest) -> Identity | None:
        if request.headers.get("token") != "open sesame":
            raise RefusedError("no", retry=False)
        return Identity("ali", {"role": "baba"})

    async with LocalNode().listen("memory://", authorize=authorize) as listener:
        with pytest.raises(RefusedError):
            async with LocalNode().connect(listener.url):
                pass
        async with LocalNode("a").connect(listener.url, headers={"Token": "open sesame"}):
            await until(lambda: listener.peers)
            assert listener.peers[0].identity == Identity("ali", {"role": "baba"})


async def test_linked_nodes_share_objects() -> None:
    async with linked_nodes(3) as (first, second, third):
        with (
            first.object(WEATHER).expose() as contract,
            second.object(WEATHER).observe() as watcher,
            third.tag("weather").observe(serializer=JSON) as watchers,
        ):
            contract.set_object_data("shared")
            assert (await next_where(watcher, lambda _: True)).data == "shared"
            with anyio.fail_after(10):
                stream = await anext(aiter(watchers))
            assert (await next_where(stream, lambda _: True)).data == "shared"
