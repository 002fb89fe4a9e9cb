"""Where a listener listens: sockets of its own, whether an address within this machine is in use, who may connect to a path."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from hakuban.sockets import bind_socket

from ._watched_sockets import as_os_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._urls import Endpoint

_BACKLOG: Final = 1024
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV)

# inproc names that this process listens on, and the paths behind them
_bound: dict[str, tuple[int, str]] = {}
_lock = threading.Lock()


def connect_address(endpoint: Endpoint) -> str:
    """Return what libzmq connects to.

    :raises ConnectionRefusedError: nobody listens under this name of this process.
    """
    if endpoint.kind != "inproc":
        return endpoint.address
    process, path = _bound.get(endpoint.host, (0, ""))
    if process != os.getpid():
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, f"nobody listens on {endpoint}; listen first, in this process"
        )
    return f"ipc://{path}"


class AddressClaim:
    """The addresses that a listener has bound, and that nobody else has.

    :ivar endpoint: with the port that was bound.
    :ivar sockets: they listen.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.sockets: list[socket.socket] = []

    def release(self) -> None:
        """Let others have it."""
        for sock in self.sockets:
            sock.close()


def claim_address(endpoint: Endpoint, addresses: Sequence[Endpoint], mode: int) -> AddressClaim:
    """Listen.

    :param endpoint: as the user wrote it.
    :param addresses: the same, or those of its host.
    :param mode: who may connect to a path.
    :raises OSError: an address cannot be bound, or somebody listens there.
    """
    if endpoint.kind == "inproc":
        return _Name(endpoint)
    if endpoint.kind == "tcp":
        return _Ports(endpoint, addresses)
    _check_free(endpoint)  # whoever listens there would lose the path
    return _Abstract(endpoint) if endpoint.is_abstract else _Path(endpoint, mode)


class _Ports(AddressClaim):
    """The addresses of a host, with the same port."""

    def __init__(self, endpoint: Endpoint, addresses: Sequence[Endpoint]) -> None:
        super().__init__(endpoint)
        try:
            for wanted in addresses:
                self._bind(replace(wanted, port=self.endpoint.port))
        except BaseException:
            self.release()
            raise

    def _bind(self, address: Endpoint) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            with as_os_error(str(address)):
                sock = bind_socket(family, (address.host, address.port))
        except OSError as error:
            # "localhost" has addresses of both families also where there is but one
            if self.sockets and error.errno in _NO_SUCH_ADDRESS:
                return
            raise
        self.sockets.append(sock)
        self.endpoint = replace(self.endpoint, port=sock.getsockname()[1])


class _Abstract(AddressClaim):
    """A name of Linux's."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        with as_os_error(str(endpoint)):
            self.sockets.append(bind_socket(socket.AF_UNIX, "\0" + endpoint.host[1:]))


class _Path(AddressClaim):
    """A socket of the file system, which has its mode before anybody can connect."""

    def __init__(self, endpoint: Endpoint, mode: int) -> None:
        super().__init__(endpoint)
        self._path = Path(endpoint.host)
        self._file: os.stat_result | None = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sockets.append(sock)
        try:
            with as_os_error(str(endpoint)):
                self._listen(sock, mode)
        except BaseException:
            self.release()
            raise

    def _listen(self, sock: socket.socket, mode: int) -> None:
        self._path.unlink(missing_ok=True)  # one that a killed process has left
        sock.setblocking(False)
        with suppress(OSError):
            os.fchmod(sock.fileno(), mode)  # with which Linux makes the file
        sock.bind(str(self._path))
        self._file = self._path.lstat()
        if stat.S_IMODE(self._file.st_mode) != mode:
            self._path.chmod(mode)
        sock.listen(_BACKLOG)  # before this nobody gets in, whatever the mode is

    @override
    def release(self) -> None:
        # while the socket is open, so that its inode is nobody else's
        with suppress(OSError):
            if self._file is not None and os.path.samestat(self._file, self._path.lstat()):
                self._path.unlink()
        super().release()


class _Name(AddressClaim):
    """A name within this process: a path in a folder that nobody else may look into."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        with _lock:
            if _bound.get(endpoint.host, (0, ""))[0] == os.getpid():
                raise OSError(
                    errno.EADDRINUSE, f"{endpoint} is in use in this process; take another name"
                )
            self._folder = tempfile.TemporaryDirectory(prefix="hakuban-")
            path = f"{self._folder.name}/socket"
            try:
                with as_os_error(str(endpoint)):
                    self.sockets.append(bind_socket(socket.AF_UNIX, path))
            except BaseException:
                self._folder.cleanup()
                raise
            _bound[endpoint.host] = os.getpid(), path

    @override
    def release(self) -> None:
        with _lock:
            del _bound[self.endpoint.host]
        super().release()
        self._folder.cleanup()


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
