"""Bytes over one non-blocking TCP socket, with or without TLS.

Sockets are used directly, and not through anyio's streams: those read in pieces of 64 to 256 KiB, buffer what is
written without bound, and cost half as much CPU again for a small message (asyncio 81 us a round trip, here 54).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from ._arrivals import arrivals_of
from ._sockets import ReceiveBuffer, address_text

if TYPE_CHECKING:
    from typing import Any

_DECRYPTED = 64 * 1024  # bytes asked of TLS at once
_PIECE = 64 * 1024  # and of the socket, if nothing else is said


class Channel:
    """A connected socket. Writing queues and flushing sends, so that whoever finds the queue stuck may leave.

    One task reads and one flushes at a time; `write` and `flush_nowait` may be called at any time.

    :param sock: a connected, non-blocking socket; the channel owns it.
    :ivar last_sent: `time.monotonic()` when bytes were last taken by the operating system.
    :ivar receive_buffer: what the operating system holds of what was not read.
    """

    __slots__ = (
        "_arrivals",
        "_interrupts",
        "_out",
        "_sock",
        "last_sent",
        "receive_buffer",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._arrivals = arrivals_of(sock)
        self._out: bytes | memoryview = b""
        self._interrupts = 0
        self.receive_buffer = ReceiveBuffer(sock)
        self.last_sent = time.monotonic()

    @property
    def last_received(self) -> float:
        """`time.monotonic()` when bytes last came in, or their end; those of TLS itself count."""
        return self._arrivals.last

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
        self._arrivals.most = most
        if self._arrivals.more:
            await checkpoint()  # a flood must leave the loop its turn
        else:
            await self._arrivals.wait()
        while True:
            self._check(interrupts)
            try:
                return self._arrivals.take()
            except BlockingIOError:
                await self._arrivals.wait()

    def has_unread(self) -> bool:
        """Whether bytes, or the end of them, wait in the operating system."""
        return self._arrivals.waiting()

    def interrupt(self) -> None:
        """Make whoever waits in `read` or `flush` raise ClosedResourceError, once the loop has had a turn."""
        self._interrupts += 1
        self._arrivals.interrupt()
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
            await self._arrivals.wait()
            with contextlib.suppress(BlockingIOError):
                if not self._arrivals.take():
                    return

    def close(self) -> None:
        """Close the socket, at once; nobody may be waiting on it."""
        self._out = b""
        self._arrivals.close()
        self._sock.close()


class TLSChannel(Channel):
    """The same through TLS. Reading may write (a key update), through the same queue.

    :param server_hostname: what the other side's certificate has to name; None on the listening side.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )

    @property
    @override
    def tls_subject(self) -> Any:
        certificate = self._tls.getpeercert()
        return certificate.get("subject") if certificate else None

    @override
    async def handshake(self) -> None:
        """Negotiate.

        :raises ssl.SSLError: no agreement, or a certificate that does not verify.
        :raises OSError: the connection is gone.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._queue_records()
                await self.flush()
                await self._read_records(_PIECE)
            except ssl.SSLError:
                self._queue_records()  # the alert that says why
                self.flush_nowait()
                raise
            else:
                break
        self._queue_records()
        await self.flush()

    @override
    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._queue_records()

    @override
    async def read(self, most: int = _PIECE) -> bytes:
        while True:
            data = self._decrypt()
            if self._outgoing.pending:
                self._queue_records()
                self.flush_nowait()
            if data is not None:
                return data
            await self._read_records(most)

    @override
    async def end(self) -> None:
        # It would wait for the other side's answer, which is thrown away with all the rest.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._queue_records()
        self.flush_nowait()
        await super().end()

    def _queue_records(self) -> None:
        super().write(self._outgoing.read())

    async def _read_records(self, most: int) -> None:
        records = await super().read(most)
        if records:
            self._incoming.write(records)
        else:
            self._incoming.write_eof()

    def _decrypt(self) -> bytes | None:
        """What can be decrypted: None when records are missing, b"" at the end."""
        pieces: list[bytes] = []
        try:
            while True:
                piece = self._tls.read(_DECRYPTED)
                if not piece:
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            if not pieces:
                return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        return b"".join(pieces)
