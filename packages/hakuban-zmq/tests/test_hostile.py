"""Strangers that mean harm, files that are damaged, loops that stand still: whoever behaves notices nothing."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import struct
import sys
import termios
import threading
import time
import tracemalloc
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread
import pytest
import zmq.auth
from anyio.lowlevel import checkpoint

from hakuban.transport import (
    ConnectionRequest,
    Identity,
    ReassemblyLimit,
    RefusedError,
    TransportOptions,
)
from hakuban_zmq import KeyFileError, ZeroMQTransport, write_keys
from hakuban_zmq._frames import (
    CHUNK,
    DATA,
    HEADER,
    PING,
    PONG,
    SESSION,
    VERSION,
    WELCOME,
    Hello,
    Reassembly,
    Window,
    chunks,
    encode_bye,
    frame,
)
from hakuban_zmq._stream import ZeroMQStream
from hakuban_zmq._transport import WINDOW
from hakuban_zmq._urls import Endpoint
from support.raw_wires import reset
from support.zeromq import LOCAL, WIDE, accepting, end_of, get_in, raw_client, serve_alone, serving
from support.zmtp import GREETING, MORE, framed, greet, take_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hakuban.transport import MessageStream


class Stranger:
    """A plain socket that speaks ZMTP (RFC 23) without CURVE, and says what no library would; its methods block."""

    def __init__(self, url: str, properties: Mapping[str, bytes] | None = None) -> None:
        host, _, port = url.removeprefix("zmq+tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self._frames = greet(
            self.socket.sendall, partial(take_from, self.socket), properties=properties
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(framed(data))

    def send_hello(self, window: Window = WIDE) -> None:
        self.send(Hello(secrets.token_bytes(SESSION), VERSION, window).encode())

    def wait_arrived(self) -> None:
        """Wait until the other side's system has all that was sent; it may not have been read there."""
        while int.from_bytes(fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
            time.sleep(0.001)

    def leave(self) -> None:
        """Close, and wait until the other side's system knows."""
        self.socket.shutdown(socket.SHUT_WR)
        self.wait_arrived()
        self.socket.close()

    def receive(self, kind: int) -> bytes:
        """Give the next frame of a kind."""
        return next(data for data in self._frames if data[0] == kind)

    async def enter(self) -> bytes:
        """Say hello and be welcomed; give the session of the listener."""
        self.send_hello()
        return (await anyio.to_thread.run_sync(self.receive, WELCOME))[10:18]


async def attempt(transport: ZeroMQTransport, url: str) -> None:
    async with transport.connect(url, TransportOptions(handshake_timeout=5.0)):
        pass


# ---- what a stranger says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["nothing", "a part of a greeting", "a greeting", "no hello"])
async def test_who_does_not_go_on_with_the_handshake_is_ended_in_time(sent: str) -> None:
    async def nobody(_: MessageStream) -> None:
        raise AssertionError("there is no link")

    async with serving(nobody, handshake_timeout=0.3) as url:
        if sent == "no hello":
            peer = await anyio.to_thread.run_sync(Stranger, url)
            sock = peer.socket
        else:
            host, _, port = url.removeprefix("zmq+tcp://").rpartition(":")
            sock = await anyio.to_thread.run_sync(socket.create_connection, (host, int(port)), 5)
            sock.sendall({"nothing": b"", "a greeting": GREETING}.get(sent, GREETING[:10]))
        with sock:
            began = time.monotonic()
            await anyio.to_thread.run_sync(read_to_the_end, sock)
            assert time.monotonic() - began < 4


def read_to_the_end(sock: socket.socket) -> None:
    """Read until the other side has ended the connection.

    :raises TimeoutError: it does not.
    """
    sock.settimeout(5)
    with suppress(ConnectionResetError):
        while sock.recv(4096):
            pass


@pytest.mark.parametrize("claim", [b"the key of somebody else", b"\xff\xfe no text"])
async def test_without_curve_nobody_has_a_key_whatever_it_claims(claim: bytes) -> None:
    requests: list[ConnectionRequest] = []

    def authorize(request: ConnectionRequest) -> Identity:
        requests.append(request)
        return Identity("anybody")

    async with accepting(authorize=authorize) as (url, _):
        with Stranger(url, {"User-Id": claim, "__fd": b"no number"}) as stranger:
            await stranger.enter()
        await attempt(ZeroMQTransport(), url)
    assert [dict(request.headers) for request in requests] == [{}, {}]


@contextmanager
def flood(url: str) -> Iterator[threading.Event]:
    """Have a stranger send junk as fast as it can; the event ends that."""
    over = threading.Event()
    junk = (bytes([0, HEADER]) + frame(PONG, b"nobody's")) * 1000

    def pour() -> None:
        with suppress(OSError):  # the listener has hung up
            while not over.is_set():
                stranger.socket.sendall(junk)

    with Stranger(url) as stranger:
        thread = threading.Thread(target=pour)
        thread.start()
        try:
            yield over
        finally:
            over.set()
            with suppress(OSError):
                stranger.socket.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_flood_of_junk_does_not_keep_a_listener_from_ending() -> None:
    async def nobody(_: object) -> None:
        raise AssertionError

    with ExitStack() as stack:
        async with serving(nobody, max_connections=0) as url:
            over = stack.enter_context(flood(url))
            with pytest.raises(RefusedError, match="too many"):
                await attempt(ZeroMQTransport(), url)
            patience = threading.Timer(3, over.set)
            stack.callback(patience.cancel)
            patience.start()
        assert not over.is_set()


async def test_a_flood_of_junk_does_not_keep_others_from_being_missed() -> None:
    async with accepting() as (url, accepted):
        with flood(url), Stranger(url) as peer:
            session = await peer.enter()
            with anyio.fail_after(5):
                stream = await accepted.receive()
            (data,) = chunks([b"last words"], session)
            peer.send(data)
            reset(peer.socket)
            with anyio.fail_after(1):
                assert await stream.receive() == [b"last words"]
                with pytest.raises(anyio.BrokenResourceError, match="has ended"):
                    await stream.receive()


@pytest.mark.parametrize("begun", [bytes([MORE, 0]), bytes([MORE, 1, 1]), bytes([0, 0])])
async def test_a_message_of_several_parts_or_none_ends_its_connection_before_it_is_over(
    begun: bytes,
) -> None:
    async with accepting() as (url, _):
        with Stranger(url) as stranger:
            stranger.socket.sendall(begun)
            with pytest.raises(EOFError):
                await anyio.to_thread.run_sync(stranger.receive, WELCOME)
        await attempt(ZeroMQTransport(), url)


async def test_who_grants_everything_and_reads_nothing_is_sent_no_more_than_a_window() -> None:
    async with accepting() as (url, accepted):
        with Stranger(url) as stranger, anyio.move_on_after(0.3):
            stranger.send_hello(Window(2**32 - 1, 2**32 - 1))
            stream = await accepted.receive()
            sent = 0
            while sent <= 2 * WINDOW:
                await stream.send([bytes(CHUNK - 100)])
                sent += CHUNK
        assert 0 < sent <= WINDOW + CHUNK


def test_a_message_in_tiny_pieces_takes_no_more_memory_than_its_size() -> None:
    pieces = 50_000
    message = b"".join(struct.pack(">H", number) for number in range(pieces))
    records = [struct.pack(">IH", 2 | 1 << 31, number) for number in range(pieces)]
    records[-1] = struct.pack(">IH", 2, pieces - 1)
    bodies = [b"".join(records[start : start + 10_000]) for start in range(0, pieces, 10_000)]
    frames = [frame(DATA, bytes(SESSION), body) for body in bodies]
    reassembly = Reassembly(len(message))
    tracemalloc.start()
    try:
        got = [one for data in frames for one in reassembly.messages(data)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == [message]
    assert peak < 3 * len(message)


# ---- a loop that stands still ---------------------------------------------------------------------------------------


async def test_who_came_while_the_loop_stood_still_is_not_taken_for_who_went() -> None:
    async with accepting() as (url, accepted):
        with ExitStack() as crowd, anyio.fail_after(10):
            old = [crowd.enter_context(Stranger(url)) for _ in range(20)]
            for stranger in old:
                stranger.send_hello()
            old_streams = [await accepted.receive() for _ in old]
            for stranger in old:
                stranger.leave()
            new = [crowd.enter_context(Stranger(url)) for _ in range(20)]
            for stranger in new:
                stranger.send_hello()
                stranger.wait_arrived()
            new_streams = [await accepted.receive() for _ in new]
            for stream in old_streams:
                assert isinstance(await end_of(stream), anyio.BrokenResourceError)
            for stream in new_streams:
                await stream.send([b"still here"])
            for stranger in new:
                await anyio.to_thread.run_sync(stranger.receive, DATA)


@pytest.mark.parametrize("how", ["alone", "beside a newcomer", "nobody reads before the end"])
async def test_all_last_words_are_heard_although_the_loop_stood_still(how: str) -> None:
    words = [b"%d" % number for number in range(450)]
    async with accepting() as (url, accepted):
        with ExitStack() as crowd, anyio.fail_after(5):
            stranger = crowd.enter_context(Stranger(url))
            session = await stranger.enter()
            stream = await accepted.receive()
            if how == "beside a newcomer":
                crowd.enter_context(Stranger(url)).send_hello()
            for word in words:
                stranger.send(*chunks([word], session))
            stranger.send(encode_bye(session, 1000, "that was all"))
            stranger.leave()
            if how == "nobody reads before the end":
                for _ in range(50):
                    await checkpoint()  # the end of the connection is seen ten turns from here
            got: list[bytes] = []
            while len(got) < len(words):
                got += await stream.receive()
            assert got == words
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            assert (stream.close_code, stream.close_reason) == (1000, "that was all")


async def test_who_knocks_while_the_listener_starts_gets_in() -> None:
    url = f"zmq+ipc://@hakuban.{secrets.token_hex(8)}"
    started = False

    async def be_slow() -> None:
        while not started:
            time.sleep(0.03)  # noqa: ASYNC251 # each turn of the loop is long enough for a client
            await checkpoint()

    with raw_client(url, reconnect_ivl=1) as client:
        client.send(Hello(client.own, VERSION, WIDE).encode())
        async with anyio.create_task_group() as group:
            group.start_soon(be_slow)
            async with accepting(url) as (_, accepted):
                with anyio.fail_after(5):
                    await accepted.receive()
                started = True


async def test_an_answer_that_comes_at_once_does_not_end_the_pings() -> None:
    class Mirror:
        """The way to a peer that answers before `send` has returned."""

        pings = 0

        def send(self, data: bytes, /) -> bool:
            assert data == frame(PING, b"the peer")
            self.pings += 1
            stream.take_frame(frame(PONG, b"our side"))
            return True

        stuck = False

        def look(self) -> bool:
            return False

        def forget(self) -> None:
            raise AssertionError

    mirror = Mirror()
    options, sessions = TransportOptions(keep_alive=10.0, timeout=100.0), (b"our side", b"the peer")
    stream = ZeroMQStream(
        mirror, sessions, WIDE, WIDE, options, ReassemblyLimit(1), listening=False
    )
    now = time.monotonic()
    for pings in (1, 2, 3):
        now += 11
        stream.check(now)
        assert mirror.pings == pings


# ---- addresses and files --------------------------------------------------------------------------------------------


async def test_listening_does_not_replace_a_file_that_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    before = path.stat().st_ino, path.stat().st_mode
    with pytest.raises(OSError) as caught, anyio.fail_after(2):  # noqa: PT011 # which one, says the system
        await serve_alone(ZeroMQTransport(), f"zmq+ipc://{path}")
    assert not isinstance(caught.value, TimeoutError)
    assert path.read_text() == "precious"
    assert (path.stat().st_ino, path.stat().st_mode) == before


async def test_addresses_that_this_machine_does_not_have_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = ["127.0.0.1", "2001:db8::1", "2001:db8::2"]  # those of RFC 3849 are nobody's

    async def resolve(_: Endpoint) -> list[Endpoint]:
        return [Endpoint("tcp", host) for host in hosts]

    monkeypatch.setattr(Endpoint, "resolve", resolve)
    async with accepting(transport=ZeroMQTransport(insecure=True)) as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
        assert isinstance(await end_of(stream), anyio.BrokenResourceError)


def _allow(path: Path, public: Path) -> None:
    """Put the key of a certificate in place of another one, with the same size and time."""
    key = zmq.auth.load_certificate(public)[0].decode()
    new = path.with_suffix(".new")
    new.write_text(f'curve\n    public-key = "{key}"\n')
    os.utime(new, (1, 1))
    new.replace(path)


async def test_the_list_is_the_files_as_they_are_now_and_not_as_their_time_says(
    tmp_path: Path,
) -> None:
    server, secret = write_keys(tmp_path, "listener")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    listening = ZeroMQTransport(secret_key_file=secret, client_keys=allowed)
    clients = []
    for name in ("old", "new"):
        public, own = write_keys(tmp_path, name)
        clients.append((public, ZeroMQTransport(secret_key_file=own, server_key_file=server)))
    (old_key, old), (new_key, new) = clients
    async with accepting(transport=listening) as (url, _):
        for key, welcome, other in ((old_key, old, new), (new_key, new, old)):
            _allow(allowed / "who.key", key)
            await get_in(welcome, url)
            with pytest.raises(RefusedError):
                await attempt(other, url)


@pytest.mark.parametrize("name", [".#who.key", "gone.key"])
async def test_a_link_to_nowhere_on_the_list_keeps_nobody_out(tmp_path: Path, name: str) -> None:
    server, secret = write_keys(tmp_path, "listener")
    _, own = write_keys(tmp_path / "allowed", "known")
    (tmp_path / "allowed" / name).symlink_to("user@host.123")
    listening = ZeroMQTransport(secret_key_file=secret, client_keys=tmp_path / "allowed")
    async with accepting(transport=listening) as (url, _):
        await attempt(ZeroMQTransport(secret_key_file=own, server_key_file=server), url)


async def test_a_key_that_lost_a_character_is_said_to_be_none(tmp_path: Path) -> None:
    public, secret = write_keys(tmp_path, "good")
    bad_public, bad_secret = write_keys(tmp_path, "bad")
    for path in (bad_public, bad_secret):
        path.write_text(path.read_text().rstrip()[:-2] + '"\n')
    with pytest.raises(KeyFileError), anyio.fail_after(2):
        await serve_alone(ZeroMQTransport(secret_key_file=bad_secret), LOCAL)
    for own, server, bad in ((bad_secret, public, bad_secret), (secret, bad_public, bad_public)):
        transport = ZeroMQTransport(secret_key_file=own, server_key_file=server)
        with pytest.raises(KeyFileError) as caught:
            await attempt(transport, "zmq+tcp://127.0.0.1:1")
        assert caught.value.path == str(bad)


async def test_a_list_without_an_own_certificate_is_an_error_also_on_this_machine(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyFileError), anyio.fail_after(2):
        await serve_alone(ZeroMQTransport(client_keys=tmp_path), LOCAL)
