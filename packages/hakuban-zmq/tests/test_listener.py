"""Whom a listener lets in, what it writes of others into the log, and who gives up a place."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import psutil
import pytest

from hakuban.transport import RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport, write_keys
from hakuban_zmq._frames import (
    REFUSED,
    SESSION,
    VERSION,
    WELCOME,
    Hello,
    Refusal,
    frame,
    read_answer,
)
from support.raw_wires import reset
from support.waiting import until
from support.zeromq import WIDE, accepting, end_of, serving
from support.zmtp import GREETING, framed, greet, take_from, where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hakuban.transport import MessageStream

OWN = b"c" * SESSION
HELLO = framed(Hello(OWN, VERSION, WIDE).encode())


def connected(url: str) -> socket.socket:
    return socket.create_connection(where(url), timeout=5)


def knock(sock: socket.socket, hello: bytes = HELLO) -> Iterator[bytes]:
    """Say hello; give the frames of the listener."""
    frames = greet(sock.sendall, partial(take_from, sock))
    sock.sendall(hello)
    return frames


async def nobody(_: MessageStream) -> None:
    raise AssertionError("there is no link")


# ---- the log --------------------------------------------------------------------------------------------------------


def says_nothing(_: socket.socket) -> None:
    pass


def speaks_http(sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")


def speaks_another_version(sock: socket.socket) -> None:
    assert next(knock(sock, framed(Hello(OWN, VERSION + 1, WIDE).encode())))[0] == REFUSED


def says_no_hello(sock: socket.socket) -> None:
    knock(sock, framed(frame(99, OWN)))


def goes_while_it_greets(sock: socket.socket) -> None:
    sock.sendall(GREETING[:20])
    sock.shutdown(socket.SHUT_WR)


def goes_before_hello(sock: socket.socket) -> None:
    greet(sock.sendall, partial(take_from, sock))
    sock.shutdown(socket.SHUT_WR)


def is_reset(sock: socket.socket) -> None:
    greet(sock.sendall, partial(take_from, sock))
    reset(sock)


LINES = [
    (says_nothing, logging.INFO, "no link within 0.2 s"),
    (speaks_http, logging.INFO, "no link: this is no ZeroMQ"),
    (says_no_hello, logging.INFO, "no link: no hello of hakuban"),
    (
        speaks_another_version,
        logging.INFO,
        "refused: version 1 is spoken here, not 2: upgrade the older side",
    ),
    (goes_while_it_greets, logging.DEBUG, "gone before there was a link"),
    (goes_before_hello, logging.DEBUG, "gone before there was a link"),
    (is_reset, logging.DEBUG, "gone before there was a link"),
]


@pytest.mark.parametrize(
    ("visitor", "level", "text"), LINES, ids=[visitor.__name__ for visitor, *_ in LINES]
)
async def test_who_gets_no_link_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
    visitor: Callable[[socket.socket], object],
    level: int,
    text: str,
) -> None:
    caplog.set_level(logging.DEBUG, "hakuban")
    seconds = 0.2 if visitor is says_nothing else 10.0
    async with serving(nobody, handshake_timeout=seconds) as url:
        with connected(url) as sock:
            peer = "{}:{}".format(*sock.getsockname())
            await anyio.to_thread.run_sync(visitor, sock)
            await until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, f"{peer}: {text}")


async def test_whose_key_is_not_listed_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "hakuban")
    public, secret = write_keys(tmp_path, "listener")
    stranger, own = write_keys(tmp_path, "stranger")
    (tmp_path / "allowed").mkdir()
    listening = ZeroMQTransport(secret_key_file=secret, client_keys=tmp_path / "allowed")
    async with serving(nobody, transport=listening) as url:
        with pytest.raises(RefusedError):
            async with ZeroMQTransport(secret_key_file=own, server_key_file=public).connect(
                url, TransportOptions()
            ):
                pass
        await until(lambda: caplog.records)
    (record,) = caplog.records
    where, _, key = record.getMessage().partition(": its key is not allowed: ")
    assert where.startswith("127.0.0.1:")
    assert f'"{key}"' in stranger.read_text()


# ---- places ---------------------------------------------------------------------------------------------------------


async def test_the_silent_give_up_their_places_and_links_keep_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban._sockets.acceptor_places._SILENCE", 0.0)
    monkeypatch.setattr("hakuban_zmq._listener._TO_BE_REFUSED", 1)
    async with accepting(max_connections=2) as (url, accepted):
        with ExitStack() as crowd, anyio.fail_after(20):

            async def come() -> socket.socket:
                sock = crowd.enter_context(connected(url))
                await anyio.to_thread.run_sync(take_from, sock, len(GREETING))
                return sock

            links = []
            for _ in range(2):
                sock = crowd.enter_context(connected(url))
                frames = knock(sock)
                assert (await anyio.to_thread.run_sync(next, frames))[0] == WELCOME
                links.append((frames, await accepted.receive()))
            silent = await come()
            for _ in range(4):
                newcomer = await come()
                assert await anyio.to_thread.run_sync(silent.recv, 1) == b""
                silent = newcomer
            for frames, stream in links:
                await stream.send([b"still here"])
                data = await anyio.to_thread.run_sync(next, frames)
                assert data.endswith(b"still here")


async def test_as_many_links_as_allowed_and_another_as_soon_as_one_has_gone() -> None:
    async def handler(stream: MessageStream) -> None:
        await end_of(stream)

    def answer(sock: socket.socket) -> object:
        return read_answer(next(knock(sock)), OWN)

    async with serving(handler, max_connections=2) as url:
        with ExitStack() as crowd, anyio.fail_after(20):
            one, other, third = (crowd.enter_context(connected(url)) for _ in range(3))
            for sock in (one, other):
                assert not isinstance(await anyio.to_thread.run_sync(answer, sock), Refusal)
            text = "too many connections (max_connections=2)"
            refusal = Refusal(text, retry=True, code=1013)
            assert await anyio.to_thread.run_sync(answer, third) == refusal
            one.close()
            while True:
                with connected(url) as sock:
                    if await anyio.to_thread.run_sync(answer, sock) != refusal:
                        break


# ---- the socket -----------------------------------------------------------------------------------------------------


async def test_short_messages_wait_for_no_others() -> None:
    async with accepting() as (url, accepted):
        with connected(url) as sock:
            knock(sock)
            await accepted.receive()
            ends = sock.getpeername(), sock.getsockname()
            (number,) = (
                one.fd
                for one in psutil.Process().net_connections()
                if (one.laddr, one.raddr) == ends
            )
            with socket.socket(fileno=os.dup(number)) as other_end:
                assert other_end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
