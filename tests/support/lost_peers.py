"""Exposers that vanish in the middle of what they say, and how long a node goes on believing in them."""

from __future__ import annotations

import importlib
import queue
import random
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint

import hakuban
from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport
from hakuban_zmq import ZeroMQTransport

from .raw_node import (
    INITIALIZE_CONTROL,
    OPEN_CONTROL,
    Channels,
    control,
    expose,
    observe,
    set_name,
    state,
)
from .raw_wires import WIRES
from .websocket import Certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakuban.transport import MessageStream

    from .raw_wires import Wire

BACKENDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
LARGE: Final = bytes(500_000)
MUCH: Final = bytes(8_000_000)  # more than the buffers of both sides take
_LANES: Final = 6
_TICK: Final = 0.005
_GIVEN_UP: Final = 2.0  # seconds after which an end was not noticed


@dataclass(frozen=True, slots=True)
class Ending:
    """How an exposer leaves.

    :ivar reset: by RST, else by FIN.
    :ivar whole: large states said before.
    :ivar part: how much of another one, 0 to 1.
    :ivar held: all of that lies in the system before the listening side's loop has another turn.
    :ivar blocked: the listening side waits to send it what it does not take.
    """

    reset: bool
    whole: int
    part: float
    held: bool
    blocked: bool

    @classmethod
    def by_chance(cls, chance: random.Random) -> Ending:
        """Make one."""
        return cls(
            reset=chance.random() < 0.7,
            whole=chance.choice([0, 0, 1]),
            part=chance.choice([0.0, chance.random(), chance.random()]),
            held=chance.random() < 0.5,
            blocked=chance.random() < 0.2,
        )


@dataclass(frozen=True, slots=True)
class Noticed:
    """That an exposer has left, as an observer saw it; monotonic times.

    :ivar left: when it had left.
    :ivar at: when the observer saw that.
    """

    ending: Ending
    left: float
    at: float

    @property
    def after(self) -> float:
        return self.at - self.left


