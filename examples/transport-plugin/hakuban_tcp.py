from contextlib import asynccontextmanager, suppress
from socket import SO_SNDBUF, SOL_SOCKET

import anyio.streams.buffered

from hakuban.transport import PeerViolationError, hookimpl, host_and_port


class TcpStream:  # each message follows its length in four bytes
    def __init__(self, socket, options):
        socket.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(SOL_SOCKET, SO_SNDBUF, 131072)
        self.io, self.limit = anyio.streams.buffered.BufferedByteStream(socket), options.max_message

    async def send(self, messages):
        await self.io.send(b"".join(len(one).to_bytes(4, "big") + one for one in messages))

    async def receive(self):
        with suppress(anyio.IncompleteRead):
            if (size := int.from_bytes(await self.io.receive_exactly(4), "big")) > self.limit:
                raise PeerViolationError(f"a message of {size} bytes", code=1009)
            return [await self.io.receive_exactly(size)]
        raise anyio.EndOfStream

    async def aclose(self, code=1000, reason=""):
        await self.io.aclose()


class TcpTransport:
    @asynccontextmanager
    async def connect(self, url, options):
        async with await anyio.connect_tcp(*host_and_port(url)) as socket:
            yield TcpStream(socket, options)

    async def serve(self, url, options, handler, *, task_status):
        host, port = host_and_port(url)
        tcp = await anyio.create_tcp_listener(local_host=host, local_port=port)
        async with anyio.create_task_group() as handlers, tcp:  # left in reverse: the socket first
            task_status.started(f"tcp://{host}:{tcp.extra(anyio.abc.SocketAttribute.local_port)}")
            await tcp.serve(lambda socket: handler(TcpStream(socket, options)), handlers)


hakuban_transport = hookimpl(lambda scheme: TcpTransport() if scheme == "tcp" else None)
