"""A host with several addresses: one that says nothing leaves the others their time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban import LocalNode
from hakuban.transport import MessageStream, RefusedError, TransportOptions
from hakuban_ws import WebSocketTransport
from support.addresses import needs_ipv6, resolve_to
from support.websocket import RawPeer, accepting, port_of, raw_listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SECOND = ["127.0.0.2", pytest.param("::1", marks=needs_ipv6)]


async def say_nothing(peer: RawPeer) -> None:
    await peer.rest()


async def begin_and_stop(peer: RawPeer) -> None:
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
    await peer.rest()


async def hang_up(peer: RawPeer) -> None:
    await peer.head()


async def reach(port: int, *, seconds: float = 10.0) -> str:
    """Connect within a time, and give the address that was reached."""
    url, options = f"ws://both:{port}/", TransportOptions(handshake_timeout=seconds)
    started = time.monotonic()
    async with WebSocketTransport().connect(url, options) as stream:
        assert time.monotonic() - started < seconds
        return stream.remote_address


@pytest.mark.long
@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", [say_nothing, begin_and_stop, hang_up])
async def test_the_next_address_is_tried_when_the_first_accepts_and_does_not_answer(
    first: Callable[[RawPeer], Awaitable[None]], second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"[{second}]" if ":" in second else second
    async with raw_listener(first) as silent:
        port = port_of(silent)
        async with accepting(f"ws://{host}:{port}"):
            resolve_to(monkeypatch, "127.0.0.1", second)
            assert await reach(port, seconds=1) == f"{host}:{port}"


async def test_a_node_gets_its_link_by_the_second_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_listener(say_nothing) as silent:
        port = port_of(silent)
        async with LocalNode(name="lab").listen(f"ws://127.0.0.2:{port}"):
            resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
            url = f"ws://both:{port}"
            with anyio.fail_after(5):
                async with LocalNode().connect(url, handshake_timeout=1) as connection:
                    assert connection.remote_name == "lab"


async def test_a_refusal_is_an_answer_and_nobody_else_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(peer: RawPeer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\nno\n")

    async def not_asked(stream: MessageStream) -> None:
        await stream.aclose()
        pytest.fail("a refusal is an answer")

    async with raw_listener(refuse) as first:
        port = port_of(first)
        serve = partial(WebSocketTransport().serve, f"ws://127.0.0.2:{port}", TransportOptions())
        async with anyio.create_task_group() as group:
            await group.start(partial(serve, not_asked))
            resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
            with pytest.raises(RefusedError, match="HTTP 403: no"):
                await reach(port)
            group.cancel_scope.cancel()


async def test_when_no_address_answers_each_is_named_and_the_time_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_listener(say_nothing) as silent:
        port = port_of(silent)
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")  # nobody listens at the second
        started = time.monotonic()
        with pytest.raises(OSError, match=r"both port") as caught:
            await reach(port, seconds=0.4)
        assert time.monotonic() - started < 1
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert f"127.0.0.2:{port}" in str(caught.value)
        assert "0.4 s" not in str(caught.value)  # it left the other one its share of them
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.1")  # which is one address
        with pytest.raises(TimeoutError, match=rf"127\.0\.0\.1:{port}: .*within 0\.4 s"):
            await reach(port, seconds=0.4)
