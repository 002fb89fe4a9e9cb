"""What 10,000 idle connections cost a router in memory, and what it keeps of them when they have gone.

A router on the loopback; three rounds of connections that become links, and then say nothing. Processes of clients that
speak each transport by hand stand for the nodes, from source addresses of their own: a real node would be too heavy. The
connections of a round end in one of three ways, in turn: in good order, with a RST, and in the middle of a message, of
which 100 KiB have come. Printed is the resident memory of the router: before, with all connections idle, and 8 s after
the last has gone.

Run: python benchmarks/many_connections.py [--schemes ws wss zmq+tcp] [--count 10000] [--rounds 3] [--loop uvloop]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import psutil
import trustme
from typing_extensions import override

from hakuban._session_events import Note
from hakuban._wire import Session
from hakuban_ws._frames import CLOSE, FrameWriter, close_payload
from hakuban_zmq import _frames as zmq_frames
from hakuban_zmq import _zmtp as zmtp
from stuck_observer import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENDS = ("close", "reset", "half")
WORKERS = 4
AT_ONCE = 50  # handshakes of a process of clients
SETTLING = 8.0  # seconds; by then writers are at rest, and the router has given free memory back
PATIENCE = 600.0  # seconds
HALF = 100 * 1024  # bytes that come of a message
WHOLE = 200 * 1024
KIB = 1024


# ---- the clients


class Client:
    """One connection, spoken by hand, and what is said on it by a node that only idles."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def begin(self, opening: list[bytes]) -> None:
        """Do the handshake, and say the opening of a link."""
        raise NotImplementedError

    def half(self) -> bytes:
        """Give the beginning of a message."""
        raise NotImplementedError

    def goodbye(self) -> bytes:
        """Give what ends the link in good order."""
        raise NotImplementedError

    async def end(self, kind: str) -> None:
        with suppress(OSError):  # the router may be quicker
            if kind == "reset":
                raw = self._writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
                return
            self._writer.write(self.half() if kind == "half" else self.goodbye())
            await self._writer.drain()
            if kind == "close":
                while await self._reader.read(KIB):
                    pass
            self._writer.close()
            await self._writer.wait_closed()


class WebSocketClient(Client):
    FRAMES: ClassVar = FrameWriter(masked=True)
    REQUEST: ClassVar = (
        b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: hakuban.0.8\r\n\r\n"
    )

    @override
    async def begin(self, opening: list[bytes]) -> None:
        self._writer.write(self.REQUEST)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._writer.writelines(self.FRAMES.units(opening))
        await self._reader.readexactly(1)  # the other side's opening

    @override
    def half(self) -> bytes:
        return b"".join(self.FRAMES.units([bytes(WHOLE)]))[:HALF]

    @override
    def goodbye(self) -> bytes:
        return self.FRAMES.control(CLOSE, close_payload(1000, ""))


class ZeroMQClient(Client):
    _session = b""

    @override
    async def begin(self, opening: list[bytes]) -> None:
        metadata = zmtp.encode_metadata([(b"Socket-Type", b"DEALER")])
        window = zmq_frames.Window(1 << 20, 100)
        own = os.urandom(zmq_frames.SESSION)
        self._writer.write(zmtp.greeting(zmtp.NULL))
        self._writer.write(zmtp.encode(zmtp.command(b"READY", metadata), zmtp.COMMAND))
        self._writer.write(zmtp.encode(zmq_frames.Hello(own, zmq_frames.VERSION, window).encode()))
        await self._reader.readexactly(zmtp.GREETING)
        await self._frame()
        welcome = zmq_frames.read_answer(await self._frame(), own)
        assert isinstance(welcome, zmq_frames.Welcome), welcome
        self._session = welcome.session
        self._writer.writelines(map(zmtp.encode, zmq_frames.chunks(opening, self._session)))
        await self._reader.readexactly(1)  # the other side's opening

    async def _frame(self) -> bytes:
        _flags, size = await self._reader.readexactly(2)  # these are short
        return await self._reader.readexactly(size)

    @override
    def half(self) -> bytes:
        return b"".join(map(zmtp.encode, zmq_frames.chunks([bytes(WHOLE)], self._session)))[:HALF]

    @override
    def goodbye(self) -> bytes:
        return zmtp.encode(zmq_frames.encode_bye(self._session, 1000, ""))


def opening(number: int) -> list[bytes]:
    note = Note(
        node=f"{os.getpid():08x}{number:08x}", name=f"idle {number}", above=(),
        max_message=1 << 24, clock=time.time_ns(), version="0",
    )  # fmt: skip
    return Session(listening=False, name=f"idle {number}").opening(note)


