"""As much of the wire protocol as a hostile or a very plain node needs, written apart from the library's own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING

from .raw_ws import RawWebSocket
from .watching import until

if TYPE_CHECKING:
    from collections.abc import Sequence

_SINK, _STREAM = 2, 3
OURS = "Sec-WebSocket-Protocol: hakuban.0.8\r\n"
"""The header by which a node of ours is known."""


def number(value: int) -> bytes:
    """Encode an unsigned integer."""
    if value < 251:
        return bytes((value,))
    if value < 1 << 16:
        return b"\xfb" + value.to_bytes(2, "little")
    if value < 1 << 32:
        return b"\xfc" + value.to_bytes(4, "little")
    return b"\xfd" + value.to_bytes(8, "little")


def string(text: str) -> bytes:
    """Encode a string."""
    return number(len(text.encode())) + text.encode()


def strings(texts: Sequence[str]) -> bytes:
    """Encode a list of strings."""
    return number(len(texts)) + b"".join(map(string, texts))


OPEN_CONTROL = bytes.fromhex("000101")
INITIALIZE_CONTROL = bytes.fromhex("01010100010000")


def control(*actions: bytes) -> bytes:
    """Give a message of control actions."""
    return bytes.fromhex("01010101") + number(len(actions)) + b"".join(actions)


def note(**keys: object) -> bytes:
    """Give a note, as a connecting node of ours sends it."""
    return control() + b"hkn1" + dumps(keys).encode()


def set_name(name: str) -> bytes:
    return b"\0\0" + string(name)


def observe(json: str, tags: Sequence[str] = ()) -> bytes:
    return b"\1\0" + strings(tags) + string(json)


def unobserve(json: str, tags: Sequence[str] = ()) -> bytes:
    return b"\1\1" + strings(tags) + string(json)


def expose(json: str, capacity: int = 1, tags: Sequence[str] = ()) -> bytes:
    return b"\1\2" + strings(tags) + string(json) + number(capacity)


def state(channel: int, version: Sequence[int], data: bytes) -> bytes:
    """Give a message of one state: all its bytes as literals, format ["X"], current now."""
    diff = data.replace(b"\xff", b"\xff\xff")
    versions = number(len(version)) + b"".join(number(2 * item) for item in version)
    body = b"\0" + versions + b"\1" + strings(["X"]) + number(len(diff)) + diff + b"\0"
    return b"\1\0" + number(channel) + b"\3\1" + body


@dataclass(slots=True)
class Seen:
    """A message of the listening side on a data channel: of a state the version, of an age alone None."""

    at: float
    json: str
    version: tuple[int, ...] | None


class Channels:
    """Which channels the listening side has opened, and what came on them.

    :ivar sinks: data channels to send states on, by the JSON text of the object.
    :ivar streams: data channels that states come on, likewise.
    :ivar seen: what came on the streams.
    """

    def __init__(self) -> None:
        self.sinks: dict[str, int] = {}
        self.streams: dict[str, int] = {}
        self.seen: list[Seen] = []
        self._objects: dict[int, str] = {}

    def received(self, message: bytes) -> None:
        """Take a message of the listening side."""
        reader = _Reader(message)
        event, side, channel = reader.number(), reader.number(), reader.number()
        if side != 0 or channel == 1:
            return
        if event == 2:
            json = self._objects.pop(channel, "")
            for table in (self.sinks, self.streams):
                if table.get(json) == channel:
                    del table[json]
        elif event == 1:
            self._message(channel, reader)

    def _message(self, channel: int, reader: _Reader) -> None:
        kind = reader.number()
        reader.number()  # always one action
        if kind == 0:
            reader.number()
            table = {_SINK: self.sinks, _STREAM: self.streams}[reader.number()]
            for _ in range(reader.number()):
                reader.string()
            json = reader.string()
            self._objects[channel] = json
            table[json] = channel
        elif channel in self._objects:
            version = None
            if reader.number() == 0:
                version = tuple(reader.number() // 2 for _ in range(reader.number()))
            self.seen.append(Seen(time.monotonic(), self._objects[channel], version))


class RawNode(Channels, RawWebSocket):
    """A connecting node that says what a test tells it to say, and follows which channels are opened to it.

    :param name: is said at once; None says nothing.
    :param first: a note that is said before the name.
    :param headers: more lines of the request, such as `OURS`.
    """

    def __init__(
        self, url: str, *, name: str | None = "raw", first: bytes = b"", headers: str = ""
    ) -> None:
        Channels.__init__(self)
        RawWebSocket.__init__(self, url, headers=headers)
        if name is not None:
            opening = [OPEN_CONTROL, INITIALIZE_CONTROL, first, control(set_name(name))]
            self.send(*filter(None, opening))

    def tell(self, *actions: bytes) -> None:
        """Send control actions in one message."""
        self.send(control(*actions))

    def wait_sink(self, json: str, timeout: float = 8) -> int:
        """Wait until this node is assigned to produce an object; give the channel."""
        return until(lambda: self.sinks.get(json), f"a sink for {json}", timeout)

    def wait_stream(self, json: str, timeout: float = 8) -> int:
        """Wait until states of an object come to this node; give the channel."""
        return until(lambda: self.streams.get(json), f"a stream of {json}", timeout)

    def wait_version(self, json: str, version: tuple[int, ...], timeout: float = 8) -> None:
        """Wait until a state of an object has come."""
        until(
            lambda: any(seen.json == json and seen.version == version for seen in self.seen),
            f"version {version} of {json}",
            timeout,
        )


class _Reader:
    """A cursor over one message."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._message[self._at - size : self._at]

    def number(self) -> int:
        first = self._take(1)[0]
        if first < 251:
            return first
        return int.from_bytes(self._take({251: 2, 252: 4, 253: 8}[first]), "little")

    def string(self) -> str:
        return self._take(self.number()).decode()
