"""Links for programs without an event loop: one thread of this process runs one for all of them.

    node = hakuban.LocalNode()
    with hakuban.sync.connect(node, "ws://127.0.0.1:3001"):
        with node.object(["weather"], {"city": "Poznań"}).observe() as weather:
            for state in weather:
                print(state.data)

The thread starts with the first block and ends with the last one; it keeps no process alive. The child of a fork has
neither the thread nor the links: it leaves the blocks it is in at once, and makes nodes of its own.
"""

from __future__ import annotations

import atexit
import os
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from contextvars import Context
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from typing_extensions import Unpack, override

from ._loops.wakeups import in_event_loop
from ._net.link_context import Block, LinkBlock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ._api.node import LocalNode
    from ._net.connection import Connection, Listener
    from ._transport.interface import Transport
    from ._transport.options import TransportArguments

__all__ = ["connect", "listen"]

_T = TypeVar("_T")


class _LoopThread:
    """The thread that runs the event loop of all blocks: begins with the first one, and ends with the last.

    A BlockingPortalProvider would do, but for the child of a fork: what it leaves there waits for the thread, which did
    not come along, when it is collected.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._running: tuple[BlockingPortal, Thread] | None = None

    def __enter__(self) -> BlockingPortal:
        with self._lock:
            if self._running is None:
                started: Future[BlockingPortal] = Future()
                thread = Thread(target=_run_loop, args=(started,), name="hakuban.sync", daemon=True)
                thread.start()
                self._running = started.result(), thread
            self._users += 1
            return self._running[0]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._running is None:
                return
            (portal, thread), self._running = self._running, None
        portal.call(portal.stop)
        thread.join()


def _run_loop(started: Future[BlockingPortal]) -> None:
    async def run() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        # in a context of its own: that of whoever starts the thread may indicate that another event loop runs
        Context().run(anyio.run, run)
    finally:
        if not started.done():
            started.set_exception(RuntimeError("no event loop could be started in a thread"))


_loop_thread = _LoopThread()


def _after_fork() -> None:
    global _loop_thread  # noqa: PLW0603  # the thread did not come along
    _loop_thread = _LoopThread()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def connect(
    node: LocalNode,
    url: str,
    *,
    transport: Transport | None = None,
    wait: bool = True,
    name: str | None = None,
    load_limit: Iterable[tuple[float, int]] | int | str | None = None,
    **options: Unpack[TransportArguments],
) -> AbstractContextManager[Connection]:
    """Do what `LocalNode.connect` does, as a plain `with` block; see there for parameters and errors.

    :raises RuntimeError: an event loop runs in this thread.
    """
    return _Block(
        node.connect(
            url, transport=transport, wait=wait, name=name, load_limit=load_limit, **options
        ),
        "with hakuban.sync.connect(node, ...) as connection",
    )


def listen(
    node: LocalNode,
    url: str,
    *,
    transport: Transport | None = None,
    name: str | None = None,
    **options: Unpack[TransportArguments],
) -> AbstractContextManager[Listener]:
    """Do what `LocalNode.listen` does, as a plain `with` block; see there for parameters and errors.

    :raises RuntimeError: an event loop runs in this thread.
    """
    return _Block(
        node.listen(url, transport=transport, name=name, **options),
        "with hakuban.sync.listen(node, ...) as listener",
    )


class _Block(Block, AbstractContextManager[_T]):
    """A block of `async with` on the shared loop, as a plain one."""

    def __init__(self, block: AbstractAsyncContextManager[_T], spelling: str) -> None:
        super().__init__(spelling)
        assert isinstance(block, LinkBlock)
        block.entered.hand_over()
        self._block: LinkBlock[_T] = block
        self._scope: anyio.CancelScope | None = None
        self._stack = ExitStack()
        self._process = os.getpid()

    @override
    def __enter__(self) -> _T:
        if in_event_loop():
            self._refuse("this would block the event loop of this thread", RuntimeError)
        self.entered.once()
        with ExitStack() as stack:
            portal = stack.enter_context(_loop_thread)
            try:
                entered = stack.enter_context(portal.wrap_async_context_manager(self._held()))
            except (
                BaseException
            ):  # a KeyboardInterrupt: nobody waits for the link any more, so it must not go on
                portal.call(self._give_up)
                raise
            self._stack = stack.pop_all()
        _open.add(self)
        return entered

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[_T]:
        with anyio.CancelScope() as self._scope:
            async with self._block as entered:
                yield entered

    def _give_up(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    @override
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process != os.getpid():
            return  # the child of a fork has neither the thread nor the link, and waits for neither
        _open.discard(self)
        self._stack.__exit__(exc_type, exc_value, traceback)

    async def __aenter__(self) -> NoReturn:
        self._refuse("hakuban.sync is for threads without an event loop", TypeError)

    async def __aexit__(self, *_: object) -> None:
        """Is there for the sake of `__aenter__`."""

    def __await__(self) -> NoReturn:
        self._refuse("hakuban.sync is for threads without an event loop", TypeError)

    def _refuse(self, why: str, error: type[Exception]) -> NoReturn:
        self.entered.hand_over()
        self._block.entered.refuse(why, error)  # which states what to write in an event loop


_open: set[_Block[Any]] = set()


@atexit.register
def _leave_all() -> None:
    # whoever is still inside is in a daemon thread, or has forgotten to leave: later, the loop would not answer any more
    for block in tuple(_open):
        block.__exit__(None, None, None)
