"""ZeroMQ transports under test: links, and peers whose every frame a test makes itself."""

from __future__ import annotations

import math
import os
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import psutil
import zmq

from hakuban.transport import RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._frames import (
    DATA,
    HEADER,
    SESSION,
    VERSION,
    Hello,
    Welcome,
    Window,
    frame,
    read_answer,
    read_hello,
)
from hakuban_zmq._stream import ZeroMQStream

from .processes import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from anyio.streams.memory import MemoryObjectReceiveStream

    from hakuban.transport import MessageStream

LOCAL = "zmq+tcp://127.0.0.1:0"
WIDE = Window(1 << 30, 1 << 20)


@asynccontextmanager
async def serving(
    handler: Callable[[MessageStream], Awaitable[None]],
    url: str = LOCAL,
    transport: ZeroMQTransport | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """Serve with a handler, and give the bound URL."""
    serve = partial(
        (transport or ZeroMQTransport()).serve, url, TransportOptions(**options), handler
    )
    async with anyio.create_task_group() as group:
        yield await group.start(serve)
        group.cancel_scope.cancel()


async def serve_alone(transport: ZeroMQTransport, url: str) -> None:
    """Serve without a task group around, which would wrap what is raised."""

    async def refuse(_: MessageStream) -> None:
        raise AssertionError

    await transport.serve(url, TransportOptions(), refuse, task_status=anyio.TASK_STATUS_IGNORED)


@asynccontextmanager
async def accepting(
    url: str = LOCAL, transport: ZeroMQTransport | None = None, **options: Any
) -> AsyncIterator[tuple[str, MemoryObjectReceiveStream[ZeroMQStream]]]:
    """Serve with a handler that hands its stream to the test; give the bound URL and where streams come out."""
    send, accepted = anyio.create_memory_object_stream[ZeroMQStream](math.inf)

    async def handler(stream: MessageStream) -> None:
        assert isinstance(stream, ZeroMQStream)
        send.send_nowait(stream)
        await anyio.sleep_forever()

    with send, accepted:
        async with serving(handler, url, transport, **options) as bound:
            yield bound, accepted


@asynccontextmanager
async def linked(
    url: str = LOCAL, transport: ZeroMQTransport | None = None, **options: Any
) -> AsyncIterator[tuple[ZeroMQStream, ZeroMQStream]]:
    """Give both ends of a link."""
    transport = transport or ZeroMQTransport()
    async with (
        accepting(url, transport, **options) as (bound, accepted),
        transport.connect(bound, TransportOptions(**options)) as connected,
    ):
        with anyio.fail_after(5):
            accepted_end = await accepted.receive()
        yield connected, accepted_end


async def get_in(transport: ZeroMQTransport, url: str) -> None:
    """Try until a listener lets in whose certificate has just been put on its list."""
    with anyio.fail_after(10):
        while await _is_refused(transport, url):
            pass


async def be_turned_away(transport: ZeroMQTransport, url: str) -> None:
    """Try until a listener refuses whose certificate has just been taken off its list."""
    with anyio.fail_after(10):
        while not await _is_refused(transport, url):
            pass


async def _is_refused(transport: ZeroMQTransport, url: str) -> bool:
    try:
        async with transport.connect(url, TransportOptions()):
            return False
    except RefusedError:
        return True


async def end_of(stream: MessageStream) -> Exception:
    """Receive until it raises, and give what it raised."""
    with anyio.fail_after(10):
        while True:
            try:
                await stream.receive()
            except Exception as error:  # noqa: BLE001 # whatever it is, it is looked at
                return error


class Raw:
    """A bare socket that speaks what a test makes it say."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket

    async def parts(self) -> list[bytes]:
        """Give the parts of the next message."""
        with anyio.fail_after(5):
            while True:
                try:
                    return self.socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    await anyio.sleep(0.001)

    async def until_silent(self, seconds: float = 0.2) -> list[list[bytes]]:
        """Give what comes until nothing came for a while."""
        got = []
        with anyio.move_on_after(seconds) as scope:
            while True:
                got.append(await self.parts())
                scope.deadline = anyio.current_time() + seconds
        return got


class RawClient(Raw):
    """A DEALER.

    :ivar own: its session.
    :ivar other: the session of the listener, once it was welcomed.
    """

    own = b"c" * SESSION
    other = b""
    window = Window(0, 0)

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(parts, zmq.NOBLOCK)

    def send_frame(self, kind: int, body: bytes = b"") -> None:
        self.send(frame(kind, self.other, body))

    async def frame(self, kind: int | None = None) -> bytes:
        """Give the next frame, or the next of a kind."""
        while True:
            (data,) = await self.parts()
            if kind is None or data[0] == kind:
                return data

    async def enter(self, session: bytes = own, window: Window = WIDE) -> Welcome:
        """Say hello and be welcomed."""
        self.own = session
        self.send(Hello(session, VERSION, window).encode())
        while True:
            answer = read_answer(await self.frame(), session)
            if answer is not None:
                break
        assert isinstance(answer, Welcome), answer
        self.other, self.window = answer.session, answer.window
        return answer

    async def data(self) -> bytes:
        """Give the body of the next chunk."""
        return (await self.frame(DATA))[HEADER:]


class RawListener(Raw):
    """A ROUTER.

    :ivar url: where our transport finds it.
    """

    url = ""
    session = b"l" * SESSION

    def send(self, name: bytes, data: bytes) -> None:
        self.socket.send_multipart([name, data], zmq.NOBLOCK)

    async def welcome(self, window: Window = WIDE) -> tuple[bytes, Hello]:
        """Let the next one in; give its name and what it said."""
        name, data = await self.parts()
        hello = read_hello(data)
        answer = Welcome(VERSION, self.session, 123, window)
        self.send(name, answer.encode(hello.session))
        return name, hello


@contextmanager
def raw_client(url: str, **options: Any) -> Iterator[RawClient]:
    """Connect a bare socket to a listener of ours."""
    with _socket(zmq.DEALER, options) as socket:
        socket.connect(url.removeprefix("zmq+"))
        yield RawClient(socket)


@contextmanager
def raw_listener(url: str = LOCAL, **options: Any) -> Iterator[RawListener]:
    """Bind a bare socket."""
    with _socket(zmq.ROUTER, options) as socket:
        socket.bind(url.removeprefix("zmq+"))
        listener = RawListener(socket)
        listener.url = "zmq+" + str(socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")
        yield listener


@contextmanager
def _socket(kind: zmq.SocketType, options: dict[str, Any]) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name.upper()), value)
        yield socket


class PeerProcess(Program):
    """A process that has to do with ZeroMQ: see `support.zeromq_peer`.

    :ivar url: where it listens, or is connected to.
    """

    def __init__(self, what: str, url: str, env: dict[str, str] | None = None) -> None:
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "support.zeromq_peer", what, url]
        super().__init__(command, {"PYTHONPATH": path} | (env or {}))
        self.url = ""

    def wait_ready(self) -> None:
        self.url = self.out.next() or ""
        assert self.url, self.err.seen


@asynccontextmanager
async def peer_process(
    what: str, url: str = LOCAL, env: dict[str, str] | None = None
) -> AsyncIterator[PeerProcess]:
    """Run a process until the end of the block; it listens or is connected before the block begins."""
    with PeerProcess(what, url, env) as process:
        await anyio.to_thread.run_sync(process.wait_ready)
        yield process


def resources() -> tuple[int, int]:
    """Count open descriptors and threads of this process; not the threads that trio keeps for ten seconds in case of need."""
    process = psutil.Process()
    kept = sum(thread.name.startswith("Trio thread ") for thread in threading.enumerate())
    return process.num_fds(), process.num_threads() - kept
