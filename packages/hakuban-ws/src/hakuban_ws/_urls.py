"""ws:// and wss:// URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from socket import inet_aton
from typing import TYPE_CHECKING

from typing_extensions import override

from hakuban.transport import InvalidURLError, host_and_port, url_parts

if TYPE_CHECKING:
    from urllib.parse import SplitResult

DEFAULT_PORTS = {"ws": 80, "wss": 443}

_TARGET = re.compile(r"[!-~]*")
_AUTHORITY = re.compile(r"(?:\[[^]]*\]|[^][:]*)(?::[^:]*)?")
_NAME = re.compile(r"[0-9a-z._~-]+")
_NUMBERS = re.compile(r"[0-9.]+")
_NO_ADDRESS = "the host is none; IPv6 addresses stand in brackets, like [::1]:3001"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to, or what to bind.

    :ivar scheme: "ws" or "wss".
    :ivar host: name or address, without brackets.
    :ivar port: 0 lets the operating system choose, when binding.
    :ivar target: path and query as written, possibly empty.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def secure(self) -> bool:
        """Whether the link runs over TLS."""
        return self.scheme == "wss"

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL and in the Host header."""
        host = self.host.partition("%")[0]  # the zone of an address means nothing elsewhere
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @override
    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(url: str, *, listening: bool) -> Endpoint:
    """Read a URL; one to listen on has to name its port.

    :raises InvalidURLError: with what is wrong, and without quoting what may be a password.
    """
    parts = url_parts(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidURLError(url, "the scheme is neither ws nor wss")
    if "@" in parts.netloc:
        raise InvalidURLError(url, "credentials belong in headers (Authorization)")
    if parts.fragment:
        raise InvalidURLError(url, "options in the fragment are not for the transport")
    if not _AUTHORITY.fullmatch(parts.netloc):
        raise InvalidURLError(url, _NO_ADDRESS)
    host, port = host_and_port(url, listening=listening, default_port=DEFAULT_PORTS[parts.scheme])
    if listening and parts.port is None:
        raise InvalidURLError(url, "a URL to listen on needs a port, like ws://127.0.0.1:3001")
    host = _checked_host(url, host, parts)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    if not _TARGET.fullmatch(target):
        raise InvalidURLError(url, "path and query have to be percent-encoded ASCII")
    return Endpoint(parts.scheme, host, port, target)


def _checked_host(url: str, host: str, parts: SplitResult) -> str:
    if "[" in parts.netloc:
        try:
            IPv6Address(host.partition("%")[0])
        except ValueError:
            raise InvalidURLError(url, _NO_ADDRESS) from None
        return host
    try:
        name = host.encode("idna").decode()
        # "fa\xdf" would become "fass", which may be somebody else's
        same = name == host or name.encode().decode("idna") == host
    except UnicodeError:
        name, same = "", True
    if not same:
        raise InvalidURLError(url, "write the host in its ASCII form (xn--...)")
    if not _NAME.fullmatch(name) or (_NUMBERS.fullmatch(name) and not _is_ipv4(name)):
        raise InvalidURLError(url, "the host is neither a name nor an address")
    return name


def _is_ipv4(host: str) -> bool:
    try:
        inet_aton(host)  # 127.1 is one too
    except OSError:
        return False
    return True
