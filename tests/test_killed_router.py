"""A router that is killed and started again while states change, and peers that freeze: what observers see meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from hakuban import ObjectDescriptor
from support.ours import OurNode
from support.ports import free_port
from support.processes import Program, RouterProcess
from support.watching import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from support.parties import State

SCHEMES = ["ws", "zmq+tcp"]
OBSERVERS = 3
FRESH_SECONDS = 1.0
NOTICED_SECONDS = 7.0
FROZEN_SECONDS = 10.0
THING = ObjectDescriptor(["t"], "counter")


class Counter:
    """States that carry a counter, the time, and a hash of all that, from 100 bytes to 200 kB; published without end."""

    def __init__(self, exposer: OurNode) -> None:
        self._exposer = exposer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        chance = random.Random(1)
        count = 0
        while not self._stop.wait(0.01):
            count += 1
            size = chance.choice([100, 1_000, 200_000])
            text = f"{count} {time.monotonic_ns()} ".encode().ljust(size, b"%d" % (count % 10))
            self._exposer.publish(THING, hashlib.sha256(text).hexdigest().encode() + text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()


def read(state: State) -> tuple[int, float]:
    """Give the counter and the time of a state; it must not be torn."""
    assert hashlib.sha256(state.data[64:]).hexdigest().encode() == state.data[:64], "a torn state"
    count, nanoseconds, _ = state.data[64:].split(b" ", 2)
    return int(count), int(nanoseconds) / 1e9


def resources() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.promise("self-healing", "latest", "monotonic", "whole")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.nightly)])
def test_observers_are_fresh_within_a_second_of_a_router_that_was_killed_and_listens_again(
    scheme: str, backend: str, kills: int, record_property: Any
) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    delays: list[float] = []
    before = resources()
    with ExitStack() as stack:
        router = stack.enter_context(RouterProcess(bind=url))
        parties = [
            stack.enter_context(OurNode(name, backend=(backend, {})))
            for name in ("exposer", *(f"observer {number}" for number in range(OBSERVERS)))
        ]
        exposer, *observers = parties
        for party in parties:
            party.connect(url)
        exposer.expose(THING)
        for observer in observers:
            observer.observe(THING)
        stack.enter_context(Counter(exposer))

        def fresh(since: float) -> bool:
            return all(
                observer.latest.get(THING) is not None
                and observer.latest[THING].synchronized
                and read(observer.latest[THING])[1] > since
                for observer in observers
            )

        start = time.monotonic()
        until(partial(fresh, start), "all see what is published")
        for _ in range(kills):
            router.kill()
            router = stack.enter_context(RouterProcess(bind=url))
            listening = time.monotonic()
            until(partial(fresh, listening), "all are fresh again", FRESH_SECONDS)
            delays.append(time.monotonic() - listening)
    for observer in observers:
        states = [event.state for event in observer.events if event.state is not None]
        versions = [state.version for state in states]
        assert versions == sorted(versions), f"{observer.name} saw a version go back"
        counts = [read(state)[0] for state in states]
        assert counts == sorted(counts)
        assert observer.count("disconnected") >= kills
    until(lambda: resources() <= before, f"descriptors and threads are back at {before}")
    record_property("figure", f"fresh after {max(delays):.2f} s at most, of {kills}")


class Frozen:
    """A process that is stopped for a while."""

    def __init__(self, program: Program) -> None:
        self._pid = program.pid
        self._until = time.monotonic() + FROZEN_SECONDS

    def __enter__(self) -> Self:
        os.kill(self._pid, signal.SIGSTOP)
        return self

    def rest(self) -> None:
        """Return when it has been frozen for long enough."""
        time.sleep(max(0.0, self._until - time.monotonic()))

    def __exit__(self, *exc_info: object) -> None:
        os.kill(self._pid, signal.SIGCONT)


@pytest.fixture
def watched(scheme: str) -> Iterator[tuple[RouterProcess, OurNode]]:
    """Give a router, and an observer of an object that a process of its own exposes."""
    with RouterProcess(bind=f"{scheme}://127.0.0.1:0") as router, OurNode("observer") as observer:
        observer.connect(router.url)
        observer.observe(THING)
        yield router, observer


def exposing_program(url: str) -> Program:
    command = [sys.executable, "-m", "hakuban_router.client", "expose", url]
    return Program([*command, "t", json.dumps(THING.json)])


@pytest.mark.thorough
@pytest.mark.promise("self-healing", "stale-visible")
def test_a_frozen_peer_is_noticed_and_comes_back(watched: tuple[RouterProcess, OurNode]) -> None:
    router, observer = watched
    with exposing_program(router.url) as exposer:
        exposer.write('"before"\n')
        observer.wait_state(THING, b'"before"')
        with Frozen(exposer) as frozen:
            observer.wait_state(THING, b'"before"', synchronized=False, timeout=NOTICED_SECONDS)
            frozen.rest()
        exposer.write('"after"\n')
        observer.wait_state(THING, b'"after"')
