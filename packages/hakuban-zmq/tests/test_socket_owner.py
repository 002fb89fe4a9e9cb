"""A socket with its monitor: what is taken when it is looked at, what its end leaves to others, and how attempts end."""

from __future__ import annotations

import gc
import socket
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
import zmq

from hakuban.transport import LinkTimeoutError, RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._connector import Connector
from hakuban_zmq._frames import (
    PING,
    REFUSED,
    SESSION,
    VERSION,
    WELCOME,
    Refusal,
    Welcome,
    chunks,
    encode_bye,
    frame,
    read_hello,
)
from hakuban_zmq._socket_owner import SocketOwner
from support.waiting import until
from support.zeromq import WIDE, end_of, raw_listener
from support.zmtp import framed, greet, take_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hakuban_zmq._stream import ZeroMQStream

QUICK = TransportOptions(keep_alive=1_000.0, timeout=1.0)


@asynccontextmanager
async def linked(
    options: TransportOptions = QUICK,
) -> AsyncIterator[tuple[ZeroMQStream, socket.socket, bytes]]:
    """Give a link that was connected to a bare socket, that socket, and the session of the link."""

    def welcome() -> tuple[socket.socket, bytes]:
        accepted, _ = server.accept()
        frames = greet(accepted.sendall, partial(take_from, accepted), b"ROUTER")
        hello = read_hello(next(frames))
        accepted.sendall(framed(Welcome(VERSION, b"l" * SESSION, 0, WIDE).encode(hello.session)))
        return accepted, hello.session

    met: list[tuple[socket.socket, bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as server, anyio.fail_after(20):
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"

        async def meet() -> None:
            met.append(await anyio.to_thread.run_sync(welcome))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(meet)
            async with ZeroMQTransport().connect(url, options) as stream:
                await until(lambda: met)
                ((accepted, session),) = met
                with accepted:
                    yield stream, accepted, session


def wait_for(stream: ZeroMQStream, *, monitor: bool) -> None:
    """Wait, and let the loop have no turn, until something has come that nobody has looked at."""
    connector = stream._frame_sender
    assert isinstance(connector, Connector)
    assert connector._watched_sockets[monitor].socket.poll(10_000)


def stays_up(stream: ZeroMQStream) -> bool:
    """Have a stream checked whenever it wants to be, until it has heard something or has ended."""
    heard = stream.last_heard
    due = stream.check(heard)
    while due is not None and stream.last_heard == heard:
        due = stream.check(due)
    return due is not None


# ---- looks ----------------------------------------------------------------------------------------------------------


async def test_a_link_that_has_heard_nothing_for_too_long_has_ended() -> None:
    async with linked() as (stream, _, _):
        assert not stays_up(stream)
        assert isinstance(await end_of(stream), LinkTimeoutError)


async def test_what_waits_in_zeromq_is_life() -> None:
    async with linked() as (stream, accepted, session):
        (data,) = chunks([b"late"], session)
        accepted.sendall(framed(data))
        wait_for(stream, monitor=False)
        assert stays_up(stream)
        assert list(await stream.receive()) == [b"late"]


async def test_a_connection_whose_end_nobody_has_noticed_yet_has_ended_and_is_not_silent() -> None:
    async with linked() as (stream, accepted, _):
        accepted.close()
        wait_for(stream, monitor=True)
        assert not stays_up(stream)
        error = await end_of(stream)
        assert isinstance(error, anyio.BrokenResourceError)
        assert str(error) == "the connection has ended"


# ---- ends -----------------------------------------------------------------------------------------------------------


async def test_attempts_that_end_half_way_do_not_stop_the_links_beside_them() -> None:
    """libzmq reports to a monitor until it is switched off; one that has just gone it would wait for."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # it has no room for more: attempts stay half way
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            with suppress(BlockingIOError):
                other.connect(server.getsockname())
        context = stack.enter_context(zmq.Context())
        events: list[int] = []
        for _ in range(100):
            events.clear()
            owner = SocketOwner(context, lambda _: None, "zmq+tcp://there")
            dealer = owner.open_socket(zmq.DEALER, lambda: None, {"linger": 0})
            owner.monitor(zmq.EVENT_ALL, lambda event, _: events.append(event))
            dealer.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
            while not events:
                owner.look()
            owner.close()
        one, two = (stack.enter_context(context.socket(zmq.PAIR)) for _ in range(2))
        port = one.bind_to_random_port("tcp://127.0.0.1")
        two.connect(f"tcp://127.0.0.1:{port}")
        two.send(b"still here", zmq.NOBLOCK)
        assert one.poll(10_000)


def attempt_at(url: str) -> Connector:
    """Give the one that is not over; others may wait for the collector."""
    attempts = [one for one in gc.get_objects() if type(one) is Connector and one.url == url]
    (found,) = (one for one in attempts if not one._stopped.is_set())
    return found


@pytest.mark.parametrize("refused", [True, False])
async def test_an_attempt_that_fails_in_the_moment_of_its_cancellation_has_failed(
    *, refused: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, anyio.fail_after(10):
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"

        async def connect() -> None:
            with pytest.raises(RefusedError if refused else ConnectionResetError), scope:
                async with ZeroMQTransport().connect(url, TransportOptions()):
                    pass

        def take_hello() -> tuple[socket.socket, bytes]:
            accepted, _ = server.accept()
            frames = greet(accepted.sendall, partial(take_from, accepted), b"ROUTER")
            return accepted, read_hello(next(frames)).session

        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(connect)
            accepted, session = await anyio.to_thread.run_sync(take_hello)
            with accepted:
                if refused:
                    accepted.sendall(framed(Refusal("no", retry=False).encode(session)))
                else:
                    accepted.shutdown(socket.SHUT_RDWR)
                connector = attempt_at(url)
                # the loop has no turn from here on
                assert connector._watched_sockets[not refused].socket.poll(10_000)
                connector.look()
                scope.cancel()


async def test_a_link_that_was_connected_asks_for_signs_of_life() -> None:
    with raw_listener() as listener, anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:

            async def welcome() -> None:
                name, hello = await listener.welcome()
                _, data = await listener.parts()
                assert data == frame(PING, listener.session)
                listener.send(name, encode_bye(hello.session, 1000, ""))

            tasks.start_soon(welcome)
            options = TransportOptions(keep_alive=0.01)
            async with ZeroMQTransport().connect(listener.url, options) as stream:
                assert isinstance(await end_of(stream), anyio.EndOfStream)


# ---- an answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [WELCOME, REFUSED])
async def test_who_answers_half_a_frame_is_no_listener_of_ours(kind: int) -> None:
    with raw_listener() as listener, anyio.fail_after(10):

        async def answer() -> None:
            name, data = await listener.parts()
            listener.send(name, frame(kind, read_hello(data).session, b"x"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            with pytest.raises(RefusedError, match="no listener of hakuban") as caught:
                async with ZeroMQTransport().connect(listener.url, TransportOptions()):
                    pass
            assert not caught.value.retry
