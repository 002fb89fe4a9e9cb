"""The options of a link: in the fragment of its URL, and as arguments.

    ws://router:3001/lab#name=bench-3,keep-alive=1s,timeout=3s,load-limit=10-5s:20

The fragment is a comma-separated list of `key=value`; empty items are skipped, and the last of two equal keys holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypedDict

from .._logger import logger
from .interface import ConnectionRequest, TransportOptions
from .keep_alive import silence_limit
from .option_values import AUTHORIZE, COUNT, FLAG, HEADERS, LOAD_LIMIT, NAME, ORIGINS, SECONDS, TLS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from .._remote import Identity
    from .option_values import Kind


_KEY = re.compile(r"[a-z-]+")

# A new option is a line here, one in `TransportOptions`, where it is explained, and its type in `TransportArguments`.
_OPTIONS: Final[dict[str, Kind]] = {
    "allow_origins": ORIGINS,
    "authorize": AUTHORIZE,
    "compression": FLAG,
    "handshake_timeout": SECONDS,
    "headers": HEADERS,
    "insecure": FLAG,
    "keep_alive": SECONDS,
    "max_connections": COUNT,
    "max_message": COUNT,
    "nodelay": FLAG,
    "ssl": TLS,
    "timeout": SECONDS,
}
_NOT_IN_A_URL: Final = {"handshake_timeout", "max_connections"}  # though they could be
URL_OPTIONS: Final[dict[str, Callable[[str], object]]] = {
    name.replace("_", "-"): kind.parse
    for name, kind in sorted({**_OPTIONS, "load_limit": LOAD_LIMIT, "name": NAME}.items())
    if kind.parse is not None and name not in _NOT_IN_A_URL
}
"""What may stand in a fragment, by its key, and how it is read."""


class TransportArguments(TypedDict, total=False):
    """What a program may set for a transport; the names of `TransportOptions`, None for "not set".

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


class LinkOptions(dict[str, Any]):
    """What the fragment of a URL sets: values by the names of `TransportOptions`, and a name and a load limit."""

    __slots__ = ()

    @property
    def name(self) -> str | None:
        """The name that this node sends to its peer."""
        return self.get("name")

    @property
    def load_limit(self) -> tuple[tuple[float, int], ...]:
        """Points of (seconds from now, load) as given; empty is no limit."""
        points: tuple[tuple[float, int], ...] = self.get("load_limit", ())
        return points

    @classmethod
    def parse(cls, fragment: str) -> LinkOptions:
        """Read a fragment.

        :raises ValueError: an unknown option, or a bad value.
        """
        options = cls()
        for item in filter(None, fragment.split(",")):
            key, equals, value = item.partition("=")
            if not _KEY.fullmatch(key):
                # Not quoted: it may be the rest of a password that held a "#".
                raise ValueError("an item of the fragment is not key=value")
            if key not in URL_OPTIONS:
                raise ValueError(f"unknown option {key!r}; there are {', '.join(URL_OPTIONS)}")
            if not equals or not value:
                raise ValueError(f"option {key!r} has no value")
            try:
                options[key.replace("-", "_")] = URL_OPTIONS[key](value)
            except ValueError as error:
                raise ValueError(f"{key}={value!r}: {error}") from None
        return options

    def transport_options(self, arguments: Mapping[str, object]) -> TransportOptions:
        """Merge: an argument goes before the fragment, the fragment before the default.

        :param arguments: those of `TransportArguments`, not yet checked.
        :raises TypeError: there is no such option, or its value is of another type.
        :raises ValueError: a value is out of range.
        """
        values = {name: value for name, value in self.items() if name in _OPTIONS}
        for name, value in arguments.items():
            if name not in _OPTIONS:
                raise TypeError(f"there is no option {name!r}; there are {', '.join(_OPTIONS)}")
            if value is not None:
                values[name] = _OPTIONS[name].argument(name, value)
        options = TransportOptions(**values)
        timeout = silence_limit(options.timeout, ours=True)
        if timeout <= options.keep_alive:
            logger.warning(
                "timeout %g s is not above keep-alive %g s: a link will end before its first sign of life",
                timeout,
                options.keep_alive,
            )
        return options


def load_limit_argument(value: object) -> tuple[tuple[float, int], ...]:
    """Take the points of a load limit, one load, or what could stand in a URL.

    :raises TypeError: it is none of these.
    :raises ValueError: it is out of range.
    """
    points: tuple[tuple[float, int], ...] = LOAD_LIMIT.argument("load_limit", value)
    return points
