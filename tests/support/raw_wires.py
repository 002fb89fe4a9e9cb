"""The connecting end of each transport, spoken by hand on a blocking socket, so that it can end at any byte."""

from __future__ import annotations

import socket
import ssl
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Self

from typing_extensions import override

from hakuban_zmq._frames import (
    DATA,
    SESSION,
    VERSION,
    Hello,
    Reassembly,
    Welcome,
    Window,
    chunks,
    read_answer,
)

from .raw_ws import CLOSE, FIN, frame
from .zmtp import framed, greet

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
_REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def reset(connected: socket.socket) -> None:
    """Close a socket with RST."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connected.close()


class Wire(ABC):
    """A connection over which whole messages go; up once it is made.

    :ivar socket: the socket.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.partition("://")[2].partition("#")[0].rstrip("/").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    @abstractmethod
    def _open(self) -> None:
        """Do what comes before messages."""

    @abstractmethod
    def encoded(self, message: bytes) -> bytes:
        """Give the bytes that carry a message, to be sent in this order."""

    @abstractmethod
    def messages(self) -> Iterator[bytes]:
        """Give what comes, without end."""

    def send(self, *messages: bytes) -> None:
        """Send messages."""
        self.socket.sendall(b"".join(map(self.encoded, messages)))

    def reset(self) -> None:
        """End the connection by a reset, whatever is unsent or unread."""
        reset(self.socket)

    def finish(self) -> None:
        """Say no more, and go on taking nothing."""
        self.socket.shutdown(socket.SHUT_WR)

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._unread += self._received()
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    def _received(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError
        return data


class TCPWire(Wire):
    """Of `examples/transport-plugin`: each message follows its length."""

    @override
    def _open(self) -> None:
        pass

    @override
    def encoded(self, message: bytes) -> bytes:
        return len(message).to_bytes(4, "big") + message

    @override
    def messages(self) -> Iterator[bytes]:
        while True:
            yield self._take(int.from_bytes(self._take(4), "big"))


class WebSocketWire(Wire):
    """A WebSocket."""

    @override
    def _open(self) -> None:
        self.socket.sendall(self._sealed(_REQUEST))
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += self._take(1)
        assert head.startswith(b"HTTP/1.1 101"), head

    @override
    def encoded(self, message: bytes) -> bytes:
        return self._sealed(frame(message))

    @override
    def messages(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        while True:
            first, size = self._take(2)
            if size > 125:
                size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
            payload = self._take(size)
            if first & 0xF < CLOSE:
                parts.append(payload)
                if first & FIN:
                    yield b"".join(parts)
                    parts = []

    def _sealed(self, data: bytes) -> bytes:
        return data


class TLSWire(WebSocketWire):
    """A WebSocket in TLS, which can be cut within a record."""

    @override
    def _open(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(super()._received())
        super()._open()

    @override
    def _sealed(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    @override
    def _received(self) -> bytes:
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self._incoming.write(super()._received())


class ZeroMQWire(Wire):
    """A DEALER that has said hello and was welcomed. It grants much, and keeps to no credit.

    :ivar frames: what comes, without end.
    :ivar other: the session of the listener.
    :ivar window: what the listener grants at first.
    """

    _OWN: Final = b"c" * SESSION

    @override
    def _open(self) -> None:
        self.frames = greet(self.socket.sendall, self._take)
        hello = Hello(self._OWN, VERSION, Window(1 << 30, 1 << 20))
        self.socket.sendall(framed(hello.encode()))
        answer = read_answer(next(self.frames), self._OWN)
        assert isinstance(answer, Welcome), answer
        self.other, self.window = answer.session, answer.window

    @override
    def encoded(self, message: bytes) -> bytes:
        return b"".join(map(framed, self.chunks(message)))

    def chunks(self, message: bytes) -> Iterator[bytes]:
        """Give the frames that carry a message."""
        return chunks([message], self.other)

    @override
    def messages(self) -> Iterator[bytes]:
        reassembly = Reassembly(1 << 30)
        for data in self.frames:
            if data[0] == DATA:
                yield from reassembly.messages(data)


WIRES: Final[dict[str, type[Wire]]] = {
    "tcp": TCPWire,
    "ws": WebSocketWire,
    "wss": TLSWire,
    "zmq": ZeroMQWire,
}
"""By what a test calls the transport."""
