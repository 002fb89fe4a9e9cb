"""Links within one event loop, `memory://name`: a transport like any other, with bounded buffers and no socket."""

from __future__ import annotations

import errno
from collections import deque
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import anyio
from anyio.lowlevel import checkpoint, current_token

from ..transport import (
    ConnectionRequest,
    InvalidURLError,
    PeerViolationError,
    RefusedError,
    identify,
    redacted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from ..transport import Identity, MessageStream, TransportOptions


BUFFER: Final = 64 * 1024
OVERHEAD: Final = 64  # counted for each message, so that empty ones fill a buffer too
MIB: Final = 1024 * 1024
MOST_MESSAGES: Final = 1_000


class _Pipe:
    """One direction of a link."""

    __slots__ = ("abandoned", "changed", "cut", "held", "messages", "sent_close")

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.held = 0  # what the messages count for, against BUFFER
        self.sent_close: tuple[int, str] | None = None  # how the sending end closed
        self.abandoned = False  # the receiving end has closed
        self.cut = False
        self.changed = anyio.Event()

    def put(self, message: bytes) -> None:
        self.messages.append(message)
        self.held += len(message) + OVERHEAD
        self.wake()

    def take(self, limit: int) -> list[bytes]:
        """Take what one `receive` may return; nothing when the first message is over the limit."""
        batch: list[bytes] = []
        size = 0
        while self.messages and len(batch) < MOST_MESSAGES:
            length = len(self.messages[0])
            if length > limit or (batch and size + length > MIB):
                break
            batch.append(self.messages.popleft())
            size += length
        if batch:
            self.held -= size + OVERHEAD * len(batch)
            self.wake()
        return batch

    def wake(self) -> None:
        """Let sender and receiver look again."""
        self.changed.set()
        self.changed = anyio.Event()


class MemoryStream:
    """One end of a link within an event loop.

    :ivar local_address: text for people.
    :ivar remote_address: text for people.
    :ivar close_code: how the other side closed, once `receive` has raised EndOfStream.
    :ivar close_reason: one line that came with it.
    :ivar identity: what `hakuban_authorize` returned for the peer, on the listening side.
    :ivar peer_clock: what the listening side stated as Unix time in nanoseconds, on the connecting side.
    """

    peer_is_ours = True

    def __init__(
        self,
        local_address: str,
        remote_address: str,
        pipes: tuple[_Pipe, _Pipe],
        *,
        max_message: int,
        identity: Identity | None = None,
        peer_clock: int | None = None,
    ) -> None:
        self.local_address = local_address
        self.remote_address = remote_address
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.identity = identity
        self.peer_clock = peer_clock
        self._inward, self._outward = pipes
        self._max_message = max_message
        self._closed = False
        self._sending = anyio.ResourceGuard("sending on")
        self._receiving = anyio.ResourceGuard("receiving from")

    @property
    def up(self) -> bool:
        """Whether the link is neither closed by this end nor cut."""
        return not (self._closed or self._inward.cut)

    async def send(self, messages: Sequence[bytes], /) -> None:
        """Send a batch; on return at most 64 KiB wait for the peer's `receive`.

        :raises anyio.ClosedResourceError: after `aclose`.
        :raises anyio.BrokenResourceError: the peer has closed, or the link was cut.
        """
        pipe = self._outward
        with self._sending:
            await checkpoint()
            self._check_outward()
            for message in messages:
                pipe.put(message)
                while pipe.held > BUFFER:
                    await pipe.changed.wait()
                    self._check_outward()

    def _check_outward(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._outward.cut or self._outward.abandoned:
            raise anyio.BrokenResourceError

    async def receive(self, /) -> Sequence[bytes]:
        """Return what has come: 1 to 1,000 messages, at most 1 MiB unless a single one is larger.

        :raises anyio.EndOfStream: the peer has closed, and all that it sent was received.
        :raises anyio.ClosedResourceError: after `aclose`.
        :raises anyio.BrokenResourceError: the link was cut.
        :raises PeerViolationError: a message is over `max_message`.
        """
        with self._receiving:
            await checkpoint()
            while not (batch := self._look()):
                await self._inward.changed.wait()
            return batch

    def _look(self) -> list[bytes]:
        pipe = self._inward
        if self._closed:
            raise anyio.ClosedResourceError
        if pipe.cut:
            raise anyio.BrokenResourceError
        if batch := pipe.take(self._max_message):
            return batch
        if pipe.messages:
            # It stays where it is: the next call raises the same.
            size = len(pipe.messages[0])
            reason = f"a message of {size} bytes is over max_message={self._max_message}"
            raise PeerViolationError(reason, code=1009)
        if pipe.sent_close is not None:
            self.close_code, self.close_reason = pipe.sent_close
            raise anyio.EndOfStream
        return []

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close this end: the peer receives what was sent, and then the end, with this code and reason."""
        if not self._closed:
            self._closed = True
            self._inward.abandoned = True
            self._inward.messages.clear()
            self._inward.wake()
            self._outward.sent_close = (code, reason)
            self._outward.wake()
        await checkpoint()

    def cut(self) -> None:
        """Break the link as a network would: both ends raise BrokenResourceError, what is under way is lost.

        To be called in the event loop of the link.
        """
        for pipe in (self._inward, self._outward):
            pipe.cut = True
            pipe.messages.clear()
            pipe.wake()


class _Listener:
    """A bound name: its options, where the handlers run, and the links that it has accepted."""

    def __init__(
        self, options: TransportOptions, handler: Callable[[MessageStream], Awaitable[None]]
    ) -> None:
        self.url = ""
        self.closed = False
        self.streams: WeakSet[MemoryStream] = WeakSet()
        self.handlers: TaskGroup  # comes before anybody can connect: nothing is awaited until then
        self._options = options
        self._handler = handler
        self._scopes: dict[anyio.CancelScope, None] = {}  # of the handlers that run
        self._token = current_token()

    async def accept(self, options: TransportOptions) -> MemoryStream | None:
        """Make a link, start the handler on its listening end, return the connecting end; None if nobody listens."""
        if self._token != current_token():
            reason = (
                f"{self.url} listens in another event loop; between loops or threads use a transport with sockets,"
                " such as ws://127.0.0.1:0"
            )
            raise RefusedError(reason, retry=False)
        address = f"memory client {next(_clients)}"
        headers = {key.lower(): value for key, value in options.headers.items()}
        identity = await identify(
            self._options,
            ConnectionRequest(url=self.url, headers=headers, remote_address=address),
        )
        if self.closed:
            return None
        there, back = _Pipe(), _Pipe()
        accepted = MemoryStream(
            self.url,
            address,
            (there, back),
            max_message=self._options.max_message,
            identity=identity,
        )
        self.streams.add(accepted)
        scope = anyio.CancelScope(shield=True)
        self._scopes[scope] = None
        self.handlers.start_soon(self._handle, accepted, scope)
        return MemoryStream(
            address,
            self.url,
            (back, there),
            max_message=options.max_message,
            peer_clock=self._options.clock(),
        )

    async def _handle(self, stream: MemoryStream, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self._handler(stream)
        finally:
            del self._scopes[scope]

    def end(self) -> None:
        """End all links: not by the task group, since a task that is cancelled by it stays in memory, on asyncio."""
        self.closed = True
        for scope in list(self._scopes):
            scope.cancel()


_listeners: dict[str, _Listener] = {}
_clients = count(1)


class MemoryTransport:
    """The transport of `memory://name` URLs.

    A name is bound in the whole process, and reached from the event loop that listens. `memory://` listens under a
    free name, which `serve` reports. Of the options, `max_message`, `headers`, `clock` and `authorize` matter.
    """

    def check(self, url: str, _options: TransportOptions, /, *, listening: bool) -> None:
        """Refuse what can never be reached.

        :raises InvalidURLError: there is no name to connect to.
        """
        _name(url, listening=listening)

    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MemoryStream]:
        """Connect to a listener of this event loop; the context manager closes the stream.

        :raises InvalidURLError: there is no name.
        :raises ConnectionRefusedError: nobody listens under this name.
        :raises RefusedError: the listener's `authorize` refused, or the listener belongs to another event loop.
        """
        name = _name(url, listening=False)
        await checkpoint()
        listener = _listeners.get(name)
        stream = None if listener is None else await listener.accept(options)
        if stream is None:
            reason = f"nobody listens on {redacted(url)}; listen first, in this event loop"
            raise ConnectionRefusedError(errno.ECONNREFUSED, reason)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> None:
        """Listen under a name until cancelled.

        :raises OSError: the name is in use in this process.
        """
        listener = _Listener(options, handler)
        # Outside of the task group, which would wrap an OSError.
        name = _bind(_name(url), listener)
        async with anyio.create_task_group() as handlers:
            try:
                listener.handlers = handlers
                task_status.started(listener.url)
                await anyio.sleep_forever()
            finally:
                listener.end()
                del _listeners[name]


def cut_links(url: str) -> int:
    """Break every link of the listener at `url`, as a network would, and return how many there were.

    To be called in the event loop of the listener, which stays.

    :raises ValueError: nobody listens there.
    """
    listener = _listeners.get(_name(url))
    if listener is None:
        raise ValueError(f"nobody listens on {url}")
    streams = [stream for stream in listener.streams if stream.up]
    for stream in streams:
        stream.cut()
    return len(streams)


def _bind(wanted: str, listener: _Listener) -> str:
    for name in [wanted] if wanted else map(str, count(1)):
        if _listeners.setdefault(name, listener) is listener:
            listener.url = f"memory://{name}"
            return name
    reason = (
        f"memory://{wanted} is in use in this process; take another name, or none for a free one"
    )
    raise OSError(errno.EADDRINUSE, reason)


def _name(url: object, *, listening: bool = True) -> str:
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    scheme, separator, name = str.partition(url, "://")
    if scheme.lower() != "memory" or not separator:
        raise InvalidURLError(url, "not a memory://name URL")
    name = name.rstrip("/")
    if not (name or listening):
        raise InvalidURLError(url, "a name is missing; write memory://lab, for example")
    return name
