"""How long a node's lock is held, and how long a call takes, while something large happens to the node.

Each case runs real nodes in one process, linked by the memory transport. Printed are the longest hold of any node's lock
and the longest `set`, opening or closing of one object's contract meanwhile, as CPU time of the thread, with the collector
off: the best of three runs, since a machine has other things to do. Beside them the longest call that is as large as the
node, and one full collection, which is a pause of its own.

Run: python benchmarks/longest_hold.py [--scale 1.0] [--runs 3] [--only CASE]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

import hakuban
import hakuban._engine.engine
from hakuban._engine.lock import NodeLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

T = TypeVar("T")

MOST_HOLD = 10.0  # ms
MOST_CALL = 20.0  # ms


@dataclass
class Probe:
    """What was longest, in seconds of CPU: holds of locks, calls about one object, calls as large as the node."""

    hold: float = 0.0
    what: str = ""
    call: float = 0.0
    large: float = 0.0
    notes: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Forget all."""
        self.hold = self.call = self.large = 0.0
        self.what, self.notes = "", []

    def one(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what is about one object."""
        began = time.thread_time()
        try:
            return function(*arguments)
        finally:
            self.call = max(self.call, time.thread_time() - began)

    def whole(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what is as large as the node."""
        began = time.thread_time()
        try:
            return function(*arguments)
        finally:
            self.large = max(self.large, time.thread_time() - began)


probe: Probe = Probe()


def watch_locks() -> None:
    """Have each hold of the lock of a node measured."""
    run, try_run, locks = NodeLock.run, NodeLock.try_run, set[int]()
    made = hakuban._engine.engine.Engine.__init__

    def make(engine: Any, *arguments: Any) -> None:
        made(engine, *arguments)
        locks.add(id(engine._gate))

    def timed(function: Callable[..., T]) -> Callable[..., T]:
        def held(*arguments: Any) -> T:
            began = time.thread_time()
            try:
                return function(*arguments)
            finally:
                spent = time.thread_time() - began
                if spent > probe.hold:
                    probe.hold = spent
                    probe.what = name(arguments[0] if arguments else function)

        return held

    def watched_run(lock: NodeLock, function: Callable[..., T], *arguments: Any) -> T:
        return run(lock, timed(function) if id(lock) in locks else function, *arguments)

    def watched_try(lock: NodeLock, function: Callable[..., T]) -> bool:
        return try_run(lock, timed(function) if id(lock) in locks else function)

    hakuban._engine.engine.Engine.__init__ = make  # type: ignore[assignment,method-assign]
    NodeLock.run, NodeLock.try_run = watched_run, watched_try  # type: ignore[assignment,method-assign]


def name(function: object) -> str:
    """Say what a function is called, or what it was called with: not at any length."""
    return str(getattr(function, "__qualname__", function)).replace(".<locals>", "")[:60]


# ---- nodes -----------------------------------------------------------------------------------------------------------

_numbers = count()


@asynccontextmanager
async def tree(leaves: int) -> AsyncIterator[tuple[hakuban.LocalNode, list[hakuban.LocalNode]]]:
    """A router and nodes below it."""
    router = hakuban.LocalNode("router", rebalance=None)
    url = f"memory://{next(_numbers)}"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(router.listen(url, keep_alive=60, timeout=600))
        nodes = [hakuban.LocalNode(f"leaf{number}") for number in range(leaves)]
        for node in nodes:
            await stack.enter_async_context(node.connect(url, keep_alive=60, timeout=600))
        yield router, nodes
        router.close()
        for node in nodes:
            node.close()


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    with anyio.fail_after(seconds):
        while True:
            if condition():
                return
            await anyio.sleep(0.005)


async def quiet(*nodes: hakuban.LocalNode) -> None:
    """Wait until nothing is due on nodes, and nothing is on its way."""
    calm, before = 0, None
    while calm < 20:
        now = [(node._engine.count(), node._engine._machine.world.issued) for node in nodes]
        busy = any(node._engine._machine.next_deadline() == 0.0 for node in nodes)
        calm = 0 if busy or now != before else calm + 1
        before = now
        await anyio.sleep(0.01)


def one_by_one(node: hakuban.LocalNode, rounds: int = 20) -> None:
    """What must never take long: open, set and close one object's contract."""
    for number in range(rounds):
        contract = probe.one(node.object(["single"], number).expose)
        probe.one(contract.set_object_data, number)
        seen = probe.one(node.object(["single"], number).observe)
        probe.one(contract.set_object_data, number + 1)
        probe.one(seen.close)
        probe.one(contract.close)


# ---- cases -----------------------------------------------------------------------------------------------------------


async def objects_of_many_tags(size: Callable[[int], int]) -> None:
    """700 objects of 1,000 tags each, which 5 peers observe by all of them."""
    tags = [f"tag{number}" for number in range(size(1_000))]
    async with tree(6) as (router, (source, *observers)):
        seen = [node.tag(tag).observe() for node in observers for tag in tags]
        await quiet(router, *observers)
        gc.collect()
        contracts = [probe.one(source.object(tags, number).expose) for number in range(size(700))]
        one_by_one(router)
        await quiet(router, source, *observers)
        for contract in contracts:
            probe.one(contract.close)
        await quiet(router, source, *observers)
        assert len(seen) == len(observers) * len(tags)


async def one_object_of_many_peers_tags(size: Callable[[int], int]) -> None:
    """One object of 1,000 tags, each of which 100 peers observe."""
    tags = [f"tag{number}" for number in range(size(1_000))]
    async with tree(100) as (router, nodes):
        seen = [node.tag(tag).observe() for node in nodes for tag in tags]
        await quiet(router, *nodes)
        contract = probe.one(router.object(tags, "it").expose)
        probe.one(contract.set_object_data, 1)
        await quiet(router, *nodes)
        probe.one(contract.close)
        await quiet(router, *nodes)
        assert len(seen) == len(nodes) * len(tags)


async def tags_withdrawn_with_waiting_states(size: Callable[[int], int]) -> None:
    """1,000 tag contracts are closed while 50,000 states wait for the link."""
    tags = [f"tag{number}" for number in range(size(1_000))]
    async with tree(2) as (router, (source, observer)):
        contracts = [source.tag(tag).expose(capacity=10) for tag in tags]
        objects = [
            observer.object([tags[number % len(tags)], tags[0]], number).observe()
            for number in range(size(50_000))
        ]
        await until(lambda: len(contracts[0].object_descriptors()) == len(objects))
        await quiet(router, source, observer)
        for number, one in enumerate(objects):
            probe.one(contracts[0].set_object_data, one.descriptor, number)
        for contract in contracts:
            probe.whole(contract.close)
        await quiet(router, source, observer)


async def a_restless_capacity(size: Callable[[int], int]) -> None:
    """A node changes its capacity at 500 Hz over 5,000 objects; another one leaves meanwhile."""
    async with tree(2) as (router, (restless, observer)):
        contract = restless.tag("t").expose(capacity=10)
        seen = [observer.object(["t"], number).observe() for number in range(size(5_000))]
        await until(lambda: len(contract.object_descriptors()) == len(seen))
        stop = False

        async def change() -> None:
            for number in count():
                if stop:
                    return
                contract.capacity = 1 + number % 100
                await anyio.sleep(0.002)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change)
            await anyio.sleep(0.3)
            other = hakuban.LocalNode("other")
            one_by_one(router)
            url = f"memory://{next(_numbers)}"
            async with router.listen(url), other.connect(url):
                await anyio.sleep(0.3)
                began = time.monotonic()
            probe.notes.append(f"both blocks left after {time.monotonic() - began:.2f} s")
            stop = True


