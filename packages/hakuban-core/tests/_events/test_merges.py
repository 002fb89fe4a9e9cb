"""Several sources as one (scenarios 28 and 29)."""

from __future__ import annotations

import copy
import pickle
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban import LocalNode, ObjectDescriptor
from hakuban._engine.poll_results import PENDING
from hakuban._loops.wakeups import ThreadWaiter
from hakuban.events import Action, Event, EventMerge
from support.logs import lines_with
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from hakuban.events import EventSource

INSERT, CHANGE, REMOVE = Action.INSERT, Action.CHANGE, Action.REMOVE
WARSAW = ObjectDescriptor(["weather"], "Warsaw")


def test_the_same_key_of_two_sources_is_there_as_long_as_in_one_of_them() -> None:
    one, other = LocalNode(), LocalNode()
    with one.object(WARSAW).observe() as here, other.object(WARSAW).observe() as there:
        merge = EventMerge[ObjectDescriptor]()
        buffer = merge.buffer()
        first = merge.include(here.changes())
        assert buffer.ready() == [(INSERT, WARSAW)]
        second = merge.include(there.changes())
        assert buffer.ready() == [(CHANGE, WARSAW)]
        second.remove()
        assert buffer.ready() == [(CHANGE, WARSAW)]
        second.remove()
        assert buffer.ready() == []
        assert merge.keys() == [WARSAW]
        first.remove()
        assert buffer.ready() == [(REMOVE, WARSAW)]
        assert merge.keys() == []


def test_what_a_merge_includes_ends_with_its_contract() -> None:
    node = LocalNode()
    here, there = node.object(WARSAW).observe(), node.object(WARSAW).expose()
    merge = EventMerge(here.changes(), there.changes())
    seen: list[Action] = []
    with merge.register(lambda event: seen.append(event.action)):
        there.set_object_data(1)
        here.close()
        there.close()
    assert seen[0] is INSERT
    assert seen[-1] is REMOVE
    assert {*seen[1:-1]} == {CHANGE}


def test_sources_are_told_apart_by_what_they_are_annotated_with() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as here, node.object(WARSAW).expose() as there:
        merge = EventMerge(here.changes().annotate("seen"), there.changes().annotate("made"))
        assert {*merge.keys()} == {("seen", WARSAW), ("made", WARSAW)}
        assert {*merge.map(lambda key: key[0]).keys()} == {"seen", "made"}
        buffer = merge.map(lambda key: key[0]).buffer()
        buffer.clear()
        there.set_object_data(1)
        assert buffer.ready() == [(CHANGE, "seen")]


def test_a_merge_is_merged() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe:
        buffer = EventMerge(EventMerge(observe.changes())).buffer()
        assert buffer.get_sync(timeout=5) == (INSERT, WARSAW)
        observe.close()
        assert buffer.get_sync(timeout=5) == (REMOVE, WARSAW)


@pytest.mark.anyio
async def test_tasks_wait_for_a_merge() -> None:
    one, other = LocalNode(), LocalNode()
    seen: list[Event[ObjectDescriptor]] = []
    merge = EventMerge[ObjectDescriptor]()
    note = seen.append

    async def read() -> None:
        async for event in merge:
            note(event)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        with one.object(WARSAW).observe() as here, other.object(WARSAW).expose() as there:
            merge.include(here.changes())
            await until(lambda: seen == [(INSERT, WARSAW)])
            merge.include(there.changes())
            await until(lambda: seen[1:] == [(CHANGE, WARSAW)])
        await until(lambda: seen[-1] == (REMOVE, WARSAW))
        tasks.cancel_scope.cancel()
    assert not one._engine._parking.places
    assert not other._engine._parking.places


def test_a_thread_waits_for_a_merge() -> None:
    node = LocalNode()
    merge = EventMerge[ObjectDescriptor]()
    seen: list[Event[ObjectDescriptor]] = []
    thread = threading.Thread(target=lambda: seen.append(merge.buffer().get_sync(timeout=30)))
    thread.start()
    with node.object(WARSAW).observe() as observe, merge.include(observe.changes()):
        thread.join()
    assert seen == [(INSERT, WARSAW)]
    assert merge.keys() == []


