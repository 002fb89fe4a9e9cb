"""What is too large for a peer costs the object that it belongs to, and nothing else."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import hakuban
from hakuban import RAW, ObjectDescriptor
from support.scenes import Scene, fresh, stale, story

if TYPE_CHECKING:
    import pytest

LARGE, SMALL = ObjectDescriptor(["t"], "large"), ObjectDescriptor(["t"], "small")
LIMIT = 20_000
LONG = ObjectDescriptor(["t"], "x" * 2 * LIMIT)


def noise(seed: int) -> bytes:
    """Give data that hardly shrink, larger than the limit."""
    return random.Random(seed).randbytes(2 * LIMIT)


def skips(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "was skipped" in line]


async def is_served(
    scene: Scene, exposing: hakuban.LocalNode, observing: hakuban.LocalNode
) -> None:
    """Have a large object skipped, and a small one served, and the large one served once it fits."""
    with (
        observing.object(LARGE).observe() as large,
        observing.object(SMALL).observe() as small,
        exposing.object(LARGE).expose() as exposed,
        exposing.object(SMALL).expose() as other,
    ):
        exposed.set_object_data(b"fits")
        await scene.sees(large, fresh(b"fits"))
        for seed in range(2):
            exposed.set_object_data(noise(seed))
            other.set_object_data(b"%d" % seed)
            await scene.sees(small, fresh(b"%d" % seed))
            await scene.sees(large, stale(b"fits"))
        exposed.set_synchronized(5.0)
        exposed.set_synchronized(None)
        other.set_object_data(b"later")
        await scene.sees(small, fresh(b"later"))
        assert not large.synchronized, (
            "what it has is not the newest state, whatever is said of that"
        )
        exposed.set_object_data(b"fits again")
        await scene.sees(large, fresh(b"fits again"))
        skipped = exposing.snapshot().skipped_states
        assert skipped.keys() == {LARGE}
        assert 1 <= skipped[LARGE] <= 2, "the second may have taken the place of the first"


@story
async def test_a_state_over_the_limit_of_the_node_above_costs_that_state(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    above, below = scene.node("above", serializer=RAW), scene.node("below", serializer=RAW)
    listener = (await scene.listen(above, max_message=LIMIT)).value
    connection = (await scene.connect(below, listener.url)).value
    await is_served(scene, below, above)
    assert connection.counters.reconnects == 0
    assert 1 <= connection.counters.states_skipped <= 2
    assert connection.size_cap is None
    (line,) = skips(caplog)
    assert str(LARGE) in line
    assert str(LIMIT) in line


@story
async def test_a_state_over_the_limit_of_a_node_below_costs_that_state_there(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    above, below, other = (scene.node(name, serializer=RAW) for name in ("above", "below", "other"))
    listener = (await scene.listen(above)).value
    connection = (await scene.connect(below, listener.url, max_message=LIMIT)).value
    await scene.connect(other, listener.url)
    with other.object(LARGE).observe() as everything:
        await is_served(scene, above, below)
        with above.object(LARGE).expose() as exposed:
            exposed.set_object_data(noise(9))
            await scene.sees(everything, fresh(noise(9)))
    assert connection.counters.reconnects == 0
    assert len(skips(caplog)) == 1


@story
async def test_a_name_over_the_limit_of_the_node_above_costs_that_contract(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    above, below = scene.node("above"), scene.node("below")
    listener = (await scene.listen(above, max_message=LIMIT)).value
    connection = (await scene.connect(below, listener.url)).value
    with below.object(LONG).observe():
        await all_are_served(scene, above, below)
    assert connection.counters.reconnects == 0
    (line,) = skips(caplog)
    assert line.startswith("above at ")


@story
async def test_names_that_are_announced_before_the_limit_is_known_cost_a_link(
    scene: Scene,
) -> None:
    above, below = scene.node("above"), scene.node("below")
    listener = (await scene.listen(above, max_message=LIMIT)).value
    with below.object(LONG).observe():
        await all_are_served(scene, above, below, connect_to=listener.url)
    (connection,) = scene.connections
    assert connection.counters.reconnects <= 1
    assert connection.size_cap is None


async def all_are_served(
    scene: Scene,
    exposing: hakuban.LocalNode,
    observing: hakuban.LocalNode,
    connect_to: str | None = None,
) -> None:
    """Have objects served whose names together do not fit into a message, though each does."""
    objects = [ObjectDescriptor([], [number, "x" * 2_000]) for number in range(20)]
    seen = {one: observing.object(one).observe() for one in objects}
    if connect_to is not None:
        await scene.connect(observing, connect_to, wait=False)
    for one, contract in seen.items():
        with exposing.object(one).expose() as exposed:
            exposed.set_object_data("data")
            await scene.sees(contract, fresh("data"))
        contract.close()


@story
async def test_what_a_peer_ignores_is_an_error_that_names_it(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    above, below = scene.node("above"), scene.node("below")
    listener = (await scene.listen(above)).value
    await scene.connect(below, listener.url)
    # an older node, or the crate, lets its user make a name that is nested too deep
    deep = ObjectDescriptor(["t"], 1)
    deep._set(deep.tags, "[" * 200 + "]" * 200)
    with below.object(SMALL).observe() as seen, above.object(SMALL).expose() as exposed:
        engine = below._engine
        contract = engine.call(lambda machine, now: machine.observe_object(deep, now))
        exposed.set_object_data("data")
        await scene.sees(seen, fresh("data"))
        await scene.echo(above, below)
        engine.call(lambda machine, now: machine.close_contract(contract, now))
        await scene.echo(above, below)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    (error,) = [record.getMessage() for record in errors]
    assert error.startswith("above at ")
    assert "ignores" in error
    assert "[[[[" in error
    assert "nested deeper than 127 levels" in error
    caplog.clear()
