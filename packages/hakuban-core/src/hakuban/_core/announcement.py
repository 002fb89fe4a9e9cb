"""What a node announces to the one above about an object or tag."""

from __future__ import annotations

from typing import NamedTuple


class Announcement(NamedTuple):
    """What a node announces upstream about an object or tag.

    :ivar observe: whether it observes.
    :ivar capacity: with what capacity it exposes; 0 is no exposer.
    """

    observe: bool
    capacity: int


NOTHING = Announcement(observe=False, capacity=0)
