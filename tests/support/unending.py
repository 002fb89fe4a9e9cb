"""Links whose message never ends, byte after byte, in good order otherwise."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final, Protocol, Self

from typing_extensions import override

from hakuban_zmq._frames import BYE, GRANT, read_bye, read_grant

from .raw_wires import ZeroMQWire
from .raw_ws import BINARY, CONTINUATION, PING, RawWebSocket, frame
from .zmtp import framed

if TYPE_CHECKING:
    from hakuban_zmq._frames import Window

PIECE: Final = 256 * 1024


class Unending(Protocol):
    """A link with a message that has begun."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def pour(self) -> None:
        """Send further 256 KiB, or nothing when the link has ended."""
        ...

    def end_code(self) -> int | None:
        """Give with which code the other side has ended the link; None while it has not."""
        ...


class UnendingWebSocket(RawWebSocket):
    """Over WebSocket: a fragment for each piece."""

    _opcode = BINARY

    def pour(self) -> None:
        if self.close is None:
            self.write(frame(bytes(PIECE), first=self._opcode))
            self._opcode = CONTINUATION

    @override
    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode != PING:  # the answer would come in the middle of a piece
            super()._take(opcode, payload)

    def end_code(self) -> int | None:
        return None if self.close is None else self.close.code


class UnendingZeroMQ(ZeroMQWire):
    """Over ZeroMQ: it keeps to its credit, since who does not is ended for that."""

    def __init__(self, url: str) -> None:
        self._code: int | None = None
        super().__init__(url)
        self._credit, self._credit_chunks = self.window.size, self.window.chunks
        # the last piece would end it
        *self._pieces, _ = map(framed, self.chunks(bytes(PIECE)))

    def pour(self) -> None:
        for piece in self._pieces:
            while self._code is None and (self._credit <= 0 or self._credit_chunks <= 0):
                self._hear()
            if self._code is not None:
                return
            self.socket.sendall(piece)
            self._credit -= len(piece)
            self._credit_chunks -= 1

    def end_code(self) -> int | None:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while self._code is None and (self._unread or poll.poll(0)):
            self._hear()
        return self._code

    def _hear(self) -> None:
        data = next(self.frames)
        if data[0] == GRANT:
            grant: Window = read_grant(data)
            self._credit += grant.size
            self._credit_chunks += grant.chunks
        elif data[0] == BYE:
            self._code, _ = read_bye(data)
