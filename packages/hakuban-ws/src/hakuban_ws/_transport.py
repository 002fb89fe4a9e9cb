"""The transport object that core asks for."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from hakuban.transport import InvalidURLError, Liveness

from ._connector import open_stream
from ._listener import Listener
from ._sockets import bind_sockets
from ._urls import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskStatus

    from hakuban.transport import MessageStream, TransportOptions

    from ._stream import WebSocketStream


class WebSocketTransport:
    """Links over ws:// and wss://."""

    @asynccontextmanager
    async def connect(
        self, url: str, options: TransportOptions, /
    ) -> AsyncIterator[WebSocketStream]:
        """Connect.

        :raises InvalidURLError: the URL cannot be used.
        :raises ValueError: a header cannot be sent.
        :raises OSError: nobody answers, or not to the end.
        :raises TimeoutError: not within `handshake_timeout`.
        :raises RefusedError: the other side said no, its certificate does not verify, or it is no WebSocket server.
        """
        endpoint = parse_url(url)
        liveness = Liveness()
        with anyio.fail_after(options.handshake_timeout):
            stream = await open_stream(endpoint, options, liveness)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(liveness.run)
            try:
                yield stream
            except Exception as error:  # noqa: BLE001  # raised below: from in here it would come out as a group
                failure = error
            finally:
                with anyio.CancelScope(shield=True):  # as aclose does itself, for 1.5 s at most
                    await stream.aclose()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

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

        :raises InvalidURLError: the URL cannot be used, or is wss without a TLS context.
        :raises OSError: an address cannot be bound.
        """
        endpoint = parse_url(url, bind=True)
        if endpoint.secure and options.ssl is None:
            raise InvalidURLError(
                url, "listening on wss needs a TLS context: ssl=..., or --tls-cert and --tls-key"
            )
        sockets = await bind_sockets(endpoint.host, endpoint.port)
        bound = replace(endpoint, port=sockets[0].getsockname()[1])
        task_status.started(str(bound))
        await Listener(bound, options, handler).run(sockets)
