"""What users give as arguments, checked before anything happens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ._wire import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._states import Version

__all__ = [
    "checked_age",
    "checked_capacity",
    "checked_load_limit",
    "checked_name",
    "checked_version",
]

PEERS: Final = Limits()  # what peers accept
MOST: Final = 2**32 - 1  # capacity or load


def checked_version(version: Iterable[int]) -> Version:
    """Take a version.

    :raises TypeError: it is not made of integers.
    :raises ValueError: an integer does not fit into 64 bits, or there are too many.
    """
    items = tuple(version)
    if len(items) > PEERS.max_version:
        raise ValueError(f"a version has at most {PEERS.max_version} integers")
    for item in items:
        if not isinstance(item, int):
            raise TypeError(f"a version is made of integers, not {type(item).__name__}")
        if not -(2**63) <= item < 2**63:
            raise ValueError(f"{item} in a version does not fit into 64 bits")
    return items


def checked_age(age: float | None) -> float | None:
    """Take an age.

    :raises ValueError: it is negative, or not a number of seconds.
    """
    if age is not None and not (math.isfinite(age) and age >= 0):
        raise ValueError(f"an age is a number of seconds from 0 on, or None for current; not {age}")
    return age


def checked_capacity(capacity: int) -> int:
    """Take a capacity.

    :raises TypeError: it is no integer.
    :raises ValueError: it is out of range.
    """
    if not isinstance(capacity, int):
        raise TypeError(f"a capacity is an integer, not {type(capacity).__name__}")
    if not 0 <= capacity <= MOST:
        raise ValueError(f"a capacity is from 0 to {MOST}, not {capacity}")
    return capacity


def checked_name(name: str | None) -> str | None:
    """Take the name of a node.

    :raises ValueError: it is longer than peers accept.
    """
    if name is not None and len(name.encode()) > PEERS.max_name:
        raise ValueError(f"a name has {PEERS.max_name} bytes at most")
    return name


def checked_load_limit(points: Iterable[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Take the points of a load limit, and sort them by time.

    :raises ValueError: a point is out of range, or there are too many.
    """
    ordered = tuple(sorted(points))
    if len(ordered) > PEERS.max_load_points:
        raise ValueError(f"a load limit has at most {PEERS.max_load_points} points")
    for seconds, load in ordered:
        if not (0 <= seconds <= PEERS.max_load_seconds and 0 <= load <= MOST):
            raise ValueError(
                f"({seconds}, {load}) is no point of a load limit: that is seconds from 0 to {PEERS.max_load_seconds:g},"
                f" and a load from 0 to {MOST}"
            )
    return ordered
