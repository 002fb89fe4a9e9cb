"""Contracts on one node: what observers see of exposers, without any link and mostly without an event loop."""

from __future__ import annotations

import gc
import logging
import math
from itertools import pairwise
from typing import Any

import anyio
import pytest

import hakuban
from hakuban import JSON, RAW, LocalNode, ObjectDescriptor, TagDescriptor
from support.waiting import until

WEATHER = ObjectDescriptor(["weather"], {"city": "Poznań"})


# ---- life and names -------------------------------------------------------------------------------------------------


def test_a_node_can_be_closed_twice_and_opens_nothing_afterwards() -> None:
    node = LocalNode()
    contract = node.object(WEATHER).observe()
    node.close()
    node.close()
    assert node.closed
    assert contract.closed
    with pytest.raises(anyio.ClosedResourceError):
        node.object(WEATHER).observe()
    with pytest.raises(anyio.ClosedResourceError):
        node.tag("weather").expose()


def test_an_object_is_named_in_three_ways() -> None:
    node = LocalNode()
    by_parts = node.object(["weather"], {"city": "Poznań"}).descriptor
    assert by_parts == node.object(WEATHER).descriptor == WEATHER
    assert node.object("x").descriptor == ObjectDescriptor((), "x")
    assert node.tag("weather").descriptor == node.tag(TagDescriptor("weather")).descriptor
    with pytest.raises(TypeError, match="list of tags"):
        node.object("weather", 1)
    with pytest.raises(TypeError, match=r"object\(tags, json\)"):
        node.object(["weather"], 1, 2)  # type: ignore[call-overload]  # that is the point


def test_contracts_are_closed_by_their_block_also_when_it_fails() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher:
        contract = node.object(WEATHER).expose()
        contract.set_object_data(1)
        with pytest.raises(ZeroDivisionError), contract:
            raise ZeroDivisionError
        assert contract.closed
        state = watcher.object_state()
        assert state is not None
        assert not state.synchronized
    assert watcher.closed
    assert node.snapshot().objects == []


def test_a_forgotten_contract_is_released_with_a_warning() -> None:
    node = LocalNode()
    contracts = [node.object(WEATHER).observe()]
    assert len(node.snapshot().objects) == 1
    with pytest.warns(ResourceWarning, match="never closed"):
        collect(contracts)
    assert node.snapshot().objects == []


def test_a_contract_whose_making_was_interrupted_goes_quietly() -> None:
    collect(
        [hakuban.ObjectObserve.__new__(hakuban.ObjectObserve)]
    )  # an error in __del__ would be a warning


def test_a_forgotten_contract_of_a_closed_or_broken_node_is_nobodys_worry() -> None:
    closed, broken = LocalNode(), LocalNode()
    contracts = [node.object(WEATHER).observe() for node in (closed, broken)]
    closed.close()
    with pytest.raises(ZeroDivisionError):
        broken._engine.call(lambda _machine, _now: 1 / 0)
    collect(contracts)  # a warning would be an error


def test_a_contract_of_a_broken_node_can_be_closed_and_says_so() -> None:
    node = LocalNode()
    contracts = [node.object(WEATHER).observe(), node.tag("weather").expose()]
    with pytest.raises(ZeroDivisionError):
        node._engine.call(lambda _machine, _now: 1 / 0)
    for contract in contracts:
        assert " closed" not in repr(contract)
        contract.close()
        assert repr(contract).endswith(" closed>")


def test_a_node_counts_its_open_contracts_and_the_objects_it_knows() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe(), node.tag("weather").expose():
        assert node._engine.count() == (2, 1)
    assert node._engine.count() == (0, 0)


def test_a_closed_contract_says_what_to_make_instead() -> None:
    node = LocalNode()
    contract = node.object(WEATHER).expose()
    contract.close()
    with pytest.raises(hakuban.ClosedError, match="make another one where it is needed"):
        contract.set_object_data(1)
    other = node.object(WEATHER).expose()
    node.close()
    with pytest.raises(hakuban.ClosedError, match="make a new LocalNode"):
        other.set_object_data(1)


