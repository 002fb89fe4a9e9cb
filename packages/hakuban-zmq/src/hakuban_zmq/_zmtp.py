"""ZMTP 3.1 (RFC 37), as far as a listener of hakuban needs it: greeting, frames, commands, metadata. Pure.

A listener is open to unknown peers, so every size is bounded, and what is not understood is a `PeerViolationError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hakuban.transport import PeerViolationError

if TYPE_CHECKING:
    from collections.abc import Iterable

NULL: Final = b"NULL"
CURVE: Final = b"CURVE"

MORE: Final = 0x01  # of a frame's flags: the message has another frame
_LONG: Final = 0x02
COMMAND: Final = 0x04
_RESERVED: Final = 0xF8

GREETING: Final = 64
"""Bytes of a greeting."""
MAX_COMMAND: Final = 4096
"""Bytes of a command that are read before a link is up: 200 bytes in practice, and metadata of the other side's own."""

_SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f"
_VERSION: Final = 10  # where the version is in a greeting
_MECHANISM: Final = slice(12, 32)
_LONG_HEADER: Final = 9
_SHORT: Final = 255  # bytes of the largest body whose size takes one byte

_CONTEXT: Final = 16  # bytes that come back in a PONG
_TTL: Final = 2


class Frame(NamedTuple):
    """A frame: `flags` is made of MORE and COMMAND."""

    flags: int
    body: bytes


def greeting(mechanism: bytes) -> bytes:
    """Return what a listener sends first."""
    return b"%b\x03\x01%b%c%b" % (
        _SIGNATURE,
        mechanism.ljust(20, b"\0"),
        mechanism == CURVE,
        bytes(31),
    )


def check_greeting(data: bytes, mechanism: bytes) -> bool:
    """Look at what has come of the other side's greeting; return whether that is all of it.

    :param mechanism: the one that is spoken here.
    :raises PeerViolationError: it is none, or of another version or mechanism.
    """
    if data[:1] not in (b"", b"\xff") or (len(data) > 9 and not data[9] & 1):
        raise PeerViolationError("this is no ZeroMQ")
    if len(data) > _VERSION and data[_VERSION] < 3:
        raise PeerViolationError(f"ZMTP {data[_VERSION]} is spoken there, and 3 here")
    if len(data) < GREETING:
        return False
    wanted = data[_MECHANISM].rstrip(b"\0")
    if wanted != mechanism:
        name = wanted.decode("ascii", "replace")
        raise PeerViolationError(f"the mechanism is {mechanism.decode()} here, and {name} there")
    return True


def encode(body: bytes, flags: int = 0) -> bytes:
    """Return the bytes of a frame."""
    size = len(body)
    if size <= _SHORT:
        return b"%c%c%b" % (flags, size, body)
    return b"%c%b%b" % (flags | _LONG, size.to_bytes(8, "big"), body)


class FrameReader:
    """Makes frames of what comes in pieces.

    :param most: bytes of the largest body that is taken.
    """

    __slots__ = ("_at", "_data", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._data = bytearray()
        self._at = 0  # what is before that was given out

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        if self._at:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def take(self) -> Frame | None:
        """Return the next frame; None when it has not come as a whole.

        :raises PeerViolationError: its flags are unknown, or it is too large.
        """
        data, at = self._data, self._at
        there = len(data) - at
        if there < 2:
            if not there:  # an idle link holds nothing of what has come
                self._data, self._at = bytearray(), 0
            return None
        flags = data[at]
        if flags & _RESERVED:
            raise PeerViolationError(f"a frame with flags {flags:#04x}")
        if flags & _LONG:
            if there < _LONG_HEADER:
                return None
            begin = at + _LONG_HEADER
            size = int.from_bytes(data[at + 1 : begin], "big")
        else:
            begin = at + 2
            size = data[at + 1]
        if size > self.most:
            raise PeerViolationError(f"a frame of {size} bytes, where {self.most} are taken")
        end = begin + size
        if end > len(data):
            return None
        self._at = end
        return Frame(flags & ~_LONG, bytes(memoryview(data)[begin:end]))


def command(name: bytes, data: bytes) -> bytes:
    """Return the body of a command."""
    return b"%c%b%b" % (len(name), name, data)


def read_command(body: bytes) -> tuple[bytes, bytes]:
    """Return the name of a command, and what comes with it.

    :raises PeerViolationError: it is none.
    """
    size = body[0] if body else 0
    if not size or len(body) <= size:
        raise PeerViolationError("a command without a name")
    return body[1 : 1 + size], body[1 + size :]


def expect_command(frame: Frame, name: bytes) -> bytes:
    """Return what comes with a command.

    :raises PeerViolationError: it is another one, or none; the other side's own reason is reported if it sends one.
    """
    if frame.flags != COMMAND:
        raise PeerViolationError(f"{name.decode()} was to come")
    command_name, data = read_command(frame.body)
    if command_name == b"ERROR":
        reason = data[1:].decode("ascii", "replace")
        raise PeerViolationError(f"it has ended the handshake: {reason}")
    if command_name != name:
        raise PeerViolationError(f"{name.decode()} was to come, and not {command_name[:20]!r}")
    return data


def error_command(reason: bytes) -> bytes:
    """Return the body of a refusal; libzmq takes three digits for the status of an authentication."""
    return command(b"ERROR", b"%c%b" % (len(reason), reason))


def pong(data: bytes) -> bytes:
    """Return the body of the answer to a PING.

    :param data: what came with it.
    :raises PeerViolationError: that is too much or too little.
    """
    context = data[_TTL:]
    if len(data) < _TTL or len(context) > _CONTEXT:
        raise PeerViolationError("a malformed PING")
    return command(b"PONG", context)


def encode_metadata(properties: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of names and values."""
    return b"".join(
        b"%c%b%b%b" % (len(name), name, len(value).to_bytes(4, "big"), value)
        for name, value in properties
    )


def read_metadata(data: bytes) -> dict[bytes, bytes]:
    """Return values by their names in small letters.

    :raises PeerViolationError: they do not add up.
    """
    properties: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        begin = name_end + 4
        end = begin + int.from_bytes(data[name_end:begin], "big")
        if end > len(data) or name_end == at + 1:
            raise PeerViolationError("malformed metadata")
        properties[data[at + 1 : name_end].lower()] = data[begin:end]
        at = end
    return properties


OUR_METADATA: Final = encode_metadata([(b"Socket-Type", b"ROUTER"), (b"Identity", b"")])


def check_metadata(data: bytes) -> None:
    """Look at what a peer states about itself.

    :raises PeerViolationError: it is malformed, or of a socket that does not go with ours.
    """
    kind = read_metadata(data).get(b"socket-type", b"")
    if kind != b"DEALER":
        name = kind[:20].decode("ascii", "replace") or "of no type"
        raise PeerViolationError(f"a DEALER may connect here, and its socket is {name}")
