"""What one accepted connection says, and in which order, whatever its other side does."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import zmq.auth
from zmq.utils import z85

from hakuban.sockets import SocketStream
from hakuban.transport import ConnectionRequest, Identity, RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport, _connection, _stream, write_keys
from hakuban_zmq._connection import Connection
from hakuban_zmq._frames import (
    BYE,
    CHUNK,
    DATA,
    HEADER,
    PING,
    PONG,
    SESSION,
    VERSION,
    WELCOME,
    Hello,
    frame,
)
from hakuban_zmq._zmtp import CURVE, GREETING, NULL, FrameReader, command, greeting
from support.curvezmq import CurveClient
from support.zeromq import WIDE, accepting, end_of
from support.zmtp import everything, framed, greet, take_from, where

if TYPE_CHECKING:
    from pathlib import Path

    from hakuban_zmq._stream import ZeroMQStream


MESSAGE = bytes(CHUNK - 100)


async def fill(stream: ZeroMQStream) -> int:
    """Send until the operating system does not take it all; give how many messages that were."""
    sent = 0
    while not stream._frame_sender.stuck:
        await stream.send([MESSAGE])
        sent += 1
    return sent


async def test_what_waits_for_a_peer_that_does_not_read_has_a_bound_and_all_of_it_comes() -> None:
    here, there = socket.socketpair()
    said: list[bytes] = []
    with there:
        async with anyio.create_task_group() as tasks:
            here.setblocking(False)
            connection = Connection(SocketStream(here), tasks)
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
        with socket.create_connection(where(url), timeout=5) as sock:
            client = CurveClient(
                sock.sendall,
                lambda size: take_from(sock, size),
                z85.decode(server),
                secrets.token_bytes(32),
            )

            def ask() -> list[bytes]:
                client.greet()
                sock.sendall(client.message(Hello(b"c" * SESSION, VERSION, WIDE).encode()))
                _, welcome = client.receive()
                assert welcome[0] == WELCOME
                session = welcome[HEADER + 1 : HEADER + 1 + SESSION]
                heartbeat = client.message(command(b"PING", b"\0\0context"), 2)
                sock.sendall(heartbeat + client.message(frame(PING, session)))
                return [client.receive()[1], client.receive()[1]]

            answers = await anyio.to_thread.run_sync(ask)
    assert set(answers) == {command(b"PONG", b"context"), frame(PONG, b"c" * SESSION)}
    assert client.nonces == sorted(client.nonces)


# ---- the end of a listener ------------------------------------------------------------------------------------------


async def test_a_listener_that_ends_hears_that_its_goodbye_was_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_stream, "_FLUSH_SECONDS", 60.0)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            async with accepting() as (url, accepted):
                welcomed = anyio.Event()

                async def connect() -> None:
                    async with ZeroMQTransport().connect(url, TransportOptions()) as stream:
                        welcomed.set()
                        assert isinstance(await end_of(stream), anyio.EndOfStream)

                tasks.start_soon(connect)
                await welcomed.wait()
                await accepted.receive()


async def test_what_waits_to_be_sent_is_sent_although_the_listener_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connection, "_CLOSE_SECONDS", 60.0)
    came: list[int] = []

    def read() -> None:
        with sock, suppress(EOFError):
            came.extend(data[0] for data in parts)

    with socket.socket() as sock, anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            transport = ZeroMQTransport(window=1_000_000_000, high_water_mark=1_000_000)
            async with accepting(transport=transport) as (url, accepted):
                sock.connect(where(url))
                parts = greet(sock.sendall, partial(take_from, sock))
                sock.sendall(framed(Hello(b"c" * SESSION, VERSION, WIDE).encode()))
                stream = await accepted.receive()
                sent = await fill(stream)
                tasks.start_soon(anyio.to_thread.run_sync, read)
    assert came == [WELCOME, *[DATA] * sent, BYE]


async def test_a_sender_waits_while_the_system_takes_nothing_and_no_longer() -> None:
    transport = ZeroMQTransport(window=1_000_000_000, high_water_mark=1_000_000)
    with socket.socket() as sock, anyio.fail_after(10):
        async with accepting(transport=transport) as (url, accepted):
            sock.connect(where(url))
            greet(sock.sendall, partial(take_from, sock))
            sock.sendall(framed(Hello(b"c" * SESSION, VERSION, WIDE).encode()))
            stream = await accepted.receive()
            sent = await fill(stream)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.send, [MESSAGE])
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(take_from, sock, sent * len(MESSAGE))
            await fill(stream)

            async def send() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await stream.send([MESSAGE])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(stream.aclose)


@pytest.mark.parametrize("mechanism", [NULL, CURVE])
async def test_strangers_do_not_delay_the_end_of_a_listener(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mechanism: bytes
) -> None:
    monkeypatch.setattr(_connection, "_CLOSE_SECONDS", 60.0)
    _, secret = write_keys(tmp_path, "listener")
    transport = ZeroMQTransport(secret_key_file=secret if mechanism == CURVE else None)
    with anyio.fail_after(10):
        async with accepting(transport=transport) as (url, _):
            stranger = socket.create_connection(where(url), timeout=5)
            stranger.sendall(greeting(mechanism))
            await anyio.to_thread.run_sync(take_from, stranger, GREETING)
    stranger.close()


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [-1, 70_000, "1008", 1008.5])
async def test_a_refusal_with_a_code_that_is_none_ends_that_connection_alone(code: Any) -> None:
    def authorize(_: ConnectionRequest) -> Identity:
        raise RefusedError("not today", retry=False, code=code)

    async with accepting(authorize=authorize) as (url, _):
        for _ in range(2):
            with pytest.raises(RefusedError, match="cannot authorise anybody"):
                async with ZeroMQTransport().connect(url, TransportOptions()):
                    pass
