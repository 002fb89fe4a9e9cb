"""The workloads of compare.py, each in a process of its own that runs a lap for every line of its input.

python benchmarks/workloads.py "round trip"      prints where the library is, then the seconds that each lap took
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

import diff_bench
import hakuban
import startup_bench
from hakuban._diff import diff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    Lap = Callable[[], Awaitable[float]]
    Workload = Callable[[], AbstractAsyncContextManager[Lap]]

TRIPS = 400
OBJECTS = 1000
LARGE_CHANGES = 200
DIFFS = 600
FLOOD_OBJECTS, FLOOD_WAVES = 500, 8


@contextmanager
def router() -> Iterator[str]:
    port = startup_bench.free_port()
    url = f"ws://127.0.0.1:{port}"
    command = [sys.executable, "-m", "hakuban_router", "--log-level", "warning", "-b", url]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            startup_bench.wait_for(port, process)
            yield url
        finally:
            process.terminate()


@asynccontextmanager
async def linked() -> AsyncGenerator[tuple[hakuban.LocalNode, hakuban.LocalNode]]:
    """Two nodes below one router."""
    one, two = (hakuban.LocalNode(name, serializer=hakuban.RAW) for name in ("one", "two"))
    with router() as url:
        async with one.connect(url) as first, two.connect(url) as second:
            await first.wait_up()
            await second.wait_up()
            yield one, two


@asynccontextmanager
async def round_trips() -> AsyncGenerator[Lap]:
    """100 bytes to the other node, and back as another object."""
    numbers = count()
    async with linked() as (one, two):
        with (
            one.object("there").expose() as there,
            two.object("there").observe() as arriving,
            two.object("back").expose() as back,
            one.object("back").observe() as returning,
        ):

            async def answer() -> None:
                async for state in arriving:
                    back.set_object_data(state.data)

            async def lap() -> float:
                start = time.perf_counter()
                for number in (next(numbers) for _ in range(TRIPS)):
                    there.set_object_data(sent := b"%100d" % number)
                    while (await anext(states)).data != sent:
                        pass
                return time.perf_counter() - start

            states = aiter(returning)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer)
                yield lap
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def large_changes() -> AsyncGenerator[Lap]:
    """1 MiB, of which one field of 8 digits changes."""
    data, numbers = diff_bench.compact(diff_bench.table(diff_bench.MIB)), count()
    half = len(data) // 2
    async with linked() as (one, two):
        with one.object("large").expose() as contract, two.object("large").observe() as observed:

            async def lap() -> float:
                start = time.perf_counter()
                for number in (next(numbers) for _ in range(LARGE_CHANGES)):
                    sent = b"%s%08d%s" % (data[:half], number, data[half + 8 :])
                    contract.set_object_data(sent)
                    while (await anext(states)).data != sent:
                        pass
                return time.perf_counter() - start

            states = aiter(observed)
            yield lap


@asynccontextmanager
async def first_states() -> AsyncGenerator[Lap]:
    """1,000 objects that are exposed, observed all at once by another node."""
    async with linked() as (one, two):
        with ExitStack() as stack:
            exposed = []
            for number in range(OBJECTS):
                exposed.append(stack.enter_context(one.object(["many"], number).expose()))
                exposed[-1].set_object_data(b"%100d" % number)

            async def lap() -> float:
                start = time.perf_counter()
                with ExitStack() as wanted:
                    observed = [
                        wanted.enter_context(two.object(["many"], number).observe())
                        for number in range(OBJECTS)
                    ]
                    for contract in observed:
                        await contract.wait_state()
                    seconds = time.perf_counter() - start
                await echo(one, two)
                return seconds

            yield lap


async def echo(one: hakuban.LocalNode, two: hakuban.LocalNode) -> None:
    """Return when all that `two` has said has been heard by `one`: a lap leaves nothing to do for the next."""
    with one.object("echo").expose() as contract, two.object("echo").observe() as observed:
        contract.set_object_data(b"")
        await observed.wait_state()


@asynccontextmanager
async def floods() -> AsyncGenerator[Lap]:
    """Many objects that are set all at once, again as soon as the other node has seen all of them."""
    numbers = count()
    async with linked() as (one, two):
        with ExitStack() as stack:
            exposed, loops = [], []
            for number in range(FLOOD_OBJECTS):
                exposed.append(stack.enter_context(one.object(["flood"], number).expose()))
                observed = stack.enter_context(two.object(["flood"], number).observe())
                loops.append(aiter(observed))

            async def lap() -> float:
                start = time.perf_counter()
                for wave in (next(numbers) for _ in range(FLOOD_WAVES)):
                    for contract in exposed:
                        contract.set_object_data(sent := b"%100d" % wave)
                    for loop in loops:
                        while (await anext(loop)).data != sent:
                            pass
                return time.perf_counter() - start

            yield lap


@asynccontextmanager
async def alone(run: Callable[[], float]) -> AsyncGenerator[Lap]:
    """What needs no nodes here."""

    async def lap() -> float:
        return run()

    yield lap


def diffs() -> float:
    """The difference of 1 MB with 10 edits, as a link encodes it."""
    start = time.perf_counter()
    for _ in range(DIFFS):
        diff(*DIFFERENT)
    return time.perf_counter() - start


OLD = diff_bench.compact(diff_bench.table(diff_bench.MIB))
DIFFERENT = OLD, diff_bench.edited(OLD, 10, grow=False)


# What a lap does so many times.
WORKLOADS: dict[str, tuple[Workload, int]] = {
    "round trip of 100 B": (round_trips, TRIPS),
    "flood of 100 B, a state": (floods, FLOOD_OBJECTS * FLOOD_WAVES),
    "1 MiB, a field changed": (large_changes, LARGE_CHANGES),
    "1,000 first states": (first_states, 1),
    "diff of 1 MB, 10 edits": (partial(alone, diffs), DIFFS),
    "start of a router": (partial(alone, startup_bench.router), 1),
}


async def main(name: str) -> None:
    workload, times = WORKLOADS[name]
    async with workload() as lap:
        print(hakuban.__file__, flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            with anyio.fail_after(60):
                print(await lap() / times, flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
