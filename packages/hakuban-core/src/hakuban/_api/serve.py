"""Running handlers while contracts are assigned."""

from __future__ import annotations

import functools
import inspect
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio

from .._checks import takes_one_argument
from .._engine.poll_results import PENDING
from .._engine.waiting import MemberCursor
from .._exceptions import NotAssignedError
from .._logger import logger
from .._loops.wakeups import Canceller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._descriptors import ObjectDescriptor
    from .._engine.engine import Engine
    from .._engine.entries import ExposeEntry, SinkEntry
    from .._engine.poll_results import Pending
    from .sinks import ObjectStateSink


FIRST_DELAY: Final = 1.0
LAST_DELAY: Final = 30.0
STALE: Final = 1e-6  # seconds: the smallest age that is not "now" to peers


async def serve(
    engine: Engine,
    contract: ExposeEntry,
    make: Callable[[SinkEntry], ObjectStateSink[Any]],
    handler: Callable[[ObjectStateSink[Any]], Awaitable[object]],
    on_error: str,
) -> None:
    """See `ExposeContract.serve`."""
    if on_error not in ("log", "raise"):
        raise ValueError(f"on_error is 'log' or 'raise', not {on_error!r:.100}")
    _check_handler(handler)

    def claim() -> bool:
        if contract.served or contract.loops:
            return False
        contract.served = True
        return True

    if not engine.read(claim):
        raise anyio.BusyResourceError("iterating or serving")
    try:
        await _Server(engine, contract, make, handler, raises=on_error == "raise").run()
    finally:
        contract.served = False


def _check_handler(handler: object) -> None:
    """Refuse what cannot be a handler, before the first assignment does.

    What a lambda returns, or a function made by a decorator, is only known when it was called.
    """
    if not callable(handler):
        raise TypeError(f"a handler is an async function of one sink, not {handler!r:.100}")
    called: Any = handler
    while isinstance(called, functools.partial):
        called = called.func
    if not (
        inspect.isroutine(called) or isinstance(called, type) or inspect.iscoroutinefunction(called)
    ):
        called = type(called).__call__
    if not inspect.iscoroutinefunction(called):
        inside = inspect.unwrap(called)  # of a decorator that is a plain function
        if inspect.isasyncgenfunction(inside):
            raise TypeError(
                "a handler does not yield its values: write sink.set(value) instead of `yield value`"
            )
        if isinstance(inside, type) or _is_plain(inside):
            raise TypeError(
                f"a handler is an async function of one sink: write `async def` for {handler!r:.100}"
            )
    if not takes_one_argument(handler):
        raise TypeError(
            f"a handler is called with the sink alone: write `async def produce(sink)`, not {handler!r:.100}"
        )


def _is_plain(function: object) -> bool:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return False
    return not inspect.iscoroutinefunction(function) and function.__name__ != "<lambda>"


class _Server:
    """The runs of one `serve`: at most one task for each object, which takes one assignment after the other."""

    def __init__(
        self,
        engine: Engine,
        contract: ExposeEntry,
        make: Callable[[SinkEntry], ObjectStateSink[Any]],
        handler: Callable[[ObjectStateSink[Any]], Awaitable[object]],
        *,
        raises: bool,
    ) -> None:
        self._engine = engine
        self._contract = contract
        self._make = make
        self._handler = handler
        self._raises = raises
        self._producing: set[ObjectDescriptor] = set()
        self._next: dict[ObjectDescriptor, SinkEntry] = {}

    async def run(self) -> None:
        assignments: MemberCursor[SinkEntry] = MemberCursor(
            self._engine, self._contract, lambda entry: entry
        )
        async with anyio.create_task_group() as group:
            async for entry in assignments:
                self._next[entry.descriptor] = entry
                if entry.descriptor not in self._producing:
                    self._producing.add(entry.descriptor)
                    group.start_soon(
                        self._produce, entry.descriptor, name=f"hakuban: {entry.descriptor}"
                    )

    async def _produce(self, descriptor: ObjectDescriptor) -> None:
        try:
            while (entry := self._next.pop(descriptor, None)) is not None:
                await self._serve_assignment(entry)
        finally:
            self._producing.discard(descriptor)

    async def _serve_assignment(self, entry: SinkEntry) -> None:
        def ended() -> bool | Pending:
            return True if entry.closed else PENDING

        with anyio.CancelScope() as scope:
            canceller = Canceller(scope)
            if not self._engine.park(entry, canceller, ended):
                return
            try:
                await self._try_until_done(self._make(entry))
            finally:
                self._engine.unpark(entry, canceller)

    async def _call(self, sink: ObjectStateSink[Any]) -> None:
        made = self._handler(sink)
        if not inspect.isawaitable(made):
            raise _NoHandlerError(
                f"a handler is an async function of one sink: {self._handler!r:.100} returned {made!r:.100}"
            )
        await made

    async def _try_until_done(self, sink: ObjectStateSink[Any]) -> None:
        delay = FIRST_DELAY
        while True:
            began = monotonic()
            try:
                await self._call(sink)
                return
            except _NoHandlerError as error:
                raise TypeError(str(error)) from None
            except Exception as error:  # the user's code: it must not end the other handlers
                if not sink.assigned and _says_not_assigned(error):
                    return
                if self._raises:
                    raise
                if monotonic() - began >= LAST_DELAY:
                    delay = FIRST_DELAY
                logger.exception("the handler of %s failed; again in %g s", sink.descriptor, delay)
                with suppress(NotAssignedError):
                    sink.set_synchronized(STALE)
            await anyio.sleep(delay)
            delay = min(2 * delay, LAST_DELAY)


class _NoHandlerError(Exception):
    """The handler has turned out to be none; trying again cannot help."""


def _says_not_assigned(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):  # of a handler that has a task group
        return error.split(NotAssignedError)[1] is None
    return isinstance(error, NotAssignedError)
