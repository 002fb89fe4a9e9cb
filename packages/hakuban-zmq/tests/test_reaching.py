"""A connect on its way: what it says of a failure, how long it waits, and what it leaves behind."""

from __future__ import annotations

import math
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import zmq

from hakuban.transport import InvalidURLError, RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._frames import Refusal, encode_bye, read_hello
from support.addresses import resolve_to
from support.tracing import collector_off
from support.zeromq import accepting, raw_listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.zeromq import RawListener

NOBODY = "zmq+tcp://127.0.0.1:1"


@contextmanager
def cancelled_while_a_socket_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[anyio.CancelScope]:
    """Cancel the block when its first socket is closed, which is in the middle of its clean-up."""
    real = zmq.Socket.close

    def close(self: zmq.Socket[bytes], linger: int | None = None) -> None:
        scope.cancel()
        real(self, linger)

    with anyio.CancelScope() as scope, monkeypatch.context() as patch:
        patch.setattr(zmq.Socket, "close", close)
        yield scope


async def connect(url: str, **options: Any) -> None:
    async with ZeroMQTransport().connect(url, TransportOptions(**options)):
        pass


# ---- cancelled in its clean-up --------------------------------------------------------------------------------------


async def test_that_nobody_is_there_is_told_although_a_cancellation_comes_before_it_has_cleaned_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        anyio.fail_after(10),
        pytest.raises(ConnectionRefusedError, match="nobody"),
        cancelled_while_a_socket_is_closed(monkeypatch) as scope,
    ):
        await connect(NOBODY)
    assert scope.cancel_called


async def test_a_refusal_is_told_although_a_cancellation_comes_before_it_has_cleaned_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_listener() as listener, anyio.fail_after(10):

        async def refuse() -> None:
            name, data = await listener.parts()
            listener.send(name, Refusal("no room", retry=True).encode(read_hello(data).session))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refuse)
            with (
                pytest.raises(RefusedError, match="no room"),
                cancelled_while_a_socket_is_closed(monkeypatch) as scope,
            ):
                await connect(listener.url)
    assert scope.cancel_called


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
async def test_what_the_block_of_a_link_raised_is_told_although_a_cancellation_comes_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with accepting() as (url, _):
        with (
            anyio.fail_after(10),
            pytest.raises(LookupError, match="of the block"),
            cancelled_while_a_socket_is_closed(monkeypatch) as scope,
        ):
            async with ZeroMQTransport().connect(url, TransportOptions()):
                raise LookupError("of the block")
    assert scope.cancel_called


# ---- how long it waits ----------------------------------------------------------------------------------------------


async def test_who_puts_off_the_end_of_a_wait_is_waited_for_at_the_last_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = zmq.Socket.connect

    def put_off(self: zmq.Socket[bytes], address: str) -> object:
        scope.deadline = math.inf
        return real(self, address)

    with raw_listener(f"zmq+ipc://{tmp_path}/s") as listener, anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            with monkeypatch.context() as patch, anyio.CancelScope() as scope:
                patch.setattr(zmq.Socket, "connect", put_off)
                early = scope.deadline = anyio.current_time() + 0.05
                tasks.start_soon(_welcome_after, listener, early)
                await connect(listener.url)
    assert not scope.cancel_called


async def _welcome_after(listener: RawListener, early: float) -> None:
    await anyio.sleep_until(early + 0.01)
    name, hello = await listener.welcome()
    listener.send(name, encode_bye(hello.session, 1000, ""))


# ---- what it leaves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_a_connect_that_failed_is_gone_without_a_collector(
    monkeypatch: pytest.MonkeyPatch, hosts: list[str]
) -> None:
    resolve_to(monkeypatch, *hosts)
    transport = ZeroMQTransport()
    gone = weakref.ref(transport)
    with collector_off():
        with anyio.fail_after(10), suppress(ConnectionRefusedError):
            async with transport.connect("zmq+tcp://lab:1", TransportOptions()):
                pass
        del transport
        await anyio.wait_all_tasks_blocked()
        assert gone() is None


# ---- what it is asked for -------------------------------------------------------------------------------------------


async def test_there_is_no_connecting_to_port_0() -> None:
    with pytest.raises(InvalidURLError, match="port 0 is for listening only"):
        await connect("zmq+tcp://127.0.0.1:0")
