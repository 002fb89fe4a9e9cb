"""Bytes over one non-blocking socket, through TLS."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from typing_extensions import override

from hakuban.sockets import SocketStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import Any

_DECRYPTED = 64 * 1024  # bytes asked of TLS at once
_PIECE = 64 * 1024  # and of the socket, by default
# Bytes that go through OpenSSL's buffers at once: those grow, and stay as large as they ever were.
_SLICE = 16 * 1024


class TLSSocketStream(SocketStream):
    """A stream through TLS. Reading may write (a key update), through the same queue.

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
                self._queue_records()  # the alert that states why
                self.flush_nowait()
                raise
            else:
                break
        self._queue_records()
        await self.flush()

    @override
    def write(self, data: bytes) -> None:
        records = []
        for part in _slices(data):
            self._tls.write(part)
            records.append(self._outgoing.read())
        super().write(b"".join(records))

    @override
    async def read(self, most: int = _PIECE) -> bytes:
        data = self._decrypt()  # the handshake may have left some
        while data is None:
            records = await super().read(most)
            data = self._decrypt_all(records)
            if self._outgoing.pending:
                self._queue_records()
                self.flush_nowait()
        return data

    def _decrypt_all(self, records: bytes) -> bytes | None:
        """What is in records: None when more are missing, b"" at the end."""
        if not records:
            self._incoming.write_eof()
            return self._decrypt()
        pieces = []
        for part in _slices(records):
            self._incoming.write(part)
            piece = self._decrypt()
            if piece is not None:
                pieces.append(piece)
                if not piece:
                    break
        return b"".join(pieces) if pieces else None

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


def _slices(data: bytes) -> Iterator[bytes | memoryview]:
    if len(data) <= _SLICE:
        return iter((data,))
    view = memoryview(data)
    return (view[start : start + _SLICE] for start in range(0, len(view), _SLICE))
