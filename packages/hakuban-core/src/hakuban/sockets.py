"""Sockets for transports that use them directly: connecting, binding, accepting, and bytes without a buffer in between.

`hakuban.transport` is what every transport needs; this is for those that open sockets of their own, TCP or Unix ones, and
want of them what links need: the newest state soon, and no more than one piece of it in memory.

All sockets are non-blocking, and used by the thread of the event loop that made them; nothing here is thread-safe.
"""

from __future__ import annotations

from ._sockets.acceptor import Acceptor
from ._sockets.acceptor_places import Place
from ._sockets.addresses import Address, address_text, bind_socket, bind_sockets, prepare_socket
from ._sockets.connecting import Host, connect_socket, find_host
from ._sockets.receive_buffer import ReceiveBuffer
from ._sockets.stream import SocketStream

__all__ = [
    "Acceptor",
    "Address",
    "Host",
    "Place",
    "ReceiveBuffer",
    "SocketStream",
    "address_text",
    "bind_socket",
    "bind_sockets",
    "connect_socket",
    "find_host",
    "prepare_socket",
]
