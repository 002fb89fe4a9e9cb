"""What a listener's handler does, and what its peer hears of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban.testing import MemoryTransport
from hakuban.transport import TransportOptions, get_logger, run_handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hakuban.transport import MessageStream

pytestmark = pytest.mark.anyio


async def end_of(handler: Callable[[MessageStream], Awaitable[None]]) -> tuple[int | None, str]:
    """Give the code and reason that the peer of a link hears, whose listener has this handler."""
    transport, options = MemoryTransport(), TransportOptions()

    async def run(stream: MessageStream) -> None:
        await run_handler(handler, stream, get_logger("hakuban.test"), "somebody")

    async with anyio.create_task_group() as tasks:
        url = await tasks.start(transport.serve, "memory://", options, run)
        async with transport.connect(url, options) as stream:
            if handler is stays:
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), pytest.raises(anyio.EndOfStream):
                await stream.receive()
        tasks.cancel_scope.cancel()
    return stream.close_code, stream.close_reason or ""


async def stays(_: MessageStream) -> None:
    await anyio.sleep_forever()


async def test_a_handler_that_returns_has_closed_in_good_order() -> None:
    async def returns(_: MessageStream) -> None:
        await anyio.lowlevel.checkpoint()

    assert await end_of(returns) == (1000, "")


async def test_a_handler_that_has_closed_its_stream_has_said_why() -> None:
    async def closes(stream: MessageStream) -> None:
        await stream.aclose(1013, "full")

    assert await end_of(closes) == (1013, "full")


async def test_a_handler_that_raises_ends_its_own_link_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def raises(_: MessageStream) -> None:
        raise ValueError("of its own")

    assert await end_of(raises) == (1011, "internal error")
    (record,) = caplog.records
    assert record.getMessage() == "the handler of somebody failed"
    assert record.exc_info is not None


async def test_a_handler_that_is_cancelled_says_that_the_listener_is_closed() -> None:
    assert await end_of(stays) == (1001, "the listener is closed")
