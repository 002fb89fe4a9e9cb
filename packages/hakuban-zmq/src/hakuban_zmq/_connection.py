"""One accepted connection: the link it carries, and its bytes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from hakuban.transport import Latch, PeerViolationError

from ._codec import Codec
from ._frames import BYE, BYE_ACK, CHUNK, HEADER, HELLO, RESET, frame, read_hello, session_of
from ._zmtp import COMMAND

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from hakuban.sockets import SocketStream

    from ._frames import Hello
    from ._stream import ZeroMQStream

_PIECE: Final = 64 * 1024
_FRAMES_PER_TURN: Final = 100
"""Frames taken before the loop has its turn: about 1 ms."""
_CLOSE_SECONDS: Final = 1.0
_MOST_UNSENT: Final = 2 * CHUNK
"""Bytes that may wait: of a chunk of messages, and of answers, grants and signs of life for a peer that does not read."""


class Connection:
    """The frame sender of one link, and what reads its socket.

    What the socket does not take at once waits here, and a task is started that sends it; messages wait with the sender
    meanwhile. A peer that asks on and on and reads no answer is cut.

    :param tasks: where to send from what could not be sent at once.
    """

    __slots__ = (
        "_closed", "_flushed", "_grace", "_reading", "_relayed", "_relaying", "_socket", "_stream", "_tasks", "_unsent",
        "_waiting", "codec",
    )  # fmt: skip

    def __init__(self, socket: SocketStream, tasks: TaskGroup) -> None:
        self._socket = socket
        self._tasks = tasks
        self._flushed: anyio.Event | None = None  # while something waits
        # behind what the socket has; joined to that one by one it would be copied each time
        self._waiting: list[bytes] = []
        self._unsent = 0  # bytes of both
        self._closed: Latch | None = None  # set when it is
        self._grace = _CLOSE_SECONDS
        self._stream: ZeroMQStream | None = None
        self._relaying = False
        # whoever ends the listener ends the tasks too, and those of a connection are wanted until it is closed
        self._reading = anyio.CancelScope(shield=True)
        self._relayed = Latch()
        self.codec = Codec()

    # ---- the stream's side ------------------------------------------------------------------------------------------

    def send(self, data: bytes, /) -> bool:
        """Send a frame, as soon as the socket takes it; False when too much waits already, and it is not sent."""
        if self._full:
            return False
        self._write(self.codec.encode(data))
        return True

    @property
    def stuck(self) -> bool:
        """Whether something waits to be taken by the operating system."""
        return self._flushed is not None

    def look(self) -> bool:
        """Return whether something waits in the operating system to be read."""
        return self._socket.has_unread()

    def forget(self) -> None:
        """The link is closed, and so will the connection be, whatever the handler still does."""
        self._tasks.start_soon(self.aclose)

    @property
    def _full(self) -> bool:
        return self._unsent > _MOST_UNSENT

    def _write(self, data: bytes) -> None:
        socket = self._socket
        if self._flushed is not None:
            self._waiting.append(data)
            self._unsent += len(data)
            return
        socket.write(data)
        try:
            if not socket.flush_nowait():
                self._unsent = socket.unsent
                self._flushed = anyio.Event()
                self._tasks.start_soon(self._flush, self._flushed)
        except OSError:
            pass  # who reads meets the same error, after what came before it

    async def _flush(self, flushed: anyio.Event) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._socket.flush()
                while self._waiting:
                    self._socket.write(b"".join(self._waiting))
                    self._waiting.clear()
                    self._unsent = self._socket.unsent
                    await self._socket.flush()
        except (OSError, anyio.ClosedResourceError):
            pass  # as in `_write`
        finally:
            self._unsent = 0
            self._flushed = None
            flushed.set()
            if self._stream is not None:
                self._stream.resume()

    def abandon(self) -> None:
        """Nothing was sent that the other side might miss: `aclose` is not to wait for it."""
        self._grace = 0.0

    async def aclose(self) -> None:
        """Send what waits and let the other side end, for at most 1 s; close the socket. Once; who comes later waits."""
        with anyio.CancelScope(shield=True):
            if self._closed is not None:
                await self._closed.wait()
                return
            self._closed = Latch()
            self._reading.cancel()
            if self._relaying:
                await self._relayed.wait()
            with anyio.move_on_after(self._grace), suppress(OSError):
                if self._flushed is not None:
                    await self._flushed.wait()
                await self._socket.end()
            self._socket.interrupt()
            await checkpoint()
            self._socket.close()
            self._closed.set()

    # ---- the socket's side ------------------------------------------------------------------------------------------

    async def hello(self) -> Hello:
        """Wait for what begins a link.

        :raises PeerViolationError: something else comes, or PINGs whose answers nobody reads.
        :raises EOFError: the other side has left.
        :raises OSError: the connection is gone.
        """
        while not (data := self.codec.take()):
            if data is None:
                self.codec.feed(await self._read())
            else:
                await checkpoint()  # a command came, and there may be very many
            self._answer()
        try:
            return read_hello(data)
        except PeerViolationError:
            self._reset(data)
            raise

    def begin(self, stream: ZeroMQStream) -> None:
        """There is a link: hand on to it what comes, until it is closed."""
        self._stream = stream
        self._relaying = True
        self._tasks.start_soon(self._relay, stream)

    async def _relay(self, stream: ZeroMQStream) -> None:
        try:
            with self._reading:
                try:
                    while True:
                        await self._take_frames(stream)
                        self.codec.feed(await self._read())
                except PeerViolationError as violation:
                    stream.report_violation(violation)
                while True:
                    await self._read()  # it is sent the reason, and may miss it if this lies unread
        except (EOFError, OSError):
            stream.lose("the connection has ended")
        finally:
            self._relayed.set()

    async def _take_frames(self, stream: ZeroMQStream) -> None:
        """Hand on what has come.

        :raises PeerViolationError: it is none of what may come on a link, or asks for more than is read.
        """
        taken = 0
        while (data := self.codec.take()) is not None:
            if data and not stream.take_frame(data):
                self._take_foreign(stream, data)
            taken += 1
            if taken % _FRAMES_PER_TURN == 0:
                self._answer()
                await checkpoint()
        self._answer()

    def _take_foreign(self, stream: ZeroMQStream, data: bytes) -> None:
        """Take a frame of another session: a connection has one link."""
        if data[0] != HELLO:
            self._reset(data)
        elif session_of(data) != stream.remote_session:
            raise PeerViolationError("it said hello twice on one connection")

    def _reset(self, data: bytes) -> None:
        """Notify whoever talks to an earlier life of this listener; close messages need no answer."""
        if len(data) >= HEADER and data[0] not in (BYE, BYE_ACK, RESET):
            self.send(frame(RESET, session_of(data)))

    def _answer(self) -> None:
        """Answer the newest PING of ZMTP.

        :raises PeerViolationError: too many answers wait, to that and to whatever else it asked.
        """
        if self._full:
            raise PeerViolationError("it goes on asking, and reads no answer")
        pong, self.codec.pong = self.codec.pong, None
        if pong is not None:
            self._write(self.codec.encode(pong, COMMAND))

    async def _read(self) -> bytes:
        data = await self._socket.read(_PIECE)
        if not data:
            raise EOFError
        return data
