"""What users pass as arguments: checked before anything happens, and turned into plain values.

A value that looks right and is not (a str that formats itself, a numpy integer, a list that is changed later) must not
get behind the lock of a node or onto the wire.
"""

from __future__ import annotations

import inspect
import math
import operator
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any

from ._limits import LEAST_INT64, MOST_CAPACITY, MOST_INT64, MOST_LOAD, PEERS
from ._plain_values import iterating, plain_scalar, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._contents import Version


def checked_integer(what: str, value: Any, least: int, most: int) -> int:
    """Take an integer: whatever has `__index__`, numpy's among them.

    :raises TypeError: it is none.
    :raises ValueError: it is out of range.
    """
    try:
        number = int.__index__(operator.index(value))
    except TypeError:
        raise TypeError(f"{what} is an integer, not {_kind(value)}") from None
    if not least <= number <= most:
        raise ValueError(f"{what} is an integer from {least} to {most}, not {_digits(number)}")
    return number


def checked_number(what: str, value: Any) -> float:
    """Take a number: whatever has `__float__` or `__index__`, but no text and no complex number. May be NaN or infinite.

    :raises TypeError: it is none.
    :raises ValueError: it does not fit into a float.
    """
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{what} is a number, not {_kind(value)}")
    try:
        return float.__float__(float(value))
    except TypeError:
        raise TypeError(f"{what} is a number, not {_kind(value)}") from None
    except OverflowError:
        raise ValueError(f"{what} is too large a number") from None


def checked_flag(what: str, value: Any) -> bool:
    """Take True or False, numpy's too.

    :raises TypeError: it is something else, though it may count as true.
    """
    flag = plain_scalar(value)
    if not isinstance(flag, bool):
        raise TypeError(f"{what} is True or False, not {flag!r:.100}")
    return flag


def checked_version(version: Iterable[int]) -> Version:
    """Take a version.

    :raises TypeError: it is not made of integers.
    :raises ValueError: an integer does not fit into 64 bits, or there are too many.
    """
    items = checked_items(
        "a version", version, "an iterable of integers", PEERS.max_version, "integers"
    )
    checked = tuple(
        checked_integer("each item of a version", item, LEAST_INT64, MOST_INT64) for item in items
    )
    if len(checked) == PEERS.max_version and min(checked) == MOST_INT64:
        raise ValueError(
            "this is the largest version there is, and none could follow: use a smaller one"
        )
    return checked


def checked_age(age: float | None) -> float | None:
    """Take an age.

    :raises TypeError: it is no number.
    :raises ValueError: it is negative, or not a number of seconds.
    """
    if age is None:
        return None
    seconds = checked_number("an age", age)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(
            f"an age is a number of seconds from 0 on, or None for current; not {seconds}"
        )
    return seconds


def checked_timeout(timeout: float | None) -> float | None:
    """Take how long to wait; below 0 is 0, and more than a thread can wait is for ever.

    :raises TypeError: it is no number.
    :raises ValueError: it is NaN.
    """
    if timeout is None:
        return None
    seconds = checked_number("timeout", timeout)
    if math.isnan(seconds):
        raise ValueError("timeout is a number of seconds, or None for no limit; not nan")
    return max(0.0, seconds) if seconds < TIMEOUT_MAX else None


def checked_retain(retain: float) -> float:
    """Take for how long something is kept.

    :raises TypeError: it is no number.
    :raises ValueError: it is negative, or NaN.
    """
    seconds = checked_number("retain", retain)
    if not seconds >= 0:
        raise ValueError(f"retain is a number of seconds from 0 on, or math.inf; not {seconds}")
    return seconds


def checked_interval(seconds: float) -> float:
    """Take after how long something is done again.

    :raises TypeError: it is no number.
    :raises ValueError: it is not more than 0.
    """
    checked = checked_number("an interval", seconds)
    if not checked > 0:
        raise ValueError(f"an interval is a number of seconds, more than 0; not {checked}")
    return checked


def checked_capacity(capacity: int) -> int:
    """Take a capacity.

    :raises TypeError: it is no integer.
    :raises ValueError: it is out of range.
    """
    return checked_integer("a capacity", capacity, 0, MOST_CAPACITY)


