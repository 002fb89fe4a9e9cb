"""A WebSocket client that sends whatever bytes a test wants, and keeps what comes back with its time."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .watching import changing, until

if TYPE_CHECKING:
    from collections.abc import Iterator

FIN = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MASKED = 0x80
_NO_MASK = b"\0\0\0\0"


@dataclass(slots=True)
class Close:
    """A Close frame that came; `at` is monotonic."""

    code: int
    reason: str
    at: float


def frame(payload: bytes, opcode: int = BINARY, *, first: int | None = None) -> bytes:
    """Give a frame of a client, masked with zeros.

    :param first: the first byte, where it is another one than a whole message of the opcode has.
    """
    head = bytes((FIN | opcode if first is None else first,))
    size = len(payload)
    if size < 126:
        head += bytes((_MASKED | size,))
    elif size < 1 << 16:
        head += struct.pack(">BH", _MASKED | 126, size)
    else:
        head += struct.pack(">BQ", _MASKED | 127, size)
    return head + _NO_MASK + payload


def payloads(record: bytes) -> bytes:
    """Give what the frames in a recording of one way of a WebSocket say, one behind the other, unmasked."""
    head, _, frames = bytes(record).partition(b"\r\n\r\n")
    assert head.endswith(b"HTTP/1.1", 0, head.find(b"\r\n")) or head.startswith(b"HTTP/1.1 101")
    said = b""
    while len(frames) >= 2:
        assert not frames[0] & 0x70, "nothing is compressed"
        size, at = frames[1] & 0x7F, 2
        if size > 125:
            at = 4 if size == 126 else 10
            size = int.from_bytes(frames[2:at], "big")
        key = _NO_MASK
        if frames[1] & _MASKED:
            key, at = frames[at : at + 4], at + 4
        said += bytes(byte ^ key[i % 4] for i, byte in enumerate(frames[at : at + size]))
        frames = frames[at + size :]
    return said


def tcp(url: str) -> socket.socket:
    """Connect to where a URL leads, and no further."""
    host, port = url.removeprefix("ws://").partition("#")[0].rstrip("/").split(":")
    connected = socket.create_connection((host, int(port)), 10)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


class RawWebSocket:
    """A WebSocket, read by a thread; pings are answered, as any peer would.

    :param headers: more lines of the request, each with its line end.
    :ivar response: the head of the HTTP response.
    :ivar close: the Close frame that came, if any.
    :ivar ended: monotonic time at which the connection was found ended, or None.
    """

    def __init__(self, url: str, *, headers: str = "", path: str = "/") -> None:
        self.close: Close | None = None
        self.ended: float | None = None
        self.pongs = 0
        self._socket = tcp(url)
        self._file = self._socket.makefile("rb")
        request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
        self._socket.sendall(request.encode())
        self.response = self._read_head()
        assert self.response.startswith("HTTP/1.1 101"), self.response
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read_head(self) -> str:
        lines = []
        while (line := self._file.readline()).strip():
            lines.append(line.decode())
        return "".join(lines)

    # ---- sending ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes as they are; to a peer that is gone they are lost."""
        try:
            self._socket.sendall(data)
        except OSError:
            if self.ended is None and self.close is None:
                until(lambda: self.ended is not None, "the end of the connection is seen", 5)

    def send(self, *messages: bytes) -> None:
        """Send binary messages, in one frame each."""
        for message in messages:
            self.write(frame(message))

    def ping(self) -> None:
        """Have a ping answered."""
        before = self.pongs
        self.write(frame(b"ping", PING))
        until(lambda: self.pongs > before or self.ended, "the ping is answered", 5)
        assert self.pongs > before, f"no pong: {self.close}"

    def cut(self) -> None:
        """End the connection without a word."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._shut()

    def _shut(self) -> None:
        with suppress(OSError):  # the peer was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._shut()

    # ---- receiving --------------------------------------------------------------------------------------------------

    def received(self, message: bytes) -> None:
        """Take a binary message, under the lock of those who wait."""

    def _read(self) -> None:
        with suppress(OSError):  # a reset
            for opcode, payload in self._frames():
                self._take(opcode, payload)
        with changing():
            self.ended = time.monotonic()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        parts: list[bytes] = []
        while len(head := self._file.read(2)) == 2:
            size = head[1] & 0x7F
            if size > 125:
                wide = self._file.read(2 if size == 126 else 8)
                size = int.from_bytes(wide, "big")
            payload = self._file.read(size)
            opcode = head[0] & 0xF
            if opcode >= CLOSE:
                yield opcode, payload
                continue
            parts.append(payload)
            if head[0] & FIN:
                yield BINARY, b"".join(parts)
                parts = []

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.write(frame(payload, PONG))
            return
        with changing():
            if opcode == PONG:
                self.pongs += 1
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.close = Close(code, payload[2:].decode(), time.monotonic())
            elif payload:
                self.received(payload)
