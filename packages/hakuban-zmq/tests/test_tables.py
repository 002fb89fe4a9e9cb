"""Whoever comes and goes leaves nothing: no entry in a table of a listener that stays, and nothing that was made for it.

What the collector would free counts as left: it is off.
"""

from __future__ import annotations

import gc
import socket
from collections import Counter, deque
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import pytest

from hakuban._loops.tracebacks import forget_frames
from hakuban.transport import Heartbeats, LinkError, RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport, write_keys
from hakuban_zmq._connector import Connector
from hakuban_zmq._contexts import shared
from hakuban_zmq._frames import (
    BYE,
    BYE_ACK,
    CHUNK,
    HEADER,
    SESSION,
    VERSION,
    WELCOME,
    Hello,
    Refusal,
    Welcome,
    chunks,
    encode_bye,
    frame,
    read_hello,
)
from hakuban_zmq._listener import Listener
from hakuban_zmq._stream import ZeroMQStream
from support.raw_wires import reset
from support.tracing import collector_off
from support.waiting import until
from support.zeromq import WIDE, serving
from support.zmtp import GREETING, framed, greet, take_from, where

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from hakuban.transport import MessageStream

HELLO = framed(Hello(b"c" * SESSION, VERSION, WIDE).encode())


# ---- what there is --------------------------------------------------------------------------------------------------


def is_ours(one: object) -> bool:
    module = type(one).__module__  # a descriptor, of some builtin types
    return isinstance(module, str) and module.startswith("hakuban")


def entries(root: object) -> Counter[str]:
    """Count what is in the tables of an object of ours and of its parts, by the class that has them."""
    found = Counter[str]()
    pending, seen = [(root, type(root).__name__)], {id(root)}
    while pending:
        one, owner = pending.pop()
        for part in gc.get_referents(one):
            if id(part) in seen:
                continue
            seen.add(id(part))
            if isinstance(part, (dict, list, set, deque, WeakKeyDictionary)):
                found[owner] += len(part)
                pending.append((part, owner))
            # that holds links weakly, and an entry for one that is gone until its check would have been due
            elif is_ours(part) and type(part) is not Heartbeats:
                pending.append((part, type(part).__name__))
    return found


def made(*classes: type) -> Counter[str]:
    """Count the objects of ours that there are, of these classes or of all."""
    return Counter(
        type(one).__name__
        for one in gc.get_objects()
        if (type(one) in classes if classes else is_ours(one))
    )


def listener_at(url: str) -> Listener:
    """Give the one that listens there; others did, and wait for the collector."""
    listeners = [one for one in gc.get_objects() if type(one) is Listener and one._url == url]
    (found,) = (one for one in listeners if not one._acceptor.closed)
    return found


async def leaves_nothing(
    what: Callable[[], Counter[str]], visit: Callable[[], Awaitable[object]], visits: int = 4
) -> None:
    """Check that after several visits there is no more than after one; each visit has been dealt with when it ends."""
    with collector_off():
        await visit()
        before = what()
        for _ in range(visits - 1):
            await visit()
        with anyio.move_on_after(5):
            await until(lambda: what() <= before)
        assert what() - before == Counter()


# ---- the listening side ---------------------------------------------------------------------------------------------


async def take_all(stream: MessageStream) -> None:
    try:
        while list(await stream.receive()) != [b"close"]:
            pass
    except (anyio.EndOfStream, anyio.BrokenResourceError, LinkError) as end:
        forget_frames(end)  # as a node does: the stream keeps it, and it this frame
    finally:
        await stream.aclose()


def knock(sock: socket.socket, hello: bytes = HELLO) -> Iterator[bytes]:
    """Say hello; give the frames of the listener."""
    frames = greet(sock.sendall, partial(take_from, sock))
    sock.sendall(hello)
    return frames


def enter(sock: socket.socket) -> tuple[Iterator[bytes], bytes]:
    """Be welcomed; give the frames of the listener, and its session."""
    frames = knock(sock)
    welcome = next(frames)
    assert welcome[0] == WELCOME
    return frames, welcome[HEADER + 1 : HEADER + 1 + SESSION]


def says_nothing(_: socket.socket) -> None:
    pass


def vanishes_while_it_greets(sock: socket.socket) -> None:
    sock.sendall(GREETING[:20])


def vanishes_before_hello(sock: socket.socket) -> None:
    greet(sock.sendall, partial(take_from, sock))


def speaks_another_version(sock: socket.socket) -> None:
    next(knock(sock, framed(Hello(b"c" * SESSION, VERSION + 1, WIDE).encode())))


def vanishes(sock: socket.socket) -> None:
    enter(sock)


def is_reset(sock: socket.socket) -> None:
    enter(sock)
    reset(sock)


def vanishes_in_a_message(sock: socket.socket) -> None:
    _, session = enter(sock)
    *begun, _ = chunks([bytes(4 * CHUNK)], session)
    sock.sendall(b"".join(map(framed, begun)))


def says_goodbye(sock: socket.socket) -> None:
    frames, session = enter(sock)
    sock.sendall(framed(encode_bye(session, 1000, "")))
    assert next(frames)[0] == BYE_ACK


