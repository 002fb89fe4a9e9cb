"""Bytes over one non-blocking socket.

Sockets are used directly, and not through anyio's streams: those read in pieces of 64 to 256 KiB, buffer what is
written without bound, and cost half as much CPU again for a small message (asyncio 81 us a round trip, here 54).
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, ClassVar

import anyio
from anyio.lowlevel import checkpoint

from .addresses import address_text
from .receive_buffer import ReceiveBuffer
from .receiver import READ_MOST as _READ_MOST
from .receiver import receiver_for

if TYPE_CHECKING:
    from typing import Any

_PIECE = 64 * 1024  # bytes asked for at once, by default


class SocketStream:
    """A connected socket. Writing queues and flushing sends, so that whoever finds the queue stuck may leave.

    One task reads and one flushes at a time; `write` and `flush_nowait` may be called at any time, by the thread of the
    event loop. Whoever cancels `read` or `flush` loses nothing, and may call it again. A subclass that puts something
    between, as TLS, has `handshake`, `write`, `read`, `end` and `tls_subject` to override, and this for the socket's side.

    :param sock: a connected, non-blocking socket; the stream owns it.
    :ivar last_sent: `time.monotonic()` when bytes were last taken by the operating system.
    :ivar receive_buffer: what the operating system holds of what was not read.
    """

    __slots__ = (
        "_interrupts", "_out", "_receiver", "_sock", "last_sent", "receive_buffer",
    )  # fmt: skip

    READ_MOST: ClassVar[int] = _READ_MOST
    """Bytes that `read` returns at most, whatever is asked."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._receiver = receiver_for(sock)
        self._out: bytes | memoryview = b""
        self._interrupts = 0
        self.receive_buffer: ReceiveBuffer = ReceiveBuffer(sock)
        self.last_sent: float = time.monotonic()

    @property
    def last_received(self) -> float:
        """`time.monotonic()` when bytes last came in, or their end; those of TLS itself count."""
        return self._receiver.last

    @property
    def tls_subject(self) -> Any:
        """The subject of the certificate that the other side has proven to own, or None."""
        return None

    def addresses(self) -> tuple[str, str]:
        """Where the socket ends, here and there, as text; empty when it is gone."""
        try:
            return address_text(self._sock.getsockname()), address_text(self._sock.getpeername())
        except OSError:
            return "", ""

    async def handshake(self) -> None:
        """Do what has to be done before bytes can be exchanged: nothing, without TLS."""

    def write(self, data: bytes) -> None:
        """Queue bytes behind those already waiting."""
        self._out = b"".join((self._out, data)) if self._out else data

    @property
    def unsent(self) -> int:
        """How many bytes wait to be taken by the operating system."""
        return len(self._out)

    def flush_nowait(self) -> bool:
        """Send what the socket takes now; returns whether the queue is empty.

        :raises OSError: the connection is gone.
        """
        out = self._out
        if not out:
            return True
        try:
            sent = self._sock.send(out)
        except BlockingIOError:
            return False
        self.last_sent = time.monotonic()
        if sent == len(out):
            self._out = b""
            return True
        self._out = memoryview(out)[sent:]
        return False

    async def flush(self) -> None:
        """Wait until the operating system has taken the whole queue.

        :raises OSError: the connection is gone.
        :raises anyio.ClosedResourceError: `interrupt` was called.
        """
        interrupts = self._interrupts
        while not self.flush_nowait():
            await anyio.wait_writable(self._sock)
            self._check(interrupts)

    async def read(self, most: int = _PIECE) -> bytes:
        """Wait for bytes; none mean that the other side has shut down writing.

        :param most: how many, at most.
        :raises OSError: the connection is gone.
        :raises anyio.ClosedResourceError: `interrupt` was called.
        """
        interrupts = self._interrupts
        self._receiver.most = most
        if self._receiver.more:
            await checkpoint()  # a flood must leave the loop its turn
        else:
            await self._receiver.wait()
        while True:
            self._check(interrupts)
            try:
                return self._receiver.take()
            except BlockingIOError:
                await self._receiver.wait()

    def has_unread(self) -> bool:
        """Whether bytes, or the end of them, wait in the operating system."""
        return self._receiver.waiting()

    def interrupt(self) -> None:
        """Make whoever waits in `read` or `flush` raise ClosedResourceError, once the loop has had a turn."""
        self._interrupts += 1
        self._receiver.interrupt()
        anyio.notify_closing(self._sock)

    def _check(self, interrupts: int) -> None:
        # Who was about to wake anyway is not found by notify_closing, and must not wait on the socket again.
        if self._interrupts != interrupts:
            raise anyio.ClosedResourceError

    async def end(self) -> None:
        """Shut down writing and throw away what comes in, until the other side has shut down too.

        Closing with unread input would reset the connection, and the other side might never see our last words.
        """
        self._sock.shutdown(socket.SHUT_WR)
        while True:
            await self._receiver.wait()
            with contextlib.suppress(BlockingIOError):
                if not self._receiver.take():
                    return

    def close(self) -> None:
        """Close the socket, at once; nobody may be waiting on it."""
        self._out = b""
        self._receiver.close()
        self._sock.close()
