"""The connecting side against bare listeners: what it takes of them, what ends its attempt, and what it leaves."""

from __future__ import annotations

import socket
import time
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
import zmq

from hakuban.transport import Heartbeats, PeerViolationError, RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport, write_keys
from hakuban_zmq._connector import Connector
from hakuban_zmq._frames import (
    PING,
    PONG,
    RESET,
    SESSION,
    VERSION,
    Welcome,
    Window,
    chunks,
    encode_bye,
    frame,
    read_hello,
)
from hakuban_zmq._urls import parse_url
from hakuban_zmq._zmtp import CURVE, NULL, greeting
from support.tracing import collector_off
from support.zeromq import WIDE, RawListener, end_of, raw_listener
from support.zmtp import everything

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hakuban_zmq._stream import ZeroMQStream

ANOTHER = b"another!"


class Peer:
    """A bare listener with one link.

    :ivar session: that of the connecting side.
    """

    def __init__(self, listener: RawListener, name: bytes, session: bytes) -> None:
        self.listener = listener
        self.name = name
        self.session = session

    def send(self, *parts: bytes) -> None:
        self.listener.socket.send_multipart([self.name, *parts], zmq.NOBLOCK)


@asynccontextmanager
async def linked(**options: float) -> AsyncIterator[tuple[ZeroMQStream, Peer]]:
    """Give our end of a link, and whoever is at the other one."""
    peers: list[Peer] = []
    with raw_listener() as listener, anyio.fail_after(10):

        async def welcome() -> None:
            name, hello = await listener.welcome()
            peers.append(Peer(listener, name, hello.session))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(welcome)
            settings = TransportOptions(**options)  # type: ignore[arg-type] # all of these are numbers
            async with ZeroMQTransport().connect(listener.url, settings) as stream:
                yield stream, peers[0]
                peers[0].send(encode_bye(peers[0].session, 1000, ""))


def connector_to(url: str, window: Window = WIDE) -> Connector:
    return Connector(parse_url(url, listening=False), TransportOptions(), window, Heartbeats())


# ---- a link ---------------------------------------------------------------------------------------------------------


async def test_a_link_that_the_listener_does_not_know_has_ended_and_that_of_others_has_not() -> (
    None
):
    async with linked() as (stream, peer):
        peer.send(frame(RESET, ANOTHER))
        for data in chunks([b"still here"], peer.session):
            peer.send(data)
        assert list(await stream.receive()) == [b"still here"]
        peer.send(frame(RESET, peer.listener.session))
        error = await end_of(stream)
        assert isinstance(error, anyio.BrokenResourceError)
        assert "it was restarted" in str(error)


async def test_a_link_says_which_session_it_is() -> None:
    async with linked() as (stream, peer):
        assert stream.local_address == f"zmq+tcp client {peer.session.hex()[:8]}"


async def test_what_is_sent_goes_out_at_once() -> None:
    async with linked() as (stream, peer):
        await stream.send([b"x"])
        (data,) = chunks([b"x"], peer.listener.session)
        assert await peer.listener.parts() == [peer.name, data]


async def test_a_silent_listener_is_asked_for_a_sign_of_life() -> None:
    async with linked(keep_alive=0.01, timeout=60.0) as (_, peer):
        assert await peer.listener.parts() == [peer.name, frame(PING, peer.listener.session)]


async def test_the_connecting_side_asks_for_a_sign_of_life_as_soon_as_it_is_due() -> None:
    async with linked(keep_alive=60.0, timeout=1_000.0) as (stream, peer):
        stream.check(time.monotonic() + 60.0)
        assert await peer.listener.parts() == [peer.name, frame(PING, peer.listener.session)]


@pytest.mark.parametrize("count", [2, 100, 250])
async def test_a_message_of_several_parts_is_a_violation_however_many(count: int) -> None:
    async with linked() as (stream, peer):
        (data,) = chunks([b"x"], peer.session)
        peer.send(*[data] * count)
        assert isinstance(await end_of(stream), PeerViolationError)


