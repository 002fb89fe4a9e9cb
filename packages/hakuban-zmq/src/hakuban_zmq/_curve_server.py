"""The listening side of CurveZMQ (RFC 26): its handshake, and frames in boxes. No I/O; libsodium does the cryptography.

The names are the RFC's: S and s are the listener's keys, public and secret, C those of the client; with a stroke (S', here
`_short`) those that are made for one connection.
"""

from __future__ import annotations

import hmac
import os
from typing import Final

from nacl.bindings import (
    crypto_box_afternm,
    crypto_box_beforenm,
    crypto_box_keypair,
    crypto_box_open_afternm,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from hakuban.transport import PeerViolationError

from ._zmtp import COMMAND, MORE, Frame, command

_KEY: Final = 32
_NONCE: Final = 8
_LONG_NONCE: Final = 16
_TAG: Final = 16
_COOKIE: Final = 96
_HELLO: Final = 194
_VOUCH: Final = _LONG_NONCE + 2 * _KEY + _TAG
_MESSAGE: Final = b"\x07MESSAGE"
_PREFIX: Final = len(_MESSAGE)

OVERHEAD: Final = _PREFIX + _NONCE + _TAG + 1
"""Bytes that a frame is longer in its box."""


class CurveServer:
    """The keys of a listener.

    :param secret: s, 32 bytes.
    """

    __slots__ = ("public", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.public: bytes = crypto_scalarmult_base(secret)


class CurveHandshake:
    """The handshake of one connection: `welcome`, then `identify`, then `ready`."""

    __slots__ = ("_client_short", "_cookie", "_key", "_last_nonce", "_secret_short", "_server")

    def __init__(self, server: CurveServer) -> None:
        self._server = server
        self._last_nonce = 0  # the last nonce of the client
        self._client_short = self._secret_short = self._cookie = self._key = b""

    def welcome(self, hello: bytes) -> bytes:
        """Answer HELLO.

        :param hello: what came with the command.
        :returns: the body of WELCOME.
        :raises PeerViolationError: it is malformed, or meant for a listener with another key.
        """
        if len(hello) != _HELLO or hello[0] != 1:
            raise PeerViolationError("a malformed HELLO of CURVE")
        self._client_short = hello[74:106]
        to_client = self._shared(self._client_short, self._server.secret)
        nonce = hello[106:114]
        self._check_nonce(nonce)
        if self._open(hello[114:], b"CurveZMQHELLO---" + nonce, to_client) != bytes(64):
            raise PeerViolationError("a HELLO of CURVE without the zeros")
        public_short, self._secret_short = crypto_box_keypair()
        # The RFC puts this side's state into it, for those who keep none meanwhile; here there is a connection that does.
        self._cookie = os.urandom(_COOKIE)
        self._key = self._shared(self._client_short, self._secret_short)
        long_nonce = os.urandom(_LONG_NONCE)
        box = crypto_box_afternm(public_short + self._cookie, b"WELCOME-" + long_nonce, to_client)
        return command(b"WELCOME", long_nonce + box)

    def identify(self, initiate: bytes) -> tuple[bytes, bytes]:
        """Read INITIATE.

        :param initiate: what came with the command.
        :returns: C, which the client has proven to own, and its metadata.
        :raises PeerViolationError: it is malformed, or proves nothing.
        """
        box_at = _COOKIE + _NONCE
        if len(initiate) < box_at or not hmac.compare_digest(initiate[:_COOKIE], self._cookie):
            raise PeerViolationError("an INITIATE of CURVE for another connection")
        nonce = initiate[_COOKIE:box_at]
        self._check_nonce(nonce)
        opened = self._open(initiate[box_at:], b"CurveZMQINITIATE" + nonce, self._key)
        client, vouch, metadata = (
            opened[:_KEY],
            opened[_KEY : _KEY + _VOUCH],
            opened[_KEY + _VOUCH :],
        )
        if len(vouch) != _VOUCH:
            raise PeerViolationError("a malformed INITIATE of CURVE")
        proof = self._open(
            vouch[_LONG_NONCE:],
            b"VOUCH---" + vouch[:_LONG_NONCE],
            self._shared(client, self._secret_short),
        )
        if proof != self._client_short + self._server.public:
            raise PeerViolationError("an INITIATE of CURVE that vouches for another key")
        return client, metadata

    def ready(self, metadata: bytes) -> tuple[bytes, CurveBox]:
        """Let the client in.

        :returns: the body of READY, and what goes on from there.
        """
        box = CurveBox(self._key, self._last_nonce)
        nonce = box.next_nonce()
        sealed = crypto_box_afternm(metadata, b"CurveZMQREADY---" + nonce, self._key)
        return command(b"READY", nonce + sealed), box

    def _check_nonce(self, nonce: bytes) -> None:
        number = int.from_bytes(nonce, "big")
        if number <= self._last_nonce:
            raise PeerViolationError("a nonce of CURVE that was used before")
        self._last_nonce = number

    @staticmethod
    def _shared(public: bytes, secret: bytes) -> bytes:
        try:
            return bytes(crypto_box_beforenm(public, secret))
        except CryptoError:
            raise PeerViolationError("a key of CURVE that is none") from None

    @staticmethod
    def _open(box: bytes, nonce: bytes, key: bytes) -> bytes:
        return _opened(
            box,
            nonce,
            key,
            "it does not know this listener's key, or something was changed on the way",
        )


class CurveBox:
    """Frames in boxes, once the handshake is over.

    :param last_nonce: the last nonce of the client.
    """

    __slots__ = ("_key", "_last_nonce", "_sent_nonce")

    def __init__(self, key: bytes, last_nonce: int) -> None:
        self._key = key
        self._last_nonce = last_nonce
        self._sent_nonce = 0

    def next_nonce(self) -> bytes:
        """Return the next one of this side."""
        self._sent_nonce += 1
        return self._sent_nonce.to_bytes(_NONCE, "big")

    def seal(self, body: bytes, flags: int = 0) -> bytes:
        """Return the body of the frame that carries another one."""
        nonce = self.next_nonce()
        inner = b"%c%b" % (2 if flags & COMMAND else 0, body)
        return b"%b%b%b" % (
            _MESSAGE,
            nonce,
            crypto_box_afternm(inner, b"CurveZMQMESSAGES" + nonce, self._key),
        )

    def open(self, frame: Frame) -> Frame:
        """Return the frame that another one carries.

        :raises PeerViolationError: it carries none, or one that was changed or has come before.
        """
        body = frame.body
        if frame.flags & MORE or not body.startswith(_MESSAGE) or len(body) < OVERHEAD:
            raise PeerViolationError("a frame outside of CURVE's boxes")
        nonce = body[_PREFIX : _PREFIX + _NONCE]
        number = int.from_bytes(nonce, "big")
        if number <= self._last_nonce:
            raise PeerViolationError("a nonce of CURVE that was used before")
        inner = _opened(
            body[_PREFIX + _NONCE :],
            b"CurveZMQMESSAGEC" + nonce,
            self._key,
            "it was changed on the way",
        )
        self._last_nonce = number
        flags = (COMMAND if inner[0] & 2 else 0) | (MORE if inner[0] & 1 else 0)
        return Frame(flags, inner[1:])


def _opened(box: bytes, nonce: bytes, key: bytes, why_not: str) -> bytes:
    try:
        return bytes(crypto_box_open_afternm(box, nonce, key))
    except CryptoError:
        raise PeerViolationError(f"a box of CURVE cannot be opened: {why_not}") from None
