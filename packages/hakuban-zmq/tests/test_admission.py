"""What a listener asks of those who come, and what it does for whom it has let in."""

from __future__ import annotations

import logging
import socket
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
import zmq
import zmq.auth

from hakuban.transport import InvalidURLError, PeerViolationError, TransportOptions
from hakuban_zmq import InsecureListenerError, ZeroMQTransport, _allow_list, write_keys
from hakuban_zmq._frames import (
    PING,
    SESSION,
    VERSION,
    Hello,
    Refusal,
    frame,
    read_answer,
)
from hakuban_zmq._urls import parse_url
from hakuban_zmq._zmtp import (
    CURVE,
    NULL,
    Frame,
    FrameReader,
    check_metadata,
    command,
    encode,
    encode_metadata,
    greeting,
    pong,
    read_metadata,
)
from support.waiting import until
from support.zeromq import WIDE, accepting, be_turned_away, raw_client, serve_alone, serving
from support.zmtp import everything, greet, take_from, where

if TYPE_CHECKING:
    from hakuban.transport import MessageStream

OWN = b"c" * SESSION


async def nobody(_: MessageStream) -> None:
    raise AssertionError("there is no link")


async def test_a_kind_of_socket_that_carries_no_link_is_turned_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "hakuban")

    def publish(url: str) -> None:
        with socket.create_connection(where(url), timeout=10) as sock:
            greet(sock.sendall, partial(take_from, sock), b"PUB")
            everything(sock)

    async with serving(nobody) as url:
        await anyio.to_thread.run_sync(publish, url)
        await until(lambda: caplog.messages)
    (line,) = caplog.messages
    assert "no link: " in line
    assert line.endswith("no link: a DEALER may connect here, and its socket is PUB")


class Keys:
    """A listener's certificates, and those of somebody that it lets in."""

    def __init__(self, folder: Path) -> None:
        self.public, self.secret = write_keys(folder, "listener")
        self.listed, self.own = write_keys(folder / "allowed", "known")

    @property
    def listening(self) -> ZeroMQTransport:
        return ZeroMQTransport(secret_key_file=self.secret, client_keys=self.listed.parent)

    @property
    def connecting(self) -> ZeroMQTransport:
        return ZeroMQTransport(secret_key_file=self.own, server_key_file=self.public)

    @property
    def options(self) -> dict[str, bytes]:
        """What a bare socket needs to get in."""
        server, _ = zmq.auth.load_certificate(self.public)
        public, secret = zmq.auth.load_certificate(self.own)
        assert secret is not None
        return {"curve_serverkey": server, "curve_publickey": public, "curve_secretkey": secret}


async def test_a_kind_of_socket_that_carries_no_link_is_turned_away_although_it_encrypts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hakuban")
    keys = Keys(tmp_path)
    async with serving(nobody, transport=keys.listening) as url:
        with zmq.Context() as context, context.socket(zmq.REQ) as request:
            request.linger = 0
            for name, value in keys.options.items():
                request.setsockopt(getattr(zmq, name.upper()), value)
            request.connect(url.removeprefix("zmq+"))
            await until(lambda: caplog.messages)
    assert caplog.messages[0].endswith("no link: a DEALER may connect here, and its socket is REQ")


async def test_who_was_taken_off_the_list_before_its_hello_gets_no_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_PERIOD", "_HURRIED"):
        monkeypatch.setattr(_allow_list, name, 0.01)
    keys = Keys(tmp_path)
    async with serving(nobody, transport=keys.listening) as url:
        with raw_client(url, **keys.options) as client:
            monitor = client.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            with monitor:
                await until(lambda: monitor.poll(0))
            keys.listed.unlink()
            await be_turned_away(keys.connecting, url)
            client.send(Hello(OWN, VERSION, WIDE).encode())
            answer = read_answer(await client.frame(), OWN)
    assert isinstance(answer, Refusal)
    assert not answer.retry
    assert "no longer on the list" in answer.reason


async def test_an_idle_link_is_asked_for_a_sign_of_life() -> None:
    async with accepting(keep_alive=0.01) as (url, _):
        with raw_client(url) as client:
            await client.enter()
            assert (await client.frame(PING)) == frame(PING, client.own)


async def test_the_listening_side_leaves_it_to_the_other_one_to_ask_first() -> None:
    async with accepting(keep_alive=60.0, timeout=1_000.0) as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            due = stream.check(stream.last_heard)
            assert due == pytest.approx(stream.last_heard + 60.05, abs=0.01)


# ---- what is accepted of those who listen and connect ---------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 0o777])
def test_a_path_may_be_for_nobody_and_for_everybody(mode: int) -> None:
    ZeroMQTransport(ipc_mode=mode)
    with pytest.raises(ValueError, match="ipc_mode is from 0 to 0o777"):
        ZeroMQTransport(ipc_mode=mode + 1 if mode else -1)


