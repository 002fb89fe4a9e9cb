from __future__ import annotations

import anyio
import anyio.to_thread

from hakuban._waking import Bell


async def test_a_bell_rung_before_is_heard_once() -> None:
    bell = Bell()
    bell.wake()
    bell.wake()
    with anyio.fail_after(5):
        await bell.wait()
    with anyio.move_on_after(0.01) as silence:
        await bell.wait()
    assert silence.cancelled_caught


async def test_a_bell_is_heard_by_the_one_who_waits_whoever_rings() -> None:
    bell = Bell()
    send, heard = anyio.create_memory_object_stream[str](10)

    async def listen() -> None:
        while True:
            await bell.wait()
            await send.send("heard")

    with send, heard:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5):
                bell.wake()
                assert await heard.receive() == "heard"
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(bell.wake)
                assert await heard.receive() == "heard"
            group.cancel_scope.cancel()


async def test_what_rings_while_a_wait_is_cancelled_is_heard_by_it_or_by_the_next() -> None:
    bell = Bell()
    heard = []

    async def listen() -> None:
        await bell.wait()
        heard.append("by it")

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        bell.wake()
        group.cancel_scope.cancel()
    if not heard:
        with anyio.fail_after(5):
            await bell.wait()
