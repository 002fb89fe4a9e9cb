"""Bytes to values: one cursor over one message."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from hakuban._exceptions import PeerViolationError, WireError

from .tags import EventTag, Side
from .varint import MARKER_16, WIDTHS, from_zigzag

if TYPE_CHECKING:
    from hakuban._states import Format, Version

    from .limits import Limits

_SECONDS = struct.Struct("<f").unpack


class Patch(NamedTuple):
    """A patch as received.

    :ivar format: None if it is as before.
    :ivar body: the bytes of all but the age.
    :ivar age: in microseconds.
    """

    version: Version
    format: Format | None
    difference: bytes
    body: bytes
    age: int


class Reader:
    """A cursor over one message: each call reads the next value and moves on.

    Every length is checked against the bytes left, and against the limits, before anything of that size is made.
    Integers may be longer than needed as long as they fit their field; bytes after the last value are nobody's.

    :param data: the message.
    :param limits: limits of the link.
    :param at: where to begin.

    All methods raise WireError when the bytes do not decode, and PeerViolationError (1009) when they say too much.
    """

    __slots__ = ("_at", "_data", "_limits")

    def __init__(self, data: bytes, limits: Limits, at: int = 0) -> None:
        self._data = data
        self._at = at
        self._limits = limits

    # ---- primitives -------------------------------------------------------------------------------------------------

    def unsigned(self, widest: int = 8) -> int:
        """Read an unsigned integer of at most that many bytes."""
        at = self._at
        try:
            byte = self._data[at]
        except IndexError:
            raise _ends_early() from None
        self._at = at + 1
        return byte if byte < MARKER_16 else self._wide(byte, widest)

    def u32(self) -> int:
        """Read a capacity, a load, or the tag of a variant."""
        return self.unsigned(4)

    def _wide(self, marker: int, widest: int) -> int:
        width = WIDTHS.get(marker, 16)
        if width > widest:
            raise WireError(f"an integer has the marker {marker:#x}")
        start = self._at
        self._at = end = start + width
        if end > len(self._data):
            raise _ends_early()
        return int.from_bytes(self._data[start:end], "little")

    def _take(self, size: int) -> bytes:
        start = self._at
        end = start + size
        if end > len(self._data):
            raise _ends_early()
        self._at = end
        return self._data[start:end]

    def length(self) -> int:
        """Read a count of things of at least one byte each."""
        count = self.unsigned()
        if count > len(self._data) - self._at:
            raise WireError(f"{count} items or bytes are announced, and the message ends before")
        return count

    def _bounded(self, what: str, limit: int) -> int:
        count = self.length()
        if count > limit:
            raise PeerViolationError(f"{what} of {count} items or bytes (limit {limit})", code=1009)
        return count

    def blob(self) -> bytes:
        """Read bytes."""
        return self._take(self.length())

    def text(self) -> str:
        """Read a string."""
        return _utf8(self.blob())

    # ---- composite values -------------------------------------------------------------------------------------------

    def event(self) -> tuple[int, int, int]:
        """Read the head of a message: an EventTag, the Side that opened the channel, and its number."""
        event = self.u32()
        if event > EventTag.CLOSE:
            raise WireError(f"unknown event {event}")
        side = self.u32()
        if side > Side.DOWNSTREAM:
            raise WireError(f"unknown side {side} of a channel")
        channel = self.unsigned()
        if not channel:
            raise WireError("a channel has the number 0")
        return event, side, channel

    def name(self) -> str:
        """Read the name of a node."""
        return _utf8(self._take(self._bounded("a name", self._limits.max_name)))

    def load_limit(self) -> tuple[tuple[float, int], ...]:
        """Read the points of a load limit, as they are."""
        count = self._bounded("a load limit", self._limits.max_load_points)
        return tuple([(_SECONDS(self._take(4))[0], self.u32()) for _ in range(count)])

    def object_texts(self) -> tuple[list[str], str] | None:
        """Read the JSON texts of an object's tags and name, or skip them (None) when they are too long."""
        count = self._bounded("a set of tags", self._limits.max_tags)
        return self._tags_and_name(count)

    def tag_text(self) -> str | None:
        """Read the JSON text of a tag, or skip it (None) when it is too long."""
        found = self._tags_and_name(0)
        return None if found is None else found[1]

    def _tags_and_name(self, tags: int) -> tuple[list[str], str] | None:
        room = self._limits.max_descriptor
        texts: list[str] = []
        for _ in range(tags + 1):
            size = self.length()
            room -= size
            if room < 0:
                self._at += size
            else:
                texts.append(_utf8(self._take(size)))
        return None if room < 0 else (texts[:-1], texts[-1])

    def patch(self) -> Patch:
        """Read a patch."""
        limits, start = self._limits, self._at
        integers = [self.unsigned() for _ in range(self._bounded("a version", limits.max_version))]
        version = from_zigzag(integers)
        format: Format | None = None
        option = self._take(1)
        if option == b"\x01":
            count = self._bounded("a format", limits.max_format)
            format = tuple([self.text() for _ in range(count)])
        elif option != b"\x00":
            raise WireError(f"an option has the tag {option[0]}")
        difference = self.blob()
        return Patch(version, format, difference, self._data[start : self._at], self.unsigned())


def _ends_early() -> WireError:
    return WireError("the message ends early")


def _utf8(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise WireError("a string is not UTF-8") from None
