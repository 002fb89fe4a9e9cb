"""URLs: the scheme chooses the transport, the fragment holds the options of the link.

    ws://router:3001/lab#name=bench-3,keep-alive=1s,timeout=3s,load-limit=10-5s:20

The fragment is a comma-separated list of `key=value`; empty items are skipped, and the last of two equal keys holds.
The rest of the URL is the transport's.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict
from urllib.parse import unquote

from typing_extensions import Unpack

from ._exceptions import InvalidURLError
from ._liveness import OUR_TIMEOUT
from .transport import ConnectionRequest, Identity, TransportOptions

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["LinkOptions", "TransportArguments", "redacted", "split_url"]

logger = logging.getLogger("hakuban")

MOST_SECONDS: Final = 1e9
MOST_LOAD_POINTS: Final = 1_000
MOST_NAME_BYTES: Final = 1_024
MOST_LOAD: Final = 2**32 - 1

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST_AND_PORT = re.compile(r"(?:\[[^]]*\]|[^:]*)(?::[0-9]*)?")
_KEY = re.compile(r"[a-z-]+")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(rf"({_NUMBER})(ms|us|ns|d|h|m|s)")
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern})+")


class TransportArguments(TypedDict, total=False):
    """What a program may say about a transport; the words of `TransportOptions`, None for "not said"."""

    keep_alive: float | None
    timeout: float | None
    max_message: int | None
    handshake_timeout: float | None
    nodelay: bool | None
    compression: bool | None
    headers: Mapping[str, str] | None
    ssl: ssl.SSLContext | None
    allow_origins: Sequence[str] | None
    max_connections: int | None
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

    def transport_options(self, **arguments: Unpack[TransportArguments]) -> TransportOptions:
        """Merge: an argument goes before the fragment, the fragment before the default.

        :raises ValueError: an argument is out of range.
        """
        said: dict[str, Any] = {
            "keep_alive": self.keep_alive,
            "timeout": self.timeout,
            "max_message": self.max_message,
            "nodelay": self.nodelay,
            "compression": self.compression,
        }
        said.update((key, value) for key, value in arguments.items() if value is not None)
        options = TransportOptions(
            **{key: value for key, value in said.items() if value is not None}
        )
        _check_range(options)
        timeout = OUR_TIMEOUT if options.timeout is None else options.timeout
        if timeout <= options.keep_alive:
            logger.warning(
                "timeout %g s is not above keep-alive %g s: a link will end before its first sign of life",
                timeout,
                options.keep_alive,
            )
        return options


def split_url(url: str) -> tuple[str, str, LinkOptions]:
    """Take a URL apart into its scheme in lower case, itself without the fragment, and the fragment's options.

    :raises InvalidURLError: no scheme, a blank or control character, an unknown option, or a bad value.
    """
    bare, _, fragment = url.partition("#")
    match = _SCHEME.match(bare)
    if match is None:
        raise InvalidURLError(
            redacted(url), "there is no scheme; write ws://host:port, for example"
        )
    if any(character <= " " or character == "\x7f" for character in bare):
        raise InvalidURLError(redacted(url), "there is a blank or control character in it")
    try:
        options = _parse_fragment(fragment)
    except ValueError as error:
        raise InvalidURLError(redacted(url), str(error)) from None
    return match[1].lower(), bare, options


def redacted(url: str) -> str:
    """Hide user and password of a URL, for logs and messages; works for whatever text was meant to be a URL."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority:
        # "user:pass/word@host": an unescaped password ends the authority early, and what looks like a port is none.
        if "@" not in rest or _HOST_AND_PORT.fullmatch(authority):
            return url
        authority = rest
    return f"{scheme}{separator}...@{rest[authority.rindex('@') + 1 :]}"


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
    name = unquote(text, errors="strict")
    if len(name.encode()) > MOST_NAME_BYTES:
        raise ValueError(f"a name has {MOST_NAME_BYTES} bytes at most")
    return name


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


def _message_size(text: str) -> int:
    size = _integer(text, 2**63 - 1)
    if size == 0:
        raise ValueError("has to be above 0")
    return size


def _load_limit(text: str) -> tuple[tuple[float, int], ...]:
    points = text.split("-")
    if len(points) > MOST_LOAD_POINTS:
        raise ValueError(f"more than {MOST_LOAD_POINTS} points")
    return tuple(_load_point(point) for point in points)


def _load_point(text: str) -> tuple[float, int]:
    seconds, colon, load = text.rpartition(":")
    return (_duration(seconds) if colon else 0.0, _integer(load, MOST_LOAD))


_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "compression": ("compression", _flag),
    "keep-alive": ("keep_alive", _positive_duration),
    "load-limit": ("load_limit", _load_limit),
    "max-message": ("max_message", _message_size),
    "name": ("name", _name),
    "nodelay": ("nodelay", _flag),
    "timeout": ("timeout", _positive_duration),
}


def _check_range(options: TransportOptions) -> None:
    for name in ("keep_alive", "timeout", "handshake_timeout"):
        seconds = getattr(options, name)
        # "not above" also catches NaN.
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name}={seconds!r}: seconds have to be above 0")
    for name in ("max_message", "max_connections"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise ValueError(f"{name}={number!r} has to be at least 1")
