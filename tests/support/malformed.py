"""The malformed input that the crate's router was tried with: how each case is sent, and what ours does with it.

The crate's router keeps a dead link open in 37 of these cases, and dies in 25.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .raw_node import RawNode, control, expose, observe, state, unobserve
from .raw_ws import BINARY, CLOSE, CONTINUATION, FIN, PONG, TEXT, Close, frame
from .watching import holds, until

if TYPE_CHECKING:
    from collections.abc import Callable

_FIXTURES = Path(__file__).parents[2] / "packages" / "hakuban-core" / "tests" / "fixtures"
_RECORDED: list[dict[str, Any]] = json.loads((_FIXTURES / "malformed-router.json").read_text())

# The others are no WebSocket connections at all.
CASES = {
    case["case"]: case
    for case in _RECORDED
    if not re.match("TCP|HTTP|silent TCP|WS upgrade", case["case"])
}

# ---- what is expected -----------------------------------------------------------------------------------------------

# A reference to no byte at all: the crate takes it, and never writes it.
STRICTER = {"patch: zero-length old ref", "patch: zero-length new ref position 0"}
# No JSON, or nested too deep: that item is ignored, and the link stays.
IGNORED = {
    name
    for name, case in CASES.items()
    if name.startswith(("Observe, descriptor JSON: ", "Observe, bad JSON tag"))
    and not case["result"].startswith("accepted")
}

_UNDECODABLE = re.compile(
    r"random bytes|one byte 00|truncated Observe|u64 marker|varint marker|event tag 3|channel tag 2|channel id 0"
    r"|invalid UTF-8|capacity 2\^32|huge length|patch: "
)
_OTHER_CODES = {
    "close control channel D 1": 1000,
    "websocket close 1000": 1000,
    "connection dropped in the middle of a websocket frame": None,
}


def stays(name: str) -> bool:
    """Tell whether the link survives a case."""
    accepted = CASES[name]["result"].startswith("accepted") and name not in STRICTER
    return accepted or name in IGNORED


def close_code(name: str) -> int | None:
    """Give the code that the link of a case is closed with."""
    if name in _OTHER_CODES:
        return _OTHER_CODES[name]
    return 1007 if _UNDECODABLE.match(name) else 1002


# ---- how each is sent -----------------------------------------------------------------------------------------------

_BEFORE_THE_HANDSHAKE = {
    "first message not Uninitialized",
    "message without Open",
    "Initialize DownstreamControl from the connecting side",
    "Initialize ObjectSinkToUpstream from the connecting side",
    "Uninitialized with 0 actions",
    "Uninitialized with 2 actions",
    "open + close before Initialize",
}
_LATE = "late state on a channel the router has closed"
_TO_A_STREAM = "message on an ObjectStreamFromUpstream channel"
_OF_ITS_OWN_OBJECT = re.compile(r"state: |patch: |huge length .*(diff bytes|version list)")


def _cut_in_a_frame(node: RawNode) -> None:
    node.write(frame(bytes(100))[:40])
    node.cut()


def _fragments(node: RawNode) -> None:
    message = control()
    node.write(
        frame(message[:2], first=BINARY)
        + frame(message[2:4], first=CONTINUATION)
        + frame(message[4:], first=FIN | CONTINUATION)
    )


_OF_FRAMES: dict[str, Callable[[RawNode], None]] = {
    "text message '.' and 'hello'": lambda node: node.write(
        frame(b".", TEXT) + frame(b"hello", TEXT)
    ),
    "text message of 1 MB": lambda node: node.write(frame(b"x" * 1_000_000, TEXT)),
    "websocket ping": RawNode.ping,
    "unsolicited websocket pong": lambda node: node.write(frame(b"?", PONG)),
    "websocket close 1000": lambda node: node.write(frame((1000).to_bytes(2, "big"), CLOSE)),
    "fragmented message (3 ws fragments)": _fragments,
    "connection dropped in the middle of a websocket frame": _cut_in_a_frame,
}


@dataclass(slots=True)
class Outcome:
    """What became of a case; times are seconds after its last byte.

    :ivar lives: whether the link could still be used after a while.
    :ivar close: the Close frame that the sender got.
    :ivar closed: when it came, or the connection ended without.
    :ivar standby: when the standby was assigned to what the sender produced; None where the sender never introduced itself.
    :ivar observed: when a state of the standby reached the observer.
    :ivar problem: what went otherwise than any case may.
    """

    lives: bool = False
    close: Close | None = None
    closed: float = 0.0
    standby: float | None = None
    observed: float | None = None
    problem: str = ""


class Scene:
    """A sender that is assigned to produce an object, where its case allows; an observer of that object, and a standby."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url
        self._messages = _messages(name)
        own = _own_object(name)
        self._thing = own or json.dumps(f"of {name}")
        self._first_exposes = own is not None
        self._introduced = name not in _BEFORE_THE_HANDSHAKE

    def run(self) -> Outcome:
        """Send the case, and watch what becomes of the sender and of its object."""
        with (
            RawNode(self._url, name="observer") as self._observer,
            RawNode(self._url, name="standby") as self._standby,
            RawNode(self._url, name="sender" if self._introduced else None) as self._sender,
        ):
            try:
                self._prepare()
                self._send()
                return self._still_works() if stays(self._name) else self._ends(time.monotonic())
            except AssertionError as error:
                return Outcome(problem=f"{error}; {self._sender.close}")

    def _prepare(self) -> None:
        sender = self._sender
        if not self._introduced:
            return
        self._observer.tell(observe(self._thing))
        if self._name == _TO_A_STREAM:
            self._standby.tell(expose('"obs-talk"'))
            sender.send(self._messages.pop(0))
            assert sender.wait_stream('"obs-talk"') == 2
        if self._first_exposes:
            sender.send(self._messages.pop(0))
            # what follows is said on this channel
            assert sender.wait_sink(self._thing) == 2
        else:
            sender.tell(expose(self._thing))
            sender.wait_sink(self._thing)
        if self._name == _LATE:
            sender.send(self._messages.pop(0))
            self._observer.wait_version(self._thing, (1,))
            self._observer.tell(unobserve(self._thing))
            until(lambda: not sender.sinks, "the channel is closed")

    def _send(self) -> None:
        if self._introduced and self._name != _LATE:
            self._standby.tell(expose(self._thing))
            self._standby.ping()
        if self._name in _OF_FRAMES:
            _OF_FRAMES[self._name](self._sender)
        else:
            self._sender.send(*self._messages)

    def _still_works(self) -> Outcome:
        sender = self._sender
        # a violation would be answered by now
        holds(lambda: sender.close is None and sender.ended is None, "the link is open", 0.7)
        sender.ping()
        if self._introduced:
            if self._name == _LATE:
                self._observer.tell(observe(self._thing))
            sender.send(state(sender.wait_sink(self._thing), (1 << 60,), b"last"))
            self._observer.wait_version(self._thing, (1 << 60,))
        return Outcome(lives=True)

    def _ends(self, sent: float) -> Outcome:
        sender, outcome = self._sender, Outcome()
        if self._introduced:
            channel = self._standby.wait_sink(self._thing)
            outcome.standby = time.monotonic() - sent
            self._standby.send(state(channel, (1 << 60,), b"of the standby"))
            self._observer.wait_version(self._thing, (1 << 60,))
            outcome.observed = time.monotonic() - sent
        ended = until(lambda: sender.ended, "the connection has ended", 5)
        outcome.close = sender.close
        outcome.closed = (sender.close.at if sender.close else ended or sent) - sent
        return outcome


def _messages(name: str) -> list[bytes]:
    if name in _OF_FRAMES:
        return []
    if nesting := re.search(r"nesting (\d+)", name):  # the recording was cut
        depth = int(nesting[1])
        return [control(observe("[" * depth + "]" * depth))]
    return [bytes.fromhex(data) for data in CASES[name]["sent"]]


def _own_object(name: str) -> str | None:
    """Give the object of a case that exposes one by itself, and goes on to send its states."""
    if name != _LATE and not _OF_ITS_OWN_OBJECT.match(name):
        return None
    exposed = bytes.fromhex(CASES[name]["sent"][0])
    return exposed[9 : 9 + exposed[8]].decode()
