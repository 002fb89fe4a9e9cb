"""What libzmq knows of the connection that a message has come by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zmq

from hakuban.transport import printable

if TYPE_CHECKING:
    from zmq import Frame

_LONGEST_ADDRESS: Final = 200


def key_of(first: Frame) -> str:
    """Give the public key that the peer has proven to own; without CURVE it says what it likes."""
    return _property(first, "User-Id")


def descriptor_of(first: Frame) -> int | None:
    """Give the descriptor of the connection, if there is one."""
    descriptor = _property(first, "__fd")
    return int(descriptor) if descriptor else None


def address_of(first: Frame, url: str) -> str:
    """Give the address of the peer, for people; where libzmq has none, a peer may claim one.

    :param url: of the listener.
    """
    address = _property(first, "Peer-Address")[:_LONGEST_ADDRESS]
    return printable(address) or f"a client of {url}"


def _property(first: Frame, name: str) -> str:
    """Give a property; "" when there is none."""
    try:
        return str(first.get(name))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""
