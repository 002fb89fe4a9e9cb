"""The listening side: one ROUTER for all links."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import anyio
import zmq
from anyio.lowlevel import checkpoint

from hakuban.transport import (
    ConnectionRequest,
    Liveness,
    PeerViolationError,
    RefusedError,
    default_max_connections,
    get_logger,
    identify,
)

from ._departures import Departures
from ._frames import (
    BYE,
    BYE_HEARD,
    HEADER,
    RESET,
    SESSION,
    VERSION,
    Welcome,
    frame,
    read_hello,
    session_of,
)
from ._hub import STOP_SECONDS, Hub
from ._metadata import address_of, descriptor_of, key_of
from ._peer import Peer
from ._places import port_of
from ._revocation import Revocation
from ._sources import as_os_error
from ._stream import ZeroMQStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from hakuban.transport import Identity, MessageStream, TransportOptions

    from ._allow_list import AllowList
    from ._curve import ListenerKeys
    from ._frames import Hello, Window
    from ._places import Place

logger = get_logger("hakuban.zmq")

_EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
_UNBIND_SECONDS: Final = 1.0


class Listener(Hub):
    """Serves links on one ROUTER.

    :param handler: run for each established stream; it owns the stream.
    :ivar url: what it is to be bound to, and is once `open` has returned.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        release: Callable[[zmq.Context[zmq.Socket[bytes]]], None],
        url: str,
        options: TransportOptions,
        window: Window,
        handler: Callable[[MessageStream], Awaitable[None]],
    ) -> None:
        super().__init__(context, release, url)
        self._options = options
        self._window = window
        self._handler = handler
        self._liveness = Liveness()
        most = options.max_connections
        self._limit = default_max_connections() if most is None else most
        self._encrypted = False
        self._allowed: AllowList | None = None
        self._revocation = Revocation(None)
        self._bound: list[str] = []
        self._to_unbind = 0
        self._unbound = anyio.Event()
        self._closed = False
        self._peers: dict[bytes, Peer] = {}
        self._connected: set[int] = set()  # descriptors
        self._by_descriptor: dict[int, Peer] = {}
        self._gone: Departures[Peer] = Departures()
        self._connections = 0
        self._scopes: set[anyio.CancelScope] = set()
        self._handlers: TaskGroup

    # ---- binding ----------------------------------------------------------------------------------------------------

    def open(self, place: Place, options: dict[str, object], keys: ListenerKeys | None) -> None:
        """Bind the socket.

        :raises OSError: an address cannot be bound.
        """
        try:
            options["router_mandatory"] = 1
            options["ipv6"] = int(any(":" in endpoint.host for endpoint in place.endpoints))
            if keys is not None:
                self._encrypted = True
                self._allowed = keys.clients
                self._revocation = Revocation(keys.clients)
                self._revocation.begin(self._liveness)
                options |= keys.options()
                with as_os_error(self.url):
                    self.add(keys.open(self._context))
            socket = self.open_socket(zmq.ROUTER, self._take, options)
            if place.endpoints[0].kind != "inproc":
                self.monitor(_EVENTS, self._note)
            self._bound = place.bind(socket)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port that was bound."""
        return port_of(self._bound[0])

    async def _unbind(self) -> None:
        """Stop listening, and wait until the address is free."""
        if self._main.socket.closed:
            return
        self._to_unbind = len(self._bound)
        for address in self._bound:
            self._main.socket.unbind(address)
        self._main.look()
        if self._monitor is not None:
            with anyio.move_on_after(_UNBIND_SECONDS):
                await self._unbound.wait()

    # ---- serving ----------------------------------------------------------------------------------------------------

    async def serve(self, started: Callable[[], None]) -> None:
        """Serve until cancelled; then let nobody in first, and end the links after that.

        :param started: called when all is running.
        """
        async with anyio.create_task_group() as tasks:
            try:
                # first, since those who waited for it say hello as soon as `run` looks
                async with anyio.create_task_group() as self._handlers:
                    try:
                        tasks.start_soon(self.run)
                        tasks.start_soon(self._liveness.run)
                        if self._allowed is not None:
                            tasks.start_soon(self._allowed.watch)
                        await self.running.wait()
                        started()
                        await anyio.sleep_forever()
                    finally:
                        # libzmq ends the links with the listening; so nobody is let in first.
                        self._closed = True
                        for scope in self._scopes:
                            scope.cancel()
            finally:
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await self._unbind()
                    await self.stop()

    async def _serve_one(self, stream: ZeroMQStream) -> None:
        code, reason = 1001, "the listener is closed"
        try:
            # Shielded, so that links outlive listening: whoever is sent away must not come right back in.
            with anyio.CancelScope(shield=True) as scope:
                self._scopes.add(scope)
                if self._closed:
                    scope.cancel()
                try:
                    await self._handler(stream)
                    code, reason = 1000, ""
                except Exception:
                    logger.exception("the handler of %s failed", stream.remote_address)
                    code, reason = 1011, "internal error"
                finally:
                    self._scopes.discard(scope)
                    # a second time, if the handler did as it should
                    with anyio.CancelScope(shield=True):
                        await stream.aclose(code, reason)
        finally:
            self._connections -= 1

    # ---- the socket -------------------------------------------------------------------------------------------------

    def send(self, name: bytes, data: bytes, *, told: bool = False) -> bool:
        """Hand a frame for a peer to ZeroMQ; False when it has no room, or no such peer."""
        socket = self._main.socket
        try:
            # The first part fails when there is no room; then the second always gets through.
            socket.send(name, zmq.NOBLOCK | zmq.SNDMORE)
            socket.send(data, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # the monitor will tell, and there may be something of it to take still
            return told and error.errno == zmq.EHOSTUNREACH and self._monitor is not None
        finally:
            self._main.look()
        return True

    def forget(self, peer: Peer) -> None:
        """The stream of a peer is closed."""
        if self._peers.get(peer.name) is peer:
            del self._peers[peer.name]
        if peer.descriptor is not None and self._by_descriptor.get(peer.descriptor) is peer:
            del self._by_descriptor[peer.descriptor]

    def _take(self) -> None:
        if self.skipping:
            self.skip_parts()
            return
        socket = self._main.socket
        name = socket.recv(zmq.NOBLOCK)
        first = socket.recv(zmq.NOBLOCK, copy=False)
        data = first.bytes
        if first.more:
            self.skip_parts()
            data = b""  # a frame has one part
        peer = self._peers.get(name)
        if peer is None or not peer.hear(data):
            self._hear_stranger(name, data, first)
        for gone in self._gone.heard(name):
            self._end(gone)

    def _hear_stranger(self, name: bytes, data: bytes, first: zmq.Frame) -> None:
        """Take a frame of a session that is not known here."""
        try:
            hello = read_hello(data)
        except PeerViolationError:
            # Whoever talks to an earlier life of this listener is told; goodbyes need no answer.
            if len(data) >= HEADER and data[0] not in (BYE, BYE_HEARD, RESET):
                self.send(name, frame(RESET, session_of(data)))
            return
        old = self._peers.get(name)
        if old is not None:
            if old.session == hello.session:
                return  # it said so already
            old.lose("the peer has begun a new link")
            self.forget(old)
        self._welcome(name, hello, first)

    def _welcome(self, name: bytes, hello: Hello, first: zmq.Frame) -> None:
        self._hear_departures()
        address = address_of(first, self.url)
        # without CURVE, a peer sets it as it likes
        key = key_of(first) if self._encrypted else ""
        peer = Peer(self, name, descriptor_of(first), hello.session, address, key)
        if peer.descriptor is not None and peer.descriptor not in self._connected:
            return
        try:
            self._admit(hello, key)
        except RefusedError as refusal:
            peer.refuse(refusal)
            return
        self._connections += 1
        self._peers[name] = peer
        if peer.descriptor is not None:
            self._by_descriptor[peer.descriptor] = peer
        if self._options.authorize is not None:
            peer.question = anyio.CancelScope()
            headers = {"curve-key": key} if key else {}
            request = ConnectionRequest(url=self.url, headers=headers, remote_address=address)
            self._handlers.start_soon(self._ask, peer, peer.question, hello, request)
        elif (stream := self._establish(peer, hello, None)) is not None:
            self._handlers.start_soon(self._serve_one, stream)
        else:
            self._let_go(peer)

    def _hear_departures(self) -> None:
        """Have the monitor tell who has left: a connection's descriptor may be that of another one by now."""
        # The monitor knows first; and the ROUTER takes no answer for a connection that had ended when it was last asked.
        while self._monitor is not None and self._monitor.look():
            pass
        self._main.socket.getsockopt(zmq.EVENTS)

    async def _ask(
        self, peer: Peer, question: anyio.CancelScope, hello: Hello, request: ConnectionRequest
    ) -> None:
        """Ask the authorising plugin, and serve the link; the peer may leave, or say something else, meanwhile."""
        stream: ZeroMQStream | None = None
        try:
            with question:
                identity = await identify(self._options, request)
                self._hear_departures()
                if self._knows(peer):
                    stream = self._establish(peer, hello, identity)
                self._main.look()
        except RefusedError as refusal:
            peer.refuse(refusal)
        finally:
            if stream is None:
                self._let_go(peer)
        if stream is not None:
            await self._serve_one(stream)

    def _knows(self, peer: Peer) -> bool:
        on, name = peer.descriptor, peer.name
        return self._peers.get(name) is peer and (on is None or self._by_descriptor.get(on) is peer)

    def _let_go(self, peer: Peer) -> None:
        self._connections -= 1
        self.forget(peer)

    def _establish(
        self, peer: Peer, hello: Hello, identity: Identity | None
    ) -> ZeroMQStream | None:
        """Let a peer in; None when there is no telling it."""
        session = secrets.token_bytes(SESSION)
        # before it is told, since its answer may come within the same call
        peer.stream = stream = ZeroMQStream(
            peer,
            (session, hello.session),
            self._window,
            hello.window,
            self._options,
            listening=True,
        )
        stream.local_address = self.url
        stream.remote_address = peer.address
        stream.identity = identity
        self._revocation.watch(stream, peer.key)
        welcome = Welcome(VERSION, session, self._options.clock(), self._window)
        if not self.send(peer.name, welcome.encode(hello.session)):
            return None
        stream.watch(self._liveness)
        return stream

    def _admit(self, hello: Hello, key: str) -> None:
        """Turn away other versions, keys that were taken off the list, and too many.

        :raises RefusedError: with what to tell the peer.
        """
        if hello.version != VERSION:
            reason = (
                f"version {VERSION} is spoken here, not {hello.version}: upgrade the older side"
            )
            raise RefusedError(reason, retry=False)
        if self._closed:
            raise RefusedError("the listener is closed", retry=True, code=1001)
        self._revocation.admit(key)
        if self._connections >= self._limit:
            reason = f"too many connections (max_connections={self._limit})"
            raise RefusedError(reason, retry=True, code=1013)

    def _note(self, event: int, value: int) -> None:
        if event == zmq.EVENT_CLOSED:
            # said of an address that could not be bound, too
            if self._to_unbind:
                self._to_unbind -= 1
                if not self._to_unbind:
                    self._unbound.set()
            return
        if event == zmq.EVENT_ACCEPTED:
            self._connected.add(value)
            return
        self._connected.discard(value)
        peer = self._by_descriptor.pop(value, None)
        if peer is None:
            return
        first = not self._gone
        self._gone.add(peer)
        if self._closed:
            self._end_gone()
        elif first:
            self._handlers.start_soon(self._take_last_words)

    async def _take_last_words(self) -> None:
        """Take what was said before connections ended; then end their links."""
        # Not within `_note`: there messages may be in the middle of being taken.
        while self._gone:
            if not self._main.look():
                self._end_gone()
            await checkpoint()

    def _end_gone(self) -> None:
        for peer in self._gone.take():
            self._end(peer)

    def _end(self, peer: Peer) -> None:
        self.forget(peer)
        peer.lose("the connection has ended")
