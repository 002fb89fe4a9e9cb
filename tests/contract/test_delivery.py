"""States from an exposer to observers, in trees of all shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from support.histories import Actor, every_history
from support.scenes import Scene, fresh, stale, story
from support.shapes import SHAPES, Shape, grow, in_every_shape, in_shapes, routed

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = [("object", "object"), ("tag", "object"), ("object", "tag")]
X = ObjectDescriptor(["t"], "x")

pytestmark = pytest.mark.long


@pytest.mark.promise("everywhere", "latest")
@in_every_shape
@story
async def test_an_observer_sees_what_an_exposer_sets(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        states = scene.loop(seen)
        assert exposed.set_object_state([1], "xxx")
        first = await states.next()
        assert (first.data, first.version, first.synchronized) == ("xxx", (1,), True)
        assert exposed.set_object_state([2], "xxxy")
        second = await states.next()
        assert (second.data, second.version, second.synchronized) == ("xxxy", (2,), True)


@in_every_shape
@story
async def test_a_sink_given_back_is_seen_by_the_observer(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    observed = a.object(X).observe()
    states = scene.loop(observed)
    with b.object(X).expose() as exposed:
        sinks = scene.loop(exposed)
        sink = await sinks.next()
        sink.set_state([1], "xxx")
        await states.until(fresh("xxx"))
        sink.close()
        await states.until(stale("xxx"))
        sink = await sinks.next()
        observed.close()
        await scene.unassigned(sink)
        await scene.echo(a, b)
        assert not exposed.assigned


@in_every_shape
@story
async def test_the_format_travels_with_the_state(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    json, foreign = hakuban.RAW.with_format(["JSON"]), hakuban.RAW.with_format(["JSON", "abc"])
    with a.object(X).observe() as seen, b.tag("t").expose(serializer=json) as first:
        states = scene.loop(seen)
        sink = await scene.loop(first).next()
        sink.set_state([1], b'"xxx"')
        await states.until(fresh("xxx"))
        first.close()
        with b.object(X).expose(serializer=foreign) as second:
            second.set_object_state([2], b'"xxxy"')
            state = await states.until(lambda state: state.version == (2,))
            assert (state.raw, state.format) == (b'"xxxy"', ("JSON", "abc"))
            with pytest.raises(hakuban.WrongFormatError) as error:
                _ = state.data
            assert error.value.expected == "JSON"


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("settled", [False, True])
@in_every_shape
@story
async def test_the_order_of_coming_and_going_does_not_matter(
    scene: Scene, shape: Shape, kinds: tuple[str, str], settled: bool
) -> None:
    a, b = (await grow(scene, shape)).leaves

    def actors(name: str) -> Sequence[Actor]:
        def make(node: LocalNode, kind: str) -> Any:
            return node.tag(name) if kind == "tag" else node.object([name], "x")

        def observe() -> Actor:
            contract = make(a, kinds[0]).observe()
            yield scene.sees(contract, fresh("xxxy"))
            contract.close()
            yield None

        def expose() -> Actor:
            contract = make(b, kinds[1]).expose()
            yield produce(contract)
            contract.close()
            yield scene.unassigned(sinks[-1])

        sinks = []

        async def produce(contract: Any) -> None:
            sinks.append(await scene.loop(contract).next())
            sinks[-1].set_state([1], "xxx")
            sinks[-1].set_state([2], "xxxy")

        return observe(), expose()

    await every_history(scene, actors, stretches=2, settling=[a, b] if settled else [])


@pytest.mark.promise("latest", "monotonic", "whole")
@in_every_shape
@story
async def test_every_reader_ends_on_the_last_state_and_sees_none_torn_or_out_of_order(
    scene: Scene, shape: Shape
) -> None:
    a, b, c = (await grow(scene, shape, 3)).leaves

    def value(number: int) -> list[int]:
        return [number] * (number % 7 * 100 + 1)

    async def read(contract: Any) -> None:
        state = await scene.sees(contract, lambda state: check(state) == 300)
        assert state.synchronized

    def check(state: hakuban.ObjectState[Any]) -> int:
        (number,) = state.version
        assert state.data == value(number)
        return number

    async def produce(contract: hakuban.ObjectExpose[Any]) -> None:
        for number in range(1, 301):
            assert contract.set_object_state([number], value(number))
            if number % 50 == 0:
                await scene.echo(a, c)

    with (
        a.object(X).observe() as one,
        a.tag("t").observe() as two,
        c.object(X).observe() as three,
        b.object(X).expose() as exposed,
    ):
        await scene.together(read(one), read(two), read(three), produce(exposed))


@pytest.mark.promise("only-asked")
@routed
@story
async def test_nobody_is_sent_what_they_did_not_ask_for(scene: Scene, shape: Shape) -> None:
    tree = await grow(scene, shape, 3)
    a, b, c = tree.leaves
    large = "x" * 100_000
    with (
        a.object(X).observe() as seen,
        b.object(X).expose() as exposed,
        c.object(["t"], "another").observe(),
        c.object(["t"], "a third").expose() as idle,
    ):
        exposed.set_object_data(large)
        await scene.loop(seen).until(fresh(large))
        await scene.echo(a, b, c)
        assert not idle.assigned
        assert X not in known(c)
    received = [link.value.counters.bytes_in for link in tree.links]
    assert received[0] > 100  # a repetitive state is sent as a short difference
    assert sum(received[1:]) < 10_000


@pytest.mark.promise("on-demand")
@routed
@story
async def test_one_who_serves_himself_sends_nothing(scene: Scene, shape: Shape) -> None:
    tree = await grow(scene, shape)
    a, b = tree.leaves
    with a.object(X).observe() as seen, a.object(X).expose() as exposed, a.tag("t").observe():
        await scene.echo(a, b)
        before = tree.links[0].value.counters
        await scene.assigned(exposed)
        states = scene.loop(seen)
        for number in range(50):
            exposed.set_object_data([number] * 1000)
            await states.until(fresh([number] * 1000))
        await scene.echo(a, b)
        after = tree.links[0].value.counters
        assert after.bytes_out - before.bytes_out < 1000
        assert after.bytes_in - before.bytes_in < 1000


@in_every_shape
@story
async def test_a_late_observer_gets_the_current_state_at_once(scene: Scene, shape: Shape) -> None:
    a, b, c = (await grow(scene, shape, 3)).leaves
    with a.object(X).observe() as early, b.object(X).expose() as exposed:
        exposed.set_object_data({"some": "data"})
        state = await scene.loop(early).until(fresh({"some": "data"}))
        with c.object(X).observe() as late:
            assert await scene.loop(late).until(fresh({"some": "data"})) == state
        with c.tag("t").observe() as late_tag:
            assert await scene.sees(late_tag, fresh({"some": "data"})) == state


@pytest.mark.promise("stale-visible")
@in_every_shape
@story
async def test_a_late_observer_gets_a_stale_state_with_its_age(scene: Scene, shape: Shape) -> None:
    a, b, c = (await grow(scene, shape, 3)).leaves
    with a.object(X).observe() as early:
        with b.object(X).expose() as exposed:
            sink = await scene.loop(exposed).next()
            sink.set("data")
            await scene.loop(early).until(fresh("data"))
            sink.close()
            before = await scene.loop(early).until(stale("data"))
            with c.object(X).observe() as late:
                assert (await scene.loop(late).until(stale("data"))).age >= before.age
        await scene.echo(a, b)
        with c.object(X).observe() as later:
            state = await scene.loop(later).until(stale("data"))
            assert before.age <= state.age < 5
            assert state.version == before.version


@in_every_shape
@story
async def test_data_that_nobody_needs_are_forgotten(scene: Scene, shape: Shape) -> None:
    tree = await grow(scene, shape)
    a, b = tree.leaves
    with b.object(X).expose() as exposed:
        sinks = scene.loop(exposed)
        with a.object(X).observe() as seen:
            sink = await sinks.next()
            sink.set_state([1], "xxx")
            await scene.loop(seen).until(fresh("xxx"))
            sink.close()
            await scene.loop(seen).until(stale("xxx"))
        await scene.echo(a, b)
        with a.object(X).observe() as seen:
            sink = await sinks.until(lambda sink: sink.assigned)
            await scene.echo(a, b)
            assert seen.object_state() is None
            sink.set_state([2], "xxxy")
            assert (await scene.loop(seen).next()).data == "xxxy"


@pytest.mark.promise("on-demand")
@in_every_shape
@story
async def test_nothing_is_left_of_contracts_that_were_closed(scene: Scene, shape: Shape) -> None:
    tree = await grow(scene, shape)
    a, b = tree.leaves
    with (
        a.object(X).observe(),
        a.tag("t").observe() as seen,
        b.object(X).expose() as exposed,
        b.tag("t").expose(),
    ):
        exposed.set_object_data("data")
        await scene.sees(seen, fresh("data"))
    await scene.echo(a, b)
    for node in (a, b, *tree.routers):
        assert known(node) <= {ObjectDescriptor([], f"echo {number}") for number in range(9)}
        assert node.snapshot().tags == []


@in_every_shape
@story
async def test_set_object_version_relabels_the_data(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with (
        a.object(X).observe() as seen,
        a.tag("t").observe() as seen_tag,
        b.object(X).expose() as exposed,
    ):
        states = scene.loop(seen)
        exposed.set_object_data("data")
        first = await states.next()
        assert exposed.set_object_version()
        second = await states.next()
        assert exposed.set_object_version([2, 1])
        third = await states.next()
        assert not exposed.set_object_version([2, 1])
        assert first.version < second.version < third.version == (2, 1)
        assert {state.data for state in states.seen} == {"data"}
        assert (await scene.sees(seen_tag, lambda state: state.version == (2, 1))).data == "data"
        assert seen_tag.object_version(X) == seen.object_version() == (2, 1)


@in_every_shape
@story
async def test_a_tag_observer_is_told_of_all_objects_there_are_and_will_be(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    things = [ObjectDescriptor(["t"], number) for number in range(5)]
    exposing = [b.object(thing).expose() for thing in things]
    for number, contract in enumerate(exposing):
        contract.set_object_data(number)
    await scene.echo(a, b)
    with a.tag("t").observe() as tag:
        streams = scene.loop(tag)
        for _ in range(5):
            stream = await streams.next()
            await scene.loop(stream).until(fresh(stream.descriptor.json))
        assert {stream.descriptor for stream in streams.seen} == set(things)
        assert tag.object_descriptors() == set(things)
        exposing[0].set_object_data("more")
        await scene.loop(streams.seen[0]).until(lambda state: state.data == "more")
        with b.object(["t"], "later").expose():
            assert (await streams.next()).descriptor.json == "later"
        exposing[0].close()
        await scene.loop(streams.seen[0]).end()
        await scene.echo(a, b)
        assert tag.object_descriptors() == set(things[1:])
    for contract in exposing:
        contract.close()


@pytest.mark.promise("one-exposer")
@pytest.mark.parametrize("kind", ["object", "tag"])
@in_shapes(*SHAPES[1:])
@story
async def test_one_of_many_is_chosen_and_when_it_closes_another_one(
    scene: Scene, shape: Shape, kind: str
) -> None:
    nodes = (await grow(scene, shape, 3)).leaves
    exposing: list[hakuban.ObjectExpose[Any] | hakuban.TagExpose[Any]] = [
        (node.tag("t") if kind == "tag" else node.object(X)).expose() for node in nodes
    ]
    observing = [node.object(X).observe() for node in nodes]
    loops = [scene.loop(contract) for contract in observing]
    for _ in nodes:
        await scene.echo(*nodes)
        (chosen,) = [contract for contract in exposing if is_assigned(contract)]
        if isinstance(chosen, hakuban.TagExpose):
            chosen.set_object_data(X, repr(chosen))
        else:
            chosen.set_object_data(repr(chosen))
        for states in loops:
            await states.until(fresh(repr(chosen)))
        chosen.close()
    for contract in observing:
        contract.close()


@pytest.mark.promise("one-exposer", "self-healing")
@routed
@story
async def test_one_of_many_is_chosen_and_when_it_disconnects_another_one(
    scene: Scene, shape: Shape
) -> None:
    tree = await grow(scene, shape, 3)
    exposing = [node.object(X).expose() for node in tree.leaves]
    observing = [node.object(X).observe() for node in tree.leaves]
    loops = [scene.loop(contract) for contract in observing]
    await scene.echo(*tree.leaves)
    for number, contract in enumerate(exposing):
        contract.set_object_data(number)
    remaining = {0, 1, 2}
    while remaining:
        for number in remaining:
            await loops[number].until(lambda s: s.synchronized and s.data in remaining)
        await scene.echo(*(tree.leaves[number] for number in remaining))
        (chosen,) = [number for number in remaining if exposing[number].assigned]
        assert {loops[number].seen[-1].data for number in remaining} == {chosen}
        await tree.links[chosen].leave()
        remaining.remove(chosen)
        await scene.assigned(exposing[chosen])  # again, for itself
    for node in tree.leaves:
        node.close()


def is_assigned(contract: hakuban.ObjectExpose[Any] | hakuban.TagExpose[Any]) -> bool:
    if isinstance(contract, hakuban.TagExpose):
        return X in contract.object_descriptors()
    return contract.assigned


def known(node: LocalNode) -> set[ObjectDescriptor]:
    found = [entry["descriptor"] for entry in node.snapshot().objects]
    return {ObjectDescriptor(entry["tags"], entry["json"]) for entry in found}
