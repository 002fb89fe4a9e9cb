"""How much there may be of anything: what peers accept, and what users may pass. One table; `_checks` looks at the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024

LEAST_INT64: Final = -(2**63)
MOST_INT64: Final = 2**63 - 1
"""Items of versions, and clocks in nanoseconds."""

MOST_CAPACITY: Final = 2**32 - 1
MOST_LOAD: Final = 2**32 - 1

MOST_TAGS: Final = 1_000
"""Tags of an object that peers accept."""

MOST_GIVEN_TAGS: Final = 100_000
"""Tags that a user may pass, repetitions included: there may be no end of them."""

MOST_DESCRIPTOR_BYTES: Final = 64 * 1024
"""Bytes of all JSON texts of a descriptor that peers accept."""

MOST_VERSION_ITEMS: Final = 1_000
"""Integers of a version that peers accept."""

MOST_FORMAT_BYTES: Final = 16 * 1024
"""Bytes of all names in a format that a user may pass."""

MOST_SECONDS: Final = 1e9
"""Of an option of a link."""

MOST_ORIGINS: Final = 10_000
"""Origins that a listener lets in."""


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
    max_tags: int = MOST_TAGS
    max_name: int = 1_024
    max_load_points: int = 1_000
    max_load_seconds: float = 1e9
    max_descriptor: int = MOST_DESCRIPTOR_BYTES
    max_channels: int = 1_000_000
    max_control_channels: int = 1_000


PEERS: Final = Limits()
"""What peers of this version accept."""
