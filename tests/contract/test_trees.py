"""What happens when nodes come, go and come back, and what nodes in the middle tell each other."""

from __future__ import annotations

import pytest

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from support.scenes import Scene, fresh, stale, story
from support.shapes import Shape, grow, routed, stack

X = ObjectDescriptor(["t"], "x")


@pytest.mark.promise("latest")
@routed
@story
async def test_what_was_opened_and_set_offline_counts_when_connected(
    scene: Scene, shape: Shape
) -> None:
    tree = await grow(scene, shape)
    a, b = scene.node("a"), scene.node("b")
    with a.tag("t").observe() as a_seen, b.tag("t").observe() as b_seen:
        with a.object(["t"], "a").expose() as of_a, b.object(["t"], "b").expose() as of_b:
            of_a.set_object_data("from a")
            of_b.set_object_data("from b")
            for node, link in zip((a, b), tree.links, strict=True):
                await scene.connect(node, link.value.url)
            await scene.sees(a_seen, fresh("from b"), of_b.descriptor)
            await scene.sees(b_seen, fresh("from a"), of_a.descriptor)
            assert a_seen.object_descriptors() == b_seen.object_descriptors()


@pytest.mark.promise("latest")
@routed
@story
async def test_an_observer_of_its_own_object_who_comes_later_is_heard_by_others(
    scene: Scene, shape: Shape
) -> None:
    tree = await grow(scene, shape, 1)
    (regu,) = tree.leaves
    riko = scene.node("riko")
    with (
        riko.object(X).observe(),
        riko.object(X).expose() as exposed,
        regu.object(X).observe() as seen,
    ):
        assert exposed.set_object_state([1], "xxx")
        await scene.connect(riko, tree.links[0].value.url)
        state = await scene.loop(seen).until(fresh("xxx"))
        assert state.version == (1,)


@pytest.mark.promise("one-exposer")
@routed
@story
async def test_the_exposer_of_the_tree_takes_over_from_one_who_comes_later(
    scene: Scene, shape: Shape
) -> None:
    tree = await grow(scene, shape)
    regu, other = tree.leaves
    riko = scene.node("riko")
    with (
        riko.object(X).observe() as seen,
        riko.object(X).expose() as own,
        regu.object(X).expose() as exposed,
        other.object(X).observe() as elsewhere,
    ):
        await scene.assigned(exposed)
        sink = await scene.loop(own).next()
        sink.set_state([0, 1], "of riko alone")
        await scene.loop(seen).until(fresh("of riko alone"))
        exposed.set_object_data("for all")
        await scene.loop(elsewhere).until(fresh("for all"))
        await scene.connect(riko, tree.links[0].value.url)
        await scene.loop(seen).until(fresh("for all"))
        await scene.unassigned(sink)
        assert not own.assigned
        assert exposed.assigned


@routed
@story
async def test_objects_of_one_who_disconnects_cease_and_those_of_others_stay(
    scene: Scene, shape: Shape
) -> None:
    tree = await grow(scene, shape)
    a, b = tree.leaves
    with a.tag("t").observe() as a_seen, b.tag("t").observe() as b_seen:
        with a.object(["t"], "a").expose() as of_a, b.object(["t"], "b").expose() as of_b:
            of_a.set_object_data("a")
            of_b.set_object_data("b")
            streams = scene.loop(a_seen)
            remote = await streams.until(lambda stream: stream.descriptor.json == "b")
            await scene.loop(remote).until(fresh("b"))
            await scene.sees(b_seen, fresh("a"), of_a.descriptor)
            await tree.links[1].leave()
            await scene.loop(remote).end()
            assert remote.closed
            assert stale("b")(some(remote.object_state()))
            assert a_seen.object_descriptors() == {of_a.descriptor}
            assert b_seen.object_descriptors() == {of_b.descriptor}
            of_a.set_object_data("more of a")
            await scene.sees(a_seen, fresh("more of a"), of_a.descriptor)
            await scene.connect(b, tree.links[1].value.url)
            await scene.sees(b_seen, fresh("more of a"), of_a.descriptor)
            again = await streams.next()
            assert again.descriptor == of_b.descriptor
            await scene.loop(again).until(fresh("b"))