def is_closed_by_the_listener(sock: socket.socket) -> None:
    frames, session = enter(sock)
    sock.sendall(b"".join(map(framed, chunks([b"close"], session))))
    assert next(data for data in frames if data[0] == BYE)
    sock.sendall(framed(frame(BYE_ACK, session)))


def breaks_a_rule(sock: socket.socket) -> None:
    frames, session = enter(sock)
    sock.sendall(framed(frame(99, session)))
    assert next(frames)[0] == BYE


VISITORS = [
    says_nothing,
    vanishes_while_it_greets,
    vanishes_before_hello,
    speaks_another_version,
    vanishes,
    is_reset,
    vanishes_in_a_message,
    says_goodbye,
    is_closed_by_the_listener,
    breaks_a_rule,
]


async def visit(url: str, visitor: Callable[[socket.socket], object]) -> None:
    """Have somebody come and go, and after that somebody who is let in: by then both have been accepted."""

    def come_and_go() -> None:
        for one in (visitor, vanishes):
            with connected(url) as sock:
                one(sock)

    await anyio.to_thread.run_sync(come_and_go)


def connected(url: str) -> socket.socket:
    return socket.create_connection(where(url), timeout=10)


@pytest.mark.parametrize("visitor", VISITORS, ids=lambda one: one.__name__)
async def test_a_visitor_leaves_no_entry_in_a_table_of_a_listener(
    visitor: Callable[[socket.socket], object],
) -> None:
    async with serving(take_all) as url:
        await leaves_nothing(partial(entries, listener_at(url)), partial(visit, url, visitor))


async def test_visitors_leave_nothing_that_was_made_for_them() -> None:
    async with serving(take_all) as url:

        async def let_all_come_and_go() -> None:
            async with anyio.create_task_group() as group:
                for visitor in VISITORS:
                    group.start_soon(visit, url, visitor)

        await leaves_nothing(made, let_all_come_and_go)


@pytest.mark.parametrize("listed", [True, False])
async def test_who_has_a_key_leaves_no_entry_in_a_table_of_a_listener(
    tmp_path: Path, listed: bool
) -> None:
    public, secret = write_keys(tmp_path, "listener")
    _, known = write_keys(tmp_path / "listed", "known")
    _, unknown = write_keys(tmp_path, "unknown")
    listening = ZeroMQTransport(secret_key_file=secret, client_keys=tmp_path / "listed")
    connecting = ZeroMQTransport(
        secret_key_file=known if listed else unknown, server_key_file=public
    )

    async def come_and_go() -> None:
        with nullcontext() if listed else pytest.raises(RefusedError):
            async with connecting.connect(url, TransportOptions()):
                pass

    async with serving(take_all, transport=listening) as url:
        visits = (
            4 if listed else 2
        )  # each time it is looked up in the directory, every 0.5 s at most
        await leaves_nothing(partial(entries, listener_at(url)), come_and_go, visits)


# ---- the connecting side --------------------------------------------------------------------------------------------


def take_hello(sock: socket.socket) -> tuple[Iterator[bytes], bytes]:
    """Give the frames of who connects, and its session."""
    frames = greet(sock.sendall, partial(take_from, sock), b"ROUTER")
    return frames, read_hello(next(frames)).session


def welcome(sock: socket.socket) -> tuple[Iterator[bytes], bytes]:
    frames, session = take_hello(sock)
    sock.sendall(framed(Welcome(VERSION, b"l" * SESSION, 0, WIDE).encode(session)))
    return frames, session


def is_lost(sock: socket.socket) -> None:
    welcome(sock)


def is_lost_in_a_message(sock: socket.socket) -> None:
    _, session = welcome(sock)
    *begun, _ = chunks([bytes(4 * CHUNK)], session)
    sock.sendall(b"".join(map(framed, begun)))


def goes(sock: socket.socket) -> None:
    frames, session = welcome(sock)
    sock.sendall(framed(encode_bye(session, 1001, "")))
    assert next(frames)[0] == BYE_ACK


def refuses(sock: socket.socket) -> None:
    frames, session = take_hello(sock)
    sock.sendall(framed(Refusal("not today", retry=False).encode(session)))
    next(frames)  # none: it goes


def never_answers(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


LISTENERS = [is_lost, is_lost_in_a_message, goes, refuses, never_answers]


@pytest.mark.parametrize("listener", LISTENERS, ids=lambda one: one.__name__)
async def test_a_link_that_was_made_or_not_leaves_no_socket_and_no_stream(
    listener: Callable[[socket.socket], object],
) -> None:
    options = TransportOptions(handshake_timeout=0.1 if listener is never_answers else 10)

    def answer() -> None:
        accepted, _ = server.accept()
        with accepted, suppress(EOFError):
            listener(accepted)

    async def connect() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, answer)
            try:
                async with ZeroMQTransport().connect(url, options) as stream:
                    await take_all(stream)
            except (RefusedError, OSError) as error:
                forget_frames(error)
        assert shared._users == 0

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"
        await leaves_nothing(partial(made, Connector, ZeroMQStream), connect)


async def test_an_attempt_at_an_address_where_nobody_listens_is_kept_by_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"

    async def connect() -> None:
        with suppress(ConnectionRefusedError):
            async with ZeroMQTransport().connect(url, TransportOptions()):
                pass

    await leaves_nothing(partial(made, Connector), connect)
