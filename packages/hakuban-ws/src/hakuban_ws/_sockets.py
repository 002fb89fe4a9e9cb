"""TCP sockets: connecting, binding, options. All of them are non-blocking."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import TaskGroup

Address: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"

# Unsent bytes above which the kernel calls a socket full. Without it the newest value waits behind 50 to 150 kB.
_NOTSENT_LOWAT_BYTES = 16 * 1024
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
if _NOTSENT_LOWAT is None and sys.platform == "linux":
    _NOTSENT_LOWAT = 25  # Python names it since 3.12

# Whether the size of a buffer was set by hand, which stops its growing; Python has no name for it.
_BUF_LOCK = 72 if sys.platform == "linux" else -1
_RCVBUF_LOCK = 2
# Bytes of a receive buffer where little can be handled. In a smaller one the small segments of small states, which the
# kernel needs as much again for, find no room too often; they are dropped, and sent again after up to seconds.
_SMALL = 20 * 1024
# Bytes that can be handled soon: below the one a buffer is made small, above the other let grow.
_LITTLE, _MUCH = 32 * 1024, 64 * 1024

_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK})
_NO_SUCH_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
# Seconds after which the next address of a host is tried beside the last one (RFC 8305).
_HEAD_START = 0.25
_BACKLOG = 2048


def address_text(address: Address) -> str:
    """An address as people write it: 127.0.0.1:3001, [::1]:3001."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def set_options(sock: socket.socket, *, nodelay: bool) -> None:
    """Prepare a connected socket for small messages in time; what a platform does not know is left out."""
    sock.setblocking(False)
    if nodelay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if _NOTSENT_LOWAT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _NOTSENT_LOWAT_BYTES)


class ReceiveBuffer:
    """What the operating system holds for a connected socket until it is read: mostly as much as it likes.

    That is 64 KiB to several MiB, which is fine where it is read at once, and otherwise goes before each newer value.
    Left alone where the system cannot take the growing of buffers up again: only Linux can, since 5.15.

    :ivar small: whether it is smaller than it was.
    """

    __slots__ = ("_free", "_size", "_sock", "small")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.small = False
        self._free = self._size = 0  # what it was before it was made smaller, and what it is now

    def fit(self, ahead: int) -> None:
        """Make it smaller where little can be handled soon, and let it grow again where much can.

        To be called before each read, since it is made smaller in steps: by what is read, or an eighth. The other side
        sends all that it was offered, and what the buffer has no room for then is dropped, and sent again much later.

        :param ahead: bytes that can be handled soon.
        """
        if ahead < (_MUCH if self.small else _LITTLE):
            if self._size > _SMALL or not self.small:
                self._shrink(ahead)
        elif self.small:
            self._release()

    def _shrink(self, by: int) -> None:
        # not this system; or the connection is gone, which `read` will tell
        with contextlib.suppress(OSError):
            if not self.small:
                self._sock.getsockopt(socket.SOL_SOCKET, _BUF_LOCK)
                # what is set is doubled, for what the kernel needs beside the bytes; read it is what it was doubled to
                self._size = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
                self._free = self._size
                self.small = True
            smaller = self._size - max(by, self._size // 8)
            self._size = min(self._size, max(_SMALL, smaller))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._size)

    def _release(self) -> None:
        self.small = False
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._free)
            locks = self._sock.getsockopt(socket.SOL_SOCKET, _BUF_LOCK)
            self._sock.setsockopt(socket.SOL_SOCKET, _BUF_LOCK, locks & ~_RCVBUF_LOCK)


class Host:
    """The addresses of a host that is to be connected to; each is tried once.

    :ivar untried: those that were not.
    :ivar failures: why the others did not do.
    """

    def __init__(self, name: str, port: int, addresses: Iterable[tuple[int, Address]]) -> None:
        self._name = name
        self._port = port
        self.untried = list(addresses)
        self.failures: list[OSError] = []
        self._connected: tuple[socket.socket, Address] | None = None

    async def connect(self) -> tuple[socket.socket, Address]:
        """Connect to the first that answers, and give the address too.

        :raises OSError: none does, or did and was of use.
        """
        try:
            async with anyio.create_task_group() as tasks:
                for family, address in tuple(self.untried):
                    over = anyio.Event()
                    tasks.start_soon(self._try, tasks, family, address, over)
                    with anyio.move_on_after(_HEAD_START):
                        await over.wait()
        except BaseException:
            if self._connected is not None:
                self._connected[0].close()
            raise
        if self._connected is None:
            raise self._failure()
        connected, self._connected = self._connected, None
        return connected

    async def _try(
        self, tasks: TaskGroup, family: int, address: Address, over: anyio.Event
    ) -> None:
        try:
            sock = await _connect(family, address)
        except OSError as error:
            self.untried.remove((family, address))
            self.failures.append(error)
        else:
            if self._connected is None:
                self.untried.remove((family, address))
                self._connected = sock, address
                tasks.cancel_scope.cancel()
            else:
                sock.close()
        finally:
            over.set()

    def _failure(self) -> OSError:
        if len(self.failures) == 1:
            return self.failures[0]
        # somebody who is there and keeps silent is another case than nobody
        silent = all(isinstance(error, TimeoutError) for error in self.failures)
        reasons = "; ".join(str(error) for error in self.failures)
        text = f"cannot connect to {self._name} port {self._port}: {reasons}"
        return TimeoutError(text) if silent else OSError(text)


async def find_host(name: str, port: int) -> Host:
    """Look up the addresses of a host.

    :raises OSError: the name leads nowhere.
    """
    return Host(name, port, await _resolve(name, port, 0))


async def _connect(family: int, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in _IN_PROGRESS:
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"{os.strerror(code)}: {address_text(address)}")
    except BaseException:
        sock.close()
        raise
    return sock


async def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on each address of a host; a family that this machine does not have is left out.

    :param port: with 0, the first address gets a free port and the others the same one where they can.
    :raises OSError: an address cannot be bound.
    """
    addresses = await _resolve(host, port, socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sockets.append(
                    _bind(family, address, sockets[0].getsockname()[1] if sockets else port)
                )
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


def _bind(family: int, address: Address, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.name == "posix":
            # A restarted listener must not wait for old connections; elsewhere this would share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address[0], port, *address[2:]))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        code = error.errno or 0
        raise OSError(code, f"{os.strerror(code)}: {address_text(address)}") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(host: str, port: int, flags: int) -> list[tuple[int, Address]]:
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
