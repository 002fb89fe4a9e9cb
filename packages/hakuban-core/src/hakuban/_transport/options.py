"""URLs: the scheme chooses the transport, the fragment holds the options of the link.

    ws://router:3001/lab#name=bench-3,keep-alive=1s,timeout=3s,load-limit=10-5s:20

The fragment is a comma-separated list of `key=value`; empty items are skipped, and the last of two equal keys holds.
The rest of the URL is the transport's.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict
from urllib.parse import unquote, urlsplit

from .._checks import (
    checked_flag,
    checked_integer,
    checked_items,
    checked_load_limit,
    checked_name,
    checked_number,
    takes_one_argument,
)
from .._exceptions import InvalidURLError
from .._limits import MOST_LOAD, MOST_ORIGINS, MOST_SECONDS, PEERS
from .._logger import logger
from .._plain import plain_text
from .interface import ConnectionRequest, TransportOptions
from .keep_alive import silence_limit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from .._remote import Identity

__all__ = [
    "LinkOptions",
    "TransportArguments",
    "host_and_port",
    "load_limit_argument",
    "split_url",
]


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KEY = re.compile(r"[a-z-]+")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(rf"({_NUMBER})(ms|us|ns|d|h|m|s)")
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern})+")


class TransportArguments(TypedDict, total=False):
    """What a program may say about a transport; the words of `TransportOptions`, None for "not said".

    What may stand in a URL may also be given as it is written there: `timeout="3s"`.
    """

    keep_alive: float | str | None
    timeout: float | str | None
    max_message: int | str | None
    handshake_timeout: float | str | None
    nodelay: bool | str | None
    compression: bool | str | None
    headers: Mapping[str, str] | None
    ssl: ssl.SSLContext | None
    allow_origins: Sequence[str] | None
    max_connections: int | None
    insecure: bool | str | None
    authorize: Callable[[ConnectionRequest], Identity | None] | None


@dataclass(slots=True, kw_only=True)
class LinkOptions:
    """What the fragment of a URL says; None where it says nothing.

    :ivar name: the name that this node tells its peer.
    :ivar load_limit: points of (seconds from now, load) as given; empty is no limit.
    :ivar keep_alive: seconds, see `TransportOptions`, as are the others.
    """

    name: str | None = None
    load_limit: tuple[tuple[float, int], ...] = ()
    keep_alive: float | None = None
    timeout: float | None = None
    max_message: int | None = None
    nodelay: bool | None = None
    compression: bool | None = None
    insecure: bool | None = None

    def transport_options(self, arguments: Mapping[str, object]) -> TransportOptions:
        """Merge: an argument goes before the fragment, the fragment before the default.

        :param arguments: those of `TransportArguments`, not yet checked.
        :raises TypeError: there is no such option, or its value is of another type.
        :raises ValueError: a value is out of range.
        """
        said: dict[str, Any] = {
            "keep_alive": self.keep_alive,
            "timeout": self.timeout,
            "max_message": self.max_message,
            "nodelay": self.nodelay,
            "compression": self.compression,
            "insecure": self.insecure,
        }
        for name, value in arguments.items():
            if name not in _ARGUMENTS:
                raise TypeError(
                    f"there is no option {name!r}; there are {', '.join(sorted(_ARGUMENTS))}"
                )
            if value is not None:
                said[name] = _ARGUMENTS[name](name, value)
        options = TransportOptions(
            **{key: value for key, value in said.items() if value is not None}
        )
        timeout = silence_limit(options.timeout, ours=True)
        if timeout <= options.keep_alive:
            logger.warning(
                "timeout %g s is not above keep-alive %g s: a link will end before its first sign of life",
                timeout,
                options.keep_alive,
            )
        return options


def split_url(url: str) -> tuple[str, str, LinkOptions]:
    """Take a URL apart into its scheme in lower case, itself without the fragment, and the fragment's options.

    :raises TypeError: it is no text.
    :raises InvalidURLError: no scheme, a blank or control character, an unknown option, a bad value, or an option in the
        query.
    """
    url = plain_text("a URL", url)
    bare, _, fragment = url.partition("#")
    match = _SCHEME.match(bare)
    if match is None:
        raise InvalidURLError(url, "there is no scheme; write ws://host:port, for example")
    if any(character <= " " or character == "\x7f" for character in bare):
        raise InvalidURLError(url, "there is a blank or control character in it")
    try:
        options = _parse_fragment(fragment)
    except ValueError as error:
        raise InvalidURLError(url, str(error)) from None
    _expect_no_option_in_query(url, bare.partition("?")[2])
    return match[1].lower(), bare, options


def _expect_no_option_in_query(url: str, query: str) -> None:
    for item in query.split("&"):
        key = item.partition("=")[0]
        if key in _OPTIONS:
            # else it may be anything, a secret for example
            known = re.fullmatch("[0-9a-z.:-]*", item.partition("=")[2])
            example = item if known else f"{key}=..."
            raise InvalidURLError(
                url, f"{key!r} is an option of the link: write #{example} instead of ?{example}"
            )


# ---- the fragment ---------------------------------------------------------------------------------------------------


def _parse_fragment(fragment: str) -> LinkOptions:
    options = LinkOptions()
    for item in fragment.split(","):
        key, equals, value = item.partition("=")
        if not item:
            continue
        if not _KEY.fullmatch(key):
            # Not quoted: it may be the rest of a password that held a "#".
            raise ValueError("an item of the fragment is not key=value")
        if key not in _OPTIONS:
            raise ValueError(f"unknown option {key!r}; there are {', '.join(sorted(_OPTIONS))}")
        if not equals or not value:
            raise ValueError(f"option {key!r} has no value")
        field, parse = _OPTIONS[key]
        try:
            setattr(options, field, parse(value))
        except ValueError as error:
            raise ValueError(f"{key}={value!r}: {error}") from None
    return options


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


def _positive_duration(text: str) -> float:
    seconds = _duration(text)
    if seconds == 0:
        raise ValueError("has to be above 0")
    return seconds


def _integer(text: str, most: int) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) > most:
        raise ValueError(f"not an integer from 0 to {most}")
    return int(text)


def _positive_integer(text: str) -> int:
    number = _integer(text, 2**63 - 1)
    if number == 0:
        raise ValueError("has to be above 0")
    return number


def _load_limit(text: str) -> tuple[tuple[float, int], ...]:
    points = text.split("-")
    if len(points) > PEERS.max_load_points:
        raise ValueError(f"more than {PEERS.max_load_points} points")
    return tuple(_load_point(point) for point in points)


def _load_point(text: str) -> tuple[float, int]:
    seconds, colon, load = text.rpartition(":")
    return (_duration(seconds) if colon else 0.0, _integer(load, MOST_LOAD))


_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "compression": ("compression", _flag),
    "insecure": ("insecure", _flag),
    "keep-alive": ("keep_alive", _positive_duration),
    "load-limit": ("load_limit", _load_limit),
    "max-message": ("max_message", _positive_integer),
    "name": ("name", _name),
    "nodelay": ("nodelay", _flag),
    "timeout": ("timeout", _positive_duration),
}


# ---- arguments ------------------------------------------------------------------------------------------------------


def _as_in_a_url(name: str, value: str, parse: Callable[[str], object]) -> Any:
    try:
        return parse(str.__str__(value))
    except ValueError as error:
        raise ValueError(f"{name}={value!r:.100}: {error}") from None


def _seconds_argument(name: str, value: object) -> float:
    if isinstance(value, str):
        value = _as_in_a_url(name, value, _positive_duration)
    seconds = checked_number(name, value)
    if not seconds > 0:  # "not above" also catches NaN
        raise ValueError(f"{name}={seconds!r}: seconds have to be above 0")
    return seconds


def _count_argument(name: str, value: object) -> int:
    if isinstance(value, str):
        value = _as_in_a_url(name, value, _positive_integer)
    return checked_integer(name, value, 1, 2**63 - 1)


def _flag_argument(name: str, value: object) -> bool:
    if isinstance(value, str):
        value = _as_in_a_url(name, value, _flag)
    return checked_flag(name, value)


def _headers_argument(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping of names to values, not {type(value).__name__}")
    return {
        plain_text("the name of a header", key): plain_text("the value of a header", text)
        for key, text in value.items()
    }


def load_limit_argument(value: object) -> tuple[tuple[float, int], ...]:
    """Take the points of a load limit, one load, or what could stand in a URL.

    :raises TypeError: it is none of these.
    :raises ValueError: it is out of range.
    """
    if isinstance(value, str):
        value = _as_in_a_url("load_limit", value, _load_limit)
    return checked_load_limit(value)


def _ssl_argument(name: str, value: object) -> ssl.SSLContext:
    module = sys.modules.get("ssl")  # who has a context has imported it
    if module is None or not isinstance(value, module.SSLContext):
        raise TypeError(
            f"{name} is an ssl.SSLContext, not {value!r:.100}: ssl.create_default_context() makes one"
        )
    context: ssl.SSLContext = value
    return context


def _origins_argument(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} is a list of origins: write [{value!r:.100}]")
    origins = checked_items(name, value, "a list of origins", MOST_ORIGINS, "origins")
    return tuple(plain_text("an origin", origin) for origin in origins)


def _authorize_argument(name: str, value: object) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{name} is a function of a ConnectionRequest, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(
            f"{name} is a plain function, which answers at once: write `def` without `async`"
        )
    if not takes_one_argument(value):
        raise TypeError(f"{name} is called with the ConnectionRequest alone, not as {value!r:.100}")
    return value


_ARGUMENTS: Final[dict[str, Callable[[str, Any], object]]] = {
    "allow_origins": _origins_argument,
    "authorize": _authorize_argument,
    "compression": _flag_argument,
    "handshake_timeout": _seconds_argument,
    "headers": _headers_argument,
    "insecure": _flag_argument,
    "keep_alive": _seconds_argument,
    "max_connections": _count_argument,
    "max_message": _count_argument,
    "nodelay": _flag_argument,
    "ssl": _ssl_argument,
    "timeout": _seconds_argument,
}


def host_and_port(url: str, *, listening: bool = True) -> tuple[str, int]:
    """Take the host, without brackets, and the port out of a URL like tcp://127.0.0.1:3001, for transports with sockets.

    :param listening: whether port 0, a free one, makes sense.
    :raises InvalidURLError: one of them is missing, or is none.
    """
    url = plain_text("a URL", url)
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise InvalidURLError(url, "the host is none; IPv6 addresses stand in brackets") from None
    try:
        port = parts.port
    except ValueError:  # whose text quotes what may be a password
        raise InvalidURLError(url, "the port is no number from 1 to 65535") from None
    if not host or port is None:
        example = f"{parts.scheme or 'tcp'}://127.0.0.1:3001"
        raise InvalidURLError(url, f"host or port is missing; write {example}, for example")
    if port == 0 and not listening:
        raise InvalidURLError(url, "port 0 is for listening only; name the port to connect to")
    return host, port
