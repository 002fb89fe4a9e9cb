"""An event that is cheap while nobody waits for it."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint


class Latch:
    """Set once, and waited for seldom: an `anyio.Event` is made only when somebody waits.

    On asyncio an event takes 900 bytes, which is a lot where each of 10,000 idle links has several. Belongs to one event
    loop; not thread-safe.

    :ivar is_set: whether `set` was called.
    """

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self.is_set: bool = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        """Let those go on who wait, and whoever comes later. To do so twice does no harm."""
        self.is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Return once it is set, after a turn of the loop at least. Cancelling this does no harm."""
        if self.is_set:
            await checkpoint()
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
