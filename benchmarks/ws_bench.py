"""What the WebSocket transport costs on loopback, with a listener in a process of its own.

Run: python benchmarks/ws_bench.py [asyncio uvloop trio] [--tls] [--idle 2000] [--seconds 6]

* round trip of a 100 byte message: median, 99th percentile, CPU of each side
* 100 byte messages one way as fast as they go, one by one and in batches of 100
* 1 MiB messages one way, up (masked) and down
* idle connections at the defaults: CPU of the listener, kibibytes of each connection
"""

from __future__ import annotations

import argparse
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import psutil

from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import TaskStatus

    from hakuban.transport import MessageStream

SMALL = b"x" * 100
LARGE = bytes(1024 * 1024)
ROUNDS = 10_000
SMALL_MESSAGES = 50_000
LARGE_MESSAGES = 200


def backend(name: str) -> dict[str, Any]:
    if name == "trio":
        return {"backend": "trio"}
    return {"backend": "asyncio", "backend_options": {"use_uvloop": name == "uvloop"}}


# -- the listener's process: the first message of a link says what it is for


async def handle(stream: MessageStream) -> None:
    try:
        purpose, *behind = await stream.receive()
        if purpose == b"echo":
            await stream.send(behind)
            while True:
                await stream.send(await stream.receive())
        if purpose.startswith(b"down"):
            for _ in range(int(purpose[4:])):
                await stream.send([LARGE])
        missing = int(purpose[2:]) - len(behind) if purpose.startswith(b"up") else 0
        while missing:
            missing -= len(await stream.receive())
        await stream.send([b"done"])
        while True:
            await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    finally:
        await stream.aclose()


async def listen(tls: str) -> None:
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
    options = TransportOptions(ssl=context)
    url = "wss://127.0.0.1:0" if tls else "ws://127.0.0.1:0"
    async with anyio.create_task_group() as group:
        print(await group.start(partial(WebSocketTransport().serve, url, options, handle)))
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.readline)
        group.cancel_scope.cancel()


# -- the connecting process


class Bench:
    def __init__(self, url: str, options: TransportOptions, listener: psutil.Process) -> None:
        self.url = url
        self.options = options
        self.listener = listener

    def listener_cpu(self) -> float:
        times = self.listener.cpu_times()
        return float(times.user + times.system)

    async def round_trip(self) -> None:
        async with WebSocketTransport().connect(self.url, self.options) as stream:
            await stream.send([b"echo"])
            for _ in range(500):
                await stream.send([SMALL])
                await stream.receive()
            laps = []
            own, other = time.process_time(), self.listener_cpu()
            for _ in range(ROUNDS):
                start = time.perf_counter()
                await stream.send([SMALL])
                await stream.receive()
                laps.append(time.perf_counter() - start)
            own, other = time.process_time() - own, self.listener_cpu() - other
        laps.sort()
        print(
            f"  round trip 100 B: p50 {laps[ROUNDS // 2] * 1e6:.0f} us, p99 {laps[ROUNDS * 99 // 100] * 1e6:.0f} us;"
            f" CPU {own / ROUNDS * 1e6:.0f} us connecting, {other / ROUNDS * 1e6:.0f} us listening"
        )

    async def small(self, batch: int) -> None:
        async with WebSocketTransport().connect(self.url, self.options) as stream:
            await stream.send([b"up%d" % SMALL_MESSAGES])
            start, own, other = time.perf_counter(), time.process_time(), self.listener_cpu()
            for _ in range(SMALL_MESSAGES // batch):
                await stream.send([SMALL] * batch)
            await stream.receive()
            seconds = time.perf_counter() - start
            own, other = time.process_time() - own, self.listener_cpu() - other
        print(
            f"  100 B in batches of {batch}: {SMALL_MESSAGES / seconds:,.0f}/s;"
            f" CPU {own / SMALL_MESSAGES * 1e6:.1f} us to send, {other / SMALL_MESSAGES * 1e6:.1f} us to receive"
        )

    async def large(self, direction: str) -> None:
        async with WebSocketTransport().connect(self.url, self.options) as stream:
            await stream.send([b"%s%d" % (direction.encode(), LARGE_MESSAGES)])
            start = time.perf_counter()
            if direction == "up":
                for _ in range(LARGE_MESSAGES):
                    await stream.send([LARGE])
                await stream.receive()
            else:
                missing = LARGE_MESSAGES
                while missing:
                    missing -= len(await stream.receive())
            seconds = time.perf_counter() - start
        print(f"  1 MiB {direction}: {LARGE_MESSAGES / seconds:,.0f} MiB/s")

    async def idle(self, count: int, seconds: float) -> None:
        before = self.listener.memory_info().rss
        async with anyio.create_task_group() as group:
            start = time.perf_counter()
            for _ in range(count):
                await group.start(self.drain)
            took = time.perf_counter() - start
            await anyio.sleep(self.options.keep_alive + 1)
            memory = self.listener.memory_info().rss - before
            own, other = time.process_time(), self.listener_cpu()
            await anyio.sleep(seconds)
            own, other = time.process_time() - own, self.listener_cpu() - other
            group.cancel_scope.cancel()
        print(
            f"  {count} idle: made in {took:.2f} s, {memory / count / 1024:.1f} KiB each;"
            f" CPU {other / seconds * 1e3:.0f} ms/s listening, {own / seconds * 1e3:.0f} ms/s connecting"
        )

    async def drain(self, *, task_status: TaskStatus[None]) -> None:
        async with WebSocketTransport().connect(self.url, self.options) as stream:
            await stream.send([b"idle"])
            task_status.started()
            while True:
                await stream.receive()


@contextmanager
def listener(name: str, tls: str) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, __file__, name, "--listen", "--certificate", tls]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
        process.stdin.close()
        process.wait(timeout=10)


def run(name: str, arguments: argparse.Namespace, tls: str, context: ssl.SSLContext | None) -> None:
    print(name)
    options = TransportOptions(ssl=context)
    with listener(name, tls) as (url, process):
        bench = Bench(url, options, process)
        for measure in (
            bench.round_trip,
            partial(bench.small, 1),
            partial(bench.small, 100),
            partial(bench.large, "up"),
            partial(bench.large, "down"),
        ):
            anyio.run(measure, **backend(name))
    if arguments.idle:
        with listener(name, tls) as (url, process):
            idle = Bench(url, options, process).idle
            anyio.run(idle, arguments.idle, arguments.seconds, **backend(name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("backends", nargs="*", default=["asyncio", "uvloop", "trio"])
    parser.add_argument("--tls", action="store_true", help="over wss")
    parser.add_argument("--idle", type=int, default=2000, help="idle connections")
    parser.add_argument(
        "--seconds", type=float, default=6, help="seconds of idling that are measured"
    )
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--certificate", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.listen:
        anyio.run(listen, arguments.certificate, **backend(arguments.backends[0]))
        return
    with tempfile.TemporaryDirectory() as folder:
        tls, context = "", None
        if arguments.tls:
            import trustme

            authority = trustme.CA()
            tls = str(Path(folder) / "listener.pem")
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tls)
            context = ssl.create_default_context()
            authority.configure_trust(context)
        for name in arguments.backends:
            run(name, arguments, tls, context)


if __name__ == "__main__":
    main()
