"""Bytes to values: one cursor over one message."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from hakuban._exceptions import PeerViolationError, WireError
from hakuban._session_events import ItemIgnored

from .tags import EventTag, Side
from .varint import MARKER_16, WIDTHS, from_zigzag

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from hakuban._contents import Format, Version

    from .._limits import Limits

_SECONDS = struct.Struct("<f").unpack


_SHOWN = 200  # characters of a descriptor that is ignored, for people
_STEP = 1_000  # things passed over in one step


class Patch(NamedTuple):
    """A patch as received.

    :ivar format: None if it is as before, or over a limit.
    :ivar body: the bytes of all but the age.
    :ivar age: in microseconds.
    :ivar over: what is over a limit and was passed over, one line for people; "" for nothing.
    :ivar format_over: the same, where it is the format.
    """

    version: Version
    format: Format | None
    difference: bytes
    body: bytes
    age: int
    over: str = ""
    format_over: str = ""


class Reader:
    """A cursor over one message: each call reads the next value and moves on.

    Every length is checked against the bytes left, and against the limits, before anything of that size is made.
    Integers may be longer than needed as long as they fit their field; bytes after the last value are nobody's.

    :param data: the message.
    :param limits: limits of the link.
    :param at: where to begin.

    All methods raise WireError when the bytes do not decode, and PeerViolationError (1009) when they exceed a limit.
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

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return len(self._data)

    def rest(self) -> bytes:
        """Return what was not read."""
        return self._data[self._at :]

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

    def object_texts(self) -> Generator[None, None, list[str] | ItemIgnored]:
        """Read the JSON texts of an object: its tags', then its own; in steps, where there are more than may be."""
        count, limit = self.length(), self._limits.max_tags
        if count <= limit:
            return self._texts(count + 1)
        start = self._at
        yield from self._skip(self.blob, count + 1)
        beginning = _beginning(self._data[start : start + _SHOWN])
        return ItemIgnored(f"a descriptor has {count} tags (limit {limit})", beginning)

    def tag_text(self) -> list[str] | ItemIgnored:
        """Read the JSON text of a tag."""
        return self._texts(1)

    def _texts(self, count: int) -> list[str] | ItemIgnored:
        limit, start = self._limits.max_descriptor, self._at
        texts: list[str] = []
        total = 0
        for _ in range(count):
            size = self.length()
            total += size
            if total <= limit:
                texts.append(_utf8(self._take(size)))
            else:
                self._at += size
        if total <= limit:
            return texts
        return ItemIgnored(
            f"a descriptor has {total} bytes (limit {limit})",
            _beginning(self._data[start : self._at]),
        )

    def patch(self) -> Patch | None:
        """Read a patch; None when something in it is over a limit: then it is still to be read, by `skim_patch`."""
        limits, start = self._limits, self._at
        count = self.length()
        if count > limits.max_version:
            self._at = start
            return None
        version = from_zigzag([self.unsigned() for _ in range(count)])
        format: Format | None = None
        if self._option():
            count = self.length()
            if count > limits.max_format:
                self._at = start
                return None
            format = tuple([self.text() for _ in range(count)])
        difference = self.blob()
        return Patch(version, format, difference, self._data[start : self._at], self.unsigned())

    def skim_patch(self) -> Generator[None, None, Patch]:
        """Read a patch that is over a limit, in steps, without version and body, and without what is over."""
        limits = self._limits
        over = format_over = ""
        count = self.length()
        if count > limits.max_version:
            over = f"a version has {count} integers (limit {limits.max_version})"
        yield from self._skip(self.unsigned, count)
        format: Format | None = None
        if self._option():
            count = self.length()
            if count > limits.max_format:
                format_over = f"a format has {count} names (limit {limits.max_format})"
                yield from self._skip(self.blob, count)
            else:
                format = tuple([self.text() for _ in range(count)])
        return Patch(
            (), format, self.blob(), b"", self.unsigned(), over or format_over, format_over
        )

    def _option(self) -> bool:
        tag = self._take(1)
        if tag not in (b"\x00", b"\x01"):
            raise WireError(f"an option has the tag {tag[0]}")
        return tag == b"\x01"

    @staticmethod
    def _skip(read: Callable[[], object], count: int) -> Iterator[None]:
        """Read and forget so many values."""
        for done in range(1, count + 1):
            read()
            if done % _STEP == 0:
                yield


def _beginning(data: bytes) -> str:
    """Return what was passed over for people: the texts in it, without the lengths between them."""
    return "".join(filter(str.isprintable, data[:_SHOWN].decode("utf-8", "ignore")))


def _ends_early() -> WireError:
    return WireError("the message ends early")


def _utf8(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise WireError("a string is not UTF-8") from None