async def a_node_is_closed(size: Callable[[int], int]) -> None:
    """A node with 100,000 contracts is closed; before that, a picture of it is taken."""
    node = hakuban.LocalNode("large")
    kept = [probe.one(node.object(["t"], number).observe) for number in range(size(100_000))]
    probe.whole(node.snapshot)
    probe.whole(node.close)
    assert all(contract.closed for contract in kept)


async def a_tag_of_many_objects(size: Callable[[int], int]) -> None:
    """A tag that 100,000 objects carry is observed and exposed, here and by a peer."""
    async with tree(1) as (router, (peer,)):
        kept = [router.object(["t"], number).expose() for number in range(size(100_000))]
        gc.collect()
        seen = probe.whole(router.tag("t").observe)
        await until(lambda: len(seen.object_descriptors()) == len(kept))
        probe.whole(seen.object_descriptors)
        cursor = iter(seen)
        for _ in range(10):
            await anyio.to_thread.run_sync(probe.one, next, cursor)
        one_by_one(router)
        probe.whole(seen.close)
        await quiet(router)
        seen = probe.whole(peer.tag("t").observe)
        await until(lambda: len(seen.object_descriptors()) == len(kept))
        for contract in kept[:100]:
            probe.one(contract.set_object_data, 1)
        one_by_one(router)
        probe.whole(seen.close)
        await quiet(router, peer)


