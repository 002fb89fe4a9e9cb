"""WebSocket transports under test: links, and peers whose every byte a test writes itself."""

from __future__ import annotations

import base64
import hashlib
import math
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio
import psutil
import trustme
from anyio.abc import SocketAttribute
from typing_extensions import override

from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport
from hakuban_ws._stream import WebSocketStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from anyio.abc import ByteStream, SocketStream
    from anyio.streams.memory import MemoryObjectReceiveStream

    from hakuban.transport import MessageStream

LOCAL = "ws://127.0.0.1:0"

FIN, MASKED = 0x80, 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

UPGRADE = (
    b"GET /path?a=1 HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@asynccontextmanager
async def serving(
    handler: Callable[[MessageStream], Awaitable[None]], url: str = LOCAL, **options: Any
) -> AsyncIterator[str]:
    """Serve with a handler, and give the bound URL."""

    serve = partial(WebSocketTransport().serve, url, TransportOptions(**options), handler)
    async with anyio.create_task_group() as group:
        yield await group.start(serve)
        group.cancel_scope.cancel()


@asynccontextmanager
async def accepting(
    url: str = LOCAL, **options: Any
) -> AsyncIterator[tuple[str, MemoryObjectReceiveStream[WebSocketStream]]]:
    """Serve with a handler that hands its stream to the test, and give the bound URL and where streams come out."""
    send, accepted = anyio.create_memory_object_stream["WebSocketStream"](math.inf)

    async def handler(stream: MessageStream) -> None:
        assert isinstance(stream, WebSocketStream)
        send.send_nowait(stream)
        await anyio.sleep_forever()

    with send, accepted:
        async with serving(handler, url, **options) as bound:
            yield bound, accepted


@asynccontextmanager
async def linked(
    url: str = LOCAL, *, connect: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[WebSocketStream, WebSocketStream]]:
    """Give both ends of a link: connected, accepted.

    :param connect: options of the connecting side alone.
    :param options: options of both.
    """
    async with accepting(url, **options) as (bound, accepted):
        client = TransportOptions(**{**options, **(connect or {})})
        async with WebSocketTransport().connect(bound, client) as connected:
            with anyio.fail_after(5):
                other = await accepted.receive()
            yield connected, other
            async with anyio.create_task_group() as group:  # neither has to wait for the other
                group.start_soon(connected.aclose)
                group.start_soon(other.aclose)


def frame(first: int, payload: bytes = b"", *, masked: bool) -> bytes:
    """A frame, built the plain way; a masked one has a key that shows up wrong unmasking."""
    length = len(payload)
    bit = MASKED if masked else 0
    if length < 126:
        head = bytes([first, bit | length])
    elif length < 65536:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    if not masked:
        return head + payload
    key = b"\x01\x20\x30\xff"
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


class RawPeer:
    """One end of a TCP connection, spoken by hand; what it sends is masked when it is the connecting side."""

    def __init__(self, stream: ByteStream, *, connecting: bool) -> None:
        self.stream = stream
        self._connecting = connecting
        self._received = bytearray()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()

    @property
    def socket(self) -> socket.socket:
        """The socket below, for options and rude ends."""
        raw: socket.socket = self.stream.extra(SocketAttribute.raw_socket)
        return raw

    async def send(self, data: bytes) -> None:
        """Write bytes."""
        await self.stream.send(data)

    async def frame(self, first: int, payload: bytes = b"") -> None:
        """Write a frame."""
        await self.send(frame(first, payload, masked=self._connecting))

    async def exactly(self, size: int) -> bytes:
        """Read that many bytes."""
        with anyio.fail_after(5):
            while len(self._received) < size:
                self._received += await self.stream.receive()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def head(self) -> bytes:
        """Read up to the blank line of HTTP."""
        with anyio.fail_after(5):
            while b"\r\n\r\n" not in self._received:
                self._received += await self.stream.receive()
        return await self.exactly(self._received.index(b"\r\n\r\n") + 4)

    async def read_frame(self) -> tuple[int, bytes]:
        """Read a frame: its first byte and its payload."""
        first, second = await self.exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.exactly(8))
        key = await self.exactly(4) if second & MASKED else bytes(4)
        payload = await self.exactly(length)
        return first, bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))

    async def accept(self, headers: bytes = b"", *, behind: bytes = b"") -> bytes:
        """Read a request and answer it with an upgrade, and bytes right behind that; gives the request."""
        request = await self.head()
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        await self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: "
            + base64.b64encode(digest)
            + b"\r\n"
            + headers
            + b"\r\n"
            + behind
        )
        return request

    async def rest(self) -> bytes:
        """Read to the end; a reset is one too."""
        with anyio.fail_after(5):
            try:
                while True:
                    self._received += await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return bytes(self._received)

    async def reset(self) -> None:
        """End the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


def open_descriptors() -> int:
    """How many files, sockets and the like this process has open."""
    return psutil.Process().num_fds()


async def descriptors_fall_to(count: int) -> None:
    """Wait until no more than that many are open."""
    with anyio.fail_after(5):
        while open_descriptors() > count:  # noqa: ASYNC110  # nobody tells when one is closed
            await anyio.sleep(0.01)


def socket_of(stream: WebSocketStream) -> socket.socket:
    """Another handle of the socket below an IPv4 stream, to be closed: for its options, and for bytes behind the stream's back."""
    (fd,) = (
        each.fd
        for each in psutil.Process().net_connections("tcp4")
        if each.raddr and f"127.0.0.1:{each.laddr.port}" == stream.local_address
    )
    return socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)


