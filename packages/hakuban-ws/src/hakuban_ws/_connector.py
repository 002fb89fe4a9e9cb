"""The connecting side: from a URL to an established stream."""

from __future__ import annotations

import functools
import ssl
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import anyio

from hakuban.sockets import SocketStream, address_text, find_host, prepare_socket
from hakuban.transport import ReassemblyLimit, RefusedError

from ._handshake import RESPONSE, ClientHandshake, Head, HTTPAnswer
from ._http_refusals import no_websocket
from ._stream import WebSocketStream
from ._tls_errors import describe_tls_error
from ._tls_stream import TLSSocketStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from hakuban.transport import Heartbeats, TransportOptions

    from ._handshake import Agreement
    from ._urls import Endpoint

_SILENT = "it accepts the connection and says nothing: is it another protocol, or has its program stopped?"


async def open_stream(
    endpoint: Endpoint, options: TransportOptions, heartbeats: Heartbeats
) -> WebSocketStream:
    """Connect, over TLS for wss, and upgrade, all within `handshake_timeout`.

    :raises OSError: nobody answers, or not to the end.
    :raises TimeoutError: not in time.
    :raises RefusedError: the other side refused, its certificate does not verify, or it is no WebSocket server.
    """
    whole = options.handshake_timeout
    deadline = anyio.current_time() + whole

    def left() -> float:
        return max(0.0, deadline - anyio.current_time())

    with _within(left(), f"no address for the name {endpoint.host} within {whole:g} s"):
        host = await find_host(endpoint.host, endpoint.port)
    while True:
        with _within(
            left(),
            f"{endpoint.authority}: no answer within {whole:g} s; is the address right, and no firewall in between?",
        ):
            sock, address = await host.connect()
        where = address_text(address)
        # one that sends nothing leaves the others their time
        share = left() / (1 + len(host.untried))
        seconds = f"{share:.2g}" if host.untried or host.failures else f"{whole:g}"
        try:
            with _within(share, f"{where}: no answer within {seconds} s; {_SILENT}"):
                return await _establish(sock, where, endpoint, options, heartbeats)
        except OSError as error:  # a TimeoutError is one too; a refusal is none, but an answer
            host.failed(error)


@contextmanager
def _within(seconds: float, text: str) -> Iterator[None]:
    """Raise a TimeoutError with a text when it takes longer."""
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimeoutError(text)


async def _establish(
    sock: socket.socket,
    where: str,
    endpoint: Endpoint,
    options: TransportOptions,
    heartbeats: Heartbeats,
) -> WebSocketStream:
    question = "is it a wss:// listener, or another protocol?"
    with ExitStack() as failing:
        failing.callback(sock.close)
        prepare_socket(sock, nodelay=options.nodelay)
        channel = _channel(sock, endpoint, options)
        failing.callback(channel.close)
        with _explained(f"{where} ended the connection in the TLS handshake; {question}"):
            await channel.handshake()
        with _explained(f"{where} ended the connection before an HTTP response; {question}"):
            agreement, rest = await _upgrade(channel, ClientHandshake(endpoint, options))
        stream = WebSocketStream(
            channel,
            agreement,
            heartbeats,
            options,
            listening=False,
            received=rest,
            reassembly=ReassemblyLimit(options.max_message),
        )
        failing.pop_all()
    return stream


def _channel(sock: socket.socket, endpoint: Endpoint, options: TransportOptions) -> SocketStream:
    if not endpoint.secure:
        return SocketStream(sock)
    return TLSSocketStream(sock, options.ssl or _default_context(), server_hostname=endpoint.host)


@functools.cache
def _default_context() -> ssl.SSLContext:
    # Reading the certificates of the system takes tens of milliseconds: not at each reconnect.
    return ssl.create_default_context()


@contextmanager
def _explained(end: str) -> Iterator[None]:
    """Put the errors of the system and of OpenSSL into words.

    :param end: what it means that the connection ends here.
    """
    try:
        yield
    except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise ConnectionResetError(end) from error
    except ssl.SSLError as error:
        raise RefusedError(
            f"TLS: {describe_tls_error(error, listening=False)}", retry=False
        ) from error


async def _upgrade(channel: SocketStream, handshake: ClientHandshake) -> tuple[Agreement, bytes]:
    channel.write(handshake.request)
    await channel.flush()
    head = Head(RESPONSE)
    while True:
        data = await channel.read()
        if not data:
            raise ConnectionResetError
        try:
            response = head.feed(data)
        except HTTPAnswer as fault:
            raise no_websocket(fault.body) from None
        if response is not None:
            return handshake.finish(response, head.rest), head.rest
