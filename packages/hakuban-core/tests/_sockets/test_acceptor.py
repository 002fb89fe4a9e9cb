"""An acceptor runs a task for each connection, and lets no more in than there is room for."""

from __future__ import annotations

import socket
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from typing_extensions import override

from hakuban.sockets import (
    Acceptor,
    Place,
    SocketStream,
    bind_sockets,
    connect_socket,
    prepare_socket,
)
from hakuban.transport import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = get_logger("hakuban.tests")


class Echo:
    """Says what it hears; whoever says "link" keeps his place.

    :ivar served: the peers, in the order of their coming.
    :ivar left: those who are gone, and whether they were sent away, and whether the port was open still.
    """

    def __init__(self) -> None:
        self.served: list[str] = []
        self.left: list[tuple[str, bool, bool]] = []
        self.port = 0

    async def serve(self, sock: socket.socket, peer: str, place: Place) -> None:
        self.served.append(peer)
        prepare_socket(sock, nodelay=True)
        stream = SocketStream(sock)
        place.watch(stream)
        try:
            while data := await stream.read():
                if data == b"link":
                    place.keep()
                stream.write(data)
                await stream.flush()
        finally:
            with socket.socket() as probe:
                open_still = probe.connect_ex(("127.0.0.1", self.port)) == 0
            self.left.append((peer, place.given_up, open_still))
            stream.close()


def turn_away(sock: socket.socket) -> None:
    sock.send(b"later")


@asynccontextmanager
async def accepting(echo: Echo, most: int | None = None) -> AsyncIterator[Acceptor]:
    sockets = await bind_sockets("127.0.0.1", 0)
    echo.port = sockets[0].getsockname()[1]
    acceptor = Acceptor(
        "tests://", logger=logger, max_connections=most, serve=echo.serve, turn_away=turn_away
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acceptor.run, sockets)
        yield acceptor
        tasks.cancel_scope.cancel()


class Peer:
    """Somebody who connects."""

    def __init__(self, sock: socket.socket) -> None:
        self.name = "{}:{}".format(*sock.getsockname())
        self.stream = SocketStream(sock)

    async def ask(self, data: bytes) -> bytes:
        """Say something and give the answer; none where the connection has ended."""
        with anyio.fail_after(5), suppress(ConnectionError):
            if data:
                self.stream.write(data)
                await self.stream.flush()
            return await self.stream.read()
        return b""


@asynccontextmanager
async def peer_of(echo: Echo) -> AsyncIterator[Peer]:
    peer = Peer(await connect_socket(socket.AF_INET, ("127.0.0.1", echo.port)))
    try:
        yield peer
    finally:
        peer.stream.close()


async def test_each_connection_has_a_task_that_knows_who_it_is() -> None:
    echo = Echo()
    async with accepting(echo), peer_of(echo) as one, peer_of(echo) as two:
        assert await one.ask(b"one") == b"one"
        assert await two.ask(b"two") == b"two"
        assert sorted(echo.served) == sorted([one.name, two.name])


async def test_when_cancelled_it_lets_nobody_in_and_then_ends_the_connections() -> None:
    echo = Echo()
    with ExitStack() as at_the_end:
        async with accepting(echo) as acceptor:
            peer = Peer(await connect_socket(socket.AF_INET, ("127.0.0.1", echo.port)))
            at_the_end.callback(peer.stream.close)
            assert await peer.ask(b"link") == b"link"
            before = acceptor.closed
        assert (before, acceptor.closed) == (False, True)
        assert echo.left == [(peer.name, False, False)]
        assert await peer.ask(b"") == b""


async def test_one_too_many_is_told_so_and_the_silent_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._sockets.acceptor_places._SILENCE", 3600.0)
    echo = Echo()
    async with accepting(echo, 2), peer_of(echo) as linked, peer_of(echo) as silent:
        assert await linked.ask(b"link") == b"link"
        assert await silent.ask(b"hello") == b"hello"
        async with peer_of(echo) as third:
            assert await third.ask(b"") == b"later"
            assert await third.ask(b"") == b""
        monkeypatch.setattr("hakuban._sockets.acceptor_places._SILENCE", 0.0)
        async with peer_of(echo) as fourth:
            assert await fourth.ask(b"link") == b"link"
        assert await silent.ask(b"") == b""
        assert (silent.name, True, True) in echo.left
        assert await linked.ask(b"still here") == b"still here"


async def test_a_listening_socket_that_is_none_any_more_ends_it() -> None:
    echo = Echo()
    listening, other = socket.socketpair()
    with other:
        listening.setblocking(False)
        other.send(b"readable")
        acceptor = Acceptor("tests://", logger=logger, max_connections=None, serve=echo.serve)
        with anyio.fail_after(5), pytest.RaisesGroup(OSError, flatten_subgroups=True):
            await acceptor.run([listening])
        assert acceptor.closed
        assert listening.fileno() == -1


async def test_a_fault_in_serving_one_is_logged_and_ends_nobody_elses_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faulty(Echo):
        @override
        async def serve(self, sock: socket.socket, peer: str, place: Place) -> None:
            if self.served:
                self.served.append(peer)
                raise ValueError("a fault of the transport")
            await super().serve(sock, peer, place)

    echo = Faulty()
    async with accepting(echo), peer_of(echo) as honest:
        assert await honest.ask(b"link") == b"link"
        async with peer_of(echo) as unlucky:
            assert await unlucky.ask(b"") == b""
        assert await honest.ask(b"still here") == b"still here"
    (record,) = [record for record in caplog.records if record.name == "hakuban.tests"]
    assert record.exc_info is not None
    assert record.getMessage() == f"{unlucky.name}: serving it has failed"
