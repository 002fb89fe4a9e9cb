"""All objects of a tag at once, and those that have ceased for a while."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import pickle
from contextlib import ExitStack
from time import monotonic, thread_time
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban import LocalNode, ObjectDescriptor, TagObserve
from hakuban._contents import Content, View
from hakuban._engine.view_table import ViewSchedule, ViewTable
from hakuban.events import Action
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hakuban.events import Event

INSERT, CHANGE, REMOVE = Action.INSERT, Action.CHANGE, Action.REMOVE
WARSAW = ObjectDescriptor(["weather"], "Warsaw")
POZNAN = ObjectDescriptor(["weather"], "Poznań")


@pytest.fixture
def node() -> Iterator[LocalNode]:
    with LocalNode() as node:
        yield node


@pytest.fixture
def weather(node: LocalNode) -> Iterator[TagObserve[int]]:
    """A contract on a tag whose objects are made when somebody observes them."""
    with node.tag("weather").observe(type=int) as weather:
        yield weather


def test_a_view_is_a_mapping_of_the_objects_that_have_a_state(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    with (
        weather.view() as view,
        node.tag("weather").expose() as able,
        node.object(WARSAW).observe(),
        node.object(POZNAN).observe(),
    ):
        assert (len(view), WARSAW in view) == (0, False)
        with pytest.raises(KeyError):
            view[WARSAW]
        able.set_object_data(WARSAW, 20)
        assert (len(view), WARSAW in view, POZNAN in view) == (1, True, False)
        assert view[WARSAW].data == 20
        assert view[["weather"], "Warsaw"].synchronized  # as wherever a descriptor is asked for
        assert view.get(POZNAN) is None
        able.set_object_data(POZNAN, 21)
        assert {named: state.data for named, state in view.items()} == {WARSAW: 20, POZNAN: 21}
        assert {*view} == {*view.keys()} == {WARSAW, POZNAN}
        assert sorted(state.data for state in view.values()) == [20, 21]
        assert view.live(WARSAW)
        assert next(iter(view.items()))[1].descriptor == WARSAW


def test_a_view_tells_what_happens_to_its_objects(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    with weather.view() as view, node.tag("weather").expose() as able:
        buffer = view.changes().buffer()
        contract = node.object(WARSAW).observe()
        assert buffer.ready() == [], "there is no state yet"
        able.set_object_data(WARSAW, 1)
        assert buffer.ready() == [(INSERT, WARSAW)]
        assert view.changes().keys() == [WARSAW]
        able.set_object_data(WARSAW, 2)
        assert buffer.ready() == [(CHANGE, WARSAW)]
        contract.close()
        assert buffer.ready() == [(REMOVE, WARSAW)]
        assert len(view) == 0


def test_a_view_that_comes_late_shows_what_there_is(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    with node.tag("weather").expose() as able, node.object(WARSAW).observe():
        able.set_object_data(WARSAW, 1)
        with weather.view() as view:
            assert [*view] == [WARSAW]
            assert view.changes().buffer().ready() == [(INSERT, WARSAW)]


def test_what_has_ceased_is_kept_stale_and_a_new_life_takes_its_place(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    with weather.view(retain=math.inf) as view, node.tag("weather").expose() as able:
        with node.object(WARSAW).observe():
            able.set_object_state(WARSAW, [9], 1)
            buffer = view.changes().buffer()
            buffer.clear()
        assert buffer.ready() == [(CHANGE, WARSAW)]
        state = view[WARSAW]
        assert (state.data, state.synchronized, view.live(WARSAW)) == (1, False, False)
        assert view[WARSAW].age >= state.age
        with node.object(WARSAW).observe():
            assert (view[WARSAW].data, view.live(WARSAW)) == (1, False), "no state of it yet"
            able.set_object_state(WARSAW, [1], 2)
            assert (view[WARSAW].data, view.live(WARSAW)) == (2, True), "whatever its version"
            assert buffer.ready() == [(CHANGE, WARSAW)]


def test_without_a_timer_what_was_kept_goes_at_the_next_look(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    with weather.view(retain=0.05) as view, node.tag("weather").expose() as able:
        with node.object(WARSAW).observe():
            able.set_object_data(WARSAW, 1)
        ceased = monotonic()
        buffer = view.changes().buffer()
        while WARSAW in view:
            assert monotonic() < ceased + 20
        assert monotonic() > ceased + 0.04
        assert len(view) == 0
        assert buffer.ready() == [], "it had come and gone"


@pytest.mark.anyio
async def test_whoever_waits_learns_when_what_was_kept_goes(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    with weather.view(retain=0.05) as view, node.tag("weather").expose() as able:
        with node.object(WARSAW).observe():
            able.set_object_data(WARSAW, 1)
        buffer = view.changes().buffer()
        assert await buffer.get() == (INSERT, WARSAW)
        with anyio.fail_after(20):
            assert await buffer.get() == (REMOVE, WARSAW)


@pytest.mark.anyio
async def test_the_timer_of_a_node_with_links_has_it_go(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    seen: list[Action] = []
    async with node.listen("memory://"):
        with weather.view(retain=0.05) as view, node.tag("weather").expose() as able:
            view.changes().register(lambda event: seen.append(event.action))
            with node.object(WARSAW).observe():
                able.set_object_data(WARSAW, 1)
            await until(lambda: seen[-1] is REMOVE)


def test_who_ceased_first_goes_first_where_too_many_are_kept(
    node: LocalNode, weather: TagObserve[int]
) -> None:
    objects = [ObjectDescriptor(["weather"], number) for number in range(5)]
    with (
        weather.view(retain=math.inf, retain_most=3) as view,
        node.tag("weather").expose(capacity=9) as able,
    ):
        for descriptor in objects:
            with node.object(descriptor).observe():
                able.set_object_data(descriptor, 1)
        assert [*view] == objects[2:]
    assert len(view) == 0


@pytest.mark.parametrize("how", ["the view", "the contract", "the node"])
def test_a_view_that_is_closed_is_empty(
    node: LocalNode, weather: TagObserve[int], how: str
) -> None:
    view = weather.view(retain=math.inf)
    buffer = view.changes().buffer()
    with node.tag("weather").expose(capacity=9) as able, node.object(POZNAN).observe():
        able.set_object_data(POZNAN, 1)
        with node.object(WARSAW).observe():
            able.set_object_data(WARSAW, 1)
        assert {*buffer.ready()} == {(INSERT, WARSAW), (INSERT, POZNAN)}
        {"the view": view.close, "the contract": weather.close, "the node": node.close}[how]()
        assert view.closed
        assert (len(view), [*view], WARSAW in view) == (0, [], False)
        assert {*buffer.ready()} == {(REMOVE, WARSAW), (REMOVE, POZNAN)}
        assert [*buffer] == []
        able.set_object_data(POZNAN, 2) if not node.closed else None
        assert len(view) == 0
        view.close()


def test_a_view_of_a_closed_contract_is_closed(weather: TagObserve[int]) -> None:
    weather.close()
    view = weather.view()
    assert view.closed
    assert [*view.changes().buffer()] == []


def test_a_view_that_was_forgotten_is_closed(weather: TagObserve[int]) -> None:
    view = weather.view()
    assert weather._entry.views
    del view
    gc.collect()
    assert not weather._entry.views


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_view_is_not_copied_since_its_copy_would_close_it(
    weather: TagObserve[int], copied: Callable[[object], object]
) -> None:
    with weather.view() as view:
        with pytest.raises(TypeError, match="a TagView belongs to its node, and is neither copied"):
            copied(view)
        gc.collect()
        assert not view.closed


@pytest.mark.parametrize("retain", ["1", None, -1.0, math.nan])
def test_what_is_no_time_is_refused(weather: TagObserve[int], retain: float) -> None:
    with pytest.raises((TypeError, ValueError), match="retain is a number"):
        weather.view(retain=retain)
    with pytest.raises(ValueError, match="retain_most"):
        weather.view(retain_most=-1)
    assert not weather._entry.views


def test_closing_a_node_removes_all_objects_of_its_views() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as weather, ExitStack() as kept:
        views = [kept.enter_context(weather.view()) for _ in range(3)]
        for number in range(2_000):
            expose = kept.enter_context(node.object((["weather"], number)).expose())
            expose.set_object_data(number)
        buffers = [view.changes().buffer() for view in views]
        for buffer in buffers:
            buffer.clear()
        node.close()
        assert not any(view._table.shown for view in views)
        for buffer in buffers:
            assert {event.action for event in buffer.ready()} == {REMOVE}
            assert buffer.closed


@pytest.mark.thorough
def test_a_hundred_thousand_objects_are_told_of_and_shown() -> None:
    node = LocalNode()
    with (
        node.tag("weather").observe(type=int) as weather,
        weather.view() as view,
        weather.changes().buffer() as objects,
        view.changes().buffer() as states,
        ExitStack() as exposed,
    ):
        names = [ObjectDescriptor(["weather"], number) for number in range(100_000)]
        for number, name in enumerate(names):
            exposed.enter_context(node.object(name).expose()).set_object_data(number)
        assert {*objects.ready()} == {*states.ready()} == {(INSERT, name) for name in names}
        assert [*view] == names
        assert view[names[-1]].data == len(view) - 1 == 99_999


# ---- in virtual time --------------------------------------------------------------------------------------------


def seen_at(since: float | None) -> View:
    return View(Content(b"1", ("JSON",), (1,)), since)


def test_what_is_kept_goes_when_its_time_has_come() -> None:
    table, schedule = ViewTable(retain=10.0, retain_most=100), ViewSchedule()
    for at, descriptor in enumerate([WARSAW, POZNAN]):
        table.changed(descriptor, seen_at(None))
        table.ceased(descriptor, seen_at(float(at)), float(at))
        schedule.look_at(table)
    assert schedule.due == 10.0
    schedule.expire(10.5)
    assert ([*table.shown], schedule.due) == ([POZNAN], 11.0)
    table.changed(POZNAN, seen_at(None))
    schedule.expire(99.0)
    assert ([*table.shown], schedule.due) == ([POZNAN], math.inf), "it has come back"


def test_many_go_a_few_at_a_time() -> None:
    table, schedule = ViewTable(retain=1.0, retain_most=10_000), ViewSchedule()
    for number in range(1_000):
        descriptor = ObjectDescriptor([], number)
        table.changed(descriptor, seen_at(None))
        table.ceased(descriptor, seen_at(0.0), 0.0)
    schedule.look_at(table)
    left = [len(table.shown)]
    while schedule.due <= 5.0:
        schedule.expire(5.0)
        left.append(len(table.shown))
    assert left[-1] == 0
    assert max(before - after for before, after in itertools.pairwise(left)) <= 256


def test_closing_costs_as_little_for_each_object_as_showing_it() -> None:
    table = ViewTable(retain=0.0, retain_most=10)
    names, view = [ObjectDescriptor([], number) for number in range(100_000)], seen_at(None)
    began = thread_time()
    for name in names:
        table.changed(name, view)
    shown = thread_time()
    table.end()
    while table.due() <= 1.0:
        table.expire(1.0)
    assert not table.shown
    assert thread_time() - shown < 10 * (shown - began)


def test_closing_drops_what_was_kept_and_what_was_not() -> None:
    table = ViewTable(retain=math.inf, retain_most=10)
    for name in (WARSAW, POZNAN):
        table.changed(name, seen_at(None))
    table.ceased(WARSAW, seen_at(0.0), 0.0)
    table.end()
    table.expire(0.0)
    assert (table.shown, table.kept, table.due()) == ({}, {}, math.inf)


def test_what_had_no_state_is_not_kept() -> None:
    table = ViewTable(retain=1.0, retain_most=10)
    table.ceased(WARSAW, None, 0.0)
    assert (table.shown, table.due()) == ({}, math.inf)


def test_events_of_a_view_are_those_of_its_table() -> None:
    table = ViewTable(retain=0.0, retain_most=10)
    seen: list[Event[ObjectDescriptor]] = []
    table.changed(WARSAW, seen_at(None))
    table.ceased(WARSAW, seen_at(1.0), 1.0)
    assert (seen, table.shown) == ([], {})
