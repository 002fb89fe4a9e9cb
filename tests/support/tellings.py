"""The two ways in which stories are told: in tasks of an event loop, and in plain threads."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio
import pytest
from typing_extensions import override

from .scenes import TIMEOUT, Block, EndedError, Iterates, Part, Scene, Story

if TYPE_CHECKING:
    from anyio.abc import TaskGroup, TaskStatus

T = TypeVar("T")

_BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
_WANTED = os.environ.get("HAKUBAN_BACKENDS", "asyncio,uvloop,trio,threads").split(",")
_TRANSPORTS = os.environ.get("HAKUBAN_TRANSPORTS", "memory,ws,zmq").split(",")


def columns(*transports: str, loops: bool = True, threads: bool = True) -> list[str]:
    """Name the columns of these transports: on all event loops that are installed, and in threads.

    HAKUBAN_BACKENDS=trio,threads and HAKUBAN_TRANSPORTS=ws narrow that.
    """
    wanted = [way for way in _WANTED if (threads if way == "threads" else loops)]
    installed = [way for way in wanted if way not in _BACKENDS or importlib.util.find_spec(way)]
    over = [transport for transport in transports if transport in _TRANSPORTS]
    return [f"{transport}-{way}" for transport in over for way in installed]


def scene_of(column: str) -> Scene:
    """Make the scene of a column."""
    transport, _, way = column.partition("-")
    return ThreadScene(transport) if way == "threads" else TaskScene(transport, _BACKENDS[way])


class _TaskBlock(Block[T]):
    """A block in a task of its own, since blocks within one task can only be left in the order of their nesting."""

    def __init__(self) -> None:
        self._leaving, self._left = anyio.Event(), anyio.Event()

    async def serve(
        self, block: AbstractAsyncContextManager[T], *, task_status: TaskStatus[None]
    ) -> None:
        async with block as self.value:
            task_status.started()
            await self._leaving.wait()
        self._left.set()

    @override
    async def leave(self) -> None:
        self._leaving.set()
        with anyio.fail_after(TIMEOUT):
            await self._left.wait()


class TaskScene(Scene):
    """Tells stories in tasks: `await`, `async for`, `async with`.

    :param backend: name and options of an anyio backend.
    """

    def __init__(self, transport: str, backend: tuple[str, dict[str, Any]]) -> None:
        super().__init__(transport)
        self._backend = backend
        self._tasks: TaskGroup

    @override
    def tell(self, story: Story) -> None:
        name, options = self._backend
        anyio.run(self._tell, story, backend=name, backend_options=options)

    async def _tell(self, story: Story) -> None:
        async with anyio.create_task_group() as self._tasks:
            try:
                await story
                await self._end()
            finally:
                self._close_nodes()

    @override
    async def together(self, *parts: Part) -> None:
        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(_await, part)

    @override
    async def _wait(
        self, awaiting: Callable[[], Awaitable[T]], blocking: Callable[[float], T]
    ) -> T:
        with anyio.fail_after(TIMEOUT):
            return await awaiting()

    @override
    def iterate(self, over: Iterates[T]) -> Any:
        return aiter(over)

    @override
    async def step(self, iterator: Any) -> Any:
        try:
            with anyio.fail_after(TIMEOUT):
                return await anext(iterator)
        except StopAsyncIteration:
            raise EndedError from None

    @override
    async def _enter(
        self,
        awaiting: Callable[[], AbstractAsyncContextManager[T]],
        blocking: Callable[[], AbstractContextManager[T]],
    ) -> Block[T]:
        block: _TaskBlock[T] = _TaskBlock()
        with anyio.fail_after(TIMEOUT):
            await self._tasks.start(block.serve, awaiting())
        return block


class _ThreadBlock(Block[T]):
    def __init__(self, block: AbstractContextManager[T]) -> None:
        self._stack = ExitStack()
        self.value = self._stack.enter_context(block)

    @override
    async def leave(self) -> None:
        self._stack.close()


class ThreadScene(Scene):
    """Tells stories in threads: blocking calls, `for`, `with hakuban.sync...`."""

    @override
    def tell(self, story: Story) -> None:
        try:
            _run_without_loop(story)
            _run_without_loop(self._end())
        finally:
            self._close_nodes()
            for block in reversed(self._blocks):
                _run_without_loop(block.leave())

    @override
    async def together(self, *parts: Part) -> None:
        ends = [_End() for _ in parts]
        for end, part in zip(ends, parts, strict=True):
            threading.Thread(target=end.run, args=(part,), daemon=True).start()
        for end in ends:
            end.result(2 * TIMEOUT)

    @override
    async def _wait(
        self, awaiting: Callable[[], Awaitable[T]], blocking: Callable[[float], T]
    ) -> T:
        return blocking(TIMEOUT)

    @override
    def iterate(self, over: Iterates[T]) -> Any:
        return iter(over)

    @override
    async def step(self, iterator: Any) -> Any:
        try:
            return next(iterator)
        except StopIteration:
            raise EndedError from None

    @override
    async def _enter(
        self,
        awaiting: Callable[[], AbstractAsyncContextManager[T]],
        blocking: Callable[[], AbstractContextManager[T]],
    ) -> Block[T]:
        return _ThreadBlock(blocking())


async def _await(part: Part) -> None:
    if isinstance(part, Coroutine):
        await part
    else:
        part()


class _End(Future[None]):
    """How a part ended, for the thread that waits for it."""

    def run(self, part: Part) -> None:
        with self:
            _run_without_loop(_await(part))

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: object
    ) -> Literal[True]:
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)
        return True


def _run_without_loop(story: Story) -> None:
    try:
        story.send(None)
    except StopIteration:
        return
    story.close()
    pytest.fail("the story has awaited something that is no verb of its scene")
