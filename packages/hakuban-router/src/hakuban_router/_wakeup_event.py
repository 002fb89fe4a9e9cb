"""Wakes a task of an event loop from where nothing may wait: signal handlers, and threads of others."""

from __future__ import annotations

import math
import socket
import sys
from contextlib import suppress
from typing import Final, Self

import anyio

GLANCE: Final = (
    0.2 if sys.platform == "win32" else math.inf
)  # seconds: there a loop that waits runs no signal handlers


class WakeupEvent:
    """Set by anybody, waited for by one task; to set it before that task waits counts once. Closed by its block."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    def set(self) -> None:
        """Wake the task. Never waits, and is safe in threads, signal handlers, and after the end of the block."""
        with suppress(OSError):  # full: it is set already; closed: nobody waits any more
            self._writer.send(b"!")

    async def wait(self) -> None:
        """Wait until it was set since the last time."""
        while not self.clear():
            with anyio.move_on_after(GLANCE):
                await anyio.wait_readable(self._reader)

    def clear(self) -> bool:
        """Take it down; return whether it was set."""
        with suppress(BlockingIOError):
            return bool(self._reader.recv(65536))
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._writer.close()
