"""ws:// and wss:// URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from typing_extensions import override

from hakuban.transport import InvalidURLError

DEFAULT_PORTS = {"ws": 80, "wss": 443}

_TARGET = re.compile(r"[!-~]*")


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


def parse_url(url: str, *, bind: bool = False) -> Endpoint:
    """Read a URL; one to bind has to name its port.

    :raises InvalidURLError: with what is wrong; user and password are left out of it.
    """
    parts = _split(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidURLError(url, "the scheme is neither ws nor wss")
    if not parts.hostname:
        raise InvalidURLError(url, "the host is missing")
    try:
        parts.hostname.encode("idna")
        port = parts.port
    except ValueError as error:
        raise InvalidURLError(url, f"host or port: {error}") from None
    if port is None and bind:
        raise InvalidURLError(url, "a URL to listen on needs a port, like ws://127.0.0.1:3001")
    if port is None:
        port = DEFAULT_PORTS[parts.scheme]
    if port == 0 and not bind:
        raise InvalidURLError(url, "port 0 is for listening only")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    if not _TARGET.fullmatch(target):
        raise InvalidURLError(url, "path and query have to be percent-encoded ASCII")
    return Endpoint(parts.scheme, parts.hostname, port, target)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidURLError(url, str(error)) from None
    if "@" in parts.netloc:
        # Secrets in URLs end up in logs; this message must not be the first of them.
        redacted = f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}"
        raise InvalidURLError(redacted, "credentials belong in headers (Authorization)")
    if parts.fragment:
        raise InvalidURLError(url, "options in the fragment are not for the transport")
    return parts
