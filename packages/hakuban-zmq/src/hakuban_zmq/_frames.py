"""What the two sides send each other, in bytes. Pure.

A ZeroMQ message is one frame: a byte for its kind, the session of the side it is meant for (8 bytes), and a body.
`docs/decisions/zmq.md` has the table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hakuban.transport import PeerViolationError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION: Final = 1

HELLO: Final = 1  # session: of the connecting side. Body: MAGIC, version, window
WELCOME: Final = 2  # body: version, session of the listening side, its clock, window
REFUSED: Final = 3  # body: whether to try again, code, reason
DATA: Final = 4  # body: records
GRANT: Final = 5  # body: bytes, chunks
PING: Final = 6
PONG: Final = 7
BYE: Final = 8  # body: code, reason
BYE_ACK: Final = 9
RESET: Final = 10  # session: the one that the listener does not know

SESSION: Final = 8
HEADER: Final = 1 + SESSION
CHUNK: Final = 64 * 1024
"""Bytes of the largest body."""

MAX_FRAME: Final = HEADER + CHUNK
MAX_REASON: Final = 1024

_MAGIC: Final = b"hakuban"
_HELLO: Final = struct.Struct(">7sBII")
_WELCOME: Final = struct.Struct(">B8sqII")
_REFUSED: Final = struct.Struct(">?H")
_GRANT: Final = struct.Struct(">II")
_BYE: Final = struct.Struct(">H")
_LENGTH: Final = struct.Struct(">I")
_MORE: Final = 1 << 31  # in a record's length: the message goes on in the next record
_RECORD: Final = CHUNK - _LENGTH.size
TOO_BIG: Final = 1009
_TOO_LARGE: Final = "raise max_message on the side that receives, or send less"
_OTHER_VERSION: Final = "both sides need a hakuban-zmq, best of one version"


@dataclass(frozen=True, slots=True)
class Window:
    """How much may be on its way, or wait for its reader, before the reader grants more.

    :ivar size: bytes of frames.
    :ivar chunks: frames.
    """

    size: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What the connecting side sends first."""

    session: bytes
    version: int
    window: Window

    def encode(self) -> bytes:
        """The frame."""
        body = _HELLO.pack(_MAGIC, self.version, self.window.size, self.window.chunks)
        return frame(HELLO, self.session, body)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the listening side answers: the link is up.

    :ivar session: the listening side's.
    :ivar clock: the listening side's time, Unix nanoseconds.
    """

    version: int
    session: bytes
    clock: int
    window: Window

    def encode(self, to: bytes) -> bytes:
        """The frame to the session of the connecting side."""
        window = self.window
        body = _WELCOME.pack(self.version, self.session, self.clock, window.size, window.chunks)
        return frame(WELCOME, to, body)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the listening side answers to whom it does not want."""

    reason: str
    retry: bool
    code: int = 1008

    def encode(self, to: bytes) -> bytes:
        """The frame to the session of the connecting side."""
        return frame(REFUSED, to, _REFUSED.pack(self.retry, self.code) + _text(self.reason))


def frame(kind: int, session: bytes, body: bytes = b"") -> bytes:
    """Make a frame to a session."""
    return b"%c%b%b" % (kind, session, body)


def session_of(data: bytes) -> bytes:
    """Return the session that a frame is meant for; it is shorter than a session where the frame is none."""
    return data[1:HEADER]


def read_hello(data: bytes) -> Hello:
    """Read the frame of a newcomer.

    :raises PeerViolationError: it is no HELLO.
    """
    # what a later version sends behind this is its own affair: it will receive our version
    if len(data) < HEADER + _HELLO.size or data[0] != HELLO:
        raise PeerViolationError("no hello of hakuban")
    magic, version, size, chunks = _HELLO.unpack_from(data, HEADER)
    if magic != _MAGIC:
        raise PeerViolationError("no hello of hakuban")
    return Hello(session_of(data), version, Window(size, chunks))


def read_answer(data: bytes, session: bytes) -> Welcome | Refusal | None:
    """Read what a listener answers to the HELLO of a session; None when it was meant for another one.

    :raises PeerViolationError: it is no answer.
    """
    if len(data) < HEADER or session_of(data) != session:
        return None
    try:
        if data[0] == WELCOME:
            version, own, clock, size, chunks = _WELCOME.unpack_from(data, HEADER)
            return Welcome(version, own, clock, Window(size, chunks))
        if data[0] == REFUSED:
            retry, code = _REFUSED.unpack_from(data, HEADER)
            return Refusal(_read_text(data, HEADER + _REFUSED.size), retry, code)
    except struct.error:
        pass
    raise PeerViolationError("no answer of hakuban")


