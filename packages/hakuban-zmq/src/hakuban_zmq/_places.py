"""What libzmq does not see to: whether an address within this machine is in use, and who may connect to a path."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zmq
from typing_extensions import override

from ._sources import as_os_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._urls import Endpoint

_BACKLOG: Final = 1024
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV)

# inproc names that this process listens on: libzmq lets a connecting side wait for one for ever.
_bound: dict[str, int] = {}
_lock = threading.Lock()


def check_reachable(endpoint: Endpoint) -> None:
    """Fail at once where nobody listens, as far as libzmq would not.

    :raises ConnectionRefusedError: nobody listens under this name of this process.
    """
    if endpoint.kind == "inproc" and _bound.get(endpoint.host) != os.getpid():
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, f"nobody listens on {endpoint}; listen first, in this process"
        )


class Place:
    """The addresses that a listener binds, and that nobody else has.

    :ivar endpoints: one, or those of a host.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints

    def bind(self, socket: zmq.Socket[bytes]) -> list[str]:
        """Bind a socket to all addresses, with the same port, and give them as they were bound.

        :raises OSError: one cannot be bound.
        """
        bound: list[str] = []
        for wanted in self.endpoints:
            endpoint = replace(wanted, port=port_of(bound[0])) if bound else wanted
            try:
                with as_os_error(str(endpoint)):
                    self._bind(socket, endpoint.address)
            except OSError as error:
                # "localhost" has addresses of both families also where there is but one
                if bound and error.errno in _NO_SUCH_ADDRESS:
                    continue
                raise
            bound.append(str(socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0"))
        return bound

    def _bind(self, socket: zmq.Socket[bytes], address: str) -> None:
        socket.set(zmq.BACKLOG, _BACKLOG)
        socket.bind(address)

    def give_back(self) -> None:
        """Let others have it."""


def port_of(address: str) -> int:
    """Give the port of an address that was bound."""
    return int(address.rpartition(":")[2])


def take_place(endpoints: Sequence[Endpoint], mode: int) -> Place:
    """Take addresses to listen on.

    :param endpoints: one, or those of a host.
    :param mode: who may connect to a path.
    :raises OSError: somebody listens there.
    """
    endpoint = endpoints[0]
    if endpoint.kind == "inproc":
        return _Name(endpoint)
    if endpoint.kind == "ipc":
        _check_free(endpoint)  # whoever listens there would lose the path
        if not endpoint.is_abstract:
            return _Path(endpoint, mode)
    return Place(endpoints)


class _Name(Place):
    """A name within this process."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__([endpoint])
        with _lock:
            if _bound.get(endpoint.host) == os.getpid():
                raise OSError(
                    errno.EADDRINUSE, f"{endpoint} is in use in this process; take another name"
                )
            _bound[endpoint.host] = os.getpid()

    @override
    def give_back(self) -> None:
        with _lock:
            del _bound[self.endpoints[0].host]


class _Path(Place):
    """A socket of the file system. libzmq would make it as wide as the umask says, and let in from then on.

    It is open here too until it is given back: so nobody takes it for a stale one, nor its inode for another file.
    """

    def __init__(self, endpoint: Endpoint, mode: int) -> None:
        super().__init__([endpoint])
        self._path = Path(endpoint.host)
        self._mode = mode
        self._socket: socket.socket | None = None
        self._file: os.stat_result | None = None

    @override
    def _bind(self, socket: zmq.Socket[bytes], address: str) -> None:
        handed = os.dup(self._listen())
        try:
            socket.set(zmq.USE_FD, handed)
            socket.bind(address)
        except BaseException:
            os.close(handed)  # else libzmq does that
            raise

    def _listen(self) -> int:
        self._path.unlink(missing_ok=True)  # one that a killed process has left
        self._socket = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        with suppress(OSError):
            os.fchmod(sock.fileno(), self._mode)  # with which Linux makes the file
        sock.bind(str(self._path))
        self._file = self._path.lstat()
        if stat.S_IMODE(self._file.st_mode) != self._mode:
            self._path.chmod(self._mode)
        sock.listen(_BACKLOG)  # before this nobody gets in, whatever the mode is
        return sock.fileno()

    @override
    def give_back(self) -> None:
        with suppress(OSError):
            if self._file is not None and os.path.samestat(self._file, self._path.lstat()):
                self._path.unlink()
        if self._socket is not None:
            self._socket.close()


def _check_free(endpoint: Endpoint) -> None:
    address = endpoint.host
    if endpoint.is_abstract:
        address = "\0" + address[1:]
    elif os.path.lexists(address) and not stat.S_ISSOCK(os.lstat(address).st_mode):
        # it would be removed
        raise OSError(errno.EEXIST, f"{endpoint} is there, and no socket; take another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except BlockingIOError:
            pass  # somebody listens, who has much to do
        except OSError:
            return  # nobody, or nobody any more
    raise OSError(
        errno.EADDRINUSE, f"{endpoint} is in use; stop who listens there, or take another"
    )
