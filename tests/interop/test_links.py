"""What shows only on a link that lives for a while: patches by the thousand, slow traffic, refusals, held states."""

from __future__ import annotations

import random
import re
import time
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from hakuban import ObjectDescriptor
from support.edits import edited
from support.ours import OurNode
from support.processes import RouterProcess
from support.rust import RustPeer
from support.watching import holds, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.parties import Party, State

pytestmark = [pytest.mark.usefixtures("needs_rust"), pytest.mark.promise("interop")]

THING = ObjectDescriptor(["tag"], {"id": 1})
OTHER = ObjectDescriptor(["tag"], {"id": 2})
MIB = 1024 * 1024


@pytest.fixture
def router() -> Iterator[RouterProcess]:
    with RouterProcess() as router:
        yield router


@pytest.mark.cell("links", "1,000 random edits of ours, as patches to its node", "outcome")
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 12))]
)
def test_every_patch_of_a_thousand_random_edits_is_applied_as_meant(seed: int) -> None:
    """The crate's node aborts on a patch that refers outside its input, and shows any other mistake as other data."""
    random_ = random.Random(seed)
    data = random_.randbytes(5_000)
    with OurNode() as exposer, RustPeer() as observer:
        observer.connect(exposer.listen())
        exposer.publish(THING, data)
        exposer.expose(THING)
        observer.observe(THING)
        observer.wait_state(THING, data)
        for number in range(1_000):
            data = edited(data, random_)
            exposer.publish(THING, data, version(number))
            state = wait_version(observer, version(number))
            assert sha256(state.data).digest() == sha256(data).digest(), f"state {number}"
        assert observer.returncode is None


def version(number: int) -> tuple[int, ...]:
    """Give a version above any default one."""
    return (1 << 62, number)


def wait_version(observer: Party, wanted: tuple[int, ...]) -> State:
    until(lambda: observer.latest[THING].version == wanted, f"version {wanted} is seen")
    return observer.latest[THING]


@pytest.mark.thorough
@pytest.mark.cell("links", "its observer at 10 Hz for 20 s, through our router", "outcome")
@pytest.mark.timeout(90)
def test_an_observer_that_only_listens_is_not_taken_for_dead(router: RouterProcess) -> None:
    """It sends nothing of its own accord for a minute; what it is asked with pings it answers."""
    with OurNode() as exposer, RustPeer() as observer:
        exposer.connect(router.url)
        observer.connect(router.url)
        exposer.publish(THING, b"-1")
        exposer.expose(THING)
        observer.observe(THING)
        observer.wait_state(THING, b"-1")
        start = time.monotonic()
        for number in range(220):  # the timeout for such peers is 20 s
            holds(lambda: not observer.count("disconnected"), "the observer is connected", 0.1)
            exposer.publish(THING, str(number).encode())
        observer.wait_state(THING, b"219")
        times = [event.at for event in observer.events if event.kind == "state"]
        assert time.monotonic() - start > 20
        assert max(later - earlier for earlier, later in pairwise(times)) < 1


@pytest.mark.cell(
    "links", "its leaf that observes and exposes beside a held state of our router", "outcome"
)
def test_a_leaf_that_does_both_is_assigned_beside_a_held_state(router: RouterProcess) -> None:
    """An open stream of the stale state would keep it from producing: it would take the router for the exposer."""
    with RustPeer("first") as first, RustPeer("watcher") as watcher, RustPeer("leaf") as leaf:
        for peer in (first, watcher, leaf):
            peer.connect(router.url)
        watcher.observe(THING)
        first.publish(THING, b'"old"')
        first.expose(THING)
        watcher.wait_state(THING, b'"old"')
        first.vanish()
        watcher.wait_state(THING, b'"old"', synchronized=False)
        leaf.observe(THING)
        leaf.wait_state(THING, b'"old"', synchronized=False)
        leaf.publish(THING, b'"new"')
        leaf.expose(THING)
        leaf.wait_assigned(THING)
        watcher.wait_state(THING, b'"new"')
        leaf.wait_state(THING, b'"new"')


@pytest.mark.cell("links", "20 MiB that cannot be packed, of ours to its node", "outcome")
def test_a_state_over_16_mib_reaches_a_node_of_the_crate_in_fragments() -> None:
    """The crate takes 16 MiB in a frame, and 64 MiB in a message: ours sends fragments, once its limits allow the size.

    Through a router of the crate it would not get on: that one sends it in one frame, as all of the crate's do.
    """
    data = random.Random(20).randbytes(20 * MIB)
    with (
        OurNode(options=f"max-message={32 * MIB}", max_state=32 * MIB) as exposer,
        RustPeer() as observer,
    ):
        observer.connect(exposer.listen())
        exposer.publish(THING, data)
        exposer.expose(THING)
        observer.observe(THING)
        observer.wait_state(THING, data, timeout=40)


@pytest.mark.thorough
@pytest.mark.cell(
    "links", "20 MiB that cannot be packed, of its node to our router: refused", "outcome"
)
def test_an_exposer_whose_frame_is_too_big_disturbs_nobody_while_it_tries_again_and_again(
    router: RouterProcess, record_property: Any
) -> None:
    """The crate sends a state in one frame, which neither its router nor ours takes over 16 MiB.

    Its node then comes back at once and sends it again, for ever.
    """
    with RustPeer("big") as big, OurNode() as exposer, RustPeer("watcher") as watcher:
        exposer.connect(router.url)
        watcher.connect(router.url)
        watcher.observe(OTHER)
        exposer.publish(OTHER, b"-1")
        exposer.expose(OTHER)
        watcher.wait_state(OTHER, b"-1")
        watcher.observe(THING)

        big.connect(router.url)
        big.publish(THING, random.Random(20).randbytes(20 * MIB))
        big.expose(THING)
        until(lambda: big.count("disconnected") >= 2, "the link of the exposer ends, twice")
        start, mark = time.monotonic(), big.count("disconnected")
        for number in range(250):
            exposer.publish(OTHER, str(number).encode())
            holds(lambda: True, "time passes", 0.02)
        watcher.wait_state(OTHER, b"249")
        attempts = (big.count("disconnected") - mark) / (time.monotonic() - start)
        times = [event.at for event in watcher.events if event.state and event.at > start]
        gap = max(later - earlier for earlier, later in pairwise(times))
        record_property("figure", f"gap {gap * 1000:.0f} ms, {attempts:.1f} attempts a second")
        assert gap < 0.5
        assert attempts < 3
        assert THING not in watcher.latest
        assert not watcher.count("disconnected")
    assert any(re.search(r"too big|16777216|1009", line) for line in router.err.seen)
