"""What libzmq does not tell: whether an address within this machine is in use."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._urls import Endpoint

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


def take_name(endpoint: Endpoint) -> Callable[[], None]:
    """Take an address to listen on; returns what gives it back.

    :raises OSError: somebody listens there.
    """
    if endpoint.kind == "ipc":
        _check_free(endpoint)  # libzmq would take the path from under who listens there
    if endpoint.kind != "inproc":
        return _nothing
    with _lock:
        if _bound.get(endpoint.host) == os.getpid():
            raise OSError(
                errno.EADDRINUSE, f"{endpoint} is in use in this process; take another name"
            )
        _bound[endpoint.host] = os.getpid()
    return partial(_give_back, endpoint.host)


def _give_back(name: str) -> None:
    with _lock:
        del _bound[name]


def _nothing() -> None:
    pass


def _check_free(endpoint: Endpoint) -> None:
    address = endpoint.host
    if address.startswith("@"):
        address = "\0" + address[1:]
    elif os.path.lexists(address) and not stat.S_ISSOCK(os.lstat(address).st_mode):
        # libzmq would remove it
        raise OSError(errno.EEXIST, f"{endpoint} is there, and no socket; take another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except BlockingIOError:
            pass  # somebody listens, who has much to do
        except OSError:
            return  # nobody, or nobody any more: libzmq says whether it can be bound
    raise OSError(
        errno.EADDRINUSE, f"{endpoint} is in use; stop who listens there, or take another"
    )
