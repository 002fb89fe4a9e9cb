"""The clock of a node: ticks its machine when that is due."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, suppress
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from .._core.events import Tick
from .._exceptions import NodeBrokenError
from .._loops.latch import Latch
from .._loops.tasks import background_tasks
from .._loops.tracebacks import contained
from .poll_results import PENDING, Pending
from .waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .engine import Engine


LEAVING_TIME: Final = (
    2.0  # seconds that leaving a block takes at most, unless it is cancelled: then less
)
LEFT_OVER: Final = 1.0  # seconds of them, for what the end of links has left to be done


class Timer:
    """A task that ticks.

    :ivar until: the monotonic time at which it will look again; the engine wakes it for less.
    :ivar ended: set when it has ended.
    :ivar end_by: the monotonic time by which it has to end when it is stopped.
    """

    __slots__ = ("_engine", "_scope", "end_by", "ended", "until")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scope = anyio.CancelScope(shield=True)  # it outlives the links, whose end leaves work
        self.until: float = math.inf
        self.end_by: float = math.inf
        self.ended: Latch = Latch()

    async def run(self) -> None:
        try:
            with suppress(NodeBrokenError):
                await self._run()
        finally:
            self.ended.set()

    async def _run(self) -> None:
        with self._scope:
            while True:
                await self._sleep()
                await self._tick()
        if self._engine.timers == [self]:
            # the end of the links has left something: another timer, or whoever waits or calls, goes on with it
            with anyio.move_on_after(min(LEFT_OVER, self.end_by - monotonic())):
                await self._tick()

    def stop(self) -> None:
        self._scope.cancel()

    async def _sleep(self) -> None:
        deadline = self._engine.deadline
        self.until = math.inf if deadline is None else deadline
        with anyio.move_on_after(max(0.0, self.until - monotonic())):
            await wait_for(self._engine, self, self._poll)

    def _poll(self) -> bool | Pending:
        deadline = self._engine.deadline
        return True if deadline is not None and deadline < self.until else PENDING

    async def _tick(self) -> None:
        """Do all that is due, in slices, with a turn for everybody else after each."""
        while (deadline := self._engine.deadline) is not None and deadline <= monotonic():
            self._engine.handle(Tick(time_ns()))
            await checkpoint()


@asynccontextmanager
async def ticking(engine: Engine) -> AsyncIterator[Timer]:
    """Have the machine of a node ticked by this event loop."""
    timer = Timer(engine)
    engine.add_timer(timer)
    try:
        async with background_tasks(timer.ended.wait) as tasks:
            tasks.start_soon(contained, anyio.CancelScope(), timer.run)
            try:
                yield timer
            finally:
                timer.stop()
    finally:
        engine.remove_timer(timer)
