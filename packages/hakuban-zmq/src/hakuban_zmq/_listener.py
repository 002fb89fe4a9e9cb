"""The listening side: our own ZMTP on our own sockets, since libzmq can be ended from outside by who may connect to it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import anyio

from hakuban.sockets import Acceptor, SocketStream, prepare_socket
from hakuban.transport import (
    ConnectionRequest,
    Heartbeats,
    PeerViolationError,
    ReassemblyLimit,
    RefusedError,
    contained,
    default_max_connections,
    get_logger,
    identify,
    run_handler,
)

from ._connection import Connection
from ._frames import SESSION, VERSION, Refusal, Welcome
from ._handshake import Handshake, UnknownKeyError
from ._revocation import Revocation
from ._stream import ZeroMQStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

    from hakuban.sockets import Place
    from hakuban.transport import Identity, MessageStream, TransportOptions

    from ._curve import ListenerKeys
    from ._frames import Hello, Window

logger = get_logger("hakuban.zmq")

# Connections beside the links that are allowed: so many newcomers can be notified that there are too many.
_TO_BE_REFUSED: Final = 64


class Listener:
    """Serves a link on each connection.

    :param url: what is bound, for people.
    :param keys: None without CURVE.
    :param handler: run for each established stream; it owns the stream.
    """

    def __init__(
        self,
        url: str,
        options: TransportOptions,
        window: Window,
        keys: ListenerKeys | None,
        handler: Callable[[MessageStream], Awaitable[None]],
    ) -> None:
        self._url = url
        self._options = options
        self._window = window
        self._keys = keys
        self._allowed = None if keys is None else keys.clients
        self._handler = handler
        most = options.max_connections
        self._limit = default_max_connections() if most is None else most
        self._links = 0
        self._heartbeats = Heartbeats()
        self._reassembly = ReassemblyLimit(options.max_message)
        self._revocation = Revocation(self._allowed)
        self._acceptor: Acceptor  # while it runs
        self._tasks: TaskGroup

    async def serve(self, sockets: Sequence[socket.socket], started: Callable[[], None]) -> None:
        """Serve until cancelled; then let nobody in first, and end the links after that.

        :param started: called when all is running.
        """
        self._acceptor = Acceptor(
            self._url,
            logger=logger,
            max_connections=self._limit + _TO_BE_REFUSED,
            serve=self._serve_one,
        )
        try:
            async with anyio.create_task_group() as self._tasks:
                self._revocation.begin(self._heartbeats)
                self._tasks.start_soon(self._heartbeats.run)
                if self._allowed is not None:
                    self._tasks.start_soon(contained, anyio.CancelScope(), self._allowed.watch)
                started()
                await self._acceptor.run(sockets)
        finally:
            del self._acceptor  # which knows this

    async def _serve_one(self, sock: socket.socket, address: str, place: Place) -> None:
        peer = address or f"a client of {self._url}"
        socket = SocketStream(sock)
        connection = Connection(socket, self._tasks)
        try:
            place.watch(socket)
            prepare_socket(sock, nodelay=True)
            key, hello = await self._shake_hands(socket, connection)
            place.keep()
            await self._link(connection, hello, peer, key)
        except UnknownKeyError as unknown:
            assert self._allowed is not None
            self._allowed.refusals.report(peer, unknown.key)
        except RefusedError as refusal:
            logger.info("%s: refused: %s", peer, refusal.reason)
        except PeerViolationError as violation:
            logger.info("%s: no link: %s", peer, violation.reason)
        except TimeoutError:
            logger.info("%s: no link within %g s", peer, self._options.handshake_timeout)
        except (EOFError, OSError):
            logger.debug("%s: gone before there was a link", peer)
        finally:
            await connection.aclose()

    async def _shake_hands(self, socket: SocketStream, connection: Connection) -> tuple[str, Hello]:
        """Receive the hello of a peer that wants a link; whoever is cut short before that is not waited for."""
        try:
            with anyio.fail_after(self._options.handshake_timeout):
                key = await Handshake(socket, connection.codec, self._keys).run()
                return key, await connection.hello()
        except (TimeoutError, anyio.get_cancelled_exc_class()):
            connection.abandon()
            raise

    async def _link(self, connection: Connection, hello: Hello, peer: str, key: str) -> None:
        try:
            identity = await self._admit(hello, peer, key)
        except RefusedError as refusal:
            answer = Refusal(refusal.reason, refusal.retry, refusal.code)
            connection.send(answer.encode(hello.session))
            raise
        self._links += 1
        try:
            stream = self._establish(connection, hello, peer, key, identity)
            await run_handler(self._handler, stream, logger, peer)
        finally:
            self._links -= 1

    async def _admit(self, hello: Hello, peer: str, key: str) -> Identity | None:
        """Turn away other versions, keys that were taken off the list, too many, and whom the plugin does not like.

        :raises RefusedError: with what to send to the peer.
        """
        if hello.version != VERSION:
            reason = (
                f"version {VERSION} is spoken here, not {hello.version}: upgrade the older side"
            )
            raise RefusedError(reason, retry=False)
        self._revocation.admit(key)
        if self._links >= self._limit:
            reason = f"too many connections (max_connections={self._limit})"
            raise RefusedError(reason, retry=True, code=1013)
        headers = {"curve-key": key} if key else {}
        request = ConnectionRequest(url=self._url, headers=headers, remote_address=peer)
        return await identify(self._options, request)

    def _establish(
        self, connection: Connection, hello: Hello, peer: str, key: str, identity: Identity | None
    ) -> ZeroMQStream:
        """Let a peer in."""
        session = secrets.token_bytes(SESSION)
        stream = ZeroMQStream(
            connection,
            (session, hello.session),
            self._window,
            hello.window,
            self._options,
            self._reassembly,
            listening=True,
        )
        stream.local_address = self._url
        stream.remote_address = peer
        stream.identity = identity
        welcome = Welcome(VERSION, session, self._options.clock(), self._window)
        connection.send(welcome.encode(hello.session))
        connection.begin(stream)
        self._revocation.watch(stream, key)
        stream.watch(self._heartbeats)
        return stream