# ---- what goes wrong, and what stays -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_slow_callback_of_a_merge_holds_up_no_other_listener() -> None:
    node, leave = LocalNode(), threading.Event()

    def block(event: Event[ObjectDescriptor]) -> None:
        if event.action is CHANGE:
            assert leave.wait(30)

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        merge = EventMerge(observe.changes())
        buffer = merge.buffer()
        merge.register(block)
        buffer.clear()
        changing = threading.Thread(target=expose.set_object_data, args=[1])
        changing.start()
        with anyio.fail_after(10):
            assert await buffer.get() == (CHANGE, WARSAW)
        leave.set()
        changing.join()


@pytest.mark.parametrize("how", ["map", "annotate", "twice"])
def test_a_callback_keeps_the_merge_behind_its_source(how: str) -> None:
    node = LocalNode()
    seen: list[Action] = []

    def source(merge: EventMerge[ObjectDescriptor]) -> EventSource[Any]:
        mapped = merge.map(lambda key: key.json)
        return {"map": mapped, "annotate": merge.annotate("it"), "twice": mapped.annotate(1)}[how]

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        source(EventMerge(observe.changes())).register(lambda event: seen.append(event.action))
        expose.set_object_data(1)
    assert (seen[0], seen[-1]) == (INSERT, REMOVE)
    assert CHANGE in seen


def test_a_key_that_cannot_be_mapped_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def mapped(key: ObjectDescriptor) -> object:
        if key.json == 3:
            raise ValueError(key)
        return key.json

    node = LocalNode()
    with node.tag("weather").observe() as weather, ExitStack() as contracts:
        buffer = weather.changes().map(mapped).buffer()
        merge = EventMerge(weather.changes().map(mapped))
        for number in range(5):
            contracts.enter_context(node.object((["weather"], number)).observe())
            contracts.enter_context(node.object((["weather"], number)).expose())
        assert {event.key for event in buffer.ready()} == {0, 1, 2, 4} == {*merge.keys()}
    assert lines_with(caplog, "no key can be made for")
    assert lines_with(caplog, "raised, for")
    assert merge.keys() == []


def test_a_key_whose_insert_was_lost_takes_none_away_from_others() -> None:
    node, other = LocalNode(), LocalNode()
    fails = True

    def mapped(key: ObjectDescriptor) -> ObjectDescriptor:
        if fails:
            raise ValueError(key)
        return key

    with node.object(WARSAW).observe() as here:
        there = other.object(WARSAW).observe()
        merge = EventMerge(here.changes(), there.changes().map(mapped))
        fails = False
        there.close()
        assert merge.keys() == [WARSAW]


def test_a_source_that_has_ended_is_forgotten() -> None:
    node = LocalNode()
    merge = EventMerge[ObjectDescriptor]()
    for _ in range(100):
        with node.object(WARSAW).observe() as observe:
            merge.include(observe.changes())
            assert merge.keys() == [WARSAW]
    assert not merge._included
    assert not merge._emitter.sources


def test_a_merge_is_no_part_of_itself() -> None:
    merge, outer = EventMerge[ObjectDescriptor](), EventMerge[ObjectDescriptor]()
    outer.include(merge)
    for circle in (merge, outer, merge.map(lambda key: key), EventMerge(outer)):
        with pytest.raises(ValueError, match="cannot include itself"):
            merge.include(circle)
    nothing: Any = LocalNode().object(WARSAW)
    with pytest.raises(TypeError, match=r"write `\.changes\(\)` after"):
        merge.include(nothing)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_nothing_is_copied_whose_copy_would_close_it(copied: Callable[[object], object]) -> None:
    with LocalNode().object(WARSAW).observe() as observe:
        merge = EventMerge(observe.changes())
        for one in (observe.changes().buffer(), merge):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                copied(one)
        assert merge.keys() == [WARSAW]


def test_whoever_is_woken_while_it_parks_is_parked_nowhere() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        merge = EventMerge(observe.changes())
        buffer = merge.buffer()
        buffer.clear()
        hub: Any = merge._emitter
        waiter = ThreadWaiter()

        def poll() -> object:
            if (
                node._engine._lock.inside
            ):  # in the middle: it is parked at the merge, and not at the node yet
                hub.wake("place")
                hub._outbox.carry_out()
            return PENDING

        assert not hub.park("place", waiter, poll)
        assert not node._engine._parking.places
        assert not hub._parking.places
        expose.set_object_data(1)
        assert buffer.ready() == [(CHANGE, WARSAW)]
