"""ZMTP 3.0 without CURVE (RFC 23), byte by byte."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

COMMAND, LONG, MORE = 4, 2, 1
"""Flags of a frame."""

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def greet(
    say: Callable[[bytes], object],
    take: Callable[[int], bytes],
    kind: bytes = b"DEALER",
    properties: Mapping[str, bytes] | None = None,
) -> Iterator[bytes]:
    """Say what comes before messages, without waiting; give the parts that the other side sends.

    :param say: sends bytes.
    :param take: gives the next so many bytes.
    """
    say(GREETING)
    say(ready(kind, properties))
    return _parts(take)


def ready(kind: bytes = b"DEALER", properties: Mapping[str, bytes] | None = None) -> bytes:
    """Give the command that says what kind of socket this is."""
    body = b"\x05READY"
    for name, value in {"Socket-Type": kind, **(properties or {})}.items():
        body += bytes([len(name)]) + name.encode() + struct.pack(">I", len(value)) + value
    return bytes([COMMAND, len(body)]) + body


def take_from(sock: socket.socket, size: int) -> bytes:
    """Give the next so many bytes of a socket.

    :raises EOFError: there are not so many.
    """
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def everything(sock: socket.socket) -> bytes:
    """Give all that comes until the other side ends, and close the socket."""
    data = b""
    with sock:
        while more := sock.recv(1 << 20):
            data += more
    return data


def where(url: str) -> tuple[str, int]:
    """Give the address of a listener on loopback."""
    return "127.0.0.1", int(url.rpartition(":")[2])


def framed(data: bytes) -> bytes:
    """Give a message of one part."""
    return bytes([LONG]) + struct.pack(">Q", len(data)) + data


def _parts(take: Callable[[int], bytes]) -> Iterator[bytes]:
    take(len(GREETING))
    while True:
        (flags,) = take(1)
        data = take(int.from_bytes(take(8 if flags & LONG else 1), "big"))
        if not flags & COMMAND:
            yield data
