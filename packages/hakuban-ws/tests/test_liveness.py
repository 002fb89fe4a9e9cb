"""Signs of life: when pings are sent, and when silence ends a link."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from hakuban.transport import LinkTimeoutError, TransportOptions
from hakuban_ws import WebSocketTransport
from support.waiting import until
from support.websocket import (
    BINARY,
    FIN,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Certificates,
    accepting,
    frame,
    linked,
    port_of,
    raw_client,
    raw_listener,
)

if TYPE_CHECKING:
    from hakuban_ws._stream import WebSocketStream
    from support.websocket import RawPeer

pytestmark = pytest.mark.long


async def until_it_ends(stream: Any) -> Exception:
    while True:
        try:
            await stream.receive()
        except Exception as error:  # noqa: BLE001 # whatever it is, it is looked at
            return error


async def ping_times(peer: RawPeer, count: int) -> list[float]:
    """When pings arrive, among other frames; the first time is now."""
    times = [time.monotonic()]
    with anyio.fail_after(10):
        while len(times) <= count:
            if (await peer.read_frame())[0] == FIN | PING:
                times.append(time.monotonic())
    return times


def far_apart(times: list[float], least: float) -> bool:
    return all(later - earlier > least for earlier, later in itertools.pairwise(times))


# -- the task itself


# -- links


async def test_no_ping_at_connect_and_one_each_keep_alive_of_an_idle_link() -> None:
    async with raw_client(keep_alive=0.3) as (_, peer):
        times = await ping_times(peer, 3)
        assert far_apart(times, 0.25)
        assert times[-1] - times[0] < 2


async def test_a_link_on_which_we_only_receive_is_pinged_too() -> None:
    async with raw_client(keep_alive=0.3) as (stream, peer), anyio.create_task_group() as group:
        group.start_soon(until_it_ends, stream)

        async def talk() -> None:
            while True:
                await peer.frame(FIN | BINARY, b"x")
                await anyio.sleep(0.05)

        group.start_soon(talk)
        assert far_apart(await ping_times(peer, 2), 0.25)
        group.cancel_scope.cancel()


async def test_a_link_on_which_we_only_send_is_pinged_too() -> None:
    async with raw_client(keep_alive=0.3) as (stream, peer), anyio.create_task_group() as group:

        async def talk() -> None:
            while True:
                await stream.send([b"x"])
                await anyio.sleep(0.05)

        group.start_soon(talk)
        assert far_apart(await ping_times(peer, 2), 0.25)
        group.cancel_scope.cancel()


async def test_a_link_busy_both_ways_is_not_pinged() -> None:
    async with raw_client(keep_alive=1) as (stream, peer), anyio.create_task_group() as group:

        async def echo() -> None:
            while True:
                await stream.send(await stream.receive())

        async def talk() -> None:
            while True:
                await peer.frame(FIN | BINARY, b"x")
                await anyio.sleep(0.05)

        group.start_soon(echo)
        group.start_soon(talk)
        with anyio.move_on_after(2.5):
            while True:
                assert await peer.read_frame() == (FIN | BINARY, b"x")
        group.cancel_scope.cancel()


@pytest.mark.parametrize("limit", [0.3, 1.0])
async def test_silence_ends_a_link_after_the_timeout_and_not_100_ms_later(limit: float) -> None:
    async with raw_client(keep_alive=10, timeout=limit) as (stream, _):
        started = time.monotonic()
        error = await until_it_ends(stream)
        seconds = time.monotonic() - started
        assert isinstance(error, LinkTimeoutError)
        assert error.timeout == limit
        assert limit - 0.05 < seconds < limit + 0.15
        assert isinstance(await until_it_ends(stream), LinkTimeoutError)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send([b"x"])


async def test_silence_ends_a_send_that_waits() -> None:
    async with raw_client(keep_alive=10, timeout=0.3) as (stream, _):
        with anyio.fail_after(2), pytest.raises(anyio.BrokenResourceError):
            await stream.send([bytes(50_000_000)])
        assert isinstance(await until_it_ends(stream), LinkTimeoutError)


async def test_a_silent_peer_is_not_waited_for_when_closing() -> None:
    async with raw_client(keep_alive=10, timeout=0.2) as (stream, peer):
        assert isinstance(await until_it_ends(stream), LinkTimeoutError)
        with anyio.fail_after(0.3):
            await stream.aclose(1001, "silent")
        assert (await peer.read_frame())[1] == b"\x03\xe9silent"


SIGNS = [
    frame(FIN | PONG, masked=True),
    frame(FIN | PING, masked=True),
    frame(FIN | TEXT, b".", masked=True),
    b"\x82",  # the first byte of a message that does not come
]


async def test_any_bytes_are_life() -> None:
    async with raw_client(keep_alive=10, timeout=0.4) as (stream, peer):
        ended = anyio.Event()

        async def watch() -> None:
            await until_it_ends(stream)
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            for sign in SIGNS:
                await peer.send(sign)
                await anyio.sleep(0.2)
                assert not ended.is_set()
            with anyio.fail_after(1):
                await ended.wait()


async def heard_after(stream: WebSocketStream, before: float) -> float:
    """Wait until the other side was heard again, and say when that was; not later than now."""
    await until(lambda: stream.last_heard > before)
    assert stream.last_heard <= time.monotonic()
    return stream.last_heard


async def test_the_handshake_is_the_first_that_was_heard_and_any_byte_after_it_counts() -> None:
    started = time.monotonic()
    async with raw_client(keep_alive=10) as (stream, peer), anyio.create_task_group() as group:
        assert started < stream.last_heard < time.monotonic()
        group.start_soon(until_it_ends, stream)
        heard = stream.last_heard
        for sign in SIGNS:
            await peer.send(sign)
            heard = await heard_after(stream, heard)
        await stream.send([b"what we say counts for nothing"])
        assert stream.last_heard == heard
        group.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["reset", "silence"])
async def test_when_the_other_side_was_last_heard_is_known_after_the_end(how: str) -> None:
    async with accepting(keep_alive=10, timeout=0.3) as (url, accepted):
        with socket.create_connection(("127.0.0.1", port_of(url))) as peer:
            peer.sendall(UPGRADE + b"\r\n")
            stream = await accepted.receive()
            peer.sendall(frame(FIN | BINARY, b"last words", masked=True))
            assert list(await stream.receive()) == [b"last words"]
            heard = stream.last_heard
            if how == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()
            ended = await until_it_ends(stream)
            assert isinstance(ended, LinkTimeoutError) is (how == "silence")
            assert stream.last_heard == heard
            await stream.aclose()
            assert stream.last_heard == heard


async def test_the_end_of_the_stream_without_a_close_frame_was_heard() -> None:
    async with raw_client() as (stream, peer):
        heard = stream.last_heard
        await peer.stream.aclose()  # as the system does for a process that was killed
        assert isinstance(await until_it_ends(stream), anyio.BrokenResourceError)
        assert stream.last_heard > heard


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_on_an_idle_link_both_sides_hear_each_other(
    scheme: str, certificates: Certificates
) -> None:
    secure = scheme == "wss"
    listening: dict[str, Any] = {"ssl": certificates.listening()} if secure else {}
    connecting = {"ssl": certificates.connecting()} if secure else {}
    url = f"{scheme}://127.0.0.1:0"
    async with linked(url, connect=connecting, keep_alive=0.1, **listening) as ends:
        async with anyio.create_task_group() as group:
            for end in ends:
                group.start_soon(until_it_ends, end)
            for end in ends:
                heard = await heard_after(end, end.last_heard)
                await heard_after(end, heard)
            group.cancel_scope.cancel()


async def test_what_waits_unread_is_life_while_the_user_does_not_read() -> None:
    async with raw_client(keep_alive=10, timeout=0.2) as (stream, peer):
        await peer.frame(FIN | BINARY, b"early")
        await anyio.sleep(0.6)
        assert list(await stream.receive()) == [b"early"]
        assert isinstance(await until_it_ends(stream), LinkTimeoutError)


async def test_a_standstill_of_this_side_ends_no_link_to_a_peer_that_only_answers() -> None:
    """As a node of the crate, which says nothing by itself for a minute: nothing waits unread after the standstill."""
    async with raw_client(keep_alive=0.1, timeout=0.4) as (stream, peer):

        async def answer() -> None:
            while True:
                if (await peer.read_frame())[0] == FIN | PING:
                    await peer.frame(FIN | PONG)

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            group.start_soon(until_it_ends, stream)
            heard = await heard_after(stream, stream.last_heard)
            time.sleep(0.6)  # noqa: ASYNC251 # the whole loop stands still
            await heard_after(stream, heard + 0.6)
            await anyio.sleep(0.8)
            await stream.send([b"still here"])
            group.cancel_scope.cancel()


async def test_two_of_ours_keep_an_idle_link_up_by_themselves() -> None:
    async with linked(keep_alive=0.1, timeout=0.3) as (connected, accepted):
        with anyio.move_on_after(1) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(connected.receive)
                group.start_soon(accepted.receive)
        assert scope.cancelled_caught


async def test_an_answer_that_found_the_socket_full_goes_out_soon_without_a_sender() -> None:
    async with raw_client(keep_alive=10) as (stream, peer):
        # Exactly as much as the kernel takes, so that nobody waits to send.
        channel = stream._channel
        while channel.flush_nowait():
            channel.write(frame(FIN | BINARY, bytes(60_000), masked=False))
        async with anyio.create_task_group() as group:
            group.start_soon(stream.receive)
            await peer.frame(FIN | PING, b"stuck")
            with anyio.fail_after(5):
                while (await peer.read_frame()) != (FIN | PONG, b"stuck"):
                    pass
            group.cancel_scope.cancel()


@pytest.mark.parametrize("ours", [True, False])
async def test_the_default_timeout_depends_on_whose_the_peer_is(*, ours: bool) -> None:
    offer = b"Sec-WebSocket-Protocol: hakuban.0.8\r\n" if ours else b""
    async with raw_client(headers=offer) as (stream, _):
        assert stream.peer_is_ours is ours
        assert stream._keep_alive.timeout == (6 if ours else 20)


async def test_the_connecting_side_watches_too() -> None:
    async def talk(peer: RawPeer) -> None:
        await peer.accept()
        assert (await peer.read_frame())[0] == FIN | PING
        await anyio.sleep_forever()

    options = TransportOptions(keep_alive=0.1, timeout=0.4)
    async with raw_listener(talk) as url, WebSocketTransport().connect(url, options) as stream:
        with anyio.fail_after(2):
            assert isinstance(await until_it_ends(stream), LinkTimeoutError)
