"""Whether a state is current, and since when it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import hakuban
from hakuban import ObjectDescriptor
from support.scenes import Scene, fresh, stale, story
from support.shapes import Shape, grow, in_every_shape, stack

if TYPE_CHECKING:
    from collections.abc import Callable

X = ObjectDescriptor(["t"], "x")


def aged(least: float, most: float) -> Callable[[hakuban.ObjectState[Any]], bool]:
    return lambda state: not state.synchronized and least <= state.age < most


@in_every_shape
@story
async def test_an_age_that_the_exposer_says_is_seen(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        states = scene.loop(seen)
        exposed.set_object_data("data")
        exposed.set_synchronized(100.0)
        state = await states.until(aged(100, 200))
        assert state.data == "data"
        assert 100 <= seen.age < 200
        assert not seen.synchronized


@in_every_shape
@story
async def test_only_news_about_an_age_is_told(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        states = scene.loop(seen)
        exposed.set_object_data("data")
        exposed.set_synchronized(1000.0)
        first = await states.until(aged(1000, 1100))
        exposed.set_synchronized(500.0)
        await states.until(aged(500, 600))
        exposed.set_synchronized(800.0)
        await scene.echo(a, b)
        assert 500 <= seen.age < 600
        exposed.set_synchronized(None)
        last = await states.until(fresh("data"))
        assert last.version == first.version
        assert seen.age == 0


@story
async def test_news_about_an_age_travel_without_the_data(scene: Scene) -> None:
    a, b = (await grow(scene, "router")).leaves
    data = [str(hash((number, "salt"))) for number in range(3000)]
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        states = scene.loop(seen)
        exposed.set_object_data(data)
        await states.until(fresh(data))
        before = scene.connections[0].counters.bytes_in
        assert before > 20_000
        for age in (100.0, 50.0):
            exposed.set_synchronized(age)
            await states.until(aged(age, age + 40))
        exposed.set_synchronized(None)
        await states.until(fresh(data))
        assert scene.connections[0].counters.bytes_in - before < 200


@pytest.mark.promise("stale-visible")
@story
async def test_ages_mean_the_same_on_every_level_and_grow(scene: Scene) -> None:
    top, upper, lower, bottom = await stack(scene, 4)
    nodes = (top, upper, lower)
    observing = [node.object(X).observe() for node in nodes]
    with bottom.object(X).expose() as exposed:
        exposed.set_object_data("data")
        exposed.set_synchronized(1000.0)
        for contract in observing:
            await scene.loop(contract).until(aged(1000, 1100))
    for contract in observing:
        await scene.loop(contract).until(stale("data"))
    await scene.echo(top, bottom)
    ages = [contract.age for contract in observing]
    assert max(ages) - min(ages) < 1
    assert all(contract.age > age for contract, age in zip(observing, ages, strict=True))
    for contract in observing:
        contract.close()


@in_every_shape
@story
async def test_an_age_of_any_length_is_an_age(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        states = scene.loop(seen)
        exposed.set_object_data("data")
        exposed.set_synchronized(1e12)
        await states.until(lambda state: not state.synchronized and state.age > 1e9)
        exposed.set_synchronized(None)
        await states.until(fresh("data"))


@pytest.mark.parametrize("age", [-1.0, float("nan"), float("inf")])
@story
async def test_what_is_no_age_is_refused(scene: Scene, age: float) -> None:
    (node,) = (await grow(scene, "one node", 1)).leaves
    with node.object(X).observe() as seen, node.object(X).expose() as exposed:
        exposed.set_object_data("data")
        with pytest.raises(ValueError, match="age"):
            exposed.set_synchronized(age)
        assert seen.synchronized


@pytest.mark.promise("stale-visible")
@story
async def test_every_loss_on_the_way_makes_the_state_stale(scene: Scene) -> None:
    tree = await grow(scene, "star")
    a, b = tree.leaves
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        states = scene.loop(seen)
        exposed.set_object_data("data")
        await states.until(fresh("data"))
        for number, link in enumerate(reversed(tree.links)):
            await link.leave()
            await states.until(stale("data"))
            back = await scene.connect((b, a)[number], link.value.url)
            await states.until(fresh("data"))
            assert back.value.up
