"""The listening side of ZMTP's handshake on one connection: NULL, or CURVE with a list of those let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zmq.utils import z85

from ._curve_server import CurveHandshake
from ._zmtp import (
    COMMAND,
    CURVE,
    GREETING,
    NULL,
    OUR_METADATA,
    check_greeting,
    check_metadata,
    command,
    encode,
    error_command,
    expect_command,
    greeting,
)

if TYPE_CHECKING:
    from hakuban.sockets import SocketStream

    from ._codec import Codec
    from ._curve import ListenerKeys
    from ._curve_server import CurveBox
    from ._zmtp import Frame

_PIECE: Final = 4096
_NOT_ALLOWED: Final = b"400"
"""What libzmq is sent for a key that is not on the list: the status of ZAP (RFC 27)."""


class UnknownKeyError(Exception):
    """Somebody has proven to own a key that is not on the list, and was notified.

    :ivar key: as Z85 writes it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


class Handshake:
    """Agrees with who has connected on how to talk, and learns its key.

    :param stream: the connection; nothing was read from it yet.
    :param codec: is notified when the handshake is over.
    :param keys: of the listener; None without CURVE.
    """

    __slots__ = ("_codec", "_keys", "_stream")

    def __init__(self, stream: SocketStream, codec: Codec, keys: ListenerKeys | None) -> None:
        self._stream = stream
        self._codec = codec
        self._keys = keys

    async def run(self) -> str:
        """Return the key that the other side has proven to own; "" without CURVE.

        :raises PeerViolationError: it speaks something else.
        :raises UnknownKeyError: its key is not on the list.
        :raises EOFError: it has left.
        :raises OSError: the connection is gone.
        """
        mechanism = NULL if self._keys is None else CURVE
        await self._send(greeting(mechanism))
        received = b""
        while not check_greeting(received[:GREETING], mechanism):
            received += await self._read()
        self._codec.feed(received[GREETING:])
        if self._keys is None:
            await self._command(command(b"READY", OUR_METADATA))
            check_metadata(expect_command(await self._frame(), b"READY"))
            self._codec.begin(None)
            return ""
        key, box = await self._curve(self._keys)
        self._codec.begin(box)
        return key

    async def _curve(self, keys: ListenerKeys) -> tuple[str, CurveBox]:
        handshake = CurveHandshake(keys.server)
        hello = expect_command(await self._frame(), b"HELLO")
        await self._command(handshake.welcome(hello))
        initiate = expect_command(await self._frame(), b"INITIATE")
        client, metadata = handshake.identify(initiate)
        check_metadata(metadata)
        key: bytes = z85.encode(client)
        if keys.clients is not None and not await keys.clients.admits(key):
            await self._command(error_command(_NOT_ALLOWED))
            raise UnknownKeyError(key.decode())
        ready, box = handshake.ready(OUR_METADATA)
        await self._command(ready)
        return key.decode(), box

    async def _frame(self) -> Frame:
        while (frame := self._codec.take_frame()) is None:
            self._codec.feed(await self._read())
        return frame

    async def _command(self, body: bytes) -> None:
        await self._send(encode(body, COMMAND))

    async def _send(self, data: bytes) -> None:
        self._stream.write(data)
        await self._stream.flush()

    async def _read(self) -> bytes:
        data = await self._stream.read(_PIECE)
        if not data:
            raise EOFError
        return data
