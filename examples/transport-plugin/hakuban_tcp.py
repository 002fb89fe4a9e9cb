from contextlib import asynccontextmanager, suppress
from socket import SO_SNDBUF, SOL_SOCKET

import anyio.streams.buffered

from hakuban.transport import PeerViolationError, check_exposure, hookimpl, host_and_port


class TcpStream:  # each message follows its length in four bytes
    def __init__(self, socket, options):
        socket.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(SOL_SOCKET, SO_SNDBUF, 131072)
        self.io, self.limit = anyio.streams.buffered.BufferedByteStream(socket), options.max_message
        self.send = lambda ms: self.io.send(b"".join(len(m).to_bytes(4, "big") + m for m in ms))
        self.aclose = lambda code=1000, reason="": self.io.aclose()

    async def receive(self, size=0):
        with suppress(anyio.IncompleteRead):
            if (size := int.from_bytes(await self.io.receive_exactly(4), "big")) <= self.limit:
                return [await self.io.receive_exactly(size)]
        raise PeerViolationError("too large", code=1009) if size > self.limit else anyio.EndOfStream


class TcpTransport:
    check = staticmethod(lambda url, _, *, listening: host_and_port(url, listening=listening))

    @asynccontextmanager
    async def connect(self, url, options):
        async with await anyio.connect_tcp(*host_and_port(url, listening=False)) as socket:
            yield TcpStream(socket, options)

    async def serve(self, url, options, handler, *, task_status):
        host, port = host_and_port(url)
        async with await anyio.create_tcp_listener(local_host=host, local_port=port) as tcp:
            bound = dict(x.extra(anyio.abc.SocketAttribute.local_address) for x in tcp.listeners)
            check_exposure(url, bound, type(options)(insecure=options.insecure))  # it asks nobody
            async with anyio.create_task_group() as handlers, tcp:  # in reverse: the socket first
                task_status.started(f"tcp://{host}:{min(bound.values())}")
                await tcp.serve(lambda socket: handler(TcpStream(socket, options)), handlers)


hakuban_transport = hookimpl(lambda scheme: TcpTransport() if scheme == "tcp" else None)
