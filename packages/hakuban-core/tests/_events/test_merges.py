"""Several sources as one (scenarios 28 and 29)."""

from __future__ import annotations

import threading

import anyio
import pytest

from hakuban import LocalNode, ObjectDescriptor
from hakuban.events import Action, Event, EventMerge
from support.waiting import until

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
