"""From what users set to what the machine is offered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._core.records import Offer
from ._exceptions import StateTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._serializers import Serializer
    from ._states import Version

__all__ = ["Publisher", "checked_age", "checked_capacity", "checked_version"]

_MAX_ITEMS = 1_000  # what peers accept
_MAX_CAPACITY = 2**32 - 1


class Publisher:
    """Encodes values for one contract, outside all locks."""

    __slots__ = ("_max_state", "_serializer")

    def __init__(self, serializer: Serializer, max_state: int) -> None:
        self._serializer = serializer
        self._max_state = max_state

    def offer(self, value: Any, version: Iterable[int] | None) -> Offer:
        """Encode a value; `version` None asks for a default one."""
        checked = None if version is None else checked_version(version)
        format, data = self._serializer.serialize(value)
        if len(data) > self._max_state:
            raise StateTooLargeError(len(data), self._max_state)
        return Offer(data, format, checked)


def checked_version(version: Iterable[int]) -> Version:
    """Take what users give as a version.

    :raises TypeError: it is not made of integers.
    :raises ValueError: an integer does not fit into 64 bits, or there are too many.
    """
    items = tuple(version)
    if len(items) > _MAX_ITEMS:
        raise ValueError(f"a version has at most {_MAX_ITEMS} integers")
    for item in items:
        if not isinstance(item, int):
            raise TypeError(f"a version is made of integers, not {type(item).__name__}")
        if not -(2**63) <= item < 2**63:
            raise ValueError(f"{item} in a version does not fit into 64 bits")
    return items


def checked_age(age: float | None) -> float | None:
    """Take what users give as an age.

    :raises ValueError: it is negative, or not a number of seconds.
    """
    if age is not None and not (math.isfinite(age) and age >= 0):
        raise ValueError(f"an age is a number of seconds from 0 on, or None for current; not {age}")
    return age


def checked_capacity(capacity: int) -> int:
    """Take what users give as a capacity.

    :raises TypeError: it is no integer.
    :raises ValueError: it is out of range.
    """
    if not isinstance(capacity, int):
        raise TypeError(f"a capacity is an integer, not {type(capacity).__name__}")
    if not 0 <= capacity <= _MAX_CAPACITY:
        raise ValueError(f"a capacity is from 0 to {_MAX_CAPACITY}, not {capacity}")
    return capacity
