"""Callbacks: each event once, one at a time, outside all locks, and nobody waits for them (scenario 30)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from hakuban import LocalNode, ObjectDescriptor
from hakuban.events import Action, Event
from support.logs import lines_with
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

INSERT, CHANGE, REMOVE = Action.INSERT, Action.CHANGE, Action.REMOVE
WARSAW = ObjectDescriptor(["weather"], "Warsaw")


def test_ten_thousand_changes_of_one_thread_are_ten_thousand_calls_in_order() -> None:
    node = LocalNode()
    seen: list[object] = []
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(lambda _: seen.append(observe.object_data()))
        for number in range(10_000):
            expose.set_object_data(number)
        assert seen == [None, *range(10_000)]


@pytest.mark.anyio
async def test_ten_thousand_changes_of_one_task_are_as_many_calls_in_another_thread() -> None:
    node = LocalNode()
    seen: list[object] = []
    threads: set[int] = set()

    def note(_: object) -> None:
        threads.add(threading.get_ident())
        seen.append(observe.object_data())

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(note)
        for number in range(1_000):
            expose.set_object_data(number)
        assert seen == [None, *range(1_000)]
        assert threading.get_ident() not in threads


def test_a_slow_callback_gets_the_last_change_of_each_key_and_one_event_a_key_waits() -> None:
    node = LocalNode()
    last: dict[ObjectDescriptor, object] = {}
    running = threading.Lock()
    calls = 0

    def note(event: Event[ObjectDescriptor]) -> None:
        nonlocal calls
        assert running.acquire(blocking=False), "one call at a time"
        time.sleep(0.001)
        calls += 1
        last[event.key] = observe.object_data(event.key)
        running.release()

    def change(which: int) -> None:
        for number in range(300):
            expose.set_object_data(objects[number % 5], (which, number))

    objects = [ObjectDescriptor(["weather"], number) for number in range(5)]
    with node.tag("weather").observe() as observe, node.tag("weather").expose(capacity=9) as expose:
        contracts = [node.object(descriptor).observe() for descriptor in objects]
        registration = observe.changes().register(note)
        threads = [threading.Thread(target=change, args=[which]) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # the last one of the threads that called has gone on until nothing waited
        assert last == {descriptor: observe.object_data(descriptor) for descriptor in objects}
        assert calls < 4 * 300
        registration.unregister()
        for contract in contracts:
            contract.close()


@pytest.mark.anyio
async def test_nobody_is_woken_later_because_a_callback_blocks() -> None:
    node = LocalNode()
    leave, entered = threading.Event(), threading.Event()

    def block(event: Event[ObjectDescriptor]) -> None:
        if event.action is CHANGE:
            entered.set()
            leave.wait(30)

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(block)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, partial(expose.set_object_data, 1))
            assert (await observe.wait_state()).data == 1
            await anyio.to_thread.run_sync(entered.wait)
            expose.set_object_data(2)  # of this loop's thread
            states = aiter(observe)
            assert (await anext(states)).data == 2
            leave.set()


@pytest.mark.anyio
async def test_an_event_loop_goes_on_while_the_callback_of_its_own_change_blocks() -> None:
    node = LocalNode()
    leave = threading.Event()
    seen: list[Event[ObjectDescriptor]] = []

    def block(event: Event[ObjectDescriptor]) -> None:
        leave.wait(30)
        seen.append(event)

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        registration = observe.changes().register(block)
        expose.set_object_data(1)
        assert (await observe.wait_state()).data == 1
        assert seen == []
        leave.set()
        await until(lambda: seen[-1:] == [(CHANGE, WARSAW)] or seen == [(INSERT, WARSAW)])
        registration.unregister()


def test_a_callback_may_use_the_node_and_be_called_for_its_own_changes() -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:

        def count(_: object) -> None:
            number = observe.object_data() or 0
            if number < 1_000:
                expose.set_object_data(number + 1)

        observe.changes().register(count)
        assert observe.object_data() == 1_000


def test_a_callback_that_raises_is_logged_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = LocalNode()
    seen: list[Action] = []

    def fail(event: Event[ObjectDescriptor]) -> None:
        raise ValueError(event.action.name)

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        registration = observe.changes().register(fail)
        observe.changes().register(lambda event: seen.append(event.action))
        expose.set_object_data(1)
        registration.unregister()
    assert seen == [INSERT, CHANGE, CHANGE, REMOVE]
    lines = lines_with(caplog, "raised")
    assert len(lines) == 2
    assert all('ObjectObserve ["weather"]:"Warsaw"' in line for line in lines), lines
    assert "ValueError: CHANGE" in caplog.text


def test_a_callback_that_takes_long_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    node = LocalNode()
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(lambda _: time.sleep(0.02))
        expose.set_object_data(1)
        (line,) = lines_with(caplog, "took")
    assert "via=" in line
    assert "Warsaw" in line
    assert caplog.records[0].levelno == logging.WARNING


def test_after_unregistering_nothing_is_called() -> None:
    node = LocalNode()
    seen: list[Action] = []
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        with observe.changes().register(lambda event: seen.append(event.action)) as registration:
            expose.set_object_data(1)
            was_closed = registration.closed
        expose.set_object_data(2)
        registration.unregister()
        assert (was_closed, registration.closed) == (False, True)
        assert not observe._entry.feed
    assert seen == [INSERT, CHANGE]


def test_a_callback_may_unregister_itself() -> None:
    node = LocalNode()
    seen: list[Action] = []

    def once(event: Event[ObjectDescriptor]) -> None:
        seen.append(event.action)
        if event.action is CHANGE:
            registration.unregister()

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        registration = observe.changes().register(once)
        for number in range(3):
            expose.set_object_data(number)
    assert seen == [INSERT, CHANGE]


def test_a_registration_nobody_keeps_lives_as_long_as_its_contract() -> None:
    node = LocalNode()
    seen: list[Action] = []
    observe = node.object(WARSAW).observe()
    registration = observe.changes().register(lambda event: seen.append(event.action))
    observe.close()
    assert seen == [INSERT, REMOVE]
    assert registration.closed


def test_events_are_handed_over_to_an_event_loop() -> None:
    seen: list[tuple[Action, bool]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        node, ended = LocalNode(), asyncio.Event()

        def note(event: Event[ObjectDescriptor]) -> None:
            seen.append((event.action, asyncio.get_running_loop() is loop))
            if event.action is REMOVE:
                ended.set()

        def work() -> None:
            with node.object(WARSAW).observe() as observe:
                via: Callable[..., object] = loop.call_soon_threadsafe
                observe.changes().register(note, via=via)

        thread = threading.Thread(target=work)
        thread.start()
        await ended.wait()
        thread.join()

    asyncio.run(main())
    assert seen == [(INSERT, True), (REMOVE, True)]
