"""WebSocket frames (RFC 6455, section 5): messages to bytes and back. Pure.

Written for many small binary messages: wsproto's frame layer costs 20 to 45 times as much as the messages inside.
"""

from __future__ import annotations

import os
from copy import copy
from struct import Struct
from typing import TYPE_CHECKING

from hakuban.transport import PeerViolationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._deflate import Deflater, Inflater

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

FIN = 0x80
RESERVED = 0x70
COMPRESSED = 0x40
OPCODE = 0x0F
MASKED = 0x80

_WHOLE_BINARY = FIN | BINARY
_LENGTH_16 = Struct("!BBH")
_LENGTH_64 = Struct("!BBQ")
_UNSIGNED_16 = Struct("!H")
_UNSIGNED_64 = Struct("!Q")

# Bytes of a fragment: small enough that a ping gets in between, and a Rust peer takes more than its 16 MiB a frame.
FRAGMENT = 256 * 1024
# What one call of `FrameReader.messages` hands out, and how many frames it looks at.
BATCH_BYTES = 1024 * 1024
BATCH_FRAMES = 1000

# Lengths over 125 are written 126 or 127, followed by 16 or 64 bits.
_SHORT, _IN_16, _IN_64 = 125, 126, 127
_MAX_16 = 0xFFFF

# Below this, XOR of long integers is faster than translating every fourth byte.
_TRANSLATE_FROM = 512
_BYTES, _EACH = int.from_bytes(range(256)), int.from_bytes(b"\1" * 256)
_XOR = [(_BYTES ^ _EACH * key).to_bytes(256) for key in range(256)]  # [key][byte] is key ^ byte

_CODE_INTERNAL = 1011
CODE_PROTOCOL, CODE_NO_STATUS, CODE_UNDECODABLE, CODE_TOO_BIG = 1002, 1005, 1007, 1009
_MAY_BE_SENT = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


