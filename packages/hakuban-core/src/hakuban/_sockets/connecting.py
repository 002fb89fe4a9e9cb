"""Connecting: to the first address of a host that answers."""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import anyio

from .._loops.tracebacks import contained, forget_frames
from .addresses import INTERNET, address_text, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import TaskGroup

    from .addresses import Address

_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK})
# Seconds after which the next address of a host is tried beside the last one (RFC 8305).
_HEAD_START = 0.25


class Host:
    """The addresses of a host that is to be connected to, as `find_host` returns it; each is tried once.

    :ivar untried: those that were not.
    :ivar failures: why the others did not do.
    """

    def __init__(self, name: str, port: int, addresses: Iterable[tuple[int, Address]]) -> None:
        self._name = name
        self._port = port
        self.untried: list[tuple[int, Address]] = list(addresses)
        self.failures: list[OSError] = []
        self._connected: tuple[socket.socket, Address] | None = None

    async def connect(self) -> tuple[socket.socket, Address]:
        """Connect to the first that answers, and return its address too. When cancelled, all sockets are closed.

        :raises OSError: none answers, or none that answers is of use.
        """
        try:
            async with anyio.create_task_group() as tasks:
                for family, address in tuple(self.untried):
                    over = anyio.Event()
                    attempt = partial(self._try, tasks, family, address, over)
                    tasks.start_soon(contained, anyio.CancelScope(), attempt)
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
            sock = await connect_socket(family, address)
        except OSError as error:
            self.untried.remove((family, address))
            self.failed(error)
        else:
            if self._connected is None:
                self.untried.remove((family, address))
                self._connected = sock, address
                tasks.cancel_scope.cancel()
            else:
                sock.close()
        finally:
            over.set()

    def failed(self, error: OSError) -> None:
        """Note why an address did not do. The error loses its frames: in one of them is the host, which keeps it."""
        forget_frames(error)
        self.failures.append(error)

    def _failure(self) -> OSError:
        if len(self.failures) == 1:
            return self.failures.pop()  # what is raised gets frames, and in one of them is this
        # somebody who is there and keeps silent is another case than nobody
        silent = all(isinstance(error, TimeoutError) for error in self.failures)
        reasons = "; ".join(str(error) for error in self.failures)
        text = f"cannot connect to {self._name} port {self._port}: {reasons}"
        return TimeoutError(text) if silent else OSError(text)


async def find_host(name: str, port: int) -> Host:
    """Look up the addresses of a host.

    :param name: a name, or an address without brackets.
    :raises OSError: the name leads nowhere.
    """
    return Host(name, port, await resolve(name, port, 0))


async def connect_socket(family: int, address: Address) -> socket.socket:
    """Connect to one address. When cancelled, the socket is closed.

    :param family: AF_INET, AF_INET6 or AF_UNIX.
    :raises OSError: nobody is there, or the queue of a Unix socket is full; the text names the address.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        # a Unix socket connects at once or not at all, and would be writable without being connected
        if code in _IN_PROGRESS and family in INTERNET:
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"{os.strerror(code)}: {address_text(address)}")
    except BaseException:
        sock.close()
        raise
    return sock
