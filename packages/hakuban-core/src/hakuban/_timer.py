"""The clock of a node: ticks its machine when that is due."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, suppress
from time import monotonic, time_ns
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from ._core.events import Tick
from ._exceptions import NodeBrokenError
from ._polling import PENDING, Pending
from ._waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._engine import Engine

__all__ = ["Timer", "ticking"]


class Timer:
    """A task that ticks. `until` is the monotonic time at which it will look again; the engine wakes it for less."""

    __slots__ = ("_engine", "_scope", "until")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scope = anyio.CancelScope(shield=True)  # it outlives the links, whose end leaves work
        self.until: float = math.inf

    async def run(self) -> None:
        with suppress(NodeBrokenError):
            with self._scope:
                while True:
                    await self._sleep()
                    await self._tick()
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
        with anyio.CancelScope(shield=True):
            while (deadline := self._engine.deadline) is not None and deadline <= monotonic():
                self._engine.handle(Tick(time_ns()))
                await checkpoint()


@asynccontextmanager
async def ticking(engine: Engine) -> AsyncIterator[None]:
    """Have the machine of a node ticked by this event loop."""
    timer = Timer(engine)
    engine.add_timer(timer)
    try:
        async with anyio.create_task_group() as group:
            try:
                group.start_soon(timer.run)
                yield
            finally:
                timer.stop()
    finally:
        engine.remove_timer(timer)
