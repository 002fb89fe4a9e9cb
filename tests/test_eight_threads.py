"""Eight threads and two event loops on one node, each doing whatever comes to its mind: nothing breaks, hangs or stays."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from contextlib import ExitStack, suppress
from operator import methodcaller
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban import ClosedError, LocalNode, NotAssignedError, ObjectDescriptor, WaitTimeoutError
from hakuban._core import invariants
from hakuban.events import EventBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

OBJECTS = [ObjectDescriptor(["stress"], number) for number in range(200)]
LONGEST = 60.0  # seconds that a step may take


class Actor:
    """Does random things with a node.

    :ivar steps: how many it has done.
    """

    def __init__(self, node: LocalNode, seed: int) -> None:
        self.steps = 0
        self._node = node
        self._random = random.Random(seed)
        self._held: list[Any] = []

    def step(self) -> None:
        """Do one thing that waits for nobody."""
        self.steps += 1
        node, descriptor = self._node, self._random.choice(OBJECTS)
        kind = self._random.randrange(10)
        if kind < 4:
            contracts: list[Callable[[], object]] = [
                lambda: node.object(descriptor).observe(),
                lambda: node.object(descriptor).expose(),
                lambda: node.tag("stress").observe(),
                lambda: node.tag("stress").expose(capacity=5),
            ]
            self._held.append(self._random.choice(contracts)())
        elif kind < 7 and self._held:
            self._use(self._random.choice(self._held), descriptor)
        elif len(self._held) > 20 or kind == 7:
            self.let_go(1 if len(self._held) <= 20 else 5)

    def _use(self, contract: Any, descriptor: ObjectDescriptor) -> None:
        keep = self._held.append
        uses: list[Callable[[Any], object]] = [
            methodcaller("ready"),
            methodcaller("object_state"),
            methodcaller("set_object_data", self.steps),
            methodcaller("set_object_data", descriptor, self.steps),
            lambda it: keep(it.view(retain=self._random.random())),
            lambda it: keep(it.changes().register(lambda _event: None)),
            lambda it: keep(it.changes().buffer()),
            lambda it: it.changes().keys(),
            lambda it: [*it.items()],
            lambda it: setattr(it, "capacity", self._random.randrange(3)),
        ]
        with suppress(AttributeError, TypeError, ClosedError, NotAssignedError):
            self._random.choice(uses)(contract)

    def let_go(self, most: int) -> None:
        """Close some of what it holds."""
        for _ in range(min(most, len(self._held))):
            one = self._held.pop(self._random.randrange(len(self._held)))
            getattr(one, "close", None) and one.close()
            getattr(one, "unregister", None) and one.unregister()

    def end(self) -> None:
        """Close all that it holds."""
        self.let_go(len(self._held))


def in_thread(actor: Actor, until: float) -> None:
    while monotonic() < until:
        actor.step()
    actor.end()


def in_loop(actor: Actor, until: float, backend: str) -> None:
    async def run() -> None:
        while monotonic() < until:
            actor.step()
            with anyio.move_on_after(0.001), suppress(ClosedError, AttributeError):
                held: Any = actor._random.choice(actor._held) if actor._held else None
                if isinstance(held, EventBuffer):
                    await held.get()
                elif hasattr(held, "wait_state"):
                    await held.wait_state()
        actor.end()

    anyio.run(run, backend=backend)


@pytest.mark.parametrize(
    "seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])]
)
def test_eight_threads_and_two_loops_leave_nothing(seconds: float) -> None:
    node = LocalNode()
    until = monotonic() + seconds
    actors = [Actor(node, seed) for seed in range(10)]
    failures: list[BaseException] = []

    def guarded(run: Callable[..., None], *arguments: Any) -> None:
        try:
            run(*arguments)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [
        threading.Thread(target=guarded, args=(in_thread, actor, until)) for actor in actors[:8]
    ]
    threads += [
        threading.Thread(target=guarded, args=(in_loop, actor, until, backend))
        for actor, backend in zip(actors[8:], ["asyncio", "trio"], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + LONGEST)
    assert not any(thread.is_alive() for thread in threads), "one hangs"
    assert not failures
    assert min(actor.steps for actor in actors) > 10
    snapshot = node.snapshot()
    assert snapshot.objects == []
    invariants.check(node._engine._machine)
    registry = node._engine._registry
    assert (registry.contracts, registry.links, len(registry._streams), registry._sinks) == (
        {}, {}, 0, {},
    )  # fmt: skip
    assert not node._engine._parking.places
    assert node._engine.cause is None


def test_a_thread_that_waits_for_an_event_is_woken_by_any_other() -> None:
    node = LocalNode()
    with ExitStack() as contracts:
        observe = contracts.enter_context(node.tag("stress").observe())
        buffer = observe.changes().buffer()
        seen: list[object] = []

        def wait() -> None:
            with suppress(WaitTimeoutError):
                seen.extend(buffer.get_sync(timeout=30) for _ in range(20))

        thread = threading.Thread(target=wait)
        thread.start()
        for descriptor in OBJECTS[:20]:
            contracts.enter_context(node.object(descriptor).observe())
        thread.join()
        assert len(seen) == 20


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_a_million_contracts_leave_no_memory_behind() -> None:
    import psutil

    node, process = LocalNode(), psutil.Process()
    sizes = []
    for _ in range(10):
        for number in range(100_000):
            with node.object(OBJECTS[number % 200]).observe() as observe:
                observe.changes().buffer().close()
        gc.collect()
        sizes.append(process.memory_info().rss)
    assert sizes[-1] < sizes[1] * 1.05, sizes
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        del node
