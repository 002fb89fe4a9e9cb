"""Exposers that are reset, or just end, in the middle of what they say: how soon observers know, on each loop and transport."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from hakuban import ObjectDescriptor
from support.lost_peers import BACKENDS, LARGE, Listening, NotReceiving, offer, wait_sink
from support.ours import OurNode
from support.processes import RouterProcess
from support.raw_node import state
from support.raw_wires import WIRES, WebSocketWire
from support.witness import Witness

if TYPE_CHECKING:
    from typing import Any

AT_ONCE = 0.1
THING = ObjectDescriptor([], "thing")
ROUNDS = [20, pytest.param(500, marks=pytest.mark.thorough)]


@pytest.fixture
def seed() -> int:
    """Give another one each time; pytest shows it when a test fails."""
    return random.SystemRandom().randrange(1 << 32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("transport", WIRES)
@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.promise("stale-visible")
def test_observers_know_at_once_that_an_exposer_is_gone(
    rounds: int, transport: str, backend: str, seed: int, record_property: Any
) -> None:
    with Listening(transport, backend) as listening:
        noticed = listening.rounds(rounds, seed)
        missed = [
            item
            for item in noticed
            if item.after > AT_ONCE and item.after - listening.late(item) > AT_ONCE
        ]
    assert not missed, f"{len(missed)} of {rounds} too late, such as {missed[0]}"
    worst = max(item.after for item in noticed)
    record_property("figure", f"all of {rounds} noticed, in {1000 * worst:.0f} ms at most")


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.promise("stale-visible", "self-healing")
def test_two_routers_on_the_way_know_at_once_too_and_ask_the_next_exposer(
    rounds: int, seed: int, record_property: Any
) -> None:
    chance = random.Random(seed)
    delays, late = [], []
    with ExitStack() as stack:
        far = stack.enter_context(RouterProcess())
        near = stack.enter_context(RouterProcess("--connect", far.url))
        witness = stack.enter_context(Witness(near.url))
        observer = stack.enter_context(OurNode("observer"))
        observer.connect(far.url)
        observer.observe(THING)
        exposer = stack.enter_context(WebSocketWire(near.url))
        offer(exposer, "thing")
        for number in range(rounds):
            channel = wait_sink(exposer, "thing")
            data = b"%d" % number
            exposer.send(state(channel, (number, 0), data))
            observer.wait_state(THING, data)
            successor = stack.enter_context(WebSocketWire(near.url))
            offer(successor, "thing")
            large = exposer.encoded(state(channel, (number, 1), LARGE))
            exposer.socket.sendall(large[: chance.randrange(len(large))])
            exposer.reset()
            gone = time.monotonic()
            observer.wait_state(THING, data, synchronized=False)
            delays.append(observer.events[-1].at - gone)
            if delays[-1] > AT_ONCE:  # was that the machine, which has other things to do?
                gap = witness.ask().seconds
                if delays[-1] > AT_ONCE + gap:
                    late.append((delays[-1], gap))
            exposer = successor
    assert not late
    record_property("figure", f"all of {rounds} noticed, in {1000 * max(delays):.0f} ms at most")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("transport", WIRES)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end"])
def test_who_does_not_receive_for_a_while_learns_of_the_end_at_once_when_it_does(
    transport: str, backend: str, *, reset: bool
) -> None:
    with NotReceiving(transport, backend) as listening:
        for size in (0, 10, 70_000, 150_000):
            assert listening.until_the_end(size, reset=reset) < AT_ONCE
