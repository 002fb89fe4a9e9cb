"""A link that has ended is gone, with its session, its stream and its buffers: the collector is not needed for that."""

from __future__ import annotations

import gc
import importlib
import logging
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from hakuban import LocalNode
from hakuban._net.link import Link
from hakuban._wire import Session
from hakuban.sockets import SocketStream
from hakuban.testing import MemoryStream
from hakuban_ws._frames import FrameReader
from hakuban_ws._stream import WebSocketStream
from hakuban_zmq._frames import Reassembly
from hakuban_zmq._stream import ZeroMQStream
from support.tracing import collector_off
from support.waiting import until
from support.websocket import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

KINDS: Final = (Link, Session, MemoryStream, WebSocketStream, SocketStream, FrameReader, ZeroMQStream, Reassembly)  # fmt: skip
EXAMPLE: Final = Path(__file__).parents[1] / "examples/transport-plugin"
URLS: Final = {
    "memory": "memory://",
    "tcp": "tcp://127.0.0.1:0",  # of the example, on streams of anyio
    "ws": "ws://127.0.0.1:0",
    "wss": "wss://127.0.0.1:0",
    "zmq": "zmq+tcp://127.0.0.1:0",
}


def living() -> Counter[str]:
    """Count what belongs to links, and is in memory."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS))


def links(node: LocalNode) -> list[Link]:
    return [link for link in node._engine.links.values() if isinstance(link, Link)]


class Scene:
    """A node with a link to a listener, over which a state has come."""

    def __init__(self, kind: str, certificates: Certificates) -> None:
        self.url = URLS[kind]
        self.listening: dict[str, Any] = {}
        self.connecting: dict[str, Any] = {}
        if kind == "wss":
            self.listening["ssl"] = certificates.listening()
            self.connecting["ssl"] = certificates.connecting()
        if kind == "tcp":
            transport = importlib.import_module("hakuban_tcp").TcpTransport()
            self.listening["transport"] = self.connecting["transport"] = transport
        self.above, self.leaf = LocalNode("above"), LocalNode("leaf")
        self.leave = anyio.Event()

    async def listen(self, *, task_status: TaskStatus[str]) -> None:
        async with self.above.listen(self.url, **self.listening) as listener:
            task_status.started(listener.url)
            await anyio.sleep_forever()

    async def connect(self, url: str, *, task_status: TaskStatus[None]) -> None:
        with self.leaf.object("it").expose() as exposer, self.above.object("it").observe() as seen:
            async with self.leaf.connect(url, **self.connecting):
                exposer.set_object_data(1)
                await seen.wait_state()
                task_status.started()
                await self.leave.wait()


async def leave(scene: Scene) -> None:
    scene.leave.set()


async def be_cancelled(_: Scene) -> None:
    pass  # as it is at the end of each


async def close_the_node(scene: Scene) -> None:
    scene.leaf.close()
    await until(lambda: not links(scene.leaf))


async def break_the_rules(scene: Scene) -> None:
    (link,) = links(scene.above)
    await link._stream.send([b"\xff" * 50])
    await until(lambda: link not in links(scene.above))


async def send_half_a_message(scene: Scene) -> None:
    """Be cancelled in the middle of sending one; the other side has a part of it."""
    (link,) = links(scene.leaf)
    with anyio.move_on_after(0.05), suppress(anyio.BrokenResourceError):
        while True:
            await link._stream.send([bytes(8_000_000)])


async def fail(scene: Scene) -> None:
    """Have a bug end it."""
    (link,) = links(scene.leaf)
    link.writer._traffic = None  # type: ignore[assignment]
    with scene.leaf.object("other").observe():
        await until(lambda: link not in links(scene.leaf))


ENDS: Final = (leave, be_cancelled, close_the_node, break_the_rules, send_half_a_message, fail)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", URLS)
async def test_nothing_of_a_link_that_has_ended_waits_for_the_collector(
    kind: str,
    end: Callable[[Scene], Any],
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    # what is kept of a log has the traceback of the bug, and that all that it went through
    monkeypatch.setattr(logging.getLogger("hakuban"), "disabled", True)
    gc.collect()
    with collector_off():
        before = living()
        scene = Scene(kind, certificates)
        async with anyio.create_task_group() as listening:
            url = await listening.start(scene.listen)
            async with anyio.create_task_group() as connecting:
                await connecting.start(scene.connect, url)
                assert living()["Link"] == before["Link"] + 2
                await end(scene)
                if end is not leave:
                    connecting.cancel_scope.cancel()
            await until(lambda: not living() - before)
            listening.cancel_scope.cancel()
