"""URLs, and what can be bound and connected to."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import pytest

from hakuban.transport import (
    ConnectionRequest,
    Identity,
    InvalidURLError,
    RefusedError,
    TransportOptions,
    redacted,
)
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._urls import LONGEST_PATH, parse_url
from support.addresses import resolve_to
from support.zeromq import accepting, linked, peer_process, serve_alone, serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from hakuban.transport import MessageStream

WRONG = {
    "tcp://127.0.0.1:1": "the scheme",
    "zmq+udp://127.0.0.1:1": "the scheme",
    "zmq+tcp://127.0.0.1:1#timeout=1": "no fragment",
    "zmq+tcp://127.0.0.1:1 ": "a blank",
    "zmq+tcp://[1:2]:1": "the host is",
    "zmq+ipc:///": "absolute path",
    "zmq+ipc:///with space": "a blank",
    "zmq+ipc://@": "absolute path",
    "zmq+ipc:///a?b": "no query",
}


@pytest.mark.parametrize("url", WRONG)
def test_what_is_wrong_with_a_url_is_said(url: str) -> None:
    with pytest.raises(InvalidURLError, match=WRONG[url]) as caught:
        parse_url(url, listening=True)
    assert caught.value.url == redacted(url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("zmq+tcp://127.0.0.1:3001", "tcp://127.0.0.1:3001"),
        ("zmq+tcp://127.0.0.1:3001/", "tcp://127.0.0.1:3001"),
        ("zmq+tcp://Host.Example:3001", "tcp://host.example:3001"),
        ("zmq+tcp://[::1]:3001", "tcp://[::1]:3001"),
        ("zmq+ipc:///run/x.sock", "ipc:///run/x.sock"),
        ("zmq+ipc://@name", "ipc://@name"),
        ("zmq+inproc://name", "inproc://name"),
    ],
)
def test_a_url_becomes_an_address_and_again_a_url(url: str, address: str) -> None:
    endpoint = parse_url(url, listening=False)
    assert endpoint.address == address
    assert str(parse_url(str(endpoint), listening=False)) == str(endpoint) == f"zmq+{address}"


def test_brackets_without_an_address_are_wrong_where_python_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python before 3.11.4 does."""
    monkeypatch.setattr("urllib.parse._check_bracketed_host", print, raising=False)
    with pytest.raises(InvalidURLError, match="neither a name nor an address"):
        parse_url("zmq+tcp://[1:2:3]:1", listening=True)