async def a_large_peer_comes_and_goes(size: Callable[[int], int]) -> None:
    """A node with 100,000 contracts connects, and its link is lost."""
    router, peer = hakuban.LocalNode("router"), hakuban.LocalNode("peer")
    kept = [peer.object(["t"], number).observe() for number in range(size(100_000) - 1)]
    url = f"memory://{next(_numbers)}"
    async with router.listen(url, keep_alive=60, timeout=600):
        async with peer.connect(url, keep_alive=60, timeout=600):
            await until(lambda: router._engine.count()[1] == len(kept))
            one_by_one(router)
            one_by_one(peer)
        one_by_one(router, 200)
        await until(lambda: router._engine.count()[1] == 0)
    router.close()
    peer.close()


async def an_object_of_many_peers(size: Callable[[int], int]) -> None:
    """2,000 peers observe one object, which is set, loses its exposer and gets another one."""
    async with tree(size(2_000)) as (router, nodes):
        seen = [node.object("o").observe() for node in nodes]
        contract = probe.one(router.object("o").expose)
        probe.one(contract.set_object_data, 0)
        await until(lambda: all(one.object_data() == 0 for one in seen))
        for number in range(1, 20):
            probe.one(contract.set_object_data, number)
            await anyio.sleep(0.02)
        probe.one(contract.close)
        await until(lambda: not any(one.synchronized for one in seen))
        contract = probe.one(router.object("o").expose)
        probe.one(contract.set_object_data, "again")
        await until(lambda: all(one.object_data() == "again" for one in seen))
        for one in seen:
            probe.one(one.close)
        await quiet(router)


async def a_thread_beside_a_busy_one(size: Callable[[int], int]) -> None:
    """A thread sets one object; another one observes a tag of 20,000 objects, again and again. No links."""
    node = hakuban.LocalNode("threads")
    kept = [node.object(["t"], number).expose() for number in range(size(20_000))]
    done = threading.Event()

    def churn() -> None:
        for _ in range(5):
            seen = probe.whole(node.tag("t").observe)
            probe.whole(seen.close)
        done.set()

    thread = threading.Thread(target=churn)
    thread.start()
    while not done.is_set():
        one_by_one(node, 1)
    thread.join()
    assert kept
    node.close()


Case: TypeAlias = "Callable[[Callable[[int], int]], Coroutine[Any, Any, None]]"

CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        objects_of_many_tags,
        one_object_of_many_peers_tags,
        tags_withdrawn_with_waiting_states,
        a_restless_capacity,
        a_node_is_closed,
        a_tag_of_many_objects,
        a_large_peer_comes_and_goes,
        an_object_of_many_peers,
        a_thread_beside_a_busy_one,
    )
}


def measured(case: Case, scale: float) -> Probe:
    """Run a case once."""
    probe.begin()
    gc.collect()
    gc.disable()
    try:
        asyncio.run(case(lambda most: max(1, int(most * scale))))
        began = time.perf_counter()
        gc.collect()
        probe.notes.append(f"collection {1000 * (time.perf_counter() - began):.0f} ms")
    finally:
        gc.enable()
    return replace(probe)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    watch_locks()
    print(f"{'case':40} {'hold ms':>8} {'call ms':>8} {'large ms':>9}  longest hold; notes")
    late = 0
    for title, case in CASES.items():
        if arguments.only not in title:
            continue
        began = time.monotonic()
        runs = [measured(case, arguments.scale) for _ in range(arguments.runs)]
        hold, call, large = (
            1000 * min(getattr(run, kind) for run in runs) for kind in ("hold", "call", "large")
        )
        best = min(runs, key=lambda run: run.hold)
        late += hold > MOST_HOLD or call > MOST_CALL
        notes = ", ".join([best.what, *best.notes, f"{time.monotonic() - began:.0f} s"])
        print(f"{title:40} {hold:8.1f} {call:8.1f} {large:9.1f}  {notes}", flush=True)
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
