"""What the core asks of a transport, and what it passes to one: the types that both know."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time_ns
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pluggy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskStatus

    from .._exceptions import HakubanError
    from .._remote import Identity


hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker("hakuban")
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker("hakuban")

MIB = 1024 * 1024


@runtime_checkable
class MessageStream(Protocol):
    """An ordered, reliable stream of whole messages. One task sends and one receives at a time.

    The core never uses a stream again after it cancelled one of its calls, so `send` and `receive` need not be
    safe to cancel. Optional attributes, read with `getattr` when the stream is handed over, unless stated otherwise:

    * `local_address`, `remote_address`: text for people ("127.0.0.1:3001").
    * `close_code`, `close_reason`: how the other side closed, once `receive` has raised (None before).
    * `detects_silence` (False): True when the transport itself ends a link after `TransportOptions.timeout`
      seconds without input; otherwise the core sends empty control messages and watches the silence.
    * `last_heard`: when bytes of the peer last came in, as `time.monotonic()` has it; signs of life such as pings and
      pongs count, and so does the peer's end of the stream, a reset does not. Read at any time, and once more when the
      link has ended: a state that came over a link which fell silent was last current then. Streams with
      `detects_silence` should have it; without it the core goes by the messages that it received.
    * `peer_is_ours`: whether the peer is a node of this project; without it that shows once it has sent a note, and
      False, for one of the crate, keeps this side from sending any.
    * `peer_clock` (None): Unix time in nanoseconds that the listening side stated while `connect` was entered
      (`TransportOptions.clock` there).
    * `identity` (None): the `Identity` that `hakuban_authorize` returned for this peer.
    """

    async def send(self, messages: Sequence[bytes], /) -> None:
        """Send a batch in order; on return all of it is in the operating system or in at most 64 KiB of buffer.

        A call that was cancelled or has failed leaves the stream unusable.

        :raises anyio.ClosedResourceError: after `aclose`.
        :raises anyio.BrokenResourceError: the link is gone.
        """
        ...

    async def receive(self, /) -> Sequence[bytes]:
        """Return the next 1 to 1,000 messages, at most 1 MiB unless a single one is larger.

        After the end the same error is raised again.

        :raises anyio.EndOfStream: the other side closed.
        :raises anyio.ClosedResourceError: this side closed.
        :raises anyio.BrokenResourceError: the link is gone.
        :raises LinkTimeoutError: nothing was received for too long.
        :raises PeerViolationError: the other side broke the transport's rules (code 1009: a message over `max_message`).
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Flush for at most 1 s and close. Works when cancelled, and twice."""
        ...


@runtime_checkable
class Transport(Protocol):
    """Makes and accepts links for the URL schemes of a plugin.

    An optional method, `check(url, options, /, *, listening)`, is called by `LocalNode.connect` and `listen` before
    anything is entered: it raises InvalidURLError for a URL that can never work, and does no I/O. A transport that
    other machines can reach asks `check_exposure` once it has bound.
    """

    def connect(
        self, url: str, options: TransportOptions, /
    ) -> AbstractAsyncContextManager[MessageStream]:
        """Connect; the context manager owns the stream and whatever tasks it needs.

        Entering it raises OSError or TimeoutError when nobody answers (the core tries again),
        `RefusedError(reason, retry=...)` when somebody answered no.

        :param url: the URL without its fragment, which the core has parsed into options.
        """
        ...

    async def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> None:
        """Listen until cancelled, and run `handler(stream)` for each accepted link.

        Calls `task_status.started(bound_url)` with the real port once it listens, and raises OSError when it cannot.
        The handler owns its stream (it closes it) and raises nothing. When cancelled, listening sockets are closed
        first, then the handlers are cancelled.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """What the core hands to a transport beside the URL. Keys that a transport has no use for are ignored.

    :ivar keep_alive: seconds without sending or receiving after which a sign of life is sent; below 10 ms it is 10 ms.
    :ivar timeout: seconds without input after which a link has ended; those in which this side stood still do not
        count, and nothing ends before it had time to read; None leaves the transport's default
        (6 s for peers of this project, 20 s for others).
    :ivar max_message: bytes of the largest message accepted.
    :ivar handshake_timeout: seconds that a handshake may take, on either side.
    :ivar nodelay: TCP_NODELAY, where there is one.
    :ivar compression: whether the transport may compress.
    :ivar headers: HTTP headers of the connecting side, for transports that have them.
    :ivar ssl: the TLS context; None for the transport's default.
    :ivar allow_origins: values of the HTTP Origin header that a listener lets in.
    :ivar max_connections: links that a listener accepts at the same time; None leaves the transport's default.
    :ivar insecure: whether a listener may be reached from other machines although anybody may connect to it; see
        `check_exposure`.
    :ivar clock: returns what a listener states as its time, Unix nanoseconds: the clock of the tree's root.
    :ivar authorize: asked by a listener, with what it knows of a peer, before the link is up: by `identify`, which calls
        it in a thread. Returns the identity of the peer, or raises RefusedError to turn it away; what else it returns
        (None, False) lets nobody in. A plain function, not a coroutine function.
    """

    keep_alive: float = 2.0
    timeout: float | None = None
    max_message: int = 16 * MIB
    handshake_timeout: float = 10.0
    nodelay: bool = True
    compression: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # tokens are in there
    ssl: ssl.SSLContext | None = None
    allow_origins: Sequence[str] = ()
    max_connections: int | None = None
    insecure: bool = False
    clock: Callable[[], int] = time_ns
    authorize: Callable[[ConnectionRequest], Identity | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRequest:
    """What a listener knows of a peer before its link is up.

    :ivar url: the URL that the listener is bound to.
    :ivar path: the requested path with its query, for transports that have one, else "".
    :ivar headers: the request's headers, names in lower case.
    :ivar remote_address: text for people.
    :ivar tls_subject: the subject of the peer's certificate as `ssl.SSLSocket.getpeercert` returns it, or None.
    """

    url: str
    path: str = field(default="", repr=False)  # there may be a token in the query
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # and here
    remote_address: str = ""
    tls_subject: Any = None


@dataclass(frozen=True, slots=True)
class InstalledTransport:
    """One scheme that an installed distribution offers a transport for.

    :ivar scheme: the URL scheme.
    :ivar distribution: the name of the distribution.
    :ivar version: its version, "" where nobody knows.
    :ivar error: what `LocalNode.connect` and `listen` would raise for this scheme; None when all is well.
    """

    scheme: str
    distribution: str
    version: str
    error: HakubanError | None = None


class Hooks:
    """The hooks that a plugin may implement."""

    @hookspec(firstresult=True)
    def hakuban_transport(self, scheme: str) -> Transport | None:
        """Return the transport for a URL scheme, or None when this plugin does not serve it."""

    @hookspec(firstresult=True)
    def hakuban_authorize(self, request: ConnectionRequest) -> Identity | None:
        """Decide about a peer before its link is up: return its identity, raise RefusedError, or None for no opinion.

        Called in worker threads, several at a time, see `identify`.
        """
