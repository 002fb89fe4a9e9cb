"""What an idle link holds: no task that writes, and nothing of what it has carried."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import psutil
import pytest
from typing_extensions import override

from hakuban import LocalNode
from hakuban._net import listener as _listen
from hakuban._net.link import Link
from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport
from hakuban_zmq import ZeroMQTransport
from support.memory_links import Wrapping
from support.waiting import until
from support.websocket import Certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskStatus

    from hakuban._net.link_writer import LinkWriter
    from hakuban.transport import MessageStream, Transport

URLS: Final = ("memory://", "ws://127.0.0.1:0", "zmq+tcp://127.0.0.1:0")


def writer(node: LocalNode) -> LinkWriter:
    (link,) = node._engine.links.values()
    assert isinstance(link, Link)
    return link.writer


async def rested(node: LocalNode) -> None:
    await until(lambda: writer(node)._running is False)


@pytest.mark.parametrize("url", URLS)
async def test_who_has_nothing_to_send_has_no_task_for_it_until_there_is_something(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listen, "_REST", 0.01)
    above, leaf = LocalNode("above"), LocalNode("leaf")
    async with above.listen(url) as listener, leaf.connect(listener.url):
        with above.object("it").expose() as exposer, leaf.object("it").observe() as seen:
            exposer.set_object_data(1)
            await until(lambda: seen.object_data() == 1)
            await rested(above)
            exposer.set_object_data(2)
            await until(lambda: seen.object_data() == 2)
            await rested(above)
            await anyio.to_thread.run_sync(exposer.set_object_data, 3)
            await until(lambda: seen.object_data() == 3)


async def test_nothing_is_lost_between_one_task_that_writes_and_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_listen, "_REST", 0.0)
    above, leaf = LocalNode("above"), LocalNode("leaf")
    async with above.listen("memory://") as listener, leaf.connect(listener.url):
        with above.object("it").expose() as exposer, leaf.object("it").observe() as seen:
            for number in range(300):
                if number % 2:
                    exposer.set_object_data(number)
                else:
                    await anyio.to_thread.run_sync(exposer.set_object_data, number)
                await until(lambda at=number: seen.object_data() == at)  # type: ignore[misc]


@pytest.mark.parametrize("url", URLS)
async def test_a_link_at_rest_ends_like_any_other(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listen, "_REST", 0.01)
    above, leaf = LocalNode("above"), LocalNode("leaf")

    async def listen(*, task_status: TaskStatus[str]) -> None:
        async with above.listen(url) as listener:
            task_status.started(listener.url)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as listening:
        bound = await listening.start(listen)
        async with leaf.connect(bound) as connection:
            await rested(above)
            listening.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await until(lambda: not connection.up)
            assert "1001" in str(connection.last_error)


# ---- nothing of what was carried ------------------------------------------------------------------------------------


def size(batch: Sequence[bytes]) -> int:
    return sum(map(len, batch))


class Kept:
    """A stream, and the largest batch that went each way through it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.sent: list[bytes] = []
        self.received: list[bytes] = []

    async def send(self, messages: Sequence[bytes], /) -> None:
        self.sent = max(self.sent, list(messages), key=size)
        await self.stream.send(messages)

    async def receive(self, /) -> Sequence[bytes]:
        messages: Sequence[bytes] = await self.stream.receive()
        self.received = max(self.received, list(messages), key=size)
        return messages

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self.stream.aclose(code, reason)


class Keeping(Wrapping):
    def __init__(self) -> None:
        self.streams: list[Kept] = []

    @override
    def wrap(self, stream: Any) -> Any:
        self.streams.append(Kept(stream))
        return self.streams[-1]


async def test_a_link_lets_go_of_what_it_has_sent_and_received() -> None:
    transport = Keeping()
    above, leaf = LocalNode("above"), LocalNode("leaf")
    async with (
        above.listen("memory://", transport=transport) as listener,
        leaf.connect(listener.url, transport=transport),
    ):
        with above.object("it").expose() as exposer, leaf.object("it").observe() as seen:
            exposer.set_object_data(os.urandom(100_000))
            await seen.wait_state()
            sent = max((max(one.sent, key=len) for one in transport.streams), key=len)
            received = max((max(one.received, key=len) for one in transport.streams), key=len)
            assert received is sent
            assert len(sent) > 100_000
            # held by both lists and both names, and the call
            await until(lambda: sys.getrefcount(sent) == 5)


LINKS: Final = 40
SIZE: Final = 1_000_000
KIB: Final = 1024


def resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="gives free memory back by a function of glibc")
@pytest.mark.parametrize("scheme", ["ws", "wss", "zmq+tcp"])
async def test_links_that_were_busy_once_take_no_more_than_others(scheme: str) -> None:
    certificates = Certificates()
    secure = scheme == "wss"
    transport: Transport = ZeroMQTransport() if scheme == "zmq+tcp" else WebSocketTransport()
    arrived = 0

    async def echo(stream: MessageStream) -> None:
        while True:
            await stream.send(await stream.receive())

    async def hear(stream: MessageStream) -> None:
        nonlocal arrived
        while True:
            come = size(await stream.receive())
            arrived += come

    listening = TransportOptions(ssl=certificates.listening() if secure else None)
    connecting = TransportOptions(ssl=certificates.connecting() if secure else None)
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        url = await tasks.start(transport.serve, f"{scheme}://127.0.0.1:0", listening, echo)
        streams = []
        for _ in range(LINKS):
            streams.append(await stack.enter_async_context(transport.connect(url, connecting)))
            tasks.start_soon(hear, streams[-1])
        for stream in streams:
            await stream.send([b"small"])
        await until(lambda: arrived == LINKS * len(b"small"))
        before, arrived = resident(), 0
        for number, stream in enumerate(streams, start=1):
            await stream.send([os.urandom(SIZE)])
            await until(lambda count=number: arrived == count * SIZE)  # type: ignore[misc]
        assert (resident() - before) / LINKS < 100 * KIB
        tasks.cancel_scope.cancel()
