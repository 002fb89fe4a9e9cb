"""Assignments: how they end, how they go over to somebody else, and what observers see of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import hakuban
from hakuban import LocalNode, NotAssignedError, ObjectDescriptor
from support.histories import Actor, every_history
from support.scenes import Scene, fresh, stale, story
from support.shapes import Shape, grow, in_every_shape, routed

if TYPE_CHECKING:
    from collections.abc import Sequence

X = ObjectDescriptor(["t"], "x")
KINDS = [("object", "object"), ("tag", "object"), ("object", "tag")]
kinds = pytest.mark.parametrize("kinds", KINDS, ids="-".join)

pytestmark = pytest.mark.long


def builder(node: LocalNode, kind: str) -> Any:
    return node.tag("t") if kind == "tag" else node.object(X)


@pytest.mark.promise("on-demand")
@kinds
@in_every_shape
@story
async def test_an_assignment_ends_when_the_observer_leaves(
    scene: Scene, shape: Shape, kinds: tuple[str, str]
) -> None:
    a, b = (await grow(scene, shape)).leaves
    observed = builder(a, kinds[0]).observe()
    with builder(b, kinds[1]).expose() as exposed:
        sinks = scene.loop(exposed)
        sink = await sinks.next()
        sink.set("data")
        await scene.sees(observed, fresh("data"))
        observed.close()
        await scene.unassigned(sink)
        with pytest.raises(NotAssignedError):
            sink.set("more")
        await scene.echo(a, b)
        exposed.close()
        await sinks.end()
        assert sinks.seen == [sink]


@pytest.mark.promise("stale-visible")
@kinds
@in_every_shape
@story
async def test_an_observer_is_told_when_the_exposer_leaves(
    scene: Scene, shape: Shape, kinds: tuple[str, str]
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with builder(a, kinds[0]).observe() as observed:
        exposed = builder(b, kinds[1]).expose()
        sink = await scene.loop(exposed).next()
        sink.set("data")
        reader = observed if kinds[0] == "object" else await scene.loop(observed).next()
        states = scene.loop(reader)
        await states.until(fresh("data"))
        exposed.close()
        await scene.unassigned(sink)
        if kinds[0] == "object":
            await states.until(stale("data"))
        else:
            await states.end()  # nobody holds the object any more
            assert observed.object_descriptors() == frozenset()


@pytest.mark.promise("self-healing", "monotonic")
@in_every_shape
@story
async def test_an_exposer_is_asked_again_when_the_observer_comes_back(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with b.object(X).expose() as exposed:
        sinks = scene.loop(exposed)
        with a.object(X).observe() as observed:
            (await sinks.next()).set_state([1], "xxx")
            await scene.loop(observed).until(fresh("xxx"))
        await scene.unassigned(sinks.seen[0])
        with a.object(X).observe() as observed:
            (await sinks.next()).set_state([2], "xxxy")
            await scene.loop(observed).until(fresh("xxxy"))


@pytest.mark.promise("self-healing")
@pytest.mark.parametrize("kind", ["object", "tag"])
@in_every_shape
@story
async def test_an_exposer_may_close_and_expose_again(scene: Scene, shape: Shape, kind: str) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as observed:
        states = scene.loop(observed)

        async def watch(number: int, contract: hakuban.ObjectExpose[Any]) -> None:
            await states.until(fresh(number))
            contract.close()
            await states.until(stale(number))

        for number in range(3):
            contract = builder(b, kind).expose()
            await scene.together(scene.publish(contract, number), watch(number, contract))


@pytest.mark.promise("self-healing", "one-exposer")
@pytest.mark.parametrize("kind", ["object", "tag"])
@pytest.mark.parametrize("how", ["closes", "leaves"])
@routed
@story
async def test_a_second_exposer_takes_over_when_the_first_one_goes(
    scene: Scene, shape: Shape, how: str, kind: str
) -> None:
    tree = await grow(scene, shape, 3)
    a, b, c = tree.leaves
    with a.object(X).observe() as observed, builder(b, kind).expose() as first:
        states = scene.loop(observed)
        sink = await scene.loop(first).next()
        sink.set("of the first")
        await states.until(fresh("of the first"))
        with builder(c, kind).expose() as second:
            sinks = scene.loop(second)
            await scene.echo(a, b, c)
            assert sink.assigned
            await (tree.links[1].leave() if how == "leaves" else scene.together(first.close))
            (await sinks.next()).set("of the second")
            await states.until(fresh("of the second"))
            seen = [(state.data, state.synchronized) for state in states.seen]
            assert seen in (
                [("of the first", True), ("of the first", False), ("of the second", True)],
                [("of the first", True), ("of the second", True)],
            )


@pytest.mark.promise("latest", "one-exposer")
@pytest.mark.parametrize(
    ("scene", "shape", "settled"),
    [
        ("memory-asyncio", "router", True),
        ("memory-trio", "star", False),
        ("ws-uvloop", "pair", False),
        ("ws-threads", "router", False),
    ],
    indirect=["scene"],
)
@story
async def test_hand_over_works_in_every_order_of_events(
    scene: Scene, shape: Shape, settled: bool
) -> None:
    a, b, c = (await grow(scene, shape, 3)).leaves

    def actors(name: str) -> Sequence[Actor]:
        thing = ObjectDescriptor([name], "x")

        def observe() -> Actor:
            with a.object(thing).observe() as observed:
                states = scene.loop(observed)
                yield states.until(lambda state: state.synchronized)
                yield states.until(fresh("c"))

        def go() -> Actor:
            with b.object(thing).expose() as exposed:
                exposed.set_object_data("b")
                yield None
            yield None

        def stay() -> Actor:
            exposed = c.object(thing).expose()
            exposed.set_object_data("not yet")
            yield None
            exposed.set_object_data("c")
            yield scene.assigned(exposed)
            exposed.close()

        return observe(), go(), stay()

    await every_history(scene, actors, stretches=2, settling=[a, b, c] if settled else [])


@pytest.mark.promise("monotonic")
@routed
@story
async def test_lower_versions_of_a_new_exposer_change_nothing(scene: Scene, shape: Shape) -> None:
    a, b, c = (await grow(scene, shape, 3)).leaves
    with a.object(X).observe() as observed, b.object(X).expose() as first:
        states = scene.loop(observed)
        first.set_object_state([10], "ten")
        await states.until(fresh("ten"))
        first.close()
        await states.until(stale("ten"))
        with c.object(X).expose() as second:
            second.set_object_state([3], "three")
            await scene.assigned(second)
            await scene.echo(a, c)
            assert stale("ten")(states.seen[-1])
            assert not observed.synchronized
            second.set_object_state([11], "eleven")
            await states.until(fresh("eleven"))
        assert [state.data for state in states.seen] == ["ten", "ten", "eleven"]


@pytest.mark.promise("whole", "latest")
@in_every_shape
@story
async def test_an_exposer_may_count_anew_after_its_state_was_forgotten(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with b.object(X).expose() as exposed:
        sinks = scene.loop(exposed)
        for values in (["a long first value " * 50, "second"], ["one", "OTHER " * 50, "three"]):
            with a.object(X).observe() as observed:
                sink = await sinks.next()
                states = scene.loop(observed)
                for number, value in enumerate(values, 1):
                    assert sink.set_state([number], value)
                    state = await states.next()
                    assert (state.version, state.data) == ((number,), value)
            await scene.unassigned(sink)
            await scene.echo(a, b)


@in_every_shape
@story
async def test_the_same_version_again_only_says_how_fresh_the_state_is(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as observed, b.object(X).expose() as exposed:
        states = scene.loop(observed)
        assert exposed.set_object_state([5], "five")
        await states.until(fresh("five"))
        assert not exposed.set_object_state([5], "another five")
        assert not exposed.set_object_state([4], "four")
        exposed.set_synchronized(7.0)
        await states.until(stale("five"))
        assert not exposed.set_object_state([5], "another five")
        await states.until(fresh("five"))
        assert {state.data for state in states.seen} == {"five"}


@pytest.mark.promise("latest", "self-healing")
@routed
@story
async def test_flapping_leaves_both_sides_consistent(scene: Scene, shape: Shape) -> None:
    tree = await grow(scene, shape)
    a, b = tree.leaves
    with b.object(X).expose() as exposed:
        for number in range(300):
            with a.object(X).observe() as observed:
                exposed.set_object_data(number)
                if number % 50 == 0:
                    await scene.loop(observed).until(fresh(number))
        await scene.echo(a, b)
        assert not exposed.assigned
        with a.object(X).observe() as observed:
            await scene.loop(observed).until(fresh(299))
        for _ in range(300):
            with b.object(X).expose(), a.tag("t").observe():
                pass
        await scene.echo(a, b)
        assert not exposed.assigned
        with a.tag("t").observe() as tag:
            await scene.sees(tag, fresh(299))


@pytest.mark.promise("on-demand")
@in_every_shape
@story
async def test_a_capacity_of_zero_is_no_exposer(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as observed, b.object(X).expose(capacity=0) as exposed:
        exposed.set_object_data("data")
        await scene.echo(a, b)
        assert not exposed.assigned
        exposed.capacity = 1
        await scene.loop(observed).until(fresh("data"))
        exposed.capacity = 0
        await scene.loop(observed).until(stale("data"))
        assert not exposed.assigned


@story
async def test_a_value_set_while_unassigned_is_published_at_each_assignment(scene: Scene) -> None:
    a, b, c = (await grow(scene, "router", 3)).leaves
    with b.object(X).expose() as exposed:
        exposed.set_object_data("kept")
        for node in (a, c, a):
            with node.object(X).observe() as observed:
                await scene.loop(observed).until(fresh("kept"))
            await scene.echo(a, b, c)
        exposed.set_object_data("newer")
        with a.object(X).observe() as observed:
            await scene.loop(observed).until(fresh("newer"))


def test_a_value_for_an_object_that_is_not_assigned_is_not_kept() -> None:
    node = LocalNode()
    with node.tag("t").expose() as exposed:
        assert not exposed.set_object_data(X, "data")
        assert not exposed.set_object_state(X, [1], "data")
        assert not exposed.set_object_version(X, [1])
        with node.object(X).observe() as observed:
            assert observed.object_state() is None
            assert exposed.set_object_state(X, [1], "data")
            assert exposed.set_object_version(X, [2])
            assert observed.object_version() == (2,)
            assert isinstance(observed.object_state(), hakuban.ObjectState)
