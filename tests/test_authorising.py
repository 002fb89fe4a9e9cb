"""Plugins that authorise, over each transport: what takes long, never returns or raises what ends programs is one peer's."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

import hakuban
from hakuban import LocalNode
from hakuban._transport.authorizing import THREADS
from hakuban.transport import ConnectionRequest, Identity
from hakuban_zmq import ZeroMQTransport, write_keys
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Authorize = Callable[[ConnectionRequest], Identity | None]

ZMQ = "zmq+tcp://127.0.0.1:0"
ANYBODY = Identity("anybody")
SHORT = 1.0  # seconds for a handshake, half of them for the plugin
WORKER = "hakuban authorises"


class Wire:
    """A way to listen and to connect.

    :param transport: None for that of the URL's scheme.
    """

    def __init__(self, url: str, transport: ZeroMQTransport | None = None) -> None:
        self._url = url
        self._transport = transport

    def listen(
        self,
        authorize: Authorize,
        *,
        handshake_timeout: float | None = None,
        max_connections: int | None = None,
    ) -> AbstractAsyncContextManager[hakuban.Listener]:
        return LocalNode().listen(
            self._url,
            transport=self._transport,
            authorize=authorize,
            handshake_timeout=handshake_timeout,
            max_connections=max_connections,
        )

    @asynccontextmanager
    async def connect(
        self, listener: hakuban.Listener, *, wait: bool = True
    ) -> AsyncIterator[hakuban.Connection]:
        with anyio.fail_after(20):
            async with LocalNode().connect(
                listener.url, wait=wait, transport=self._transport
            ) as connection:
                yield connection


@pytest.fixture(params=["memory://", "ws://127.0.0.1:0", ZMQ, "curve"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Wire:
    """Give each transport; CURVE with a key for both sides, so that the list of keys and the plugin are asked."""
    if request.param != "curve":
        return Wire(request.param)
    public, secret = write_keys(tmp_path / "keys", "both")
    transport = ZeroMQTransport(
        secret_key_file=secret, server_key_file=public, client_keys=tmp_path / "keys"
    )
    return Wire(ZMQ, transport)


class Plugin:
    """Blocks for the first so many peers, until it is told not to; lets in everybody.

    :ivar asked: about how many peers.
    :ivar most: how many calls there were at the same time.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._goes_on = threading.Event()
        self._lock = threading.Lock()
        self._now = 0
        self.asked = self.most = 0

    def __call__(self, _request: ConnectionRequest) -> Identity:
        with self._lock:
            self.asked += 1
            blocks = self.asked <= self._blocks
            self._now += 1
            self.most = max(self.most, self._now)
        if blocks:
            self._goes_on.wait(60)
        with self._lock:
            self._now -= 1
        return ANYBODY

    def go_on(self) -> None:
        self._goes_on.set()


@pytest.fixture
def plugin() -> Iterator[Callable[[int], Plugin]]:
    """Make plugins, and leave none of their calls behind."""
    made: list[Plugin] = []

    def make(blocks: int) -> Plugin:
        made.append(Plugin(blocks))
        return made[-1]

    yield make
    for one in made:
        one.go_on()
    for worker in workers():
        worker.join(10)
    assert not workers()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == WORKER]


async def refusal(connection: hakuban.Connection) -> hakuban.RefusedError:
    """Wait for an attempt to be refused, and give the reason."""
    async for status in connection.statuses():
        if isinstance(status.error, hakuban.RefusedError):
            return status.error
    raise AssertionError("closed")


async def test_while_a_plugin_looks_up_one_peer_others_are_let_in(
    wire: Wire, plugin: Callable[[int], Plugin]
) -> None:
    slow = plugin(1)
    async with wire.listen(slow) as listener, wire.connect(listener, wait=False) as first:
        await until(lambda: slow.asked)
        async with wire.connect(listener) as second:
            assert second.up
            assert not first.up
            slow.go_on()
            await until(lambda: first.up and len(listener.peers) == 2)
            assert [peer.identity for peer in listener.peers] == [ANYBODY, ANYBODY]


class Odd(BaseException):
    """What trio's Cancelled is: no Exception."""


