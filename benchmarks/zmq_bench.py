"""What the ZeroMQ transport costs on loopback, beside a bare pair of ZeroMQ sockets and our own WebSocket transport.

Run: python benchmarks/zmq_bench.py [asyncio uvloop trio] [--rounds 5] [--messages 200000]

Round trips of a 100 byte message, and 100 byte messages one way as fast as they go, one by one and in batches of 100.
The listener is in a process of its own; the three take turns within one run, and medians are compared. The bare pair is
a DEALER and a ROUTER of `zmq.asyncio`, on asyncio (on uvloop where uvloop is asked for).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import zmq
import zmq.asyncio

from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport
from hakuban_zmq import ZeroMQTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from hakuban.transport import MessageStream, Transport

SMALL = b"x" * 100
LAPS = 2_000
TRANSPORTS: dict[str, tuple[Callable[[], Transport], str]] = {
    "zmq": (ZeroMQTransport, "zmq+tcp://127.0.0.1:0"),
    "ws": (WebSocketTransport, "ws://127.0.0.1:0"),
}
SYSTEMS = ("zmq", "ws", "bare")


def options_of(backend: str) -> dict[str, Any]:
    if backend == "trio":
        return {"backend": "trio"}
    return {"backend": "asyncio", "backend_options": {"use_uvloop": backend == "uvloop"}}


# -- the listener's process: the first message of a link says what it is for


async def handle(stream: MessageStream) -> None:
    try:
        purpose, *behind = await stream.receive()
        if purpose == b"echo":
            await stream.send(behind)
            while True:
                await stream.send(await stream.receive())
        missing = int(purpose) - len(behind)
        while missing:
            missing -= len(await stream.receive())
        await stream.send([b"done"])
        await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    finally:
        await stream.aclose()


async def listen(system: str) -> None:
    if system == "bare":
        await listen_bare()
        return
    transport, url = TRANSPORTS[system]
    async with anyio.create_task_group() as group:
        serve = partial(transport().serve, url, TransportOptions(), handle)
        print(await group.start(serve), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        group.cancel_scope.cancel()


async def listen_bare() -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:0")
        print(socket.get_string(zmq.LAST_ENDPOINT), flush=True)
        while True:
            name, purpose = await socket.recv_multipart()
            if purpose == b"end":
                return
            for _ in range(0 if purpose == b"echo" else int(purpose)):
                await socket.recv_multipart()
            await socket.send_multipart([name, b"done"])
            while purpose == b"echo":
                name, message = await socket.recv_multipart()
                if message == b"":
                    break
                await socket.send_multipart([name, message])


# -- the connecting process


async def round_trips(system: str, url: str) -> float:
    """Give the median of some round trips, in microseconds."""
    laps = []
    if system == "bare":
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 100
            socket.connect(url)
            await socket.send(b"echo")
            await socket.recv()
            for _ in range(LAPS):
                start = time.perf_counter()
                await socket.send(SMALL)
                await socket.recv()
                laps.append(time.perf_counter() - start)
            await socket.send(b"")
    else:
        async with TRANSPORTS[system][0]().connect(url, TransportOptions()) as stream:
            await stream.send([b"echo"])
            for _ in range(LAPS):
                start = time.perf_counter()
                await stream.send([SMALL])
                await stream.receive()
                laps.append(time.perf_counter() - start)
    return statistics.median(laps) * 1e6


async def one_way(system: str, url: str, messages: int, batch: int) -> float:
    """Give messages per second."""
    if system == "bare":
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 100
            socket.connect(url)
            start = time.perf_counter()
            await socket.send(b"%d" % messages)
            for _ in range(messages):
                await socket.send(SMALL)
            await socket.recv()
    else:
        async with TRANSPORTS[system][0]().connect(url, TransportOptions()) as stream:
            start = time.perf_counter()
            await stream.send([b"%d" % messages])
            for _ in range(messages // batch):
                await stream.send([SMALL] * batch)
            await stream.receive()
    return messages / (time.perf_counter() - start)


@contextmanager
def listener(system: str, backend: str) -> Iterator[str]:
    command = [sys.executable, __file__, backend, "--listen", system]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def measure(backend: str, arguments: argparse.Namespace) -> None:
    kinds: dict[str, Callable[[str, str], Awaitable[float]]] = {
        "round trip (us)": round_trips,
        "one by one (/s)": partial(one_way, messages=arguments.messages // 4, batch=1),
        "batches of 100 (/s)": partial(one_way, messages=arguments.messages, batch=100),
    }
    with ExitStack() as stack:
        bare = "uvloop" if backend == "uvloop" else "asyncio"
        urls = {
            system: stack.enter_context(listener(system, bare if system == "bare" else backend))
            for system in SYSTEMS
        }
        for kind, run in kinds.items():
            found: dict[str, list[float]] = {system: [] for system in SYSTEMS}
            for _ in range(arguments.rounds):
                for system in SYSTEMS:
                    loop = options_of(bare if system == "bare" else backend)
                    found[system].append(anyio.run(run, system, urls[system], **loop))
            middle = {system: statistics.median(values) for system, values in found.items()}
            print(
                f"{backend:8} {kind:20}"
                + "".join(f"  {system} {middle[system]:>9,.0f}" for system in SYSTEMS)
                + f"   zmq/bare {middle['zmq'] / middle['bare']:.2f}"
                + f"   zmq/ws {middle['zmq'] / middle['ws']:.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("backends", nargs="*", default=["asyncio", "uvloop", "trio"])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--messages", type=int, default=200_000, help="messages one way")
    parser.add_argument("--listen", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.listen:
        anyio.run(listen, arguments.listen, **options_of(arguments.backends[0]))
        return
    print(f"medians of {arguments.rounds}; pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}")
    for backend in arguments.backends:
        measure(backend, arguments)


if __name__ == "__main__":
    main()
