"""The listening side: what is done for each accepted connection."""

from __future__ import annotations

import logging
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio

from hakuban.sockets import Acceptor, SocketStream, prepare_socket
from hakuban.transport import (
    ConnectionRequest,
    Heartbeats,
    ReassemblyLimit,
    RefusedError,
    get_logger,
    identify,
    run_handler,
)

from ._handshake import REQUEST, Head, HTTPAnswer, ServerHandshake
from ._stream import WebSocketStream
from ._tls_errors import describe_tls_error
from ._tls_stream import TLSSocketStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hakuban.sockets import Place
    from hakuban.transport import Identity, MessageStream, TransportOptions

    from ._urls import Endpoint

logger = get_logger("hakuban.ws")

_CLOSE_SECONDS = 1.0


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
        self._heartbeats = Heartbeats()
        self._reassembly = ReassemblyLimit(options.max_message)

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until cancelled; then close the sockets first, and the connections after that."""
        acceptor = Acceptor(
            str(self._endpoint),
            logger=logger,
            max_connections=self._options.max_connections,
            serve=self._serve,
            turn_away=self._turn_away,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._heartbeats.run)
            await acceptor.run(sockets)

    def _turn_away(self, sock: socket.socket) -> None:
        if not self._endpoint.secure:
            sock.send(HTTPAnswer.try_later("too many connections").encode())
            sock.shutdown(socket.SHUT_WR)

    async def _serve(self, sock: socket.socket, peer: str, place: Place) -> None:
        channel = self._channel(sock)
        place.watch(channel)
        try:
            stream = await self._establish(sock, channel, peer, place)
            if stream is not None:
                await run_handler(self._handler, stream, logger, peer)
        finally:
            channel.close()

    async def _establish(
        self, sock: socket.socket, channel: SocketStream, peer: str, place: Place
    ) -> WebSocketStream | None:
        """Do the handshakes; None when they came to nothing."""
        try:
            with anyio.fail_after(self._options.handshake_timeout):
                prepare_socket(sock, nodelay=self._options.nodelay)
                try:
                    await channel.handshake()
                    return await self._upgrade(channel, peer, place)
                except ssl.SSLError as error:
                    # The alert is on its way; the peer has to see it before the end.
                    logger.info("%s: no TLS: %s", peer, describe_tls_error(error, listening=True))
                except HTTPAnswer as answer:
                    # health checks come all the time
                    level = logging.DEBUG if answer.status == HTTPStatus.OK else logging.INFO
                    logger.log(level, "%s: answered %s", peer, answer)
                    channel.write(answer.encode())
                    await channel.flush()
            with anyio.move_on_after(_CLOSE_SECONDS):
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

    async def _upgrade(self, channel: SocketStream, peer: str, place: Place) -> WebSocketStream:
        head, received = Head(REQUEST), False
        while True:
            data = await channel.read()
            if not data:
                raise ConnectionResetError("closed before a request") if received else _SilentError
            received = True
            request = head.feed(data)
            if request is not None:
                break
        place.keep()
        handshake = ServerHandshake(request)
        identity = await self._identify(handshake, channel, peer)
        agreement, response = handshake.accept(
            self._options.clock(), compression=self._options.compression
        )
        channel.write(response)
        await channel.flush()
        stream = WebSocketStream(
            channel,
            agreement,
            self._heartbeats,
            self._options,
            listening=True,
            received=head.rest,
            reassembly=self._reassembly,
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
