"""How old values are when they are seen through a router that is short of CPU.

Three exposers of ten objects each set all of them 200 times a second; two observers read all of them. A state is 100
bytes, with the time at which it was set. The router runs free first, and is then held to a part of one core. Printed are
the median and the 99th percentile of the ages seen, how many were seen, the share of a core that the router had, what
one of the values cost it, and how much its sockets held unread.

Root has a cgroup hold the router (v2 `cpu.max`, or the quota of v1). Elsewhere it shares one core with loops that do
nothing, of its own niceness: 19 of them leave it 5 %.

Run: python benchmarks/starved_router.py [zmq+tcp] [--shares 100 20 5] [--seconds 10]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio
import anyio.to_thread

from stuck_observer import node, router, say, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

    import hakuban

EXPOSERS, OBJECTS, HERTZ = 3, 10, 200
OBSERVERS = 2
SIZE = 100
SETTLING = 4.0  # seconds after which a router that is held shows what it will
PERIOD_US = 100_000  # of the quota: what Linux and container engines take


# ---- the nodes


async def expose(url: str, name: str) -> None:
    exposer = node(f"exposer {name}")
    async with exposer.connect(url):
        with ExitStack() as stack:
            objects = [
                stack.enter_context(exposer.object([name], number).expose())
                for number in range(OBJECTS)
            ]
            say("ready")
            due = time.monotonic()
            while True:
                for contract in objects:
                    contract.set_object_data(b"%20d" % time.monotonic_ns() + os.urandom(SIZE - 20))
                due += 1 / HERTZ
                await anyio.sleep(max(0, due - time.monotonic()))


async def observe(url: str) -> None:
    """For each line of the input, report what was seen since the last one."""
    ages: list[float] = []
    async with anyio.create_task_group() as watching:
        for number in range(OBSERVERS):
            watching.start_soon(watch, url, f"observer {number}", ages)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            seen = sorted(ages)
            ages.clear()
            if seen:
                say(statistics.median(seen), seen[len(seen) * 99 // 100], len(seen))
            else:
                say(0, 0, 0)


async def watch(url: str, name: str, ages: list[float]) -> None:
    observer = node(name)
    async with observer.connect(url), anyio.create_task_group() as tasks:
        with ExitStack() as stack:
            for exposer in range(EXPOSERS):
                for number in range(OBJECTS):
                    contract = stack.enter_context(
                        observer.object([str(exposer)], number).observe()
                    )
                    tasks.start_soon(read, contract, ages)
            await anyio.sleep_forever()


async def read(contract: hakuban.ObjectObserve[object], ages: list[float]) -> None:
    async for state in contract:
        age = time.monotonic_ns() - int(state.data[:20])
        ages.append(age / 1e9)


# ---- holding the router


def control_group() -> tuple[Path, str, str] | None:
    """Make a cgroup: where it is, the file of its quota, and what its first line is like; None where there is none."""
    name = f"starved-router-{os.getpid()}"
    for root, file, text in (
        (Path("/sys/fs/cgroup"), "cpu.max", f"{{}} {PERIOD_US}"),
        (Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", "{}"),
    ):
        folder = root / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / file).exists():
            return folder, file, text
        folder.rmdir()
    return None


@contextmanager
def held(process: psutil.Process, share: int) -> Iterator[str]:
    """Hold a process to so many percent of a core, and say how."""
    if share >= 100:
        yield "free"
    elif (group := control_group()) is not None:
        folder, file, text = group
        home = folder.parent / "cgroup.procs"
        try:
            (folder / file).write_text(text.format(PERIOD_US * share // 100))
            (folder / "cgroup.procs").write_text(str(process.pid))
            yield f"{share} % by {file}"
        finally:
            with suppress(OSError):
                home.write_text(str(process.pid))
            folder.rmdir()
    else:
        with crowded(process, 100 // share - 1) as how:
            yield how


@contextmanager
def crowded(process: psutil.Process, others: int) -> Iterator[str]:
    free = process.cpu_affinity()
    with ExitStack() as stack:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {0})
        for _ in range(others):
            stack.enter_context(started("burn"))
        yield f"{100 // (others + 1)} % by {others} loops on its core"
    for thread in process.threads():
        os.sched_setaffinity(thread.id, free)


def burn() -> None:
    os.sched_setaffinity(0, {0})
    while True:
        pass


# ---- measuring


@contextmanager
def asked(*arguments: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run this program, and give its input and what it prints."""
    with subprocess.Popen(
        [sys.executable, __file__, *arguments],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdin, process.stdout
        process.kill()


def unread(port: int) -> int:
    """Give the bytes that wait in the kernel for the router."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(
        int(queues.partition(":")[2], 16)
        for _, local, _, state, queues, *_ in fields
        if state == "01" and local.endswith(f":{port:04X}")
    )


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def ask(observers: tuple[IO[str], IO[str]]) -> list[float]:
    questions, answers = observers
    questions.write("\n")
    questions.flush()
    return [float(word) for word in answers.readline().split()]


def measure(
    routing: psutil.Process, observers: tuple[IO[str], IO[str]], port: int, seconds: float
) -> str:
    time.sleep(SETTLING)
    ask(observers)
    start, before = time.monotonic(), used(routing)
    kernel = []
    while time.monotonic() < start + seconds:
        time.sleep(0.2)
        kernel.append(unread(port))
    median, p99, seen = ask(observers)
    cost, wall = used(routing) - before, time.monotonic() - start
    return (
        f"age {median:.3f} s, p99 {p99:.3f} s; {seen / wall:,.0f} values seen a second; the router had"
        f" {cost / wall:.1%} of a core, {cost / max(seen, 1) * 1e6:.0f} us a value; unread in its sockets"
        f" {statistics.median(kernel) / 1024:.0f} KiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scheme", nargs="?", default="ws")
    parser.add_argument("--shares", nargs="*", type=int, default=[100, 20, 5], help="percent")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"{options.scheme}://127.0.0.1:{port}"
    with ExitStack() as stack:
        routing = stack.enter_context(router(url))
        for number in range(EXPOSERS):
            stack.enter_context(started("expose", url, str(number), program=__file__)).readline()
        observers = stack.enter_context(asked("observe", url))
        for share in options.shares:
            with held(routing, share) as how:
                say(
                    f"{options.scheme}, {how}: {measure(routing, observers, port, options.seconds)}"
                )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["expose", url, name]:
            anyio.run(expose, url, name)
        case ["observe", url]:
            anyio.run(observe, url)
        case ["burn"]:
            burn()
        case _:
            main()
