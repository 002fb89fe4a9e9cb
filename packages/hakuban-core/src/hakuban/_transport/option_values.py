"""Values of the options of a link: as they are written in a URL, and as a program passes them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from .._checks import (
    checked_flag,
    checked_integer,
    checked_items,
    checked_load_limit,
    checked_name,
    checked_number,
    takes_one_argument,
)
from .._limits import MOST_INT64, MOST_LOAD, MOST_ORIGINS, MOST_SECONDS, PEERS
from .._plain_values import plain_text

if TYPE_CHECKING:
    import ssl


_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(rf"({_NUMBER})(ms|us|ns|d|h|m|s)")
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern})+")


class Kind(NamedTuple):
    """A kind of values.

    :ivar check: takes what a program passes, with the name of the option; raises TypeError or ValueError.
    :ivar parse: reads a text as it stands in a URL, raises ValueError; None where none can stand there.
    """

    check: Callable[[str, Any], Any]
    parse: Callable[[str], object] | None = None

    def argument(self, name: str, value: object) -> Any:
        """Take what a program passes: a value, or what could stand in a URL.

        :raises TypeError: it is neither.
        :raises ValueError: it is out of range.
        """
        if isinstance(value, str) and self.parse is not None:
            try:
                value = self.parse(str.__str__(value))
            except ValueError as error:
                raise ValueError(f"{name}={value!r:.100}: {error}") from None
        return self.check(name, value)


# ---- as written in a URL --------------------------------------------------------------------------------------------


def _name(text: str) -> str:
    return checked_name(unquote(text, errors="strict")) or ""


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("either true or false")
    return text == "true"


def _duration(text: str) -> float:
    """Read seconds from `5s`, `700ms`, `1m30s`, or a bare number of seconds."""
    if re.fullmatch(_NUMBER, text):
        seconds = float(text)
    elif _DURATIONS.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    else:
        raise ValueError("not a duration like 5s, 700ms or 1m30s")
    if seconds > MOST_SECONDS:
        raise ValueError(f"more than {MOST_SECONDS:g} s")
    return seconds


def _integer(text: str, most: int = MOST_INT64) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) > most:
        raise ValueError(f"not an integer from 0 to {most}")
    return int(text)


def _positive(parse: Callable[[str], float]) -> Callable[[str], object]:
    def parse_positive(text: str) -> float:
        number = parse(text)
        if number == 0:
            raise ValueError("has to be above 0")
        return number

    return parse_positive


def _load_limit(text: str) -> tuple[tuple[float, int], ...]:
    points = text.split("-")
    if len(points) > PEERS.max_load_points:
        raise ValueError(f"more than {PEERS.max_load_points} points")
    return tuple(_load_point(point) for point in points)


def _load_point(text: str) -> tuple[float, int]:
    seconds, colon, load = text.rpartition(":")
    return (_duration(seconds) if colon else 0.0, _integer(load, MOST_LOAD))


# ---- as programs pass them ------------------------------------------------------------------------------------------


def _checked_seconds(name: str, value: object) -> float:
    seconds = checked_number(name, value)
    if not seconds > 0:  # "not above" also catches NaN
        raise ValueError(f"{name}={seconds!r}: seconds have to be above 0")
    return seconds


def _checked_headers(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping of names to values, not {type(value).__name__}")
    return {
        plain_text("the name of a header", key): plain_text("the value of a header", text)
        for key, text in value.items()
    }


def _checked_tls(name: str, value: object) -> ssl.SSLContext:
    module = sys.modules.get("ssl")  # who has a context has imported it
    if module is None or not isinstance(value, module.SSLContext):
        raise TypeError(
            f"{name} is an ssl.SSLContext, not {value!r:.100}: ssl.create_default_context() makes one"
        )
    context: ssl.SSLContext = value
    return context


def _checked_origins(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} is a list of origins: write [{value!r:.100}]")
    origins = checked_items(name, value, "a list of origins", MOST_ORIGINS, "origins")
    return tuple(plain_text("an origin", origin) for origin in origins)


def _checked_authorize(name: str, value: object) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{name} is a function of a ConnectionRequest, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(
            f"{name} is a plain function, which answers at once: write `def` without `async`"
        )
    if not takes_one_argument(value):
        raise TypeError(f"{name} is called with the ConnectionRequest alone, not as {value!r:.100}")
    return value


AUTHORIZE: Final = Kind(_checked_authorize)
COUNT: Final = Kind(
    lambda name, value: checked_integer(name, value, 1, MOST_INT64), _positive(_integer)
)
FLAG: Final = Kind(checked_flag, _flag)
HEADERS: Final = Kind(_checked_headers)
LOAD_LIMIT: Final = Kind(lambda _, value: checked_load_limit(value), _load_limit)
NAME: Final = Kind(lambda _, value: checked_name(value), _name)
ORIGINS: Final = Kind(_checked_origins)
SECONDS: Final = Kind(_checked_seconds, _positive(_duration))
TLS: Final = Kind(_checked_tls)
