"""Addresses, and sockets that listen on them. All sockets are non-blocking."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from .._text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

InternetAddress: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"
Address: TypeAlias = "InternetAddress | str | bytes"
"""Where a socket ends, as `socket` has it: host and port, or the path of a Unix socket."""

# Those who speak TCP; a Unix socket has neither delays nor options of that kind.
INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})

# Unsent bytes above which the kernel calls a socket full. Without it the newest value waits behind 50 to 150 kB.
_NOTSENT_LOWAT_BYTES = 16 * 1024
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
if _NOTSENT_LOWAT is None and sys.platform == "linux":
    _NOTSENT_LOWAT = 25  # Python names it since 3.12

_NO_SUCH_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_BACKLOG = 2048


def address_text(address: Address) -> str:
    """Return an address as people write it: 127.0.0.1:3001, [::1]:3001, /run/hakuban.

    An abstract Unix socket is "@name"; one without a name, as that of whoever connects has none, is "".
    """
    if isinstance(address, (str, bytes)):
        return printable(os.fsdecode(address).replace("\0", "@", 1))
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def prepare_socket(sock: socket.socket, *, nodelay: bool) -> None:
    """Prepare a connected socket for small messages in time; what a platform does not know is left out.

    A Unix socket is made non-blocking, and that is all.

    :param nodelay: TCP_NODELAY.
    :raises OSError: the connection is gone.
    """
    sock.setblocking(False)
    if sock.family not in INTERNET:
        return
    if nodelay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if _NOTSENT_LOWAT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _NOTSENT_LOWAT_BYTES)


async def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on each address of a host; a family that this machine does not have is left out.

    When cancelled, nothing stays bound.

    :param host: a name, or an address without brackets.
    :param port: with 0, the first address gets a free port and the others the same one where they can.
    :raises OSError: an address cannot be bound.
    """
    addresses = await resolve(host, port, socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                chosen = sockets[0].getsockname()[1] if sockets else port
                sockets.append(bind_socket(family, (address[0], chosen, *address[2:])))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE and port == 0 and sockets
                if not taken and error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error
        if not sockets and missing is not None:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def bind_socket(family: int, address: Address) -> socket.socket:
    """Listen on one address. A path of the file system has to be free, and stays when the socket is closed.

    :param family: AF_INET, AF_INET6 or AF_UNIX.
    :raises OSError: it cannot be bound; the text names the address.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.name == "posix" and family in INTERNET:
            # A restarted listener must not wait for old connections; elsewhere this would share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        code = error.errno or 0
        raise OSError(code, f"{os.strerror(code)}: {address_text(address)}") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def resolve(host: str, port: int, flags: int) -> list[tuple[int, InternetAddress]]:
    """Look up a host: families and addresses.

    :param flags: of `socket.getaddrinfo`.
    :raises OSError: the name leads nowhere.
    """
    try:
        # Numbers need no name server, and no thread.
        found: Iterable[Any] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        except socket.gaierror as error:
            text = f"no address for the name {host}: {error.strerror}; is it spelled right?"
            raise socket.gaierror(text) from error  # the resolver's numbers mean nothing to people
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))
