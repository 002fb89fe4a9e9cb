"""One observer among twenty never reads: what the others notice, and what the router's memory does.

An exposer sets 20 kB that nothing can compress, 200 times a second. In each pair of runs all twenty observers read, and
then one of them blocks its event loop for good once it has subscribed; the router's timeout is so long that it stays.

Run: python benchmarks/stuck_observer.py [zmq+tcp] [PAIRS] [SECONDS]
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

import anyio
import psutil

import hakuban

if TYPE_CHECKING:
    from collections.abc import Iterator

OBSERVERS = 20
HERTZ = 200
SIZE = 20_000


def node(name: str) -> hakuban.LocalNode:
    return hakuban.LocalNode(name, serializer=hakuban.RAW)


def say(*words: object) -> None:
    print(*words, flush=True)


async def expose(url: str) -> None:
    exposer = node("exposer")
    async with exposer.connect(url):
        with exposer.object("camera").expose() as contract:
            await contract.wait_assigned()
            due = time.monotonic()
            while True:
                stamp = b"%20d" % time.monotonic_ns()
                contract.set_object_data(stamp + os.urandom(SIZE))
                due += 1 / HERTZ
                await anyio.sleep(max(0, due - time.monotonic()))


async def observe(url: str, count: str, seconds: str) -> None:
    """Say how old the states were when they were seen: their 99th percentile and the oldest, in ms."""
    ages: list[float] = []
    async with anyio.create_task_group() as watching:
        for number in range(int(count)):
            watching.start_soon(watch, url, f"observer {number}", ages)
        await anyio.sleep(1)
        ages.clear()
        say("measuring")
        await anyio.sleep(float(seconds))
        measured = sorted(ages)
        say(measured[len(measured) * 99 // 100], measured[-1], len(measured))
        watching.cancel_scope.cancel()


async def watch(url: str, name: str, ages: list[float]) -> None:
    observer = node(name)
    async with observer.connect(url):
        with observer.object("camera").observe() as contract:
            async for state in contract:
                age = time.monotonic_ns() - int(state.data[:20])
                ages.append(age / 1e6)


async def block(url: str) -> None:
    observer = node("stuck")
    async with observer.connect(url):
        with observer.object("camera").observe() as contract:
            await contract.wait_state()
            say("stuck")
            time.sleep(3600)  # noqa: ASYNC251  # this is what it is about


@contextmanager
def started(*arguments: str, program: str = __file__) -> Iterator[IO[str]]:
    """Run a program, this one by default, and give what it prints."""
    command = [sys.executable, program, *arguments]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout
        process.kill()


@contextmanager
def router(url: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "hakuban_router", "-b", url, "--timeout", "1h"]
    with subprocess.Popen([*command, "--log-level", "warning"]) as process:
        yield psutil.Process(process.pid)
        process.terminate()


def run(scheme: str, seconds: str, *, stuck: bool) -> tuple[float, float, float]:
    """Give the 99th percentile and the maximum of the delays in ms, and the growth of the router in MB."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
    with ExitStack() as stack:
        routing = stack.enter_context(router(url))
        stack.enter_context(started("expose", url))
        if stuck:
            stack.enter_context(started("block", url)).readline()
        observers = stack.enter_context(started("observe", url, str(OBSERVERS - stuck), seconds))
        observers.readline()
        before = routing.memory_info().rss
        p99, longest, _count = map(float, observers.readline().split())
        return p99, longest, (routing.memory_info().rss - before) / 1e6


def main(scheme: str = "zmq+tcp", pairs: str = "5", seconds: str = "4") -> None:
    ratios = []
    for _ in range(int(pairs)):
        without, longest_without, grown_without = run(scheme, seconds, stuck=False)
        beside, longest, grown = run(scheme, seconds, stuck=True)
        ratios.append(beside / without)
        say(
            f"p99 {without:.1f} ms alone, {beside:.1f} ms beside one that is stuck;"
            f" longest {longest_without:.0f} and {longest:.0f} ms;"
            f" router {grown_without:+.1f} and {grown:+.1f} MB"
        )
    say(f"{scheme}: median of the ratios {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["expose", url]:
            anyio.run(expose, url)
        case ["observe", url, count, seconds]:
            anyio.run(observe, url, count, seconds)
        case ["block", url]:
            anyio.run(block, url)
        case rest:
            main(*rest)
