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
)

from ._departures import Departures
from ._frames import (
    BYE,
    BYE_HEARD,
    HEADER,
    RESET,
    SESSION,
    VERSION,
    Refusal,
    Welcome,
    frame,
    read_hello,
    session_of,
)
from ._hub import STOP_SECONDS, Hub
from ._metadata import address_of, descriptor_of, key_of
from ._places import port_of
from ._revocation import Revocation
from ._sources import as_os_error
from ._stream import ZeroMQStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from hakuban.transport import Identity, MessageStream, TransportOptions

    from ._curve import ListenerKeys
    from ._frames import Hello, Window
    from ._places import Place

logger = get_logger("hakuban.zmq")

_EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
_UNBIND_SECONDS: Final = 1.0


class _Peer:
    """Somebody who said hello, by the name that the ROUTER has for its connection."""

    __slots__ = ("_listener", "descriptor", "name", "session", "stream")

    def __init__(
        self, listener: Listener, name: bytes, descriptor: int | None, session: bytes
    ) -> None:
        self._listener = listener
        self.name = name
        self.descriptor = descriptor
        self.session = session
        self.stream: ZeroMQStream

    def send(self, data: bytes, /) -> bool:
        return self._listener.send(self.name, data, told=True)

    def look(self) -> bool:
        return self._listener.look()

    def forget(self) -> None:
        self._listener.forget(self)


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
        self._revocation = Revocation(None)
        self._bound: list[str] = []
        self._to_unbind = 0
        self._unbound = anyio.Event()
        self._closed = False
        self._peers: dict[bytes, _Peer] = {}
        self._connected: set[int] = set()  # descriptors
        self._by_descriptor: dict[int, _Peer] = {}
        self._gone: Departures[_Peer] = Departures()
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

    async def _serve_one(self, peer: _Peer) -> None:
        code, reason = 1001, "the listener is closed"
        try:
            # Shielded, so that links outlive listening: whoever is sent away must not come right back in.
            with anyio.CancelScope(shield=True) as scope:
                self._scopes.add(scope)
                if self._closed:
                    scope.cancel()
                try:
                    await self._handler(peer.stream)
                    code, reason = 1000, ""
                except Exception:
                    logger.exception("the handler of %s failed", peer.stream.remote_address)
                    code, reason = 1011, "internal error"
                finally:
                    self._scopes.discard(scope)
                    # a second time, if the handler did as it should
                    with anyio.CancelScope(shield=True):
                        await peer.stream.aclose(code, reason)
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

    def forget(self, peer: _Peer) -> None:
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
        if peer is None or not peer.stream.hear(data):
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
            old.stream.lose("the peer has begun a new link")
            self.forget(old)
        self._welcome(name, hello, first)

    def _welcome(self, name: bytes, hello: Hello, first: zmq.Frame) -> None:
        # The connection may have ended, and its descriptor be that of another one. The monitor knows first; and the
        # ROUTER takes no answer for a connection that had ended when it was last asked.
        while self._monitor is not None and self._monitor.look():
            pass
        self._main.socket.getsockopt(zmq.EVENTS)
        peer = _Peer(self, name, descriptor_of(first), hello.session)
        if peer.descriptor is not None and peer.descriptor not in self._connected:
            return
        address = address_of(first, self.url)
        try:
            identity = self._admit(hello, address, first)
        except RefusedError as refusal:
            logger.info("%s: refused: %s", address, refusal.reason)
            answer = Refusal(refusal.reason, refusal.retry, refusal.code)
            self.send(name, answer.encode(hello.session))
            return
        session = secrets.token_bytes(SESSION)
        peer.stream = stream = ZeroMQStream(
            peer,
            (session, hello.session),
            self._window,
            hello.window,
            self._options,
            listening=True,
        )
        stream.local_address = self.url
        stream.remote_address = address
        stream.identity = identity
        self._revocation.watch(stream, key_of(first))
        welcome = Welcome(VERSION, session, self._options.clock(), self._window)
        if not self.send(name, welcome.encode(hello.session)):
            return
        self._peers[name] = peer
        if peer.descriptor is not None:
            self._by_descriptor[peer.descriptor] = peer
        self._connections += 1
        stream.watch(self._liveness)
        self._handlers.start_soon(self._serve_one, peer)

    def _admit(self, hello: Hello, address: str, first: zmq.Frame) -> Identity | None:
        """Turn away other versions, too many, and whom the authorising plugin does not like.

        :raises RefusedError: with what to tell the peer.
        """
        if hello.version != VERSION:
            reason = (
                f"version {VERSION} is spoken here, not {hello.version}: upgrade the older side"
            )
            raise RefusedError(reason, retry=False)
        if self._closed:
            raise RefusedError("the listener is closed", retry=True, code=1001)
        self._revocation.admit(key_of(first))
        if self._connections >= self._limit:
            reason = f"too many connections (max_connections={self._limit})"
            raise RefusedError(reason, retry=True, code=1013)
        if self._options.authorize is None:
            return None
        # without CURVE, a peer sets it as it likes
        key = key_of(first) if self._encrypted else ""
        request = ConnectionRequest(
            url=self.url,
            headers={"curve-key": key} if key else {},
            remote_address=address,
        )
        try:
            return self._options.authorize(request)
        except RefusedError:
            raise
        except Exception:  # a plugin that fails lets nobody in, and stops nobody else
            logger.exception("hakuban_authorize failed for %s", address)
            raise RefusedError("internal error", retry=True, code=1011) from None

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

    def _end(self, peer: _Peer) -> None:
        self.forget(peer)
        peer.stream.lose("the connection has ended")