def checked_rebalance(rebalance: float | None) -> float | None:
    """Take the difference of load that moves an object.

    :raises TypeError: it is no number.
    :raises ValueError: it is negative, or not finite.
    """
    if rebalance is None:
        return None
    load = checked_number("rebalance", rebalance)
    if not (math.isfinite(load) and load >= 0):
        raise ValueError(f"rebalance is a load from 0 on, or None to move no object; not {load}")
    return load


def checked_seconds(what: str, value: float) -> float:
    """Take a time.

    :raises TypeError: it is no number.
    :raises ValueError: it is negative, or more than 10^9.
    """
    seconds = checked_number(what, value)
    if not 0 <= seconds <= 1e9:
        raise ValueError(f"{what} is a time in seconds, from 0 to 1e9, not {seconds:g}")
    return seconds


def checked_name(name: str | None) -> str | None:
    """Take the name of a node.

    :raises TypeError: it is no text.
    :raises ValueError: it is longer than peers accept, or no Unicode text.
    """
    if name is None:
        return None
    text = plain_text("the name of a node", name)
    size = encoded_size("the name of a node", text)
    if size > PEERS.max_name:
        raise ValueError(
            f"the name of a node has {PEERS.max_name} bytes at most, not {size}: shorten it"
        )
    return text


def encoded_size(what: str, text: str) -> int:
    """Count the bytes of a text.

    :raises ValueError: it is no Unicode text.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} has a lone surrogate, which is no Unicode text") from None


def expect_function(what: str, value: object) -> None:
    """Refuse what cannot be called.

    :param what: says what it should be.
    :raises TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{what}, not {value!r:.100}")


def takes_one_argument(function: Callable[..., object]) -> bool:
    """Return whether a function takes one argument, as far as is known. Of a decorated one, the wrapper counts."""
    try:
        inspect.signature(function, follow_wrapped=False).bind(None)
    except TypeError:
        return False
    except ValueError:
        pass  # nobody knows its parameters
    return True


def checked_load_limit(points: Any) -> tuple[tuple[float, int], ...]:
    """Take the points of a load limit, or one load for always, and sort them by time.

    :raises TypeError: it is not made of pairs of numbers.
    :raises ValueError: a point is out of range, or there are too many.
    """
    if hasattr(points, "__index__") and not hasattr(points, "__iter__"):  # an array has both
        points = [(0, points)]
    shape = "a load, or an iterable of (seconds, load)"
    items = checked_items("load_limit", points, shape, PEERS.max_load_points, "points")
    return tuple(sorted(map(_checked_point, items)))


def _checked_point(point: Any) -> tuple[float, int]:
    if isinstance(point, (str, bytes)):
        raise TypeError(f"a point of load_limit is (seconds, load), not {point!r:.100}")
    try:
        after, load = point
    except (TypeError, ValueError):
        raise TypeError(f"a point of load_limit is (seconds, load), not {point!r:.100}") from None
    seconds = checked_number("the time of a point of load_limit", after)
    if not 0 <= seconds <= PEERS.max_load_seconds:
        raise ValueError(
            f"the time of a point of load_limit is from 0 to {PEERS.max_load_seconds:g} s, not {seconds}"
        )
    return seconds, checked_integer("the load of a point of load_limit", load, 0, MOST_LOAD)


def checked_items(what: str, values: Any, shape: str, most: int, items: str) -> list[Any]:
    """Take what can be iterated, and no more of it than is allowed: there may be no end of it.

    :param shape: what `values` is, for people.
    :raises TypeError: it cannot be iterated.
    :raises ValueError: there is more.
    """
    if isinstance(values, (str, bytes, bytearray)):
        raise TypeError(f"{what} is {shape}, not {_kind(values)}")
    found: list[Any] = []
    for value in iterating(f"{what} is {shape}", values):
        if len(found) == most:
            raise ValueError(f"{what} has at most {most:,} {items}")
        found.append(value)
    return found


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _digits(number: int) -> str:
    """Write a number that may be longer than Python writes, or anybody reads."""
    return str(number) if number.bit_length() < 200 else f"one of {number.bit_length()} bits"
