"""The TCP transport of the examples, with faults that only another process brings to light.

Imported by that process too, so the path of the example has to be in `sys.path`.
"""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from anyio.abc import TaskStatus

    from hakuban.transport import MessageStream, Transport, TransportOptions

EXAMPLE = "hakuban_tcp"


class Deaf:
    """Says that it notices silence, and does not."""

    detects_silence = True

    def __init__(self, inner: MessageStream) -> None:
        self._inner = inner

    async def send(self, messages: Sequence[bytes], /) -> None:
        await self._inner.send(messages)

    async def receive(self, /) -> Sequence[bytes]:
        return await self._inner.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)


class Trusting(Deaf):
    """Waits for a goodbye that a killed process does not say."""

    @override
    async def receive(self, /) -> Sequence[bytes]:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            return await super().receive()
        await anyio.sleep_forever()
        raise AssertionError


class Broken:
    """The transport with one of these streams."""

    def __init__(self, kind: type[Deaf]) -> None:
        self._kind = kind
        self._inner: Transport = importlib.import_module(EXAMPLE).TcpTransport()

    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        async with self._inner.connect(url, options) as stream:
            yield self._kind(stream)

    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        async def handle(stream: MessageStream) -> None:
            await handler(self._kind(stream))

        return self._inner.serve(url, options, handle, task_status=task_status)
