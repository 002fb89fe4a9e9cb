"""Frames of one connection to bytes and back, in the clear or in CURVE's boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hakuban.transport import PeerViolationError

from ._curve_server import OVERHEAD
from ._frames import MAX_FRAME
from ._zmtp import COMMAND, MAX_COMMAND, MORE, FrameReader, encode, pong, read_command

if TYPE_CHECKING:
    from ._curve_server import CurveBox
    from ._zmtp import Frame


class Codec:
    """What a connection sends and receives.

    Until `begin` is called that is the handshake: frames are as they came, and short. From then on they are the messages of
    links, of one frame each; the commands among them are seen to here.

    :ivar pong: the newest answer to a PING, which waits to be encoded and sent; None without one. Boxes go out in the order
        in which they were sealed, or the other side ends the connection.
    """

    __slots__ = ("_box", "_frames", "pong")

    def __init__(self) -> None:
        self._frames = FrameReader(MAX_COMMAND)
        self._box: CurveBox | None = None
        self.pong: bytes | None = None

    def begin(self, box: CurveBox | None) -> None:
        """The handshake is over.

        :param box: what carries the frames from now on; None in the clear.
        """
        self._box = box
        self._frames.most = MAX_FRAME + (0 if box is None else OVERHEAD)

    def encode(self, body: bytes, flags: int = 0) -> bytes:
        """Return the bytes of a message or command, to be sent before those of the next one."""
        if self._box is None:
            return encode(body, flags)
        return encode(self._box.seal(body, flags))

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._frames.feed(data)

    def take_frame(self) -> Frame | None:
        """Return the next frame of the handshake; None when it has not come as a whole.

        :raises PeerViolationError: it is none.
        """
        return self._frames.take()

    def take(self) -> bytes | None:
        """Return the next message; empty where a command came, None when nothing has come as a whole.

        :raises PeerViolationError: it is none, or has several frames.
        """
        frame = self._frames.take()
        if frame is None:
            return None
        if self._box is not None:
            frame = self._box.open(frame)
        if frame.flags & MORE:
            raise PeerViolationError("a message of several parts, where ours have one")
        if not frame.flags & COMMAND:
            if not frame.body:
                raise PeerViolationError("an empty message")
            return frame.body
        name, data = read_command(frame.body)
        if name == b"PING":
            self.pong = pong(data)
        return b""
