"""What a peer may ask of us before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from hakuban._descriptors import MAX_BYTES, MAX_TAGS
from hakuban._states import MOST_VERSION_ITEMS

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one link. What is over one of a version, format or descriptor is ignored; anything else ends the link.

    :ivar max_message: bytes of a whole message, received or sent.
    :ivar max_object: bytes of an object's data after patching, checked before they are copied.
    :ivar max_version: integers of a version.
    :ivar max_format: names in a format.
    :ivar max_tags: tags of a descriptor, repetitions included.
    :ivar max_name: bytes of a peer's name.
    :ivar max_load_points: points of a load limit.
    :ivar max_load_seconds: seconds from now of a load limit's last point.
    :ivar max_descriptor: bytes of all JSON texts of a descriptor.
    :ivar max_channels: channels that a listening peer has open at a time.
    :ivar max_control_channels: channels that a connecting peer has open at a time; a well-behaved one has one.
    """

    max_message: int = 16 * MIB
    max_object: int = 64 * MIB
    max_version: int = MOST_VERSION_ITEMS
    max_format: int = 64
    max_tags: int = MAX_TAGS
    max_name: int = 1_024
    max_load_points: int = 1_000
    max_load_seconds: float = 1e9
    max_descriptor: int = MAX_BYTES
    max_channels: int = 1_000_000
    max_control_channels: int = 1_000
