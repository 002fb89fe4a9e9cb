from __future__ import annotations

import anyio
import anyio.to_thread

from hakuban.transport import AutoResetEvent


async def test_nothing_is_set_at_first() -> None:
    event = AutoResetEvent()
    with anyio.move_on_after(0.01) as silence:
        await event.wait()
    assert silence.cancelled_caught


async def test_a_wait_that_could_return_at_once_can_be_cancelled_and_then_loses_nothing() -> None:
    event = AutoResetEvent()
    event.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await event.wait()
    assert scope.cancelled_caught
    with anyio.fail_after(5):
        await event.wait()


async def test_a_task_that_waits_again_and_again_gives_others_their_turns() -> None:
    event = AutoResetEvent()
    turns = []

    async def other() -> None:
        turns.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with anyio.fail_after(5):
            while not turns:
                event.set()
                await event.wait()


async def test_an_event_keeps_no_task_that_has_waited() -> None:
    event = AutoResetEvent()
    async with anyio.create_task_group() as group:
        group.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        event.set()
    assert event._waiter is None


async def test_what_was_set_before_ends_one_wait() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    with anyio.fail_after(5):
        await event.wait()
    with anyio.move_on_after(0.01) as silence:
        await event.wait()
    assert silence.cancelled_caught


async def test_who_waits_goes_on_whoever_sets_it() -> None:
    event = AutoResetEvent()
    send, passed = anyio.create_memory_object_stream[str](10)

    async def listen() -> None:
        while True:
            await event.wait()
            await send.send("passed")

    with send, passed:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5):
                event.set()
                assert await passed.receive() == "passed"
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(event.set)
                assert await passed.receive() == "passed"
            group.cancel_scope.cancel()


async def test_what_is_set_while_a_wait_is_cancelled_ends_that_one_or_the_next() -> None:
    event = AutoResetEvent()
    heard = []

    async def listen() -> None:
        await event.wait()
        heard.append("by it")

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        event.set()
        group.cancel_scope.cancel()
    if not heard:
        with anyio.fail_after(5):
            await event.wait()
