"""What comes in on a socket, in pieces."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

if TYPE_CHECKING:
    import asyncio

# What a piece asks for, if it may: the large size once the small one was filled. Always asking for 1 MiB makes the
# allocator map and unmap memory for each small message.
_SMALL = 64 * 1024
READ_MOST = 1024 * 1024


class SocketReceiver:
    """The receiving half of a connected, non-blocking socket. One task waits at a time.

    :ivar most: bytes that a piece may have, at most 1 MiB.
    :ivar more: whether the last piece was a full one, so that there is probably another.
    :ivar last: `time.monotonic()` when bytes last came in, or their end; a reset is no sign of life.
    """

    __slots__ = ("_size", "_sock", "last", "more", "most")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._size = _SMALL
        self.most = READ_MOST
        self.more = False
        self.last = time.monotonic()

    async def wait(self) -> None:
        """Return when `take` may have something; now and then it has not."""
        await anyio.wait_readable(self._sock)

    def take(self) -> bytes:
        """Return the next piece, at most `most` bytes; an empty one means that the other side has shut down writing.

        :raises BlockingIOError: there is nothing.
        :raises OSError: the connection is gone.
        """
        size = min(self._size, self.most)
        data = self._sock.recv(size)
        self.last = time.monotonic()
        self.more = len(data) == size
        self._size = READ_MOST if len(data) >= _SMALL else _SMALL
        return data

    def waiting(self) -> bool:
        """Return whether bytes, or the end of them, wait to be taken."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def interrupt(self) -> None:
        """Let whoever is in `wait` return."""
        anyio.notify_closing(self._sock)

    def close(self) -> None:
        """Let go of the socket, which is about to be closed."""


class LoopSocketReceiver(SocketReceiver):
    """The same on asyncio, where anyio asks the kernel to watch the socket, and to stop that, for each piece.

    This stays registered, and receives in the callback, since what is left in the socket would fire again. When a
    piece comes that nobody waits for, it stays in the socket, which is watched no more until somebody waits again.

    uvloop stops watching a socket that was reset, and calls back once as if there were data, whatever lies before the
    reset. So on uvloop each wait looks into the socket first: no piece that was taken is the last word about it.

    :ivar watched: whether the loop watches the socket.
    """

    __slots__ = ("_fd", "_looks_first", "_loop", "_piece", "_waiter", "watched")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sock)
        self._loop = loop
        self._fd = sock.fileno()
        self.watched = False
        self._waiter: asyncio.Future[None] | None = None
        self._looks_first = type(loop).__module__.startswith("uvloop")
        self._piece: bytes | OSError | None = None  # outlives a `wait` that was cancelled

    @override
    async def wait(self) -> None:
        if self._piece is not None:
            return
        if self._looks_first:
            self._piece = self._receive()
            if self._piece is not None:
                await checkpoint()  # a flood must leave the loop its turn
                return
        if not self.watched:
            self.watched = True
            self._loop.add_reader(self._fd, self._arrived)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arrived(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.close()
            return
        self._piece = self._receive()
        if self._piece is not None:
            waiter.set_result(None)

    def _receive(self) -> bytes | OSError | None:
        """Return what is there, an error too; None when there is nothing."""
        try:
            return super().take()
        except BlockingIOError:
            return None
        except OSError as error:
            return error.with_traceback(None)  # it holds this frame, and is kept

    @override
    def take(self) -> bytes:
        piece = self._piece
        if piece is None:
            return super().take()
        self._piece = None
        if isinstance(piece, OSError):
            try:
                raise piece
            finally:
                del piece  # its traceback holds this frame
        return piece

    @override
    def waiting(self) -> bool:
        return self._piece is not None or super().waiting()

    @override
    def interrupt(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @override
    def close(self) -> None:
        if self.watched:
            self.watched = False
            self._loop.remove_reader(self._fd)


def receiver_for(sock: socket.socket) -> SocketReceiver:
    """Make the receiving half of a socket for the current task."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # none of its loops runs here
            return SocketReceiver(sock)
        # there is no task where trio is the guest of such a loop
        if task is not None and not _is_proactor(task.get_loop()):
            return LoopSocketReceiver(sock, task.get_loop())
    return SocketReceiver(sock)


def _is_proactor(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether it is a loop of Windows, which cannot watch sockets."""
    return "Proactor" in type(loop).__name__
