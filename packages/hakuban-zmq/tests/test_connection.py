"""What one accepted connection says, and in which order, whatever its other side does."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import zmq.auth
from zmq.utils import z85

from hakuban.sockets import SocketStream
from hakuban_zmq import ZeroMQTransport, write_keys
from hakuban_zmq._connection import Connection
from hakuban_zmq._frames import (
    HEADER,
    PING,
    PONG,
    SESSION,
    VERSION,
    WELCOME,
    Hello,
    Window,
    frame,
)
from hakuban_zmq._zmtp import FrameReader, command
from support.curvezmq import CurveClient
from support.zeromq import WIDE, accepting

if TYPE_CHECKING:
    from pathlib import Path

WINDOW = Window(64 * 1024, 16)


def take_from(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def everything(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(1 << 20):
        data += more
    return data


async def test_what_waits_for_a_peer_that_does_not_read_has_a_bound_and_all_of_it_comes() -> None:
    here, there = socket.socketpair()
    said: list[bytes] = []
    with there:
        async with anyio.create_task_group() as tasks:
            here.setblocking(False)
            connection = Connection(SocketStream(here), tasks, WINDOW)
            for number in range(100_000):
                data = frame(PONG, number.to_bytes(SESSION, "big"))
                if connection.send(data):
                    said.append(data)
            tasks.start_soon(connection.aclose)
            came = await anyio.to_thread.run_sync(everything, there)
    reader = FrameReader(HEADER)
    reader.feed(came)
    assert list(iter(lambda: (one := reader.take()) and one.body, None)) == said
    assert len(said) < 50_000


async def test_boxes_go_out_in_the_order_of_their_nonces(tmp_path: Path) -> None:
    public, secret = write_keys(tmp_path, "listener")
    server = zmq.auth.load_certificate(public)[0]
    async with accepting(transport=ZeroMQTransport(secret_key_file=secret)) as (url, _):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            client = CurveClient(
                sock.sendall,
                lambda size: take_from(sock, size),
                z85.decode(server),
                secrets.token_bytes(32),
            )

            def ask() -> list[bytes]:
                client.greet()
                sock.sendall(client.message(Hello(b"c" * SESSION, VERSION, WIDE).encode()))
                _, welcome = client.hear()
                assert welcome[0] == WELCOME
                session = welcome[HEADER + 1 : HEADER + 1 + SESSION]
                heartbeat = client.message(command(b"PING", b"\0\0context"), 2)
                sock.sendall(heartbeat + client.message(frame(PING, session)))
                return [client.hear()[1], client.hear()[1]]

            answers = await anyio.to_thread.run_sync(ask)
    assert set(answers) == {command(b"PONG", b"context"), frame(PONG, b"c" * SESSION)}
    assert client.nonces == sorted(client.nonces)
