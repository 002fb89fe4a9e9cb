"""What contracts, nodes and listeners report as events (scenarios 26 and 27)."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban import ClosedError, LocalNode, ObjectDescriptor, WaitTimeoutError
from hakuban.events import Action, Event, EventSource
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Hashable

INSERT, CHANGE, REMOVE = Action.INSERT, Action.CHANGE, Action.REMOVE
WARSAW = ObjectDescriptor(["weather"], "Warsaw")
POZNAN = ObjectDescriptor(["weather"], "Poznań")


def actions(events: list[Event[ObjectDescriptor]]) -> list[Action]:
    assert {event.key for event in events} <= {WARSAW}
    return [event.action for event in events]


def test_an_observed_object_is_there_changes_with_its_state_and_goes_with_its_contract() -> None:
    node = LocalNode()
    observe = node.object(WARSAW).observe()
    buffer = observe.changes().buffer()
    assert actions(buffer.ready()) == [INSERT]
    assert buffer.ready() == []
    with node.object(WARSAW).expose() as expose:
        expose.set_object_data(1)
        assert actions(buffer.ready()) == [CHANGE]
        expose.set_synchronized(3.0)
        assert actions(buffer.ready()) == [CHANGE]
        expose.set_synchronized()
        assert actions(buffer.ready()) == [CHANGE]
    assert actions(buffer.ready()) == [CHANGE], "nobody produces it any more"
    observe.close()
    assert actions(buffer.ready()) == [REMOVE]
    assert buffer.closed


def test_an_exposed_object_changes_with_its_assignment() -> None:
    node = LocalNode()
    with node.object(WARSAW).expose() as expose:
        buffer = expose.changes().buffer()
        assert actions(buffer.ready()) == [INSERT]
        with node.object(WARSAW).observe():
            assert actions(buffer.ready()) == [CHANGE]
        assert actions(buffer.ready()) == [CHANGE]
    assert actions(buffer.ready()) == [REMOVE]


def test_the_objects_of_a_tag_come_change_and_go() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as observe, node.tag("weather").expose() as able:
        buffer, work = observe.changes().buffer(), able.changes().buffer()
        assert (buffer.ready(), work.ready()) == ([], [])
        with node.object(WARSAW).observe():
            assert (actions(buffer.ready()), actions(work.ready())) == ([INSERT], [INSERT])
            able.set_object_data(WARSAW, 1)
            assert (actions(buffer.ready()), work.ready()) == ([CHANGE], [])
            assert observe.changes().keys() == [WARSAW] == able.changes().keys()
        assert (actions(buffer.ready()), actions(work.ready())) == ([REMOVE], [REMOVE])
        with node.object(WARSAW).observe():
            able.set_object_data(WARSAW, 2)
            assert actions(observe.changes().buffer().ready()) == [INSERT]
            late = observe.changes().buffer()
        assert late.ready() == [], "it has come and gone before anybody has read that"


def test_whoever_comes_late_gets_the_objects_that_are_there() -> None:
    node = LocalNode()
    with (
        node.tag("weather").observe() as observe,
        node.object(WARSAW).observe(),
        node.object(POZNAN).observe(),
        observe.changes().buffer() as buffer,
    ):
        assert {*buffer.ready()} == {(INSERT, WARSAW), (INSERT, POZNAN)}


def test_the_end_of_a_contract_on_a_tag_removes_its_objects() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe():
        observe = node.tag("weather").observe()
        source = observe.changes()
        buffer = source.buffer()
        observe.close()
        assert buffer.ready() == [], "it was not read that it had come"
        assert buffer.closed
        with pytest.raises(ClosedError, match="weather"):
            buffer.get_sync()
        assert source.keys() == []
        assert [*source.buffer()] == []


def test_keys_are_mapped_and_annotated() -> None:
    node = LocalNode()
    with node.tag("weather").observe() as observe, node.object(WARSAW).observe():
        cities: EventSource[Hashable] = observe.changes().map(lambda key: key.json)
        assert cities.keys() == ["Warsaw"]
        assert cities.buffer().ready() == [(INSERT, "Warsaw")]
        noted = cities.annotate("from here")
        assert noted.keys() == [("from here", "Warsaw")]
        assert noted.buffer().ready() == [(INSERT, ("from here", "Warsaw"))]


def test_a_node_tells_of_the_objects_that_it_knows() -> None:
    node = LocalNode()
    with node.object(POZNAN).observe():
        buffer = node.changes().buffer()
        assert buffer.ready() == [(INSERT, POZNAN)]
        with node.object(WARSAW).expose():
            assert buffer.ready() == [(INSERT, WARSAW)]
            assert {*node.changes().keys()} == {WARSAW, POZNAN}
        assert buffer.ready() == [(REMOVE, WARSAW)]
    node.close()
    assert buffer.ready() == [(REMOVE, POZNAN)]
    assert buffer.closed


@pytest.mark.anyio
async def test_a_node_and_a_listener_tell_who_is_linked() -> None:
    above = LocalNode(name="above")
    async with above.listen("memory://") as listener:
        at_node, at_listener = above.peer_changes().buffer(), listener.peer_changes().buffer()
        async with LocalNode(name="below").connect(listener.url):
            for buffer in (at_node, at_listener):
                event = await buffer.get()
                assert (event.action, event.key.name) == (INSERT, "below")
                assert (event.key,) == above.peers == listener.peers
        for buffer in (at_node, at_listener):
            event = await buffer.get()
            assert (event.action, event.key.name) == (REMOVE, "below")
    assert [event async for event in at_listener] == []
    assert not at_node.closed
    above.close()
    assert [event async for event in at_node] == []


@pytest.mark.anyio
async def test_a_loop_gets_what_happens_while_it_waits() -> None:
    node = LocalNode()
    seen: list[Event[ObjectDescriptor]] = []
    note = seen.append

    async def read(observe_changes: EventSource[ObjectDescriptor]) -> None:
        async for event in observe_changes:
            note(event)

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, observe.changes())
            await until(lambda: seen)
            expose.set_object_data(1)
            await until(lambda: len(seen) == 2)
            observe.close()
    assert actions(seen) == [INSERT, CHANGE, REMOVE]


def test_a_thread_loops_and_waits_too() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe:
        for event in observe.changes():
            assert event == (INSERT, WARSAW)
            break
        buffer = observe.changes().buffer()
        assert buffer.get_sync() == (INSERT, WARSAW)
        with pytest.raises(WaitTimeoutError, match="no event"):
            buffer.get_sync(timeout=0.01)
        observe.close()
        assert [*buffer] == [(REMOVE, WARSAW)]


@pytest.mark.anyio
async def test_a_cancelled_wait_loses_nothing() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe, observe.changes().buffer() as buffer:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await buffer.get()
        assert await buffer.get() == (INSERT, WARSAW)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(buffer.get)
            await until(lambda: node._engine._parking.places)
            tasks.cancel_scope.cancel()
        assert not node._engine._parking.places


def test_what_is_cleared_or_closed_reports_no_more() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        buffer = observe.changes().buffer()
        buffer.clear()
        expose.set_object_data(1)
        assert actions(buffer.ready()) == [CHANGE]
        buffer.close()
        expose.set_object_data(2)
        assert buffer.ready() == []
        assert buffer.closed
        buffer.close()


def test_a_loop_that_was_left_and_a_buffer_that_was_forgotten_are_closed() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe:
        for _ in observe.changes():
            break
        observe.changes().buffer()
        gc.collect()
        assert not observe._entry.feed


def test_a_list_of_what_never_ends_is_refused() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe:
        with pytest.raises(TypeError, match=r"source\.keys"):
            [*observe.changes()]
        with pytest.raises(TypeError, match=r"source\.keys"):
            assert WARSAW in observe.changes()


def test_what_is_ready_is_taken_at_one_moment() -> None:
    node = LocalNode()

    def changed(key: ObjectDescriptor) -> ObjectDescriptor:
        expose.set_object_data(1)  # meanwhile there is something again
        return key

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        buffer = observe.changes().map(changed).buffer()
        assert buffer.ready() == [(INSERT, WARSAW)]
        assert buffer.ready() == [(CHANGE, WARSAW)]
