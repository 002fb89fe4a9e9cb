"""Calls that concern as many objects as there are: what they ask for holds when they return, although nobody ticks."""

from __future__ import annotations

import gc
import warnings
from contextlib import ExitStack

import pytest

from hakuban import LocalNode, ObjectDescriptor
from support.waiting import until

MANY = 600


def test_a_capacity_holds_for_many_objects_when_the_setter_returns() -> None:
    node = LocalNode()
    with ExitStack() as contracts:
        exposer = contracts.enter_context(node.tag("weather").expose(capacity=0))
        descriptors = [ObjectDescriptor(["weather"], number) for number in range(MANY)]
        for descriptor in descriptors:
            contracts.enter_context(node.object(descriptor).observe())
        assert not exposer.object_descriptors()
        exposer.capacity = 2 * MANY
        assert all(descriptor in exposer for descriptor in descriptors)


def test_a_contract_on_a_tag_concerns_all_its_objects_at_once() -> None:
    node = LocalNode()
    descriptors = {ObjectDescriptor(["weather"], number) for number in range(MANY)}
    with ExitStack() as contracts:
        for descriptor in descriptors:
            contracts.enter_context(node.object(descriptor).observe())
        watcher = contracts.enter_context(node.tag("weather").observe())
        assert all(descriptor in watcher for descriptor in descriptors)
        exposer = contracts.enter_context(node.tag("weather").expose(capacity=MANY))
        assert all(descriptor in exposer for descriptor in descriptors)


def test_whoever_asks_for_the_objects_of_a_tag_gets_them_although_many_have_just_changed() -> None:
    node = LocalNode()
    descriptors = {ObjectDescriptor(["weather"], number) for number in range(MANY)}
    objects = [node.object(descriptor).observe() for descriptor in descriptors]
    first = node.tag("weather").expose()
    with node.tag("weather").observe() as watcher, node.tag("weather").expose(capacity=0) as second:
        assert first.object_descriptors() == descriptors
        second.capacity = 1
        first.close()
        assert all(descriptor in second for descriptor in descriptors)
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            objects.clear()
            gc.collect()
        assert not watcher.object_descriptors()
        assert not second.object_descriptors()


def test_whoever_asks_for_the_objects_of_an_exposer_gets_them_although_another_has_just_been_left() -> (
    None
):
    node = LocalNode()
    descriptors = {ObjectDescriptor(["weather"], number) for number in range(MANY)}
    with ExitStack() as contracts:
        first = [node.tag("weather").expose()]
        for descriptor in descriptors:
            contracts.enter_context(node.object(descriptor).observe())
        second = contracts.enter_context(node.tag("weather").expose(capacity=0))
        second.capacity = 1
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            first.clear()
            gc.collect()
        assert second.object_descriptors() == descriptors


def test_a_snapshot_shows_all_that_was_done_before() -> None:
    node = LocalNode()
    objects = [node.object(["weather"], number).observe() for number in range(MANY)]
    with node.tag("weather").expose(capacity=MANY):
        assert len(node.snapshot().objects) == MANY
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            objects.clear()
            gc.collect()
        assert node.snapshot().objects == []


@pytest.mark.anyio
async def test_the_last_state_of_an_object_stays_with_all_who_look_at_it_and_none_keeps_an_older_one() -> (
    None
):
    above, below = LocalNode(), LocalNode()
    with ExitStack() as contracts:
        watchers = [
            contracts.enter_context(above.tag("weather").observe()) for _ in range(5 * MANY)
        ]
        async with above.listen("memory://") as listener, below.connect(listener.url):
            with below.object(ObjectDescriptor(["weather"], 1)).expose() as sink:
                await sink.wait_assigned()
                streams = [await anext(aiter(watcher)) for watcher in watchers]
                sink.set_object_data("first")
                for stream in streams:
                    await stream.wait_state()
                sink.set_object_data("last")
            await until(lambda: all(stream.closed for stream in streams))
        assert {stream.object_data() for stream in streams} == {"last"}