@story
async def test_observers_and_exposers_may_sit_on_any_level(scene: Scene) -> None:
    top, upper, lower, bottom = await stack(scene, 4)
    data = "data " * 1000
    with bottom.tag("t").expose() as exposed, upper.tag("t").observe() as middle:
        with top.object(X).observe() as seen:
            sink = await scene.loop(exposed).next()
            sink.set(data)
            states = scene.loop(seen)
            await states.until(fresh(data))
            await scene.sees(middle, fresh(data))
            with lower.object(X).observe() as late:
                await scene.loop(late).until(fresh(data))
                sink.set(data + "!")
                await states.until(fresh(data + "!"))
                await scene.loop(late).until(fresh(data + "!"))
                await scene.sees(middle, fresh(data + "!"))


@story
async def test_an_update_travels_as_a_difference(scene: Scene) -> None:
    top, _, bottom = await stack(scene, 3)
    data = [str(hash((number, "salt"))) for number in range(3000)]
    with top.object(X).observe() as seen, bottom.object(X).expose() as exposed:
        states = scene.loop(seen)
        exposed.set_object_data(data)
        await states.until(fresh(data))
        carried = scene.connections[-1].counters.bytes_out
        assert carried > 20_000
        data[1500] = "another"
        exposed.set_object_data(data)
        await states.until(fresh(data))
        assert scene.connections[-1].counters.bytes_out - carried < 200


@pytest.mark.promise("stale-visible", "self-healing")
@story
async def test_a_router_in_the_middle_may_die_and_come_back(scene: Scene) -> None:
    top, middle, bottom = scene.node("top"), scene.node("middle"), scene.node("bottom")
    above = await scene.listen(top)
    between = await scene.listen(middle)
    await scene.connect(middle, above.value.url)
    await scene.connect(bottom, between.value.url)
    with top.object(X).observe() as seen, bottom.tag("t").expose() as exposed:
        states, sinks = scene.loop(seen), scene.loop(exposed)
        sink = await sinks.next()
        sink.set("before")
        await states.until(fresh("before"))

        await between.leave()
        middle.close()
        state = await states.until(stale("before"))
        await scene.unassigned(sink)

        reborn = scene.node("middle reborn")
        await scene.connect(reborn, above.value.url)
        await scene.listen(reborn, between.value.url)
        sink = await sinks.next()
        assert some(seen.object_state()).age > state.age
        sink.set("after")
        await states.until(fresh("after"))


@story
async def test_what_is_known_by_its_tag_alone_is_not_announced_upwards(scene: Scene) -> None:
    top, middle, bottom = await stack(scene, 3)
    with bottom.tag("t").observe(), middle.tag("t").expose():
        await scene.echo(top, bottom)
        assert contracts(top) == []
        with bottom.object(X).observe():
            await scene.echo(top, bottom)
            assert contracts(top) == [(True, False, 0)]


@story
async def test_capacities_of_a_branch_are_announced_once_and_summed_up(scene: Scene) -> None:
    top, middle, bottom = await stack(scene, 3)
    with bottom.object(X).expose(capacity=3) as one, middle.object(X).expose(capacity=4):
        await scene.echo(top, bottom)
        assert contracts(top) == [(False, True, 7)]
        with bottom.object(X).expose(capacity=2**32 - 1):
            await scene.echo(top, bottom)
            assert contracts(top) == [(False, True, 2**32 - 1)]
        one.close()
        await scene.echo(top, bottom)
        assert contracts(top) == [(False, True, 4)]


def contracts(node: LocalNode) -> list[tuple[bool, bool, int]]:
    """List what links below say about X: do they observe, do they expose, with which capacity."""
    return [
        (link["object_observer"], link["object_exposer"], link["object_exposer_capacity"])
        for thing in node.snapshot().objects
        if thing["descriptor"]["json"] == "x"
        for link in thing["downstream_links"]
    ]


def some(state: hakuban.ObjectState[object] | None) -> hakuban.ObjectState[object]:
    assert state is not None
    return state