@pytest.mark.long
@pytest.mark.parametrize(
    "error", [SystemExit, asyncio.CancelledError, KeyboardInterrupt, GeneratorExit, Odd]
)
async def test_what_ends_tasks_and_programs_refuses_one_peer_and_is_logged(
    wire: Wire, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[ConnectionRequest] = []

    def fail_once(request: ConnectionRequest) -> Identity:
        asked.append(request)
        if len(asked) == 1:
            raise error
        return ANYBODY

    async with wire.listen(fail_once) as listener:
        async with wire.connect(listener, wait=False) as connection:
            reason = await refusal(connection)
            assert reason.retry
            assert "cannot authorise anybody at the moment" in reason.reason
            await until(lambda: connection.up and listener.peers)
        async with wire.connect(listener):
            pass
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info and record.exc_info[0] for record in told] == [error]


async def test_a_call_that_never_returns_is_given_up_and_the_peer_comes_again(
    wire: Wire, plugin: Callable[[int], Plugin], caplog: pytest.LogCaptureFixture
) -> None:
    stuck = plugin(1)
    async with wire.listen(stuck, handshake_timeout=SHORT) as listener:
        async with wire.connect(listener, wait=False) as connection:
            reason = await refusal(connection)
            assert reason.retry
            assert "took longer than 0.5 s" in reason.reason
            await until(lambda: connection.up)
            await until(lambda: len(workers()) == 1)  # that of the call that never returns
    assert "authorising a peer took over 0.5 s" in caplog.text


async def test_a_peer_that_leaves_while_the_plugin_looks_it_up_leaves_nothing_behind(
    wire: Wire, plugin: Callable[[int], Plugin]
) -> None:
    slow = plugin(1)
    async with wire.listen(slow, max_connections=1) as listener:
        async with wire.connect(listener, wait=False):
            await until(lambda: slow.asked)
        slow.go_on()
        async with wire.connect(listener) as connection:
            await until(lambda: listener.peers)
            assert connection.up
            assert len(listener.peers) == 1


async def test_a_listener_that_is_left_waits_for_no_plugin(
    wire: Wire, plugin: Callable[[int], Plugin]
) -> None:
    stuck = plugin(1)
    async with anyio.create_task_group() as group:
        with anyio.fail_after(10):
            async with wire.listen(stuck) as listener:

                async def knock() -> None:
                    async with wire.connect(listener, wait=False):
                        await anyio.sleep_forever()

                group.start_soon(knock)
                await until(lambda: stuck.asked)
        group.cancel_scope.cancel()
    assert len(workers()) == 1


async def test_no_more_calls_than_threads_and_the_others_wait_their_turn(
    wire: Wire, plugin: Callable[[int], Plugin]
) -> None:
    slow = plugin(THREADS)
    async with wire.listen(slow) as listener, anyio.create_task_group() as group:
        up: list[hakuban.Connection] = []

        async def knock() -> None:
            async with wire.connect(listener) as connection:
                up.append(connection)
                await anyio.sleep_forever()

        for _ in range(THREADS):
            group.start_soon(knock)
        await until(lambda: slow.asked == THREADS)
        for _ in range(THREADS):
            group.start_soon(knock)
        await anyio.wait_all_tasks_blocked()
        assert len(workers()) == THREADS
        assert not up
        slow.go_on()
        await until(lambda: len(up) == 2 * THREADS)
        assert slow.most == THREADS
        group.cancel_scope.cancel()


@pytest.mark.long
async def test_where_all_threads_are_stuck_the_others_are_refused_for_now(
    wire: Wire, plugin: Callable[[int], Plugin]
) -> None:
    stuck = plugin(THREADS)
    async with wire.listen(stuck, handshake_timeout=SHORT) as listener:
        async with anyio.create_task_group() as group:

            async def knock() -> None:
                async with wire.connect(listener, wait=False) as connection:
                    await until(lambda: connection.up)

            for _ in range(THREADS):
                group.start_soon(knock)
            await until(lambda: stuck.asked == THREADS)
            async with wire.connect(listener, wait=False) as connection:
                async for status in connection.statuses():
                    assert not status.up
                    if "too many peers wait to be authorised" in str(status.error):
                        break
                assert len(workers()) == THREADS
                stuck.go_on()
                await until(lambda: connection.up)
