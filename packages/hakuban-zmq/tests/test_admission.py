"""What a listener asks of those who come, and what it does for whom it has let in."""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
import zmq
import zmq.auth

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
from support.waiting import until
from support.zeromq import WIDE, accepting, be_turned_away, raw_client, serve_alone, serving
from support.zmtp import everything, greet, take_from, where

if TYPE_CHECKING:
    from pathlib import Path

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


async def test_nobody_listens_beyond_this_machine_without_being_asked_to() -> None:
    with anyio.fail_after(10), pytest.raises(InsecureListenerError):
        await serve_alone(ZeroMQTransport(), "zmq+tcp://0.0.0.0:0")