def mask(data: bytes, key: bytes) -> bytes:
    """XOR data with the four bytes of key, over and over; the same call unmasks."""
    length = len(data)
    if length < _TRANSLATE_FROM:
        keys = (key * (length // 4 + 1))[:length]
        return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(
            length, "little"
        )
    result = bytearray(data)
    for i in range(4):
        result[i::4] = result[i::4].translate(_XOR[key[i]])
    return bytes(result)


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a Close frame, its reason cut to the 123 bytes there are, at a character's end.

    :param code: 1005 for none; others that must not be sent become 1011.
    """
    if code == CODE_NO_STATUS:
        return b""
    if code not in _MAY_BE_SENT:
        code = _CODE_INTERNAL
    text = reason.encode("utf-8", "replace")[: _SHORT - 2].decode("utf-8", "ignore")
    return _UNSIGNED_16.pack(code) + text.encode()


class FrameWriter:
    """Turns messages into frames.

    :param masked: whether to mask, as the connecting side has to.
    :param deflater: compresses messages, where that was agreed on.
    """

    __slots__ = ("_deflater", "_mask_bit")

    def __init__(self, *, masked: bool, deflater: Deflater | None = None) -> None:
        self._mask_bit = MASKED if masked else 0
        self._deflater = deflater

    def control(self, opcode: int, payload: bytes) -> bytes:
        """A control frame; the payload has at most 125 bytes."""
        return b"".join(self._frame(FIN | opcode, payload))

    def units(self, messages: Sequence[bytes]) -> Iterator[bytes]:
        """The batch as byte strings of hardly more than 512 KiB, between which control frames may go."""
        pieces: list[bytes] = []
        size = 0
        for message in messages:
            payload, first = message, _WHOLE_BINARY
            if self._deflater is not None and self._deflater.is_worth(message):
                payload, first = self._deflater.compress(message), _WHOLE_BINARY | COMPRESSED
            start = 0
            while len(payload) - start > FRAGMENT:
                pieces += self._frame(first & ~FIN, payload[start : start + FRAGMENT])
                yield b"".join(pieces)
                pieces.clear()
                size = 0
                start += FRAGMENT
                first = FIN | CONTINUATION
            pieces += self._frame(first, payload[start:] if start else payload)
            size += len(payload) - start
            if size > FRAGMENT:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
        if pieces:
            yield b"".join(pieces)

    def _frame(self, first: int, payload: bytes) -> tuple[bytes, ...]:
        length = len(payload)
        if length <= _SHORT:
            header = bytes((first, self._mask_bit | length))
        elif length <= _MAX_16:
            header = _LENGTH_16.pack(first, self._mask_bit | _IN_16, length)
        else:
            header = _LENGTH_64.pack(first, self._mask_bit | _IN_64, length)
        if not self._mask_bit:
            return header, payload
        key = os.urandom(4)
        return header, key, mask(payload, key)


class FrameReader:
    """Takes bytes in pieces of any size and returns whole binary messages; text messages are checked and thrown away.

    Holds one message and one piece at most: what is declared too long is refused before it is taken in.

    :param masked: whether the other side has to mask, as a connecting one does.
    :param max_message: bytes of the longest message accepted.
    :param inflater: decompresses messages, where that was agreed on.
    :ivar starved: whether more bytes are needed before there can be more messages.
    :ivar ping: the payload of the newest ping; the user answers it and sets this to None.
    :ivar close: code and reason of the Close frame, once it is there; all after it is ignored.
    """

    __slots__ = (
        "_at", "_compressed", "_data", "_fragments", "_held", "_inflater", "_mask_bit", "_max_message", "_need",
        "_opcode", "_violation", "close", "ping", "starved",
    )  # fmt: skip

    def __init__(self, *, masked: bool, max_message: int, inflater: Inflater | None = None) -> None:
        self._mask_bit = MASKED if masked else 0
        self._max_message = max_message
        self._inflater = inflater
        self._data: bytes | bytearray = b""
        self._at = 0  # where the next frame starts
        self._need = 2  # bytes from there on without which nothing can be done
        self._opcode = BINARY  # of the message in progress
        self._compressed = False
        self._fragments: bytearray | None = None
        self._held: bytes | None = None  # a message that did not fit into the last batch
        self._violation: PeerViolationError | None = None
        self.starved = True
        self.ping: bytes | None = None
        self.close: tuple[int, str] | None = None

    @property
    def missing(self) -> int:
        """How many bytes the frame that has begun still needs, as far as that is known."""
        return self._need - len(self._data) + self._at

    @property
    def unfinished(self) -> int:
        """How many bytes are held of what is not complete."""
        return len(self._data) - self._at + len(self._fragments or b"")

    def clear(self) -> None:
        """Forget what has come in: nothing more will be taken."""
        self._data, self._at, self._need = b"", 0, 2
        self._fragments = self._held = None

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        if self.close is not None or self._violation is not None:
            return
        if self._at == len(self._data):
            self._data = data
        else:
            rest = self._data
            if not isinstance(rest, bytearray):  # one has not been looked at yet
                rest = bytearray(memoryview(rest)[self._at :])
            rest += data
            self._data = rest
        self._at = 0
        self.starved = False

    def messages(self) -> list[bytes]:
        """Return the next messages: at most 1,000, and at most 1 MiB unless a single one is longer.

        Look at `starved`, `ping` and `close` after each call.

        :raises PeerViolationError: now and ever after, once the messages before the fault were given.
        """
        batch: list[bytes] = []
        if self._violation is not None:
            raise copy(self._violation)  # what is raised gets frames, and in one of them is this
        try:
            self._parse(batch)
        except PeerViolationError as violation:
            self._violation = copy(violation)
            self.clear()
            if not batch:
                raise
        return batch

    def _parse(self, batch: list[bytes]) -> None:
        data = self._data
        if len(data) - self._at < self._need:
            self.starved = True
            return
        if isinstance(data, bytearray):
            data = self._data = bytes(data)
        size = 0
        if self._held is not None:
            batch.append(self._held)
            size = len(self._held)
            self._held = None
        for _ in range(BATCH_FRAMES):
            frame = self._next_frame(data)
            if frame is None:
                self.starved = True
                if self._at == len(data):
                    self._data, self._at = b"", 0  # an idle link holds nothing of what has come
                return
            message = frame[1] if frame[0] == _WHOLE_BINARY else self._take(*frame)
            if self.close is not None:
                return
            if message is None:
                continue
            size += len(message)
            if batch and size > BATCH_BYTES:
                self._held = message
                self._need = 0
                return
            batch.append(message)

    def _next_frame(self, data: bytes) -> tuple[int, bytes] | None:
        """First byte and unmasked payload of the next frame, or None when it is not there in full."""
        at = self._at
        start = at + 2
        if start > len(data):
            self._need = 2
            return None
        first = data[at]
        length = data[at + 1] ^ self._mask_bit
        if length > _SHORT:
            size = self._length_size(length)
            start += size
            if start > len(data):
                self._need = 2 + size
                return None
            length = self._long_length(data[at + 2 : start])
        if first != _WHOLE_BINARY or self._fragments is not None:
            self._check(first, length)
        elif length > self._max_message:
            raise self._too_big()
        if not self._mask_bit:
            stop = start + length
        else:
            start += 4
            stop = start + length
        if stop > len(data):
            self._need = stop - at
            return None
        payload = data[start:stop]
        self._at = stop
        self._need = 2
        return first, mask(payload, data[start - 4 : start]) if self._mask_bit else payload

    def _length_size(self, length: int) -> int:
        if length > _IN_64:
            wanted = "masked" if self._mask_bit else "unmasked"
            raise PeerViolationError(f"frame is not {wanted}", code=CODE_PROTOCOL)
        return 2 if length == _IN_16 else 8

    def _long_length(self, field: bytes) -> int:
        if len(field) == _UNSIGNED_16.size:
            (length,) = _UNSIGNED_16.unpack(field)
            least = _SHORT + 1
        else:
            (length,) = _UNSIGNED_64.unpack(field)
            least = _MAX_16 + 1
        if length < least or length >> 63:
            raise PeerViolationError("frame length is not minimal, or negative", code=CODE_PROTOCOL)
        return int(length)

    def _check(self, first: int, length: int) -> None:
        """Refuse what the first byte of a frame forbids, and lengths over the limit."""
        opcode = first & OPCODE
        reserved = first & RESERVED
        if reserved and not (
            reserved == COMPRESSED and opcode in {TEXT, BINARY} and self._inflater is not None
        ):
            raise PeerViolationError("reserved bits are set in a frame", code=CODE_PROTOCOL)
        if opcode >= CLOSE:
            if opcode > PONG:
                raise PeerViolationError(f"unknown opcode {opcode}", code=CODE_PROTOCOL)
            if not first & FIN or length > _SHORT:
                raise PeerViolationError(
                    "control frame in fragments or too long", code=CODE_PROTOCOL
                )
            return
        if opcode > BINARY:
            raise PeerViolationError(f"unknown opcode {opcode}", code=CODE_PROTOCOL)
        if (opcode == CONTINUATION) != (self._fragments is not None):
            raise PeerViolationError("fragments out of order", code=CODE_PROTOCOL)
        if length + len(self._fragments or b"") > self._max_message:
            raise self._too_big()

    def _too_big(self) -> PeerViolationError:
        return PeerViolationError(f"message over {self._max_message} bytes", code=CODE_TOO_BIG)

    def _take(self, first: int, payload: bytes) -> bytes | None:
        """Handle any other frame than a whole, uncompressed binary message; returns the message it completes."""
        opcode = first & OPCODE
        if opcode >= CLOSE:
            self._control(opcode, payload)
            return None
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._compressed = bool(first & COMPRESSED)
        if self._fragments is not None:
            self._fragments += payload
        elif not first & FIN:
            self._fragments = bytearray(payload)
        if not first & FIN:
            return None
        if self._fragments is not None:
            payload = bytes(self._fragments)
            self._fragments = None
        if self._compressed and self._inflater is not None:
            # Text too: the next message may refer back to it.
            payload = self._inflater.inflate(payload)
        if self._opcode == BINARY:
            return payload
        _decode(payload, "text")
        return None

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.ping = payload
        elif opcode == CLOSE:
            self.close = _read_close(payload)
            self.clear()


def _read_close(payload: bytes) -> tuple[int, str]:
    if not payload:
        return CODE_NO_STATUS, ""
    if len(payload) == 1:
        raise PeerViolationError("close frame with half a code", code=CODE_PROTOCOL)
    (code,) = _UNSIGNED_16.unpack_from(payload)
    if code not in _MAY_BE_SENT:
        raise PeerViolationError(f"close code {code} must not be sent", code=CODE_PROTOCOL)
    return code, _decode(payload[2:], "close reason")


def _decode(payload: bytes, what: str) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise PeerViolationError(f"{what} is not UTF-8", code=CODE_UNDECODABLE) from None