class Listening:
    """A node of ours that listens, in a thread of its own; it observes what the exposers of a test expose."""

    def __init__(self, transport: str, backend: str) -> None:
        self._wire = WIRES[transport]
        self._numbers = count()
        self._late: list[tuple[float, float]] = []
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal(*BACKENDS[backend]))
            self._node = stack.enter_context(hakuban.LocalNode("listening"))
            much = stack.enter_context(self._node.object([], "much").expose(serializer=hakuban.RAW))
            much.set_object_data(MUCH)
            listening = self._node.listen(**_listener(transport))
            self._url = stack.enter_context(self._portal.wrap_async_context_manager(listening)).url
            stack.callback(self._portal.start_task_soon(self._watch_the_loop).cancel)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def rounds(self, number: int, seed: int) -> list[Noticed]:
        """Let so many exposers come and leave, some at the same time."""
        chance = random.Random(seed)
        endings = [Ending.by_chance(chance) for _ in range(number)]
        with ThreadPoolExecutor(_LANES) as lanes:
            return list(lanes.map(self.round, endings))

    def round(self, ending: Ending) -> Noticed:
        """Let one exposer come and leave."""
        name = f"exposer {next(self._numbers)}"
        with (
            self._wire(self._url) as wire,
            self._node.object([], name).observe(serializer=hakuban.RAW) as seen,
        ):
            offer(wire, name)
            channel = wait_sink(wire, name)
            wire.send(state(channel, (0,), b"whole"))
            self._portal.call(_until, seen, True)
            if ending.blocked:
                wire.send(control(observe('"much"')))
                wire.socket.recv(1, socket.MSG_PEEK)
            stale = self._portal.start_task_soon(_until, seen, False)
            left = self._leave(wire, channel, ending)
            return Noticed(ending, left, stale.result())

    def _leave(self, wire: Wire, channel: int, ending: Ending) -> float:
        large = [state(channel, (number + 1,), LARGE) for number in range(ending.whole + 1)]
        *whole, last = map(wire.encoded, large)
        data = b"".join(whole) + last[: int(len(last) * ending.part)]
        if ending.held:
            with self._held():
                _send_what_fits(wire.socket, data)
                _end(wire, ending)
        else:
            wire.socket.sendall(data)
            _end(wire, ending)
        return time.monotonic()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Give the loop no turn in this block."""
        held, free = threading.Event(), threading.Event()

        async def hold() -> None:
            held.set()
            free.wait(5)

        task = self._portal.start_task_soon(hold)
        held.wait(5)
        try:
            yield
        finally:
            free.set()
        task.result(5)

    async def _watch_the_loop(self) -> None:
        before = time.monotonic()
        while True:
            await anyio.sleep(_TICK)
            now = time.monotonic()
            self._late.append((before + _TICK, now))
            before = now

    def late(self, noticed: Noticed) -> float:
        """Give for how many seconds of that time the loop had no turn, on a machine with other things to do."""
        self._portal.call(anyio.sleep, 2 * _TICK)
        return sum(
            max(0.0, min(until, noticed.at) - max(since, noticed.left))
            for since, until in self._late
        )


class NotReceiving:
    """A transport that serves, in a thread of its own, and a user who does not call `receive` until he is told."""

    def __init__(self, transport: str, backend: str) -> None:
        self._wire = WIRES[transport]
        arguments = _listener(transport)
        url, served = arguments.pop("url"), arguments.pop("transport", WebSocketTransport())
        self._served: queue.SimpleQueue[tuple[MessageStream, anyio.Event]] = queue.SimpleQueue()
        serve = partial(served.serve, url, TransportOptions(**arguments), self._serve)
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(*BACKENDS[backend]))
            self._portal = portal
            task, self._url = portal.start_task(serve)
            stack.callback(task.cancel)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    async def _serve(self, stream: MessageStream) -> None:
        over = anyio.Event()
        self._served.put((stream, over))
        try:
            await over.wait()
        finally:
            await stream.aclose()

    def until_the_end(self, size: int, *, reset: bool) -> float:
        """Have so many bytes come, and the end; give the seconds from the first `receive` to the end."""
        with self._wire(self._url) as wire:
            stream, over = self._served.get(timeout=5)
            wire.send(b"whole")
            wire.socket.sendall(wire.encoded(LARGE)[:size])
            if reset:
                wire.reset()
            else:
                wire.finish()
            seconds = self._portal.call(self._receive_all, stream)
            self._portal.call(over.set)
            return seconds

    @staticmethod
    async def _receive_all(stream: MessageStream) -> float:
        for _ in range(5):
            await checkpoint()  # the loop has looked
        began = time.monotonic()
        received: list[bytes] = []
        with anyio.move_on_after(_GIVEN_UP):
            try:
                while True:
                    received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                assert received in (
                    [b"whole"],
                    [],
                )  # not where the system drops what came before a reset
        return time.monotonic() - began


async def _until(seen: hakuban.ObjectObserve[bytes], synchronized: bool) -> float:
    """Wait until an observer sees whether the object is synchronized, or not any more; give the time of that."""
    with anyio.move_on_after(_GIVEN_UP):
        async for seen_state in seen:
            if seen_state.synchronized is synchronized:
                break
    return time.monotonic()


def _listener(transport: str) -> dict[str, Any]:
    if transport == "ws":
        return {"url": "ws://127.0.0.1:0"}
    if transport == "wss":
        return {"url": "wss://127.0.0.1:0", "ssl": Certificates().listening()}
    if transport == "zmq":
        # exposers here keep to no credit
        return {"url": "zmq+tcp://127.0.0.1:0", "transport": ZeroMQTransport(window=1 << 24)}
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "transport-plugin"))
    transport_of_30_lines = importlib.import_module("hakuban_tcp").TcpTransport()
    return {"url": "tcp://127.0.0.1:0", "transport": transport_of_30_lines}


def offer(wire: Wire, name: str) -> None:
    """Offer to produce an object."""
    json = f'"{name}"'
    wire.send(OPEN_CONTROL, INITIALIZE_CONTROL, control(set_name(name), expose(json)))


def wait_sink(wire: Wire, name: str) -> int:
    """Wait until that is accepted; give the channel."""
    channels = Channels()
    json = f'"{name}"'
    messages = wire.messages()
    while json not in channels.sinks:
        channels.received(next(messages))
    return channels.sinks[json]


def _send_what_fits(connected: socket.socket, data: bytes) -> None:
    connected.settimeout(0)
    try:
        connected.sendall(data)
    except BlockingIOError:
        pass


def _end(wire: Wire, ending: Ending) -> None:
    if ending.reset:
        wire.reset()
    else:
        wire.finish()