@pytest.mark.parametrize("number", [1, 1_000_000_000])
@pytest.mark.parametrize("name", ["window", "high_water_mark"])
def test_the_smallest_and_the_largest_window_are_taken(name: str, number: int) -> None:
    ZeroMQTransport(**{name: number})  # type: ignore[arg-type] # all of these are numbers
    with pytest.raises(ValueError, match=f"{name} is a number from 1 to 1,000,000,000"):
        ZeroMQTransport(**{name: number + 1 if number > 1 else 0})  # type: ignore[arg-type] # likewise


async def test_nobody_listens_beyond_this_machine_without_being_asked_to() -> None:
    with anyio.fail_after(10), pytest.raises(InsecureListenerError):
        await serve_alone(ZeroMQTransport(), "zmq+tcp://0.0.0.0:0")


async def test_nobody_connects_to_a_port_that_the_system_is_to_choose() -> None:
    with anyio.fail_after(10), pytest.raises(InvalidURLError):
        async with ZeroMQTransport().connect("zmq+tcp://127.0.0.1:0", TransportOptions()):
            pass


def fits(path: Path) -> bool:
    """Give whether the system takes a path for a socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.bind(str(path))
        except OSError:
            return False
    path.unlink()
    return True


def test_a_path_may_be_as_long_as_the_system_takes_it() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        for length in range(100, 112):
            path = Path(folder) / ("x" * (length - len(folder) - 1))
            with nullcontext() if fits(path) else pytest.raises(InvalidURLError):
                parse_url(f"zmq+ipc://{path}", listening=True)


@pytest.mark.parametrize("host", ["1:2:3", "::1::2", "12345::", "::1.2.3", "::g"])
def test_what_looks_like_an_address_of_ipv6_and_is_none_is_refused(host: str) -> None:
    with pytest.raises(InvalidURLError):
        parse_url(f"zmq+tcp://[{host}]:3001", listening=False)


# ---- what comes, byte by byte ---------------------------------------------------------------------------------------


def test_who_is_the_server_of_curve_says_so_in_its_greeting() -> None:
    as_server = 32  # where RFC 37 has it
    assert greeting(CURVE)[as_server] == 1
    assert greeting(NULL)[as_server] == 0


@pytest.mark.parametrize(("size", "header"), [(0, 2), (255, 2), (256, 9)])
def test_a_frame_has_the_shortest_header_that_there_is(size: int, header: int) -> None:
    assert len(encode(bytes(size))) == header + size


def test_frames_that_come_byte_by_byte_are_read_and_nothing_of_them_is_kept() -> None:
    reader = FrameReader(1_000)
    for body in (b"one", b"", b"x" * 300):
        *begin, last = encode(body)
        for byte in begin:
            reader.feed(bytes([byte]))
            assert reader.take() is None
        reader.feed(bytes([last]))
        assert reader.take() == Frame(0, body)
        assert reader.take() is None
        assert not reader._data


def test_frames_of_which_there_is_always_one_in_part_are_not_kept_when_they_were_read() -> None:
    reader = FrameReader(1_000)
    one = encode(bytes(100))
    reader.feed(one[:50])
    for _ in range(100):
        reader.feed(one[50:] + one[:50])
        assert reader.take() == Frame(0, bytes(100))
        assert reader.take() is None
        assert len(reader._data) < 3 * len(one)


def test_a_ping_may_carry_sixteen_bytes() -> None:
    assert pong(b"\0\0" + b"c" * 16) == command(b"PONG", b"c" * 16)
    with pytest.raises(PeerViolationError, match="malformed PING"):
        pong(b"\0\0" + b"c" * 17)


@pytest.mark.parametrize(
    "data",
    [b"\x01a\0\0\0\x05four", b"\x01a\0\0", b"\x05a", b"\0\0\0\0\0", b"\0\0\0\0\x04four"],
    ids=["value", "its length", "name", "no name", "no name, but a value"],
)
def test_metadata_that_does_not_add_up_is_a_violation(data: bytes) -> None:
    good = b"\x01n\0\0\0\x05value"
    assert read_metadata(good) == {b"n": b"value"}
    with pytest.raises(PeerViolationError, match="malformed metadata"):
        read_metadata(good + data)


@pytest.mark.parametrize(("kind", "text"), [(b"REQ", "REQ"), (b"", "of no type")])
def test_a_socket_that_carries_no_link_is_told_by_its_type(kind: bytes, text: str) -> None:
    with pytest.raises(PeerViolationError, match=f"its socket is {text}$"):
        check_metadata(encode_metadata([(b"Socket-Type", kind)]))