def test_a_path_may_be_as_long_as_the_system_lets_it_be(tmp_path: Path) -> None:
    start = f"{tmp_path}/"
    longest = start + "x" * (LONGEST_PATH - len(start))
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(OSError, match="too long"):
            sock.bind(f"{longest}x")
        sock.bind(longest)
    assert parse_url(f"zmq+ipc://{longest}", listening=True).host == longest
    with pytest.raises(InvalidURLError, match="shorten it"):
        parse_url(f"zmq+ipc://{longest}x", listening=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_the_bound_url_has_the_real_port(host: str) -> None:
    async with accepting(f"zmq+tcp://{host}:0") as (url, accepted):
        assert url.startswith(f"zmq+tcp://{host}:")
        assert not url.endswith(":0")
        async with ZeroMQTransport().connect(url, TransportOptions()) as stream:
            other_end = await accepted.receive()
            await stream.send([b"x"])
            assert list(await other_end.receive()) == [b"x"]
            assert other_end.local_address == url
            host_there, _, port = other_end.remote_address.rpartition(":")
            assert host_there in ("127.0.0.1", "[::1]")
            assert 0 < int(port) < 65536


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_name_can_be_bound() -> None:
    async with linked("zmq+ipc://@hakuban-test") as (one, two):
        await one.send([b"x"])
        assert list(await two.receive()) == [b"x"]


async def cannot_be_bound(url: str) -> OSError:
    with anyio.fail_after(5), pytest.raises(OSError) as caught:  # noqa: PT011 # the caller looks at it
        await serve_alone(ZeroMQTransport(), url)
    return caught.value


async def test_an_address_that_is_taken_cannot_be_bound(tmp_path: Path) -> None:
    for where in ("zmq+tcp://127.0.0.1:0", f"zmq+ipc://{tmp_path}/s", "zmq+inproc://taken"):
        async with accepting(where) as (url, accepted):
            assert "in use" in str(await cannot_be_bound(url))
            async with ZeroMQTransport().connect(url, TransportOptions()):
                await accepted.receive()
        async with accepting(url):  # and afterwards it can, at once
            pass


async def test_a_foreign_socket_takes_an_address_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "in use" in str(await cannot_be_bound(f"zmq+tcp://127.0.0.1:{port}"))


async def test_a_path_that_somebody_left_behind_can_be_bound(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with linked(f"zmq+ipc://{tmp_path}/s") as (one, two):
        await one.send([b"x"])
        assert list(await two.receive()) == [b"x"]


async def test_a_path_that_a_killed_process_left_behind_can_be_bound(tmp_path: Path) -> None:
    url = f"zmq+ipc://{tmp_path}/s"
    async with peer_process("listen", url) as process:
        process.kill()
    assert (tmp_path / "s").is_socket()
    async with linked(url) as (one, two):
        await one.send([b"x"])
        assert list(await two.receive()) == [b"x"]


async def test_a_path_that_cannot_be_bound_is_an_error(tmp_path: Path) -> None:
    await cannot_be_bound(f"zmq+ipc://{tmp_path}/missing/s")


# ---- who may connect to a path --------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o177], ids=oct)
def umask(request: pytest.FixtureRequest) -> Generator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_a_path_is_for_its_user_alone_unless_more_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"

    async def mode(transport: ZeroMQTransport) -> int:
        async with linked(f"zmq+ipc://{path}", transport) as (one, two):
            await one.send([b"x"])
            assert list(await two.receive()) == [b"x"]
            return stat.S_IMODE(path.stat().st_mode)

    assert await mode(ZeroMQTransport()) == 0o600
    assert await mode(ZeroMQTransport(ipc_mode=0o666)) == 0o666
    monkeypatch.setenv("HAKUBAN_ZMQ_IPC_MODE", "0660")
    assert await mode(ZeroMQTransport()) == 0o660
    assert await mode(ZeroMQTransport(ipc_mode=0o600)) == 0o600


@pytest.mark.usefixtures("umask")
async def test_nobody_gets_in_before_the_mode_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    early: list[int] = []
    real = type(path).chmod

    def fail(_descriptor: int, _mode: int) -> None:  # as it does where it is no Linux
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def chmod(self: Path, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as stranger:
            early.append(stranger.connect_ex(str(self)))
        real(self, mode)

    monkeypatch.setattr(os, "fchmod", fail)
    monkeypatch.setattr("pathlib.Path.chmod", chmod)
    async with accepting(f"zmq+ipc://{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(early) <= {errno.ECONNREFUSED}


@pytest.mark.parametrize("text", ["rw", "0o1000", "1777", "-1", "0680"])
def test_a_mode_that_is_none_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAKUBAN_ZMQ_IPC_MODE", text)
    check = ZeroMQTransport().check
    with pytest.raises(InvalidURLError, match="HAKUBAN_ZMQ_IPC_MODE"):
        check("zmq+ipc:///s", TransportOptions(), listening=True)
    check("zmq+tcp://127.0.0.1:0", TransportOptions(), listening=True)
    check("zmq+ipc:///s", TransportOptions(), listening=False)
    with pytest.raises(ValueError, match="ipc_mode"):
        ZeroMQTransport(ipc_mode=0o1000)


@pytest.mark.parametrize("mode", [0, 0o777], ids=oct)
async def test_a_path_may_be_for_nobody_or_for_everybody(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s"
    async with accepting(f"zmq+ipc://{path}", ZeroMQTransport(ipc_mode=mode)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("mode", [-1, 0o1000])
def test_an_argument_that_is_no_mode_is_an_error(mode: int) -> None:
    with pytest.raises(ValueError, match="ipc_mode is from 0 to 0o777"):
        ZeroMQTransport(ipc_mode=mode)


async def test_a_path_goes_with_its_listener_and_nobody_elses_does(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with linked(f"zmq+ipc://{path}"):
        assert path.is_socket()
    assert not path.exists()
    async with accepting(f"zmq+ipc://{path}"):
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_name_is_said_to_be_open_to_every_user(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def known(_: ConnectionRequest) -> Identity:
        return Identity("somebody")

    url = "zmq+ipc://@hakuban-test"
    async with accepting(url):
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"every user of this machine can connect to {url}" in record.getMessage()
    caplog.clear()
    async with accepting(url, authorize=known):
        pass
    async with accepting(url, insecure=True):
        pass
    async with accepting(f"zmq+ipc://{tmp_path}/s"):
        pass
    assert not caplog.records


@pytest.mark.parametrize(
    "url",
    ["zmq+tcp://127.0.0.1:1", "zmq+tcp://[::1]:1", "zmq+ipc:///nobody", "zmq+inproc://nobody"],
)
async def test_connecting_to_nobody_fails_at_once(url: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError, match="nobody"):
        async with ZeroMQTransport().connect(url, TransportOptions()):
            pass
    assert time.monotonic() - started < 0.5


async def test_an_address_that_keeps_silent_leaves_the_next_one_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(_: MessageStream) -> None:
        pass

    options = TransportOptions(handshake_timeout=2.0)
    async with serving(nothing, "zmq+tcp://127.0.0.2:0") as url:
        port = int(url.rpartition(":")[2])
        with socket.create_server(("127.0.0.1", port)):  # which nobody accepts from
            resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
            async with ZeroMQTransport().connect(f"zmq+tcp://lab:{port}", options) as stream:
                assert stream.remote_address == f"zmq+tcp://127.0.0.2:{port}"


async def test_a_host_that_nobody_knows_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError):  # noqa: PT011 # the resolver's words differ
        async with ZeroMQTransport().connect("zmq+tcp://nobody.invalid:1", TransportOptions()):
            pass


async def test_a_server_of_something_else_is_no_listener() -> None:
    async def talk(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n" * 10)
            await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, talk)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises((OSError, RefusedError)):
            async with ZeroMQTransport().connect(
                f"zmq+tcp://127.0.0.1:{port}", TransportOptions(handshake_timeout=1)
            ):
                pass
        group.cancel_scope.cancel()