def encode_grant(to: bytes, grant: Window) -> bytes:
    """Make the frame that lets the other side send more."""
    return frame(GRANT, to, _GRANT.pack(grant.size, grant.chunks))


def read_grant(data: bytes) -> Window:
    """Read a GRANT.

    :raises PeerViolationError: it is malformed.
    """
    if len(data) != HEADER + _GRANT.size:
        raise PeerViolationError("malformed grant")
    return Window(*_GRANT.unpack_from(data, HEADER))


def encode_bye(to: bytes, code: int, reason: str) -> bytes:
    """Make the last frame; a long reason is cut."""
    return frame(BYE, to, _BYE.pack(code & 0xFFFF) + _text(reason))


def read_bye(data: bytes) -> tuple[int, str]:
    """Read code and reason of a BYE.

    :raises PeerViolationError: it is malformed.
    """
    if len(data) < HEADER + _BYE.size:
        raise PeerViolationError("malformed goodbye")
    return _BYE.unpack_from(data, HEADER)[0], _read_text(data, HEADER + _BYE.size)


def with_help(violation: PeerViolationError, who: str) -> PeerViolationError:
    """Return the violation with who broke the rules, and with what to do."""
    step = _TOO_LARGE if violation.code == TOO_BIG else _OTHER_VERSION
    return PeerViolationError(f"{who}: {violation.reason}; {step}", code=violation.code)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:MAX_REASON]


def _read_text(data: bytes, start: int) -> str:
    """Read what is meant for people: it goes to logs and terminals."""
    return printable(data[start : start + MAX_REASON].decode("utf-8", "ignore"))


def chunks(messages: Sequence[bytes], to: bytes) -> Iterator[bytes]:
    """Cut and pack messages into DATA frames to a session, as few as may be."""
    head = frame(DATA, to)
    parts, size = [head], 0
    for message in messages:
        length = len(message)
        if size and size + _LENGTH.size + length > CHUNK:
            yield b"".join(parts)
            parts, size = [head], 0
        if length <= _RECORD:
            parts += (_LENGTH.pack(length), message)
            size += _LENGTH.size + length
        else:
            yield from _pieces(message, head)
    if size:
        yield b"".join(parts)


def _pieces(message: bytes, head: bytes) -> Iterator[bytes]:
    view = memoryview(message)
    for start in range(0, len(view), _RECORD):
        piece = view[start : start + _RECORD]
        more = _MORE if start + _RECORD < len(view) else 0
        yield b"".join((head, _LENGTH.pack(len(piece) | more), piece))


class Reassembly:
    """Makes messages of DATA frames.

    :param max_message: bytes of the largest message.
    """

    __slots__ = ("_max_message", "_part")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._part = bytearray()  # of a message that goes on; one buffer, since pieces may be tiny

    @property
    def unfinished(self) -> int:
        """Bytes of a message that has begun, and goes on."""
        return len(self._part)

    def clear(self) -> None:
        """Forget it: there will be no more frames."""
        self._part = bytearray()

    def messages(self, data: bytes) -> Iterator[bytes]:
        """Return the messages that a frame completes.

        :raises PeerViolationError: it is malformed, or a message is too large (code 1009).
        """
        offset, end = HEADER, len(data)
        while True:
            if end - offset < _LENGTH.size:
                raise PeerViolationError("malformed chunk")
            (length,) = _LENGTH.unpack_from(data, offset)
            more = length & _MORE
            length &= ~_MORE
            offset += _LENGTH.size
            # a message could have empty pieces without end
            if length > end - offset or (more and not length):
                raise PeerViolationError("malformed chunk")
            if len(self._part) + length > self._max_message:
                raise PeerViolationError(
                    f"a message is over max_message={self._max_message}", code=TOO_BIG
                )
            piece = data[offset : offset + length]
            offset += length
            if more:
                self._part += piece
            elif self._part:
                self._part += piece
                whole, self._part = bytes(self._part), bytearray()
                yield whole
            else:
                yield piece
            if offset == end:
                return