def port_of(url: str) -> int:
    """The port of a bound URL."""
    return int(url.rpartition(":")[2].partition("/")[0])


async def raw_connection(url: str) -> RawPeer:
    """Connect to a listener under test, and send nothing yet."""
    return RawPeer(await anyio.connect_tcp("127.0.0.1", port_of(url)), connecting=True)


@asynccontextmanager
async def raw_client(
    *, headers: bytes = b"", **options: Any
) -> AsyncIterator[tuple[WebSocketStream, RawPeer]]:
    """Give a listener's end of a link, and the client, spoken by hand, at the other."""
    async with accepting(**options) as (url, accepted), await raw_connection(url) as peer:
        await peer.send(UPGRADE + headers + b"\r\n")
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        with anyio.fail_after(5):
            stream = await accepted.receive()
        yield stream, peer


@asynccontextmanager
async def raw_listener(
    talk: Callable[[RawPeer], Awaitable[None]],
) -> AsyncIterator[str]:
    """Listen, and let `talk` speak by hand to each that connects."""

    async def handle(stream: SocketStream) -> None:
        async with RawPeer(stream, connecting=False) as peer:
            await talk(peer)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, handle)
        yield f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


class Certificates:
    """An authority, and contexts of both sides with its certificates."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert("localhost", "127.0.0.1")

    def listening(self, *, demand: bool = False) -> ssl.SSLContext:
        """A listener's context; `demand` asks for certificates of clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.configure_cert(context)
        if demand:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def connecting(self, name: str | None = None) -> ssl.SSLContext:
        """A connecting side's context that trusts the authority; with a name it has a certificate of it."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        if name is not None:
            self._authority.issue_cert(name, common_name=name).configure_cert(context)
        return context


class CarriedContext(ssl.SSLContext):
    """A context that can be pickled: in the other process it is made again, with a certificate of the same authority."""

    authority: trustme.CA

    @classmethod
    def make(cls, authority: trustme.CA, protocol: int) -> CarriedContext:
        """Make one, for `ssl.PROTOCOL_TLS_SERVER` or `ssl.PROTOCOL_TLS_CLIENT`."""
        context = cls(protocol)
        context.authority = authority
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        else:
            authority.configure_trust(context)
        return context

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        authority = self.authority
        key = authority.private_key_pem.bytes()
        return _made_again, (authority.cert_pem.bytes(), key, int(self.protocol))


def _made_again(certificate: bytes, key: bytes, protocol: int) -> CarriedContext:
    return CarriedContext.make(trustme.CA.from_pem(certificate, key), protocol)
