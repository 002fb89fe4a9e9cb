"""Peers made of bytes, on the memory transport, and streams of it that are not what they should be."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from typing_extensions import override

from hakuban._session_events import SendContracts
from hakuban._wire import Session
from hakuban.testing import MemoryTransport
from hakuban.transport import TransportOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hakuban._session_events import ContractAction, Note
    from hakuban.testing import MemoryStream
    from hakuban.transport import MessageStream

__all__ = ["Altered", "Peer", "Wrapping", "listening", "raw_peer"]


class Peer:
    """A peer made of bytes, which does what it is told and nothing else."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.session = Session(listening=False, name="raw")

    async def announce(self, *actions: ContractAction) -> None:
        await self.stream.send(self.session.encode(SendContracts(list(actions))))

    async def end(self) -> tuple[int | None, str | None]:
        with anyio.fail_after(10), suppress(anyio.EndOfStream):
            while True:
                await self.stream.receive()
        return self.stream.close_code, self.stream.close_reason


@asynccontextmanager
async def raw_peer(url: str, note: Note | None = None) -> AsyncIterator[Peer]:
    """Connect to a listening node, and send what a connecting one begins with."""
    async with MemoryTransport().connect(url, TransportOptions()) as stream:
        peer = Peer(stream)
        await stream.send(peer.session.opening(note))
        yield peer


@asynccontextmanager
async def listening(handler: Callable[[MessageStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Listen for connecting nodes, and give the URL; a handler does what a listening node would."""
    async with anyio.create_task_group() as group:
        options = TransportOptions()
        yield await group.start(MemoryTransport().serve, "memory://", options, handler)
        group.cancel_scope.cancel()


class Wrapping(MemoryTransport):
    """The memory transport, whose streams are put into something, on both sides."""

    def wrap(self, stream: Any) -> Any:
        """Return what is to be used instead of a stream."""
        raise NotImplementedError

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        async with super().connect(url, options) as stream:
            yield self.wrap(stream)

    @override
    async def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        **keywords: Any,
    ) -> None:
        await super().serve(url, options, lambda stream: handler(self.wrap(stream)), **keywords)


class Altered(Wrapping):
    """The memory transport, with other attributes of all its streams.

    :param alter: is given each of them.
    :param attributes: what they are set to.
    """

    def __init__(
        self, alter: Callable[[Any], object] = lambda _: None, /, **attributes: object
    ) -> None:
        self._alter = alter
        self._attributes = attributes

    @override
    def wrap(self, stream: Any) -> Any:
        self._alter(stream)
        for name, value in self._attributes.items():
            setattr(stream, name, value)
        return stream
