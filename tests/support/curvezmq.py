"""The connecting side of CurveZMQ (RFC 26), byte by byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from nacl.bindings import (
    crypto_box,
    crypto_box_afternm,
    crypto_box_beforenm,
    crypto_box_keypair,
    crypto_box_open,
    crypto_box_open_afternm,
    crypto_scalarmult_base,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
METADATA: Final = b"\x0bSocket-Type\x00\x00\x00\x06DEALER"
COMMAND, LONG = 4, 2


class CurveClient:
    """One connection.

    :param say: sends bytes.
    :param take: gives the next so many bytes.
    :param server: the public key of the listener.
    :ivar nonces: of the messages that came.
    """

    def __init__(
        self,
        say: Callable[[bytes], object],
        take: Callable[[int], bytes],
        server: bytes,
        secret: bytes,
    ) -> None:
        self._say = say
        self._take = take
        self._server = server
        self._secret = secret
        self._short, self._short_secret = crypto_box_keypair()
        self._said = 0
        self._key = b""
        self.nonces: list[int] = []

    def greet(self) -> None:
        """Go through the handshake."""
        self._say(GREETING + self.hello())
        self._take(len(GREETING))
        self._say(self.initiate(self.part()[1]))
        assert self.part()[1].startswith(b"\x05READY")

    def hello(self) -> bytes:
        """Give the frame."""
        nonce = self._next()
        box = crypto_box(bytes(64), b"CurveZMQHELLO---" + nonce, self._server, self._short_secret)
        return framed(b"\x05HELLO\x01\0" + bytes(72) + self._short + nonce + box, COMMAND)

    def initiate(self, welcome: bytes) -> bytes:
        """Give the frame that answers WELCOME."""
        said = welcome.removeprefix(b"\x07WELCOME")
        plain = crypto_box_open(
            said[16:], b"WELCOME-" + said[:16], self._server, self._short_secret
        )
        server_short, cookie = plain[:32], plain[32:]
        self._key = crypto_box_beforenm(server_short, self._short_secret)
        vouch_nonce, nonce = os.urandom(16), self._next()
        vouch = crypto_box(
            self._short + self._server, b"VOUCH---" + vouch_nonce, server_short, self._secret
        )
        inner = crypto_scalarmult_base(self._secret) + vouch_nonce + vouch + METADATA
        box = crypto_box_afternm(inner, b"CurveZMQINITIATE" + nonce, self._key)
        return framed(b"\x08INITIATE" + cookie + nonce + box, COMMAND)

    def message(self, body: bytes, flags: int = 0) -> bytes:
        """Give the frame of a message, or of a command (2)."""
        nonce = self._next()
        box = crypto_box_afternm(bytes([flags]) + body, b"CurveZMQMESSAGEC" + nonce, self._key)
        return framed(b"\x07MESSAGE" + nonce + box)

    def receive(self) -> tuple[int, bytes]:
        """Give flags and body of the next message."""
        _, data = self.part()
        assert data.startswith(b"\x07MESSAGE")
        self.nonces.append(int.from_bytes(data[8:16], "big"))
        plain = crypto_box_open_afternm(data[16:], b"CurveZMQMESSAGES" + data[8:16], self._key)
        return plain[0], plain[1:]

    def part(self) -> tuple[int, bytes]:
        """Give flags and body of the next frame as it came."""
        (flags,) = self._take(1)
        return flags, self._take(int.from_bytes(self._take(8 if flags & LONG else 1), "big"))

    def _next(self) -> bytes:
        self._said += 1
        return self._said.to_bytes(8, "big")


def framed(body: bytes, flags: int = 0) -> bytes:
    """Give the bytes of a frame."""
    return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body
