"""What one node does by itself: no transport plays a part."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban import NotAssignedError, ObjectDescriptor, TagDescriptor
from support.scenes import Scene, fresh, stale, story
from support.tellings import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.parametrize("scene", columns("memory"), indirect=True)

A = ObjectDescriptor(["b"], "a")


@story
async def test_a_node_can_be_closed_twice_and_makes_no_contracts_afterwards(scene: Scene) -> None:
    node = scene.node("one")
    assert repr(node) == "<LocalNode one>"
    with node:
        observed = node.object(A).observe()
    node.close()
    assert node.closed
    assert observed.closed
    await scene.loop(observed).end()
    with pytest.raises(anyio.ClosedResourceError):
        node.object(A).observe()
    with pytest.raises(anyio.ClosedResourceError):
        node.tag("b").expose()


@story
async def test_all_four_contracts_can_be_closed_twice(scene: Scene) -> None:
    node = scene.node()
    for contract in (
        node.object(A).observe(),
        node.object(A).expose(),
        node.tag("b").observe(),
        node.tag("b").expose(),
    ):
        contract.close()
        contract.close()
        assert contract.closed
        await scene.loop(contract).end()


@story
async def test_a_sink_names_its_object_with_its_tags(scene: Scene) -> None:
    node = scene.node()
    with node.object(["b", "c"], "a").observe(), node.object(["c", "b"], "a").expose() as exposed:
        sink = await scene.loop(exposed).next()
        assert sink.descriptor == ObjectDescriptor(["b", "c"], "a")
        assert set(sink.descriptor.tags) == {TagDescriptor("b"), TagDescriptor("c")}
        assert sink.descriptor.json == "a"
        assert sink.assigned


@pytest.mark.promise("whole")
@story
async def test_what_was_set_before_anybody_looked_is_seen_as_it_was_set(scene: Scene) -> None:
    node, raw = scene.node(), hakuban.RAW.with_format(["t1"])
    with node.object(A).expose(serializer=raw) as exposed:
        assert exposed.set_object_state([1, 2], b"data")
        with node.object(A).observe(serializer=raw) as seen:
            states = scene.loop(seen)
            state = await states.next()
            assert (state.version, state.format, state.raw) == ((1, 2), ("t1",), b"data")
            assert state.data == b"data"
            assert state.synchronized
            assert state.age == 0
            exposed.close()
            await states.until(stale(b"data"))
            assert len(states.seen) == 2


@story
async def test_an_age_said_beforehand_comes_with_the_state(scene: Scene) -> None:
    node = scene.node(serializer=hakuban.JSON.with_format(["t1"]))
    with node.object(A).expose() as exposed:
        exposed.set_object_data({"some": "data"})
        exposed.set_synchronized(0.1)
        with node.object(A).observe() as seen:
            state = await scene.state(seen)
            assert not state.synchronized
            assert 0.1 <= state.age < 5
            assert state.format == ("t1", "JSON")
            assert state.data == {"some": "data"}


@story
async def test_an_observer_may_come_first(scene: Scene) -> None:
    node = scene.node()
    happened: list[str] = []

    async def observe() -> None:
        with node.object(A).observe() as seen:
            happened.append("observes")
            await scene.loop(seen).until(fresh("data"))
            happened.append("sees")

    async def expose() -> None:
        with node.object(A).expose() as exposed:
            sink = await scene.loop(exposed).next()
            happened.append("is assigned")
            sink.set("data")
            await scene.unassigned(sink)
            happened.append("is unassigned")

    await scene.together(observe(), expose())
    assert [word for word in happened if "assigned" not in word] == ["observes", "sees"]
    assert [word for word in happened if "assigned" in word] == ["is assigned", "is unassigned"]
    assert happened[0] == "observes"


@story
async def test_a_tag_observer_sees_the_objects_of_its_tag(scene: Scene) -> None:
    node = scene.node()
    with node.tag("b").observe() as tag, node.object(A).expose() as exposed:
        streams = scene.loop(tag)
        stream = await streams.next()
        assert stream.descriptor == A
        assert tag.object_descriptors() == {A}
        exposed.set_object_data("data")
        assert (await scene.state(stream)).data == "data"
        assert (tag.object_data(A), stream.object_data()) == ("data", "data")
        exposed.close()
        await scene.loop(stream).end()
        assert stream.closed
        assert tag.object_descriptors() == frozenset()
        assert tag.object_state(A) is None


@story
async def test_a_tag_exposer_is_asked_for_an_observed_object(scene: Scene) -> None:
    node = scene.node()
    with node.tag("b").expose() as tag, node.object(A).observe() as seen:
        sink = await scene.loop(tag).next()
        assert sink.descriptor == A
        assert tag.object_descriptors() == {A}
        assert tag.set_object_data(A, "data")
        assert (await scene.state(seen)).data == "data"
        seen.close()
        await scene.unassigned(sink)
        assert tag.object_descriptors() == frozenset()
        assert not tag.set_object_data(A, "more")


@pytest.mark.promise("stale-visible")
@story
async def test_a_sink_given_back_leaves_a_stale_state_and_another_sink_follows(
    scene: Scene,
) -> None:
    node = scene.node()
    with node.object(A).observe() as seen, node.object(A).expose() as exposed:
        states, sinks = scene.loop(seen), scene.loop(exposed)
        sink = await sinks.next()
        sink.set("data")
        first = await states.until(fresh("data"))
        sink.close()
        second = await states.until(stale("data"))
        assert (second.version, second.raw) == (first.version, first.raw)
        await scene.unassigned(sink)
        assert (await sinks.next()).assigned


@story
async def test_a_loop_ends_when_somebody_else_closes_the_contract(scene: Scene) -> None:
    node = scene.node()
    observed, exposed = node.object(A).observe(), node.object(A).expose()
    states, sinks = scene.loop(observed), scene.loop(exposed)
    exposed.set_object_data("data")
    await states.next()
    await sinks.next()
    await scene.together(states.end(), sinks.end(), observed.close, exposed.close)


@story
async def test_the_loop_over_a_member_ends_when_its_object_ceases(scene: Scene) -> None:
    node = scene.node()
    with node.tag("b").observe() as tag:
        exposed = node.object(A).expose()
        states = scene.loop(await scene.loop(tag).next())
        exposed.set_object_data("data")
        await states.until(fresh("data"))
        await scene.together(states.end(), exposed.close)


@story
async def test_a_loop_begun_anew_starts_at_the_current_state(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe() as seen, node.object(A).expose() as exposed:
        exposed.set_object_data("data")
        first = await scene.loop(seen).next()
        assert await scene.loop(seen).next() == first
        assert first.synchronized


@story
async def test_two_loops_over_one_contract_both_see_everything(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe() as seen, node.object(A).expose() as exposed:
        one, two = scene.loop(seen), scene.loop(seen)
        for number in range(5):
            exposed.set_object_data(number)
            assert await one.next() == await two.next()
        assert [state.data for state in one.seen] == [0, 1, 2, 3, 4]


@pytest.mark.promise("stale-visible")
@story
async def test_an_exception_closes_contracts_as_the_end_of_a_block_does(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe() as seen:
        exposed = node.object(A).expose()
        exposed.set_object_data("data")
        with pytest.raises(ZeroDivisionError), exposed:
            raise ZeroDivisionError
        assert exposed.closed
        assert stale("data")(await scene.state(seen))


@story
async def test_a_state_is_decoded_only_when_somebody_looks(scene: Scene) -> None:
    node, broken = scene.node(), hakuban.RAW.with_format(["JSON"])
    with node.object(A).observe() as seen, node.object(A).expose(serializer=broken) as exposed:
        states = scene.loop(seen)
        exposed.set_object_data(b"{no JSON")
        state = await states.next()
        assert state.raw == b"{no JSON"
        with pytest.raises(hakuban.DeserializationError):
            _ = state.data
        exposed.set_object_data(b"{}")
        await states.until(fresh({}))


ENDS: Sequence[str] = ("observer", "exposer", "sink", "node")


@pytest.mark.parametrize("order", list(permutations(ENDS)), ids=" ".join)
@story
async def test_everything_may_be_closed_in_any_order(scene: Scene, order: Sequence[str]) -> None:
    node = scene.node()
    observed, exposed = node.object(A).observe(), node.object(A).expose()
    sink = await scene.loop(exposed).next()
    closing: dict[str, Callable[[], None]] = {
        "observer": observed.close,
        "exposer": exposed.close,
        "sink": sink.close,
        "node": node.close,
    }
    for name in order:
        closing[name]()
    assert (node.snapshot().objects, node.snapshot().tags) == ([], [])
    await scene.unassigned(sink)
    with pytest.raises(NotAssignedError):
        sink.set("data")


@story
async def test_sinks_and_contracts_that_are_let_go_at_once_do_no_harm(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe() as seen:
        with node.object(A).expose() as exposed:
            await scene.loop(exposed).next()
        with node.object(A).expose() as exposed:
            exposed.set_object_data("data")
        assert stale("data")(await scene.state(seen))


@story
async def test_a_forgotten_contract_warns_and_is_released(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe() as seen:
        forgotten = [node.object(A).expose()]
        forgotten[0].set_object_data("data")
        states = scene.loop(seen)
        await states.until(fresh("data"))
        with pytest.warns(ResourceWarning, match="never closed"):
            forgotten.clear()
        await states.until(stale("data"))


@story
async def test_an_assignment_ends_with_the_last_observer(scene: Scene) -> None:
    node = scene.node()
    observed = node.object(A).observe()
    with node.object(A).expose() as exposed:
        sink = await scene.loop(exposed).next()
        await scene.assigned(exposed)
        observed.close()
        await scene.unassigned(sink)
        assert not sink.assigned
        assert not exposed.assigned
        with pytest.raises(NotAssignedError) as error:
            sink.set("data")
        assert error.value.descriptor == A


@story
async def test_an_assignment_that_ended_stays_ended_when_another_begins(scene: Scene) -> None:
    node = scene.node()
    observed = node.object(A).observe()
    with node.object(A).expose() as exposed:
        sinks = scene.loop(exposed)
        first = await sinks.next()
        observed.close()
        with node.object(A).observe() as seen:
            second = await sinks.next()
            assert second is not first
            with pytest.raises(NotAssignedError):
                first.set("old")
            second.set("new")
            assert (await scene.state(seen)).data == "new"


@pytest.mark.promise("one-exposer")
@story
async def test_of_two_contracts_the_one_with_the_larger_capacity_is_assigned(scene: Scene) -> None:
    node = scene.node()
    small, large = node.object(A).expose(capacity=1), node.object(A).expose(capacity=5)
    with small, large, node.object(A).observe() as seen:
        await scene.assigned(large)
        assert not small.assigned
        large.set_object_data("large")
        assert seen.object_data() == "large"
        large.close()
        await scene.assigned(small)


@pytest.mark.promise("one-exposer")
@story
async def test_a_larger_capacity_takes_nothing_away_from_who_has_it(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe(), node.object(A).expose(capacity=1) as first:
        await scene.assigned(first)
        with node.object(A).expose(capacity=5) as second:
            assert first.assigned
            assert not second.assigned
            first.capacity = 0
            await scene.assigned(second)
            assert not first.assigned


@pytest.mark.promise("on-demand")
@story
async def test_tag_contracts_alone_bring_nothing_into_being(scene: Scene) -> None:
    node = scene.node()
    with node.tag("b").observe() as observed, node.tag("b").expose() as exposed:
        streams, sinks = scene.loop(observed), scene.loop(exposed)
        assert observed.object_descriptors() == exposed.object_descriptors() == frozenset()
        assert node.snapshot().objects == []
    await scene.together(streams.end(), sinks.end())
    assert streams.seen == []
    assert sinks.seen == []


@pytest.mark.promise("on-demand")
@story
async def test_nobody_is_assigned_what_nobody_needs(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).expose() as exposed, node.tag("b").expose() as tag:
        with node.object(["other"], "a").observe():
            assert not exposed.assigned
            assert tag.object_descriptors() == frozenset()
        with node.tag("b").observe():
            await scene.assigned(exposed)
        assert not exposed.assigned


@story
async def test_a_tag_observer_sees_an_object_that_is_only_observed(scene: Scene) -> None:
    node = scene.node()
    with node.tag("b").observe() as tag, node.object(A).observe():
        stream = await scene.loop(tag).next()
        assert stream.descriptor == A
        assert stream.object_state() is None


@story
async def test_a_loop_over_sinks_starts_with_the_present_one(scene: Scene) -> None:
    node = scene.node()
    with node.object(A).observe(), node.object(A).expose() as exposed:
        for _ in range(2):
            sink: Any = await scene.loop(exposed).next()
            assert sink.assigned
