"""ZeroMQ transport of hakuban: the URL schemes zmq+tcp, zmq+ipc and zmq+inproc."""

from __future__ import annotations

import zmq

from hakuban.transport import InsecureListenerError, hookimpl

if zmq.zmq_version_info() < (4, 3, 2):
    # CVE-2019-13132: whoever could connect could run code, CURVE or not.
    raise ImportError(
        f"hakuban-zmq needs libzmq 4.3.2 or newer, and pyzmq was built with {zmq.zmq_version()};"
        " pip install --upgrade pyzmq"
    )

from ._curve import KeyFileError, write_keys
from ._transport import ZeroMQTransport
from ._urls import SCHEMES
from ._version import __version__

__all__ = [
    "InsecureListenerError",
    "KeyFileError",
    "ZeroMQTransport",
    "__version__",
    "hakuban_transport",
    "write_keys",
]


@hookimpl
def hakuban_transport(scheme: str) -> ZeroMQTransport | None:
    """Return the transport for zmq+tcp, zmq+ipc and zmq+inproc."""
    return ZeroMQTransport() if scheme in SCHEMES else None
