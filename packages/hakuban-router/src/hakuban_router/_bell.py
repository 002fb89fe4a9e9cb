"""Wakes a task of an event loop from where nothing may wait: signal handlers, and threads of others."""

from __future__ import annotations

import math
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import anyio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Bell"]

GLANCE: Final = (
    0.2 if sys.platform == "win32" else math.inf
)  # seconds: there a loop that waits runs no signal handlers


class Bell:
    """Rung by anybody, heard by one task; what rings before that task listens counts once. Closed by its block."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        for end in (self._heard, self._rung):
            end.setblocking(False)

    def ring(self) -> None:
        """Wake the task. Never waits, and is safe in threads, signal handlers, and after the end of the block."""
        with suppress(OSError):  # full: it is ringing already; closed: nobody listens any more
            self._rung.send(b"!")

    async def heard(self) -> None:
        """Wait until it was rung since the last time."""
        while not self.silence():
            with anyio.move_on_after(GLANCE):
                await anyio.wait_readable(self._heard)

    def silence(self) -> bool:
        """Forget that it was rung; say whether it was."""
        with suppress(BlockingIOError):
            return bool(self._heard.recv(65536))
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._heard.close()
        self._rung.close()