class Clients:
    """What a process of clients does when it is told to."""

    def __init__(self, port: str, authority: str) -> None:
        self._port = int(port)
        self._tls = ssl.create_default_context(cafile=authority) if authority else None
        self._clients: list[Client] = []

    async def open(self, scheme: str, count: str, source: str) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        kind = ZeroMQClient if scheme == "zmq+tcp" else WebSocketClient

        async def one(number: int) -> Client:
            async with places:
                streams = await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(source, 0), ssl=self._tls
                )
                client = kind(*streams)
                await client.begin(opening(number))
                return client

        self._clients = await asyncio.gather(*map(one, range(int(count))))

    async def end(self, kind: str) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(client: Client) -> None:
            async with places:
                await client.end(kind)

        await asyncio.gather(*map(one, self._clients))
        self._clients = []


async def obey(port: str, authority: str) -> None:
    """Do what each line of the input says, and say so."""
    clients = Clients(port, authority)
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        verb, *arguments = words
        await getattr(clients, verb)(*arguments)
        say("done")


class Workers:
    """Processes of clients that share the work."""

    def __init__(self, stack: ExitStack, port: int, authority: str) -> None:
        command = [sys.executable, __file__, "obey", str(port), authority]
        self._processes = [
            stack.enter_context(piped(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(WORKERS)
        ]

    def open(self, scheme: str, count: int, lap: int) -> None:
        shares = [len(range(worker, count, WORKERS)) for worker in range(WORKERS)]
        # ports that were used lately are not used again soon: each lap comes from other addresses
        self._tell(
            f"open {scheme} {share} 127.{lap + 1}.0.{worker + 1}"
            for worker, share in enumerate(shares)
        )

    def end(self, kind: str) -> None:
        self._tell(f"end {kind}" for _ in self._processes)

    def _tell(self, lines: Iterable[str]) -> None:
        for process, line in zip(self._processes, lines, strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != "done\n":
                sys.exit("a process of clients has failed")


# ---- the router


class Router:
    """A router in a process of its own.

    :ivar settled_at: the monotonic time at which it had the wanted connections.
    """

    def __init__(self, pid: int, port: int) -> None:
        self._process = psutil.Process(pid)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        time.sleep(SETTLING)
        self._descriptors = self._process.num_fds()
        self.settled_at = 0.0

    def settled(self, connections: int) -> int:
        """Wait until so many connections are open; give the resident bytes a while later, if they are so still."""
        give_up = time.monotonic() + PATIENCE
        while self._connections() != connections:
            if time.monotonic() > give_up:
                sys.exit(f"the router has {self._connections()} connections, and not {connections}")
            time.sleep(0.05)
        self.settled_at = time.monotonic()
        time.sleep(SETTLING)
        assert self._connections() == connections
        return int(self._process.memory_info().rss)

    def _connections(self) -> int:
        return int(self._process.num_fds()) - self._descriptors


@contextmanager
def piped(
    command: list[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def files(folder: Path) -> tuple[str, str]:
    """Make an authority, and a certificate of it: give the files of both."""
    authority = trustme.CA()
    chain = folder / "chain.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(chain)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return str(folder / "authority.pem"), str(chain)


def measure(scheme: str, options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        authority = chain = ""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        if scheme == "wss":
            authority, chain = files(Path(stack.enter_context(TemporaryDirectory())))
        command = [
            sys.executable, "-m", "hakuban_router", "-b", f"{scheme}://127.0.0.1:{port}", "--loop", options.loop,
            "--max-connections", str(options.count), "--timeout", "1h", "--keep-alive", "50m", "--log-level", "error",
        ]  # fmt: skip
        if chain:
            command += ["--tls-cert", chain]
        router = Router(stack.enter_context(piped(command)).pid, port)
        workers = Workers(stack, port, authority)
        before = router.settled(0)
        say(f"{scheme}, loop {options.loop}: {before / KIB:,.0f} KiB before")
        left = []
        for lap in range(options.rounds):
            kind = options.ends[lap % len(options.ends)]
            began = time.monotonic()
            workers.open(scheme, options.count, lap)
            idle = router.settled(options.count)
            opened = router.settled_at
            ending = time.monotonic()
            workers.end(kind)
            left.append(router.settled(0))
            say(
                f"round {lap + 1}: idle {idle / KIB:,.0f} KiB, {(idle - before) / options.count / KIB:.1f} KiB a connection;"
                f" after {kind} {left[-1] / KIB:,.0f} KiB, {left[-1] / left[0]:.3f} of round 1;"
                f" {opened - began:.1f} s to open, {router.settled_at - ending:.1f} s to end"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schemes", nargs="+", default=["ws", "wss", "zmq+tcp"])
    parser.add_argument("--count", type=int, default=10_000, help="connections of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--ends", nargs="+", choices=ENDS, default=ENDS, help="of the rounds, in turn"
    )
    parser.add_argument("--loop", default="auto", help="of the router")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for scheme in options.schemes:
        measure(scheme, options)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["obey", port, authority]:
            asyncio.run(obey(port, authority))
        case _:
            main()
