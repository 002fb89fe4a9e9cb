"""Callbacks: each event once, one at a time, outside all locks, and nobody waits for them (scenario 30)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import anyio.to_thread
import pytest

from hakuban import LocalNode, ObjectDescriptor, WaitTimeoutError
from hakuban._engine import callbacks
from hakuban._events import registration
from hakuban.events import Action, Event, EventMerge
from support.logs import lines_with
from support.waiting import until, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from hakuban import ObjectObserve, TagObserve

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
async def test_ten_thousand_changes_of_one_task_are_as_many_calls_in_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = LocalNode()
    seen: list[object] = []
    threads: set[int] = set()

    def note(_: object) -> None:
        threads.add(threading.get_ident())
        seen.append(observe.object_data())

    monkeypatch.setattr(callbacks, "PATIENCE", 60.0)  # a machine may be busy for longer than 10 ms
    monkeypatch.setattr(registration, "SLOW", 60.0)
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(note)
        for number in range(10_000):
            expose.set_object_data(number)
        assert seen == [None, *range(10_000)]
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
        registered = observe.changes().register(note)
        threads = [threading.Thread(target=change, args=[which]) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # the last one of the threads that called has gone on until nothing waited
        assert last == {descriptor: observe.object_data(descriptor) for descriptor in objects}
        assert calls < 4 * 300
        registered.unregister()
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
        registered = observe.changes().register(block)
        expose.set_object_data(1)
        assert (await observe.wait_state()).data == 1
        assert seen == []
        leave.set()
        await until(lambda: seen[-1:] == [(CHANGE, WARSAW)] or seen == [(INSERT, WARSAW)])
        registered.unregister()


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
        registered = observe.changes().register(fail)
        observe.changes().register(lambda event: seen.append(event.action))
        expose.set_object_data(1)
        registered.unregister()
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
        with observe.changes().register(lambda event: seen.append(event.action)) as registered:
            expose.set_object_data(1)
            was_closed = registered.closed
        expose.set_object_data(2)
        registered.unregister()
        assert (was_closed, registered.closed) == (False, True)
        assert not observe._entry.feed
    assert seen == [INSERT, CHANGE]


def test_a_callback_may_unregister_itself() -> None:
    node = LocalNode()
    seen: list[Action] = []

    def once(event: Event[ObjectDescriptor]) -> None:
        seen.append(event.action)
        if event.action is CHANGE:
            registered.unregister()

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        registered = observe.changes().register(once)
        for number in range(3):
            expose.set_object_data(number)
    assert seen == [INSERT, CHANGE]


def test_a_registration_nobody_keeps_lives_as_long_as_its_contract() -> None:
    node = LocalNode()
    seen: list[Action] = []
    observe = node.object(WARSAW).observe()
    registered = observe.changes().register(lambda event: seen.append(event.action))
    observe.close()
    assert seen == [INSERT, REMOVE]
    assert registered.closed


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


# ---- who calls, and who does not ------------------------------------------------------------------------------------


class Blocking:
    """A callback that blocks when something changes, until it may go on.

    :ivar entered: set when it does.
    :ivar leave: to be set to let it go on.
    """

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()

    def __call__(self, event: Event[ObjectDescriptor]) -> None:
        if event.action is CHANGE:
            self.entered.set()
            assert self.leave.wait(30)


class Seen:
    """A callback that notes what it gets, and in which threads."""

    def __init__(self) -> None:
        self.events: list[Event[ObjectDescriptor]] = []
        self.threads: set[int] = set()

    def __call__(self, event: Event[ObjectDescriptor]) -> None:
        self.threads.add(threading.get_ident())
        self.events.append(event)


def read_everything(node: LocalNode, observe: ObjectObserve[Any], weather: TagObserve[Any]) -> None:
    node.snapshot()
    observe.object_state()
    observe.changes().keys()
    weather.object_descriptors()
    weather.view().close()
    with pytest.raises(WaitTimeoutError):
        observe.wait_sync(lambda _: False, timeout=0.01)


def test_whoever_only_reads_calls_nobody() -> None:
    node, first, second = LocalNode(), Blocking(), Seen()
    with (
        node.object(WARSAW).observe() as observe,
        node.tag("weather").observe() as weather,
        node.object(WARSAW).expose() as expose,
    ):
        observe.changes().register(first)
        observe.changes().register(second)
        second.threads.clear()
        changing = threading.Thread(target=expose.set_object_data, args=[1])
        changing.start()
        assert first.entered.wait(30)
        read_everything(node, observe, weather)
        assert second.events == [(INSERT, WARSAW)], "the thread of the change is still at the first"
        first.leave.set()
        changing.join()
        assert second.events == [(INSERT, WARSAW), (CHANGE, WARSAW)]
        assert threading.get_ident() not in second.threads


def test_a_finalizer_calls_nobody_and_waits_for_nobody() -> None:
    node, mine = LocalNode(), threading.Lock()
    seen: list[Event[ObjectDescriptor]] = []

    def note(event: Event[ObjectDescriptor]) -> None:
        with mine:
            seen.append(event)

    node.changes().register(note)
    forgotten = node.object(WARSAW).observe()
    seen.clear()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning), mine:
        del forgotten  # its object goes, and `note` would wait for what this thread holds
    wait_for(lambda: seen == [(REMOVE, WARSAW)])


@pytest.mark.parametrize("what", ["buffer", "view", "merge"])
def test_what_is_forgotten_in_the_lock_of_another_node_waits_for_nobody(what: str) -> None:
    node, other = LocalNode(), LocalNode()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert leave.wait(30)

    with node.tag("weather").observe() as weather:
        makers: dict[str, Callable[[], object]] = {
            "buffer": lambda: weather.changes().buffer(),
            "view": weather.view,
            "merge": lambda: EventMerge(weather.changes()),
        }
        forgotten = [makers[what]()]
        holder = threading.Thread(target=node._engine.read, args=[hold])
        holder.start()
        assert inside.wait(30)
        other._engine.read(forgotten.clear)  # it hangs if that waits for the lock of `node`
        leave.set()
        holder.join()
        assert not weather._entry.feed
        assert not weather._entry.views


@pytest.mark.anyio
@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
async def test_a_callback_that_ends_its_thread_ends_no_other(
    ending: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    node, good = LocalNode(), Seen()

    def bad(event: Event[ObjectDescriptor]) -> None:
        if event.action is CHANGE:
            raise ending

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(bad)
        observe.changes().register(good)
        for number in range(3):
            good.events.clear()
            expose.set_object_data(number)
            await until(lambda: good.events == [(CHANGE, WARSAW)])
    assert lines_with(caplog, "tried to end its thread")


def test_a_callback_that_is_interrupted_strands_nothing() -> None:
    node = LocalNode()
    seen: list[ObjectDescriptor] = []
    with node.tag("weather").observe() as weather, node.tag("weather").expose(capacity=9):
        objects = [node.object(["weather"], number).observe() for number in range(5)]

        def note(event: Event[ObjectDescriptor]) -> None:
            seen.append(event.key)
            if len(seen) == 2 or (len(seen) == 6 and event.action is REMOVE):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            weather.changes().register(note)
        assert not weather._entry.feed, "nobody could unregister it"
        seen.clear()
        seen.append(WARSAW)
        seen.append(WARSAW)
        registered = weather.changes().register(note)
        assert len(seen) == 7
        del seen[5:]
        with pytest.raises(KeyboardInterrupt):
            weather.close()
        wait_for(lambda: len({*seen}) == 6 and registered.closed)
        for contract in objects:
            contract.close()


@pytest.mark.anyio
async def test_a_callback_that_blocks_holds_up_no_other_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, first, other = LocalNode(), Blocking(), Seen()
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(first)
        observe.changes().register(other)
        for number in range(100):
            other.events.clear()
            expose.set_object_data(number)
            await until(lambda: other.events == [(CHANGE, WARSAW)])
        assert first.entered.is_set()
        assert node._engine.callbacks._helpers._orders.qsize() < 3
        first.leave.set()


def test_one_that_was_slow_is_waited_for_again_when_it_is_quick() -> None:
    node = LocalNode()
    pause = 2 * registration.SLOW
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        registered = observe.changes().register(lambda _: time.sleep(pause))
        assert registered._delivery.slow
        pause = 0.0

        def is_quick_enough_after(number: int) -> bool:
            expose.set_object_data(number)
            return not registered._delivery.slow

        assert any(map(is_quick_enough_after, range(1_000)))


def test_without_threads_what_is_to_be_called_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    node, seen = LocalNode(), Seen()

    async def set_without_threads() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            expose.set_object_data(1)
        assert seen.events == []
        expose.set_object_data(2)

    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        observe.changes().register(seen)
        seen.events.clear()
        asyncio.run(set_without_threads())
        wait_for(lambda: (CHANGE, WARSAW) in seen.events)
    assert lines_with(caplog, "no thread can be started")


@pytest.mark.parametrize("nothing", [None, 5, "print"])
def test_what_is_no_function_is_refused(nothing: Any) -> None:
    with LocalNode().object(WARSAW).observe() as observe:
        with pytest.raises(TypeError, match="a callback is a function of one event"):
            observe.changes().register(nothing)
        if nothing is not None:
            with pytest.raises(TypeError, match="`via` is a function"):
                observe.changes().register(print, via=nothing)
        with pytest.raises(TypeError, match="`map` takes a function"):
            observe.changes().map(nothing)
        assert not observe._entry.feed
