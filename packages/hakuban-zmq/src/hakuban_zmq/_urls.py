"""zmq+tcp://, zmq+ipc:// and zmq+inproc:// URLs."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import anyio
from typing_extensions import override

from hakuban.transport import InvalidURLError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMES = ("zmq+inproc", "zmq+ipc", "zmq+tcp")

_NAME = re.compile(r"[!-.0-~]+")
_IPC = re.compile(r"@[!-~]+|/[!-~]*[^/]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to, or what to bind.

    :ivar kind: "tcp", "ipc" or "inproc".
    :ivar host: name or address without brackets, for tcp; else the path or name.
    :ivar port: 0 lets the operating system choose, when binding; 0 where there are none.
    """

    kind: str
    host: str
    port: int = 0

    @override
    def __str__(self) -> str:
        return f"zmq+{self.address}"

    @property
    def address(self) -> str:
        """The address as libzmq has it."""
        if self.kind != "tcp":
            return f"{self.kind}://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether nobody beyond this machine can get there; only for what `resolve` gave."""
        return self.kind != "tcp" or ipaddress.ip_address(self.host.partition("%")[0]).is_loopback

    async def resolve(self) -> Sequence[Endpoint]:
        """Give the same with addresses for the name of the host.

        :raises OSError: the name is not known.
        """
        if self.kind != "tcp":
            return [self]
        found = await anyio.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        hosts = dict.fromkeys(str(address[0]) for *_, address in found)
        return [Endpoint("tcp", host, self.port) for host in hosts]


def parse_url(url: str, *, bind: bool = False) -> Endpoint:
    """Read a URL.

    :raises InvalidURLError: with what is wrong; user and password are left out of it.
    """
    parts = _split(url)
    if parts.scheme not in SCHEMES:
        raise InvalidURLError(url, f"the scheme is none of {', '.join(SCHEMES)}")
    if parts.query or parts.fragment:
        raise InvalidURLError(url, "a ZeroMQ address has no query and no fragment")
    kind = parts.scheme.removeprefix("zmq+")
    if kind == "tcp":
        return _tcp(url, parts, bind=bind)
    rest = parts.netloc + parts.path
    if kind == "inproc":
        if not _NAME.fullmatch(rest):
            raise InvalidURLError(url, "a name is missing, as in zmq+inproc://name")
    elif not _IPC.fullmatch(rest):
        raise InvalidURLError(
            url, "neither an absolute path (zmq+ipc:///run/x) nor an abstract name (zmq+ipc://@x)"
        )
    return Endpoint(kind, rest)


def _tcp(url: str, parts: SplitResult, *, bind: bool) -> Endpoint:
    if not parts.hostname:
        raise InvalidURLError(url, "the host is missing")
    if parts.path not in ("", "/"):
        raise InvalidURLError(url, "a ZeroMQ address has no path")
    try:
        parts.hostname.encode("idna")
        port = parts.port
    except ValueError as error:
        raise InvalidURLError(url, f"host or port: {error}") from None
    if port is None:
        raise InvalidURLError(url, "the port is missing, as in zmq+tcp://127.0.0.1:3002")
    if port == 0 and not bind:
        raise InvalidURLError(url, "port 0 is for listening only")
    return Endpoint("tcp", parts.hostname, port)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidURLError(url, str(error)) from None
    before, at, behind = parts.netloc.rpartition("@")
    if at and (before or parts.scheme != "zmq+ipc"):
        # Secrets in URLs end up in logs; this message must not be the first of them.
        redacted = f"{parts.scheme}://...@{behind}"
        raise InvalidURLError(redacted, "keys are files: see HAKUBAN_ZMQ_SECRET_KEY_FILE")
    return parts
