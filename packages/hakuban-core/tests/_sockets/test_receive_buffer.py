"""What the operating system holds of what was not read."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from hakuban.sockets import ReceiveBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """An end of a TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as there,
        server.accept()[0] as here,
    ):
        here.setblocking(False)
        there.setblocking(False)
        yield here


def size_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lets it grow again")
def test_a_receive_buffer_is_small_where_little_can_be_handled_and_grows_again(
    connection: socket.socket,
) -> None:
    buffer, before = ReceiveBuffer(connection), size_of(connection)
    buffer.fit(MIB)
    assert size_of(connection) == before
    sizes = []
    for _ in range(50):
        buffer.fit(4 * KIB)
        sizes.append(size_of(connection))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 40 * KIB
    buffer.fit(48 * KIB)
    assert size_of(connection) == sizes[-1]
    buffer.fit(MIB)
    assert size_of(connection) == before
    locked_by_hand = connection.getsockopt(socket.SOL_SOCKET, 72)
    assert not locked_by_hand


def test_a_buffer_of_a_socket_that_is_gone_is_left_alone(connection: socket.socket) -> None:
    buffer = ReceiveBuffer(connection)
    buffer.fit(4 * KIB)
    connection.close()
    buffer.fit(4 * KIB)
    buffer.fit(MIB)
