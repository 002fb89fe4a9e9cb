"""A listener whose transport has ended although nobody asked it to: the block ends, and says why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban import LocalNode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

    from hakuban.transport import MessageStream, TransportOptions


class Odd(BaseException):
    """No Exception."""


class Ends:
    """A transport that listens, and ends when it is told to: by an exception, or without."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error
        self.now = anyio.Event()

    def connect(self, _url: str, _options: TransportOptions, /) -> Any:
        raise AssertionError("nobody connects")

    async def serve(
        self,
        _url: str,
        _options: TransportOptions,
        _handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> None:
        task_status.started("ends://here")
        await self.now.wait()
        if self._error is not None:
            raise self._error


async def listen(transport: Ends) -> None:
    with anyio.fail_after(10):
        async with LocalNode().listen("ends://here", transport=transport):
            transport.now.set()
            await anyio.sleep_forever()


async def what_ended(transport: Ends) -> Exception:
    with pytest.RaisesGroup(Exception, flatten_subgroups=True) as caught:
        await listen(transport)
    found: Exception = caught.value
    while isinstance(found, ExceptionGroup):
        (found,) = found.exceptions
    return found


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "its serve has returned"),
        (asyncio.CancelledError(), "its serve raised CancelledError"),
        (SystemExit(0), "its serve raised SystemExit: 0"),
        (Odd("why"), "its serve raised Odd: why"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_listener_that_ends_by_itself_ends_its_block(
    error: BaseException | None, reason: str
) -> None:
    found = await what_ended(Ends(error))
    assert isinstance(found, hakuban.PluginError)
    assert f"the transport of ends://here: {reason}" in str(found)
    assert found.__cause__ is error


async def test_an_exception_of_its_own_is_left_as_it_is() -> None:
    found = await what_ended(Ends(OSError("the network card is gone")))
    assert isinstance(found, OSError)


async def test_a_block_that_is_left_or_cancelled_ends_in_good_order() -> None:
    async with LocalNode().listen("ends://here", transport=Ends(None)):
        pass
    with anyio.move_on_after(0.01) as scope:
        async with LocalNode().listen("ends://here", transport=Ends(None)):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize("host_first", [True, False])
def test_what_asyncio_cancels_at_its_end_ends_in_good_order(*, host_first: bool) -> None:
    """It cancels every task by itself, in any order, and no scope."""
    ended: list[BaseException] = []

    async def host(listening: asyncio.Event) -> None:
        try:
            async with LocalNode().listen("ends://here", transport=Ends(None)):
                listening.set()
                await anyio.sleep_forever()
        except BaseException as error:
            ended.append(error)
            raise

    async def main() -> None:
        listening = asyncio.Event()
        task = asyncio.create_task(host(listening))
        await listening.wait()
        others = asyncio.all_tasks() - {task, asyncio.current_task()}
        for one in [task, *others] if host_first else [*others, task]:
            assert one is not None
            one.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert [type(error) for error in ended] == [asyncio.CancelledError]