@pytest.mark.filterwarnings("ignore:.*never closed:ResourceWarning")  # as Python does by default
@pytest.mark.parametrize("kind", ["observe", "expose"])
@pytest.mark.parametrize("of", ["object", "tag"])
def test_a_contract_that_nobody_keeps_is_logged_once_with_what_to_write(
    kind: str, of: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = LocalNode()
    contracts = [getattr(getattr(node, of)("oven\x1b[31m"), kind)()]
    collect(contracts)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    kind_and_name = f"<{of.capitalize()}{kind.capitalize()} "
    assert record.getMessage().startswith(kind_and_name)
    assert "oven" in record.getMessage()
    assert "write `with ... as contract:`, or keep it and call close()" in record.getMessage()
    assert record.getMessage().isprintable()
    node.close()
    collect(contracts)
    assert len(caplog.records) == 1


@pytest.mark.filterwarnings("ignore:.*never closed:ResourceWarning")
def test_a_contract_that_was_closed_is_nobodys_worry(caplog: pytest.LogCaptureFixture) -> None:
    node = LocalNode()
    contract = node.object(WEATHER).observe()
    contract.close()
    with node.object(WEATHER).expose():
        pass
    left = node.tag("weather").observe()
    node.close()
    del contract, left
    gc.collect()
    assert not caplog.records


def test_a_stream_or_sink_keeps_its_contract_alive() -> None:
    node = LocalNode()
    stream = iter(node.object(WEATHER).observe())
    sink = next(iter(node.object(WEATHER).expose()))
    held: list[object] = [stream, sink]
    gc.collect()
    sink.set(1)
    assert next(stream).data == 1
    del stream, sink
    with pytest.warns(ResourceWarning, match="never closed"):
        collect(held)
    assert node.snapshot().objects == []


def collect(held: list[Any]) -> None:
    held.clear()
    gc.collect()


@pytest.mark.parametrize("kind", ["observe", "expose"])
@pytest.mark.parametrize("of", ["object", "tag"])
def test_a_contract_says_what_it_is_about(kind: str, of: str) -> None:
    node = LocalNode()
    builder = node.object(WEATHER) if of == "object" else node.tag("weather")
    with getattr(builder, kind)() as contract:
        assert contract.descriptor == builder.descriptor
        assert str(builder.descriptor) in repr(contract)
        assert not contract.closed
    assert "closed" in repr(contract)
    contract.close()


# ---- object to object -----------------------------------------------------------------------------------------------


def test_the_exposer_is_told_the_object_with_its_tags() -> None:
    node = LocalNode()
    with node.object(["b", "a"], 1).observe(), node.object(["a", "b"], 1).expose() as contract:
        sink = next(iter(contract))
        assert sink.descriptor == ObjectDescriptor(["a", "b"], 1)
        assert sink.descriptor.tags == (TagDescriptor("a"), TagDescriptor("b"))


def test_bytes_version_and_format_arrive_as_they_were_set() -> None:
    node = LocalNode(serializer=RAW.with_format(["t1"]))
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe() as watcher:
        assert contract.set_object_state((1, 2), b"xxxx")
        state = watcher.object_state()
        assert state is not None
        assert (state.data, state.raw) == (b"xxxx", b"xxxx")
        assert state.version == (1, 2)
        assert state.format == ("t1",)
        assert state.synchronized
        assert state.age == 0.0


def test_a_value_of_a_known_age_is_shown_with_that_age() -> None:
    node = LocalNode(serializer=JSON.with_format(["t1"]))
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        contract.set_object_data({"celsius": 21})
        contract.set_synchronized(0.1)
        state = watcher.object_state()
        assert state is not None
        assert state.data == {"celsius": 21}
        assert state.format == ("t1", "JSON")
        assert not state.synchronized
        assert 0.1 <= state.age < 5
        assert (watcher.synchronized, watcher.age >= state.age) == (False, True)
        contract.set_synchronized()
        assert (watcher.synchronized, watcher.age) == (True, 0.0)


def test_without_a_state_there_is_nothing_to_read() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher:
        assert watcher.object_state() is None
        assert watcher.object_data() is None
        assert watcher.object_version() is None
        assert not watcher.synchronized
        assert watcher.age == math.inf


async def test_an_observer_that_came_first_gets_the_state_of_a_later_exposer() -> None:
    node = LocalNode()
    seen = []

    async def watch() -> None:
        with node.object(WEATHER).observe() as watcher:
            async for state in watcher:
                seen.append(state.data)
                return

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.lowlevel.checkpoint()
            with node.object(WEATHER).expose() as contract:
                await contract.wait_assigned()
                contract.set_object_data("late")
                await until(lambda: seen)
    assert seen == ["late"]


def test_a_value_set_before_anybody_looks_is_kept_and_published_at_each_assignment() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract:
        contract.set_object_data(1)
        contract.set_object_data(2)
        seen = [contract.assigned]
        for _ in range(2):
            with node.object(WEATHER).observe() as watcher:
                seen.append(contract.assigned)
                assert watcher.object_data() == 2
                assert watcher.synchronized
    assert seen == [False, True, True]


def test_closing_a_sink_makes_the_state_stale_and_another_sink_follows() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        sinks = iter(contract)
        first = next(sinks)
        first.set("x")
        assert watcher.synchronized
        first.close()
        first.close()
        assert not first.assigned
        first.wait_unassigned_sync(timeout=0)
        state = watcher.object_state()
        assert state is not None
        assert (state.data, state.synchronized) == ("x", False)
        second = next(sinks)
        assert second.assigned
        with pytest.raises(hakuban.NotAssignedError) as caught:
            first.set("y")
        assert caught.value.descriptor == WEATHER
        with pytest.raises(hakuban.NotAssignedError):
            first.set_synchronized()
        second.set("z")
        assert watcher.object_data() == "z"


def test_an_observer_that_leaves_ends_the_assignment() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract:
        with node.object(WEATHER).observe():
            sink = next(iter(contract))
            before = sink.assigned
        assert (before, sink.assigned, contract.assigned) == (True, False, False)
        with node.object(WEATHER).observe():
            again = next(iter(contract))
            assert again.assigned
            with pytest.raises(hakuban.NotAssignedError):
                sink.set(1)
            again.set(1)


def test_a_sink_may_be_taken_and_forgotten() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe(), node.object(WEATHER).expose() as contract:
        next(iter(contract))
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        next(iter(contract))
    assert node.snapshot().objects == []


def test_the_larger_capacity_is_assigned_and_the_other_when_it_goes() -> None:
    node = LocalNode()
    with (
        node.object(WEATHER).observe(),
        node.object(WEATHER).expose(capacity=1) as small,
        node.object(WEATHER).expose(capacity=5) as large,
    ):
        small.capacity = 1
        assert not (small.assigned and large.assigned)
        large.close()
        assert small.assigned
    with (
        node.object(WEATHER).expose(capacity=1) as small,
        node.object(WEATHER).expose(capacity=5) as large,
        node.object(WEATHER).observe(),
    ):
        assert (small.assigned, large.assigned) == (False, True)
        large.close()
        assert small.assigned


def test_capacity_zero_is_never_assigned() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe(), node.object(WEATHER).expose(capacity=0) as contract:
        seen = [(contract.capacity, contract.assigned)]
        for capacity in (1, 0):
            contract.capacity = capacity
            seen.append((contract.capacity, contract.assigned))
        assert seen == [(0, False), (1, True), (0, False)]
    with pytest.raises(ValueError, match="from 0"):
        node.object(WEATHER).expose(capacity=-1)
    with pytest.raises(TypeError, match="integer"):
        node.object(WEATHER).expose(capacity=1.5)  # type: ignore[call-overload]  # that is the point


# ---- tags -----------------------------------------------------------------------------------------------------------


def test_a_tag_observer_sees_an_exposed_object_and_its_state() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers, node.object(WEATHER).expose() as contract:
        stream = next(iter(watchers))
        assert stream.descriptor == WEATHER
        contract.set_object_data(21)
        assert next(iter(stream)).data == 21
        assert watchers.object_descriptors() == {WEATHER}
        assert watchers.object_data(WEATHER) == 21
        state, version = watchers.object_state(WEATHER), watchers.object_version(WEATHER)
        assert state is not None
        assert state.version == version
        other = ObjectDescriptor(["weather"], {"city": "Łódź"})
        assert watchers.object_state(other) is None
        assert watchers.object_data(other) is None
        assert watchers.object_version(other) is None


def test_a_tag_exposer_is_assigned_the_objects_that_are_observed() -> None:
    node = LocalNode()
    with node.tag("weather").expose(capacity=10) as contract:
        assert contract.object_descriptors() == frozenset()
        assert not contract.set_object_data(WEATHER, 1)
        with node.object(WEATHER).observe() as watcher:
            assert contract.object_descriptors() == {WEATHER}
            assert next(iter(contract)).descriptor == WEATHER
            assert contract.set_object_data(WEATHER, 1)
            assert watcher.object_data() == 1
            assert contract.set_object_state(WEATHER, (9**15,), 2)
            assert not contract.set_object_state(WEATHER, (9**15,), 3)
            assert contract.set_object_version(WEATHER, (9**15, 1))
            assert (watcher.object_version(), watcher.object_data()) == ((9**15, 1), 2)
        assert not contract.set_object_data(WEATHER, 4)
        assert not contract.set_object_version(WEATHER)


@pytest.mark.parametrize("observer_first", [True, False])
def test_a_stream_of_a_tag_ends_when_its_object_ceases(observer_first: bool) -> None:
    node = LocalNode()
    if observer_first:
        watchers = node.tag("weather").observe()
        contract = node.object(WEATHER).expose()
    else:
        contract = node.object(WEATHER).expose()
        watchers = node.tag("weather").observe()
    with watchers:
        stream = next(iter(watchers))
        states = iter(stream)
        with contract:
            contract.set_object_data("last")
            assert next(states).data == "last"
        assert stream.closed
        rest = list(states)
        assert [(state.data, state.synchronized) for state in rest] == [("last", False)]
        assert watchers.object_descriptors() == frozenset()


def test_a_last_state_is_seen_although_the_object_has_ceased() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers:
        with node.object(WEATHER).expose() as contract:
            stream = next(iter(watchers))
            contract.set_object_data("last")
        assert [state.data for state in stream] == ["last"]
        assert stream.object_data() == "last"
        assert not stream.synchronized


def test_each_life_of_an_object_is_a_stream_of_its_own() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers:
        streams = iter(watchers)
        with node.object(WEATHER).expose():
            first = next(streams)
        with node.object(WEATHER).expose():
            pass  # nobody looked
        with node.object(WEATHER).expose():
            second = next(streams)
            assert second.descriptor == first.descriptor
            assert (first.closed, second.closed) == (True, False)


def test_every_loop_over_a_tag_sees_every_object_once() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers:
        contracts = [node.object(["weather"], number).expose() for number in range(3)]
        for _ in range(2):
            streams = iter(watchers)
            assert [next(streams).descriptor.json for _ in range(3)] == [0, 1, 2]
        contracts.append(node.object(["weather"], 3).expose())
        assert next(streams).descriptor.json == 3
        for contract in contracts:
            contract.close()


def test_wishes_for_tags_alone_make_no_object() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers, node.tag("weather").expose() as contract:
        assert watchers.object_descriptors() == frozenset()
        assert contract.object_descriptors() == frozenset()
        assert node.snapshot().objects == []


def test_observers_of_object_and_tag_make_a_silent_stream() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as watchers, node.object(WEATHER).observe():
        stream = next(iter(watchers))
        assert stream.descriptor == WEATHER
        with pytest.raises(TimeoutError):
            stream.wait_state_sync(timeout=0.01)


# ---- versions -------------------------------------------------------------------------------------------------------


def test_default_versions_always_increase() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        versions = list[tuple[int, ...]]()
        for number in range(100):
            contract.set_object_data(number)
            versions.append(watcher.object_version() or ())
        assert versions[0]
        assert all(a < b for a, b in pairwise(versions))
        assert contract.set_object_state((2**62,), "far")
        contract.set_object_data("next")
        assert watcher.object_data() == "next"


def test_a_version_that_is_not_newer_is_refused_with_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        assert contract.set_object_state([5], "five")
        with caplog.at_level(logging.WARNING, "hakuban"):
            assert not contract.set_object_state([4], "four")
            assert not contract.set_object_state([4], "four")
        assert len(caplog.records) == 1
        assert "(4,)" in caplog.text
        assert "(5,)" in caplog.text
        assert not contract.set_object_state([5], "other")
        assert watcher.object_data() == "five"
        sink = next(iter(contract))
        assert not sink.set_state([5], "other")
        assert sink.set_state([6], "six")
        assert watcher.object_data() == "six"


def test_an_equal_version_says_that_the_value_is_current() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        contract.set_object_state([5], "five")
        contract.set_synchronized(1.0)
        assert not watcher.synchronized
        assert not contract.set_object_state([5], "five")
        assert watcher.synchronized


def test_a_value_can_be_given_another_version() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        assert not contract.set_object_version()
        contract.set_object_state([5], "five")
        assert not contract.set_object_version([5])
        assert contract.set_object_version([6])
        assert (watcher.object_version(), watcher.object_data()) == ((6,), "five")
        assert contract.set_object_version()
        version = watcher.object_version()
        assert version is not None
        assert version > (6,)


@pytest.mark.parametrize("version", [[2**63], [-(2**63) - 1], [1] * 1_001])
def test_a_version_that_peers_would_refuse_is_refused(version: list[int]) -> None:
    node = LocalNode()
    with (
        node.object(WEATHER).expose() as contract,
        pytest.raises(ValueError, match=r"integer"),
    ):
        contract.set_object_state(version, 1)


def test_a_version_is_made_of_integers() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract, pytest.raises(TypeError, match="integer"):
        contract.set_object_state([1.5], 1)  # type: ignore[list-item]  # that is the point


@pytest.mark.parametrize("age", [-1.0, math.nan, math.inf])
def test_an_age_is_a_number_of_seconds(age: float) -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract, pytest.raises(ValueError, match="seconds"):
        contract.set_synchronized(age)


# ---- values ---------------------------------------------------------------------------------------------------------


def test_a_value_that_cannot_be_encoded_publishes_nothing() -> None:
    node = LocalNode(max_state=10)
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        sink = next(iter(contract))
        sink.set(1)
        version = watcher.object_version()
        with pytest.raises(hakuban.SerializationError):
            sink.set(object())
        with pytest.raises(hakuban.SerializationError):
            contract.set_object_data(math.nan)
        with pytest.raises(hakuban.StateTooLargeError) as caught:
            sink.set("x" * 9)
        assert (caught.value.size, caught.value.limit) == (11, 10)
        sink_of_closed = sink
        assert (watcher.object_data(), watcher.object_version()) == (1, version)
    with pytest.raises(hakuban.NotAssignedError):
        sink_of_closed.set(2)


def test_data_that_do_not_fit_the_type_raise_where_they_are_looked_at() -> None:
    node = LocalNode()
    with (
        node.object(WEATHER).observe(type=int) as watcher,
        node.object(WEATHER).observe(serializer=hakuban.MESSAGE_PACK) as stranger,
        node.object(WEATHER).expose() as contract,
    ):
        contract.set_object_data("warm")
        state, strange = next(iter(watcher)), next(iter(stranger))
        with pytest.raises(hakuban.DeserializationError):
            _ = state.data
        with pytest.raises(hakuban.DeserializationError):
            watcher.object_data()
        with pytest.raises(hakuban.WrongFormatError):
            _ = strange.data
        contract.set_object_data(21)
        assert watcher.object_data() == 21
        assert state.raw == b'"warm"'


def test_a_state_is_decoded_once() -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        contract.set_object_data([1])
        state = next(iter(watcher))
        assert state.data is state.data


def test_setting_on_a_closed_contract_raises() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as of_object, node.tag("weather").expose() as of_tag:
        pass
    with pytest.raises(anyio.ClosedResourceError):
        of_object.set_object_data(1)
    with pytest.raises(anyio.ClosedResourceError):
        of_object.set_object_state([1], 1)
    with pytest.raises(anyio.ClosedResourceError):
        of_object.set_object_version([1])
    with pytest.raises(anyio.ClosedResourceError):
        of_object.set_synchronized()
    with pytest.raises(anyio.ClosedResourceError):
        of_tag.set_object_data(WEATHER, 1)


def test_what_was_read_stays_readable_after_closing() -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe() as watcher:
        contract.set_object_data(1)
    assert watcher.object_data() == 1
    assert not watcher.synchronized
    assert list(watcher) == []


def test_everything_is_settled_when_a_call_returns_although_nobody_ticks() -> None:
    node = LocalNode()
    objects = [node.object(["many"], number).observe() for number in range(1_000)]
    with node.tag("many").expose() as contract:
        assert len(contract.object_descriptors()) == 1_000
        sinks = iter(contract)
        for _ in range(1_000):
            next(sinks).set("value")
        assert all(watcher.synchronized for watcher in objects)
    assert not any(watcher.synchronized for watcher in objects)
    for watcher in objects:
        watcher.close()
    assert node.snapshot().objects == []


def test_a_state_may_be_as_long_as_a_node_takes_and_no_byte_longer() -> None:
    node = LocalNode(max_state=100)
    with node.object(WEATHER).expose(serializer=RAW) as exposer:
        exposer.set_object_data(bytes(100))
        with pytest.raises(hakuban.StateTooLargeError):
            exposer.set_object_data(bytes(101))
