"""The transport object that core asks for."""

from __future__ import annotations

import ssl
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from hakuban.sockets import bind_sockets
from hakuban.transport import Heartbeats, InvalidURLError, background_tasks, check_exposure

from ._connector import open_stream
from ._handshake import ClientHandshake
from ._listener import Listener
from ._urls import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskStatus

    from hakuban.transport import MessageStream, TransportOptions

    from ._stream import WebSocketStream
    from ._urls import Endpoint


class WebSocketTransport:
    """Links over ws:// and wss://."""

    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> None:
        """Refuse what can never work; does no I/O.

        :raises InvalidURLError: the URL cannot be used, or is wss to listen on without a TLS context.
        :raises ValueError: a header cannot be sent, or the TLS context is one of the other side.
        """
        _checked(url, options, listening=listening)

    @asynccontextmanager
    async def connect(
        self, url: str, options: TransportOptions, /
    ) -> AsyncIterator[WebSocketStream]:
        """Connect.

        A host may have several addresses: those that keep silent or end the connection leave the others their time. A
        refusal is an answer.

        :raises InvalidURLError: and ValueError, as `check`.
        :raises OSError: nobody answers, or not to the end.
        :raises TimeoutError: not within `handshake_timeout`.
        :raises RefusedError: the other side refused, its certificate does not verify, or it is no WebSocket server.
            `retry` is True for HTTP 404, 408, 425, 429 and 5xx.
        """
        endpoint = _checked(url, options, listening=False)
        heartbeats = Heartbeats()
        stream = await open_stream(endpoint, options, heartbeats)
        async with background_tasks() as tasks, aclosing(stream):  # for 1.5 s at most
            tasks.start_soon(heartbeats.run)
            yield stream

    async def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> None:
        """Listen until cancelled.

        :raises InvalidURLError: and ValueError, as `check`.
        :raises InsecureListenerError: other machines get in, and nothing keeps unknown peers out.
        :raises OSError: an address cannot be bound.
        """
        endpoint = _checked(url, options, listening=True)
        sockets = await bind_sockets(endpoint.host, endpoint.port)
        try:
            check_exposure(
                url,
                [sock.getsockname()[0] for sock in sockets],
                options,
                protected=endpoint.secure and _knows_its_peers(options),
                remedy="use wss:// with client certificates",
            )
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        bound = replace(endpoint, port=sockets[0].getsockname()[1])
        task_status.started(str(bound))
        await Listener(bound, options, handler).run(sockets)


def _checked(url: str, options: TransportOptions, *, listening: bool) -> Endpoint:
    endpoint = parse_url(url, listening=listening)
    if not listening:
        ClientHandshake(endpoint, options)
    if not endpoint.secure:
        return endpoint
    if options.ssl is None:
        if listening:
            raise InvalidURLError(
                url, "listening on wss needs a TLS context: ssl=..., or --tls-cert and --tls-key"
            )
        return endpoint
    wrong, right = ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT
    if listening:
        wrong, right = right, wrong
    if options.ssl.protocol == wrong:
        raise ValueError(
            f"ssl is a context of the other side: to {'listen' if listening else 'connect'}, make it"
            f" with ssl.SSLContext(ssl.{right.name}) or ssl.create_default_context"
        )
    return endpoint


def _knows_its_peers(options: TransportOptions) -> bool:
    return options.ssl is not None and options.ssl.verify_mode == ssl.CERT_REQUIRED
