"""The connecting side: from a URL to an established stream."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING

from hakuban.transport import RefusedError

from ._channel import Channel, TLSChannel
from ._handshake import RESPONSE, ClientHandshake, Head, HTTPAnswer
from ._sockets import open_socket, set_options
from ._stream import WebSocketStream

if TYPE_CHECKING:
    from hakuban.transport import Liveness, TransportOptions

    from ._handshake import Agreement
    from ._urls import Endpoint


async def open_stream(
    endpoint: Endpoint, options: TransportOptions, liveness: Liveness
) -> WebSocketStream:
    """Connect, over TLS for wss, and upgrade.

    :raises OSError: nobody answers, or not to the end.
    :raises RefusedError: the other side said no, its certificate does not verify, or it is no WebSocket server.
    """
    handshake = ClientHandshake(endpoint, options)
    channel = await _connect(endpoint, options)
    try:
        agreement, rest = await _upgrade(channel, handshake)
        return WebSocketStream(
            channel, agreement, liveness, options, listening=False, received=rest
        )
    except ssl.SSLError as error:
        channel.close()
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            raise ConnectionResetError("the connection ended during the TLS handshake") from error
        raise RefusedError(f"TLS: {_reason(error)}", retry=False) from error
    except BaseException:
        channel.close()
        raise


async def _connect(endpoint: Endpoint, options: TransportOptions) -> Channel:
    sock = await open_socket(endpoint.host, endpoint.port)
    try:
        set_options(sock, nodelay=options.nodelay)
        if not endpoint.secure:
            return Channel(sock)
        return TLSChannel(sock, options.ssl or _default_context(), server_hostname=endpoint.host)
    except BaseException:
        sock.close()
        raise


@functools.cache
def _default_context() -> ssl.SSLContext:
    # Reading the certificates of the system takes tens of milliseconds: not at each reconnect.
    return ssl.create_default_context()


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not verify: {error.verify_message}"
    return error.reason or str(error)


async def _upgrade(channel: Channel, handshake: ClientHandshake) -> tuple[Agreement, bytes]:
    await channel.handshake()
    channel.write(handshake.request)
    await channel.flush()
    head = Head(RESPONSE)
    while True:
        data = await channel.read()
        if not data:
            raise ConnectionResetError("the connection ended before an HTTP response")
        try:
            response = head.feed(data)
        except HTTPAnswer as fault:
            raise RefusedError(f"no WebSocket there: {fault.body}", retry=False) from None
        if response is not None:
            return handshake.finish(response, head.rest), head.rest
