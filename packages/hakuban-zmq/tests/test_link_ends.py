"""What ends a link, and what its end waits for: keys that are taken off the list, cancellation, sockets and contexts."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

import anyio
import pytest
import zmq

from hakuban.transport import Heartbeats, RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport, _revocation
from hakuban_zmq._allow_list import AllowList
from hakuban_zmq._connector import Connector
from hakuban_zmq._contexts import MAX_SOCKETS, shared
from hakuban_zmq._revocation import Revocation
from hakuban_zmq._urls import parse_url
from support.waiting import until
from support.zeromq import WIDE, accepting, end_of, raw_listener

if TYPE_CHECKING:
    from pathlib import Path


class Link:
    """A link that counts how often it is ended."""

    remote_address = "10.0.0.7"

    def __init__(self) -> None:
        self.ends = 0

    def revoke(self, _: str, /) -> None:
        self.ends += 1


def allow(file: Path) -> str:
    key, _ = zmq.curve_keypair()
    file.write_text(f'curve\n    public-key = "{key.decode()}"\n')
    return key.decode()


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_a_link_whose_key_was_taken_off_is_ended_once_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    allowed, gone, stays = AllowList(tmp_path), Link(), Link()
    revocation = Revocation(allowed)
    key = allow(tmp_path / "gone.key")
    revocation.watch(gone, key)
    revocation.watch(stays, allow(tmp_path / "stays.key"))
    allowed.read()
    revocation.admit(key)
    (tmp_path / "gone.key").unlink()
    for ends in (0, 0, 1, 1, 1):
        revocation.check(0.0)
        assert (gone.ends, stays.ends) == (ends, 0)
        allowed.read()
    assert caplog.messages == [f"10.0.0.7: its key is not allowed any more: {key}"]
    with pytest.raises(RefusedError) as caught:
        revocation.admit(key)
    assert not caught.value.retry


async def test_links_are_compared_with_each_look_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_PERIOD", "_AGAIN"):
        monkeypatch.setattr(_revocation, name, 0.01)
    allowed, link, heartbeats = AllowList(tmp_path), Link(), Heartbeats()
    key = allow(tmp_path / "who.key")
    allowed.read()
    revocation = Revocation(allowed)
    revocation.watch(link, key)
    async with anyio.create_task_group() as tasks:
        revocation.begin(heartbeats)
        tasks.start_soon(heartbeats.run)
        await until(lambda: revocation._looks == 1)
        (tmp_path / "who.key").unlink()
        allowed.read()
        await until(lambda: revocation._looks == 2)
        assert link.ends == 0
        allowed.read()
        await until(lambda: link.ends)
        tasks.cancel_scope.cancel()


def test_without_a_list_nothing_is_compared() -> None:
    revocation, link, heartbeats = Revocation(None), Link(), Heartbeats()
    revocation.begin(heartbeats)
    revocation.watch(link, "key")
    revocation.admit("key")
    assert not heartbeats._order


# ---- cancellation, and sockets --------------------------------------------------------------------------------------


async def test_whoever_is_cancelled_says_goodbye_and_has_closed_its_socket_by_then() -> None:
    async with accepting() as (url, accepted):
        for _ in range(2):
            with anyio.CancelScope() as scope:
                async with ZeroMQTransport().connect(url, TransportOptions()):
                    other_end = await accepted.receive()
                    scope.cancel()
                    await anyio.sleep_forever()
            assert shared._users == 0
            assert isinstance(await end_of(other_end), anyio.EndOfStream)


@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled, and stopped"])
async def test_an_attempt_watches_its_socket_until_it_is_stopped_and_leaves_none(
    *, cancelled: bool
) -> None:
    with raw_listener() as listener:
        endpoint = parse_url(listener.url, listening=False)
        connector = Connector(endpoint, TransportOptions(), WIDE, Heartbeats())
        connector.open(None)
        sockets = [watched.socket for watched in connector._watched_sockets]
        assert len(sockets) == 2  # with the monitor's
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connector.run)
            if cancelled:
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await listener.welcome()
                await connector.answer()
                assert not any(socket.closed for socket in sockets)
                await connector.stop()
                assert all(socket.closed for socket in sockets)
        assert shared._users == 0


@pytest.mark.parametrize("failing", ["the monitor's", "its own"])
async def test_an_attempt_that_cannot_connect_a_socket_leaves_none(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    connected: list[zmq.Socket[bytes]] = []
    real = zmq.Socket.connect

    def connect(sock: zmq.Socket[bytes], address: str) -> None:
        connected.append(sock)
        if address.startswith("inproc:") == (failing == "the monitor's"):
            raise zmq.ZMQError(errno.EMFILE)
        real(sock, address)

    monkeypatch.setattr(zmq.Socket, "connect", connect)
    endpoint = parse_url("zmq+tcp://127.0.0.1:1", listening=False)
    connector = Connector(endpoint, TransportOptions(), WIDE, Heartbeats())
    with pytest.raises(OSError, match="ulimit -n"):
        connector.open(None)
    monkeypatch.undo()
    assert connected
    assert all(sock.closed for sock in connected)
    assert shared._users == 0


def test_a_process_has_room_for_thousands_of_links() -> None:
    context = shared.acquire()
    try:
        assert context.get(zmq.MAX_SOCKETS) == MAX_SOCKETS
    finally:
        shared.release(context)
