"""The connecting side: a DEALER for each link."""

from __future__ import annotations

import errno
import secrets
from typing import TYPE_CHECKING, Final

import anyio
import zmq
from typing_extensions import override

from hakuban.transport import PeerViolationError, ReassemblyLimit, RefusedError

from ._address_claims import connect_address
from ._contexts import shared
from ._frames import RESET, SESSION, VERSION, Hello, Refusal, Welcome, read_answer
from ._socket_owner import SocketOwner, socket_options
from ._stream import ZeroMQStream
from ._watched_sockets import MESSAGES_PER_TURN, as_os_error

if TYPE_CHECKING:
    from hakuban.transport import Heartbeats, TransportOptions

    from ._curve import ConnectorKeys
    from ._frames import Window
    from ._urls import Endpoint

# libzmq must not make another connection under the same link, and has no other option for that: an hour is never.
_NEVER_AGAIN: Final = 3_600_000
_EVENTS: Final = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)
_TEMPORARY: Final = 300  # ZAP: to be tried again


class Connector(SocketOwner):
    """One attempt, and the link that comes of it."""

    stuck = False  # libzmq does not report when it has sent something; credit bounds what it holds

    def __init__(
        self, endpoint: Endpoint, options: TransportOptions, window: Window, heartbeats: Heartbeats
    ) -> None:
        super().__init__(shared.acquire(), shared.release, str(endpoint))
        self._endpoint = endpoint
        self._options = options
        self._window = window
        self._heartbeats = heartbeats
        self._session = secrets.token_bytes(SESSION)
        self._encrypted = False
        self._answered = anyio.Event()
        self._failure: Exception | None = None
        self._stream: ZeroMQStream | None = None

    def open(self, keys: ConnectorKeys | None) -> None:
        """Start to connect.

        :raises OSError: there are too many sockets, the address is none, or nobody listens under this name.
        """
        try:
            address = connect_address(self._endpoint)
            options = socket_options(self._window)
            options["reconnect_ivl"] = _NEVER_AGAIN
            options["handshake_ivl"] = 0  # who waits for the answer ends it, and reports that
            options["ipv6"] = int(":" in self._endpoint.host)
            if keys is not None and self._endpoint.kind != "inproc":
                options |= keys.options()
                self._encrypted = True
            socket = self.open_socket(zmq.DEALER, self._take, options)
            self.monitor(_EVENTS, self._note)
            with as_os_error(self.url):
                socket.connect(address)
            self.send(Hello(self._session, VERSION, self._window).encode())
        except BaseException:
            self.close()
            raise

    async def answer(self) -> ZeroMQStream:
        """Wait for the listener's answer.

        :raises OSError: nobody listens there, or the connection has ended.
        :raises RefusedError: the other side refused, or is not one of ours.
        """
        await self._answered.wait()
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback holds this frame
        assert self._stream is not None
        return self._stream

    def send(self, data: bytes, /) -> bool:
        """Hand a frame to ZeroMQ."""
        try:
            self._main.socket.send(data, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        finally:
            self._main.look()
        return True

    def forget(self) -> None:
        """The stream is closed; so will this be."""

    @override
    def close(self) -> None:
        super().close()
        self._stream = None  # each holds the other, where nobody has closed the stream

    def _take(self) -> None:
        if self.skipping:
            self.skip_parts()
            return
        socket = self._main.socket
        data = socket.recv(zmq.NOBLOCK)
        if socket.getsockopt(zmq.RCVMORE):
            self.skip_parts()
            data = b""  # a frame has one part
        if self._stream is not None:
            if data[:1] == b"%c" % RESET:
                if data[1:] == self._stream.remote_session:
                    self._stream.lose("the listener does not know this link: it was restarted")
            else:
                self._stream.take_frame(data)
        elif not self._answered.is_set():
            self._take_answer(data)

    def _take_answer(self, data: bytes) -> None:
        try:
            answer = read_answer(data, self._session)
        except PeerViolationError as violation:
            reason = f"{self.url} is no listener of hakuban ({violation.reason}); connect to one"
            self._fail(RefusedError(reason, retry=False))
            return
        if isinstance(answer, Refusal):
            step = "try again later" if answer.retry else "ask whoever runs that listener"
            reason = f"{self.url} refused the link: {answer.reason or 'it gave no reason'}; {step}"
            self._fail(RefusedError(reason, retry=answer.retry, code=answer.code))
        elif isinstance(answer, Welcome):
            self._stream = self._make_stream(answer)
            self._answered.set()

    def _make_stream(self, welcome: Welcome) -> ZeroMQStream:
        stream = ZeroMQStream(
            self,
            (self._session, welcome.session),
            self._window,
            welcome.window,
            self._options,
            ReassemblyLimit(self._options.max_message),
            listening=False,
        )
        stream.peer_clock = welcome.clock
        stream.remote_address = self.url
        stream.local_address = f"zmq+{self._endpoint.kind} client {self._session.hex()[:8]}"
        stream.watch(self._heartbeats)
        return stream

    def _note(self, event: int, value: int) -> None:
        where = self.url
        if event == zmq.EVENT_DISCONNECTED:
            self._take_the_rest()  # the answer may be among them
        if self._stream is not None:
            if event == zmq.EVENT_DISCONNECTED:
                self._stream.lose("the connection has ended")
        elif event == zmq.EVENT_CLOSED:
            text = (
                f"nobody can be reached at {where}; start a listener there, or look at the address"
            )
            self._fail(ConnectionRefusedError(errno.ECONNREFUSED, text))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            reason = (
                f"{where} does not let this key in (ZAP status {value}); put its public certificate"
                " into the directory of HAKUBAN_ZMQ_CLIENT_KEYS there"
            )
            self._fail(RefusedError(reason, retry=value == _TEMPORARY))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            reason = (
                f"no handshake with {where}: it is no ZeroMQ, or one side uses CURVE and the other"
                " does not; use it on both (HAKUBAN_ZMQ_SERVER_KEY_FILE here, HAKUBAN_ZMQ_SECRET_KEY_FILE there)"
            )
            self._fail(RefusedError(reason, retry=False))
        else:
            # it reports no more than that when it cannot read what we send
            perhaps = (
                "is it another listener than that of HAKUBAN_ZMQ_SERVER_KEY_FILE, or has it no room?"
                if self._encrypted
                else "does it want CURVE (HAKUBAN_ZMQ_SERVER_KEY_FILE), or has it no room?"
            )
            text = f"{where} ended the connection; {perhaps}"
            self._fail(ConnectionResetError(errno.ECONNRESET, text))

    def _take_the_rest(self) -> None:
        """Take what was sent before the connection ended: no more than was granted, and some control frames."""
        for _ in range(self._window.chunks // MESSAGES_PER_TURN + 2):
            if not self._main.look():
                return

    def _fail(self, failure: Exception) -> None:
        if not self._answered.is_set():
            self._failure = failure
            self._answered.set()
