"""Values to bytes: bincode 2 "standard" (little-endian, variable-length integers), as the crate writes it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .tags import INITIALIZE, ChannelTag, ControlTag, EventTag, ExchangeTag, MessageTag, Side
from .varint import signed, unsigned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakuban._contents import Format, Version
    from hakuban._session_events import Verb

MAX_AGE = 2**64 - 1
"""Microseconds of the greatest age that can be sent."""

_POINT_SECONDS = struct.Struct("<f").pack


def blob(value: bytes) -> bytes:
    """Write bytes with their length in front."""
    return unsigned(len(value)) + value


def text(value: str) -> bytes:
    """Write a string."""
    return blob(value.encode())


def texts(values: Sequence[str]) -> bytes:
    """Write a list of strings."""
    return unsigned(len(values)) + b"".join(map(text, values))


def age(microseconds: int) -> bytes:
    """Write an age; one beyond 64 bits becomes the greatest that fits."""
    return unsigned(min(microseconds, MAX_AGE))


# ---- whole messages -------------------------------------------------------------------------------------------------


def open_channel(side: Side, channel: int) -> bytes:
    """Open a channel."""
    return bytes((EventTag.OPEN, side)) + unsigned(channel)


def close_channel(side: Side, channel: int) -> bytes:
    """Close a channel."""
    return bytes((EventTag.CLOSE, side)) + unsigned(channel)


def message(side: Side, channel: int, kind: MessageTag, actions: Sequence[bytes]) -> bytes:
    """Send actions of one kind on a channel."""
    head = (bytes((EventTag.MESSAGE, side)), unsigned(channel), bytes((kind,)))
    return b"".join((*head, unsigned(len(actions)), *actions))


# ---- actions --------------------------------------------------------------------------------------------------------


def initialize_control(kind: ChannelTag) -> bytes:
    """Write that a channel is a control channel."""
    return bytes((INITIALIZE, kind))


def initialize_data(kind: ChannelTag, tags: Sequence[str], json: str) -> bytes:
    """Write that a channel carries states of an object, given by the JSON texts of its descriptor."""
    return bytes((INITIALIZE, kind)) + texts(tags) + text(json)


def set_name(name: str) -> bytes:
    """Write the name of this node."""
    return bytes((ControlTag.EXCHANGE, ExchangeTag.SET_NAME)) + text(name)


def set_load_limit(points: Sequence[tuple[float, int]]) -> bytes:
    """Declare points of (seconds from now, load); none is no limit."""
    return b"".join(
        (
            bytes((ControlTag.EXCHANGE, ExchangeTag.SET_LOAD_LIMIT)),
            unsigned(len(points)),
            *(_POINT_SECONDS(seconds) + unsigned(load) for seconds, load in points),
        )
    )


def object_contract(verb: Verb, tags: Sequence[str], json: str, capacity: int | None) -> bytes:
    """Change a contract on an object; the capacity is None for verbs without one."""
    head = bytes((ControlTag.OBJECT_CONTRACT, verb.value))
    return head + texts(tags) + text(json) + _capacity(capacity)


def tag_contract(verb: Verb, json: str, capacity: int | None) -> bytes:
    """Change a contract on a tag; the capacity is None for verbs without one."""
    return bytes((ControlTag.TAG_CONTRACT, verb.value)) + text(json) + _capacity(capacity)


def _capacity(capacity: int | None) -> bytes:
    return b"" if capacity is None else unsigned(capacity)


def patch_body(version: Version, format: Format | None, diff: bytes) -> bytes:
    """Write what a patch contains on every link alike; the tag of the action goes before, the age after it.

    :param format: None when it is the format of the state that the patch leads from.
    """
    return b"".join(
        (
            unsigned(len(version)),
            *map(signed, version),
            b"\x00" if format is None else b"\x01" + texts(format),
            unsigned(len(diff)),
            diff,
        )
    )