# ---- an answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 100, 101, 102, 250])
async def test_an_answer_has_one_part_and_the_parts_of_another_message_are_none(count: int) -> None:
    with raw_listener() as listener, anyio.fail_after(10):

        async def answer() -> None:
            name, data = await listener.parts()
            session = read_hello(data).session
            wrong, right = (
                Welcome(VERSION, listener.session, clock, WIDE).encode(session) for clock in (1, 2)
            )
            listener.socket.send_multipart([name, *[wrong] * count], zmq.NOBLOCK)
            listener.send(name, right)
            listener.send(name, encode_bye(session, 1000, ""))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            async with ZeroMQTransport().connect(listener.url, TransportOptions()) as stream:
                assert stream.peer_clock == 2
                assert isinstance(await end_of(stream), anyio.EndOfStream)


def transport(folder: Path, *, encrypts: bool) -> ZeroMQTransport:
    """Give one, with a certificate in a folder if it encrypts."""
    if not encrypts:
        return ZeroMQTransport()
    public, secret = write_keys(folder, "own")
    return ZeroMQTransport(secret_key_file=secret, server_key_file=public)


@asynccontextmanager
async def one_connection(say: bytes, *, wait: bool) -> AsyncIterator[str]:
    """Let one in, say something to it, and end the connection at once, or when the other side has."""

    def serve() -> None:
        sock, _ = server.accept()
        with sock, suppress(ConnectionError):
            sock.settimeout(10)
            sock.sendall(say)
            if wait:
                everything(sock)

    with socket.create_server(("127.0.0.1", 0)) as server, anyio.fail_after(10):
        server.settimeout(10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, serve)
            yield f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("encrypts", "perhaps"),
    [(False, "does it want CURVE"), (True, "is it another listener than that of")],
)
async def test_why_a_connection_has_ended_is_guessed_by_whether_it_was_encrypted(
    tmp_path: Path, perhaps: str, *, encrypts: bool
) -> None:
    async with one_connection(b"", wait=False) as url:
        with pytest.raises(ConnectionResetError) as caught:
            async with transport(tmp_path, encrypts=encrypts).connect(url, TransportOptions()):
                pass
    assert f"{url} ended the connection; {perhaps}" in str(caught.value)


@pytest.mark.parametrize(("encrypts", "mechanism"), [(False, CURVE), (True, NULL)])
async def test_without_the_mechanism_of_the_listener_there_is_no_use_in_trying_again(
    tmp_path: Path, mechanism: bytes, *, encrypts: bool
) -> None:
    async with one_connection(greeting(mechanism), wait=True) as url:
        with pytest.raises(RefusedError, match="one side uses CURVE and the other") as caught:
            async with transport(tmp_path, encrypts=encrypts).connect(url, TransportOptions()):
                pass
    assert not caught.value.retry
    assert url in caught.value.reason


# ---- below it -------------------------------------------------------------------------------------------------------


async def test_a_connection_is_made_once_and_libzmq_bounds_no_handshake() -> None:
    """Another connection would carry the same link, and a bound of libzmq's would be told as an end of the connection."""
    with raw_listener() as listener:
        connector = connector_to(listener.url)
        connector.open(None)
        try:
            dealer = connector._watched_sockets[0].socket
            assert dealer.getsockopt(zmq.RECONNECT_IVL) == 3_600_000
            assert dealer.getsockopt(zmq.HANDSHAKE_IVL) == 0
        finally:
            connector.close()


async def test_an_attempt_takes_no_more_frames_than_libzmq_has_room_for_and_that_is_no_error() -> (
    None
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"
        connector = connector_to(url, Window(1, 1))
        connector.open(None)
        try:
            taken = [connector.send(frame(PONG, bytes(SESSION))) for _ in range(1_000)]
        finally:
            connector.close()
    assert taken[0]
    assert not taken[-1]
    assert taken == sorted(taken, reverse=True)


async def test_an_attempt_that_failed_is_gone_without_a_collector() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"
    with collector_off():
        connector = connector_to(url)
        gone = weakref.ref(connector)
        connector.open(None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connector.run)
            with anyio.fail_after(10), suppress(ConnectionRefusedError):
                await connector.answer()
            await connector.stop()
        del connector
        await anyio.wait_all_tasks_blocked()
        assert gone() is None
