"""The listening side: an accept loop that survives, and one task for each connection."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio

from hakuban.sockets import SocketStream, address_text, prepare_socket
from hakuban.transport import (
    ConnectionRequest,
    Liveness,
    RefusedError,
    default_max_connections,
    get_logger,
    identify,
    redacted,
)

from ._handshake import REQUEST, Head, HTTPAnswer, ServerHandshake
from ._strangers import Strangers
from ._stream import WebSocketStream
from ._tls import tls_words
from ._tls_stream import TLSSocketStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

    from hakuban.sockets import Address
    from hakuban.transport import Identity, MessageStream, TransportOptions

    from ._urls import Endpoint

logger = get_logger("hakuban.ws")

# What accept says when the listening socket is none any more. All else passes: EMFILE, a network that is down.
_FATAL = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
_PAUSE_SECONDS = 0.1
_LOG_SECONDS = 10.0
# Connections taken from the kernel before the loop gets its turn.
_ACCEPTS_PER_TURN = 64
_FAREWELL_SECONDS = 1.0


class _SilentError(Exception):
    """Somebody connected and left without a byte, as health checks of load balancers do all the time."""


class Listener:
    """Accepts connections on some sockets.

    :param endpoint: what the sockets are bound to.
    :param handler: run for each established stream; it owns the stream.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._handler = handler
        self._liveness = Liveness()
        most = options.max_connections
        self._limit = default_max_connections() if most is None else most
        self._closed = False
        self._strangers = Strangers()
        self._scopes: set[anyio.CancelScope] = set()
        self._log_again = 0.0

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until cancelled; then close the sockets first, and the connections after that."""
        async with anyio.create_task_group() as connections:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._liveness.run)
                    for sock in sockets:
                        tasks.start_soon(self._accept, sock, connections)
            finally:
                self._closed = True
                for sock in sockets:
                    sock.close()
                for scope in self._scopes:
                    scope.cancel()

    async def _accept(self, listening: socket.socket, connections: TaskGroup) -> None:
        while True:
            await anyio.wait_readable(listening)
            try:
                for _ in range(_ACCEPTS_PER_TURN):
                    sock, address = listening.accept()
                    self._admit(sock, address, connections)
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno in _FATAL:
                    raise
                self._make_room(_ACCEPTS_PER_TURN)  # perhaps they hold what is missing
                self._log_pause(error)
                await anyio.sleep(_PAUSE_SECONDS)

    def _admit(self, sock: socket.socket, address: Address, connections: TaskGroup) -> None:
        if len(self._scopes) >= self._limit:
            self._make_room(1)
        if len(self._scopes) < self._limit:
            # Shielded, so that connections outlive the listening sockets: whoever is sent away must not come
            # right back in.
            scope = anyio.CancelScope(shield=True)
            self._scopes.add(scope)
            connections.start_soon(self._serve_one, sock, address, scope)
            return
        with sock, contextlib.suppress(OSError):  # it may have gone already
            if not self._endpoint.secure:
                sock.setblocking(False)
                sock.send(HTTPAnswer.try_later("too many connections").encode())
                sock.shutdown(socket.SHUT_WR)

    def _make_room(self, most: int) -> None:
        self._scopes.difference_update(self._strangers.send_away(most))

    def _log_pause(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self._log_again:
            self._log_again = now + _LOG_SECONDS
            url = redacted(str(self._endpoint))
            logger.warning("%s accepts nobody for now: %s", url, error.strerror)

    async def _serve_one(
        self, sock: socket.socket, address: Address, scope: anyio.CancelScope
    ) -> None:
        peer = address_text(address)
        try:
            with sock, scope:
                if self._closed:
                    return
                channel = self._channel(sock)
                self._strangers.add(channel, scope)
                try:
                    stream = await self._establish(sock, channel, peer)
                    if stream is not None:
                        await self._handle(stream, peer)
                finally:
                    self._strangers.forget(channel)
                    channel.close()
            if scope.cancelled_caught and not self._closed:
                logger.debug("%s: silent, and others wait for its place", peer)
        finally:
            self._scopes.discard(scope)

    async def _handle(self, stream: WebSocketStream, peer: str) -> None:
        code, reason = 1001, "the listener is closed"
        try:
            await self._handler(stream)
            code, reason = 1000, ""
        except Exception:
            logger.exception("the handler of %s failed", peer)
            code, reason = 1011, "internal error"
        finally:
            with anyio.CancelScope(shield=True):  # a second time, if the handler did as it should
                await stream.aclose(code, reason)

    async def _establish(
        self, sock: socket.socket, channel: SocketStream, peer: str
    ) -> WebSocketStream | None:
        """Do the handshakes; None when they came to nothing."""
        try:
            with anyio.fail_after(self._options.handshake_timeout):
                prepare_socket(sock, nodelay=self._options.nodelay)
                try:
                    await channel.handshake()
                    return await self._upgrade(channel, peer)
                except ssl.SSLError as error:
                    # The alert is on its way; the peer has to see it before the end.
                    logger.info("%s: no TLS: %s", peer, tls_words(error, listening=True))
                except HTTPAnswer as answer:
                    # health checks come all the time
                    level = logging.DEBUG if answer.status == HTTPStatus.OK else logging.INFO
                    logger.log(level, "%s: answered %s", peer, answer)
                    channel.write(answer.encode())
                    await channel.flush()
            with anyio.move_on_after(_FAREWELL_SECONDS):
                await channel.end()
        except TimeoutError:
            seconds = self._options.handshake_timeout
            logger.info("%s: no request to connect within %g s", peer, seconds)
        except _SilentError:
            logger.debug("%s: connected, and left without a word", peer)
        except OSError as error:
            logger.info("%s: gone before it was connected: %s", peer, error)
        return None

    def _channel(self, sock: socket.socket) -> SocketStream:
        if not self._endpoint.secure:
            return SocketStream(sock)
        assert self._options.ssl is not None
        return TLSSocketStream(sock, self._options.ssl, server_hostname=None)

    async def _upgrade(self, channel: SocketStream, peer: str) -> WebSocketStream:
        head, said = Head(REQUEST), False
        while True:
            data = await channel.read()
            if not data:
                raise ConnectionResetError("closed before a request") if said else _SilentError
            said = True
            request = head.feed(data)
            if request is not None:
                break
        self._strangers.forget(channel)
        handshake = ServerHandshake(request)
        identity = await self._identify(handshake, channel, peer)
        agreement, response = handshake.accept(
            self._options.clock(), compression=self._options.compression
        )
        channel.write(response)
        await channel.flush()
        stream = WebSocketStream(
            channel, agreement, self._liveness, self._options, listening=True, received=head.rest
        )
        stream.identity = identity
        return stream

    async def _identify(
        self, handshake: ServerHandshake, channel: SocketStream, peer: str
    ) -> Identity | None:
        """Turn away pages of other origins, and whom the authorising plugin does not like."""
        origin = handshake.headers.get("origin")
        if origin is not None and origin not in self._options.allow_origins:
            raise HTTPAnswer(403, "this origin is not allowed here")
        if self._options.authorize is None:
            return None
        request = ConnectionRequest(
            url=str(self._endpoint),
            path=handshake.path,
            headers=handshake.headers,
            remote_address=peer,
            tls_subject=channel.tls_subject,
        )
        try:
            return await identify(self._options, request)
        except RefusedError as refusal:
            if refusal.retry:
                raise HTTPAnswer.try_later(refusal.reason) from None
            raise HTTPAnswer(403, refusal.reason) from None
