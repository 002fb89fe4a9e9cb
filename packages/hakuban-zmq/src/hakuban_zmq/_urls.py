"""zmq+tcp://, zmq+ipc:// and zmq+inproc:// URLs."""

from __future__ import annotations

import re
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

import anyio
from typing_extensions import override

from hakuban.transport import InvalidURLError, host_and_port, url_parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

SCHEMES = ("zmq+inproc", "zmq+ipc", "zmq+tcp")

LONGEST_PATH: Final = (108 if sys.platform == "linux" else 104) - 1
"""Bytes of the longest path of a socket: `sun_path` of the system, without the zero at its end."""

_ASCII = re.compile(r"[!-~]+")
_NAME = re.compile(r"[!-.0-~]+")
_IPC = re.compile(r"@[!-~]+|/[!-~]*[!-.0-~]")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._-]+)?\]|[0-9A-Za-z._-]+):[0-9]+")


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
    def is_abstract(self) -> bool:
        """Whether it is a name of Linux's instead of a path: without a file, and so without permissions."""
        return self.kind == "ipc" and self.host.startswith("@")

    async def resolve(self) -> Sequence[Endpoint]:
        """Return the same with addresses for the name of the host.

        :raises OSError: the name is not known.
        """
        if self.kind != "tcp":
            return [self]
        try:
            found = await anyio.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            reason = (
                f"{self}: the host is not known ({error.strerror}); look at its name, and at DNS"
            )
            raise socket.gaierror(error.errno, reason) from None
        hosts = dict.fromkeys(str(address[0]) for *_, address in found)
        return [Endpoint("tcp", host, self.port) for host in hosts]


def parse_url(url: str, *, listening: bool) -> Endpoint:
    """Read a URL: whatever can never work is found here. No text quotes a part of it, which may be a password.

    :raises InvalidURLError: with what is wrong, and what to write.
    """
    if not _ASCII.fullmatch(url):
        reason = "a blank, or a character beyond ASCII; write a host as DNS has it (xn--...)"
        raise InvalidURLError(url, reason)
    parts = url_parts(url)
    if parts.scheme not in SCHEMES:
        raise InvalidURLError(url, f"the scheme is none of {', '.join(SCHEMES)}")
    before, at, _ = parts.netloc.rpartition("@")
    if at and (before or parts.scheme != "zmq+ipc"):
        reason = "no user, no password: keys are files, see HAKUBAN_ZMQ_SECRET_KEY_FILE"
        raise InvalidURLError(url, reason)
    if parts.query or parts.fragment:
        raise InvalidURLError(url, "a ZeroMQ address has no query and no fragment")
    if parts.scheme == "zmq+tcp":
        return _tcp(url, parts, listening=listening)
    rest = parts.netloc + parts.path
    if parts.scheme == "zmq+ipc":
        return _ipc(url, rest)
    if not _NAME.fullmatch(rest):
        reason = "a name without slashes is missing; write zmq+inproc://lab, for example"
        raise InvalidURLError(url, reason)
    return Endpoint("inproc", rest)


def _tcp(url: str, parts: SplitResult, *, listening: bool) -> Endpoint:
    host, port = host_and_port(url, listening=listening)
    if parts.path not in ("", "/"):
        raise InvalidURLError(url, "a ZeroMQ address has no path: end it with the port")
    try:
        if not _AUTHORITY.fullmatch(parts.netloc):
            raise ValueError
        if ":" in host:
            IPv6Address(host)
        host.encode("idna")  # a part of the name may be empty, or too long
    except ValueError:
        reason = "the host is neither a name nor an address; 0.0.0.0 listens on all of this machine"
        raise InvalidURLError(url, reason) from None
    return Endpoint("tcp", host, port)


def _ipc(url: str, path: str) -> Endpoint:
    if not _IPC.fullmatch(path):
        raise InvalidURLError(
            url, "neither an absolute path (zmq+ipc:///run/x) nor an abstract name (zmq+ipc://@x)"
        )
    if len(path) > LONGEST_PATH:
        reason = (
            f"the path has {len(path)} bytes, and a socket's {LONGEST_PATH} at most: shorten it"
        )
        raise InvalidURLError(url, reason)
    return Endpoint("ipc", path)
