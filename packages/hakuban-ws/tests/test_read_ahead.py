"""What was sent and not yet handled goes before every newer value: little of it, while handling is slow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from support.websocket import linked

if TYPE_CHECKING:
    from hakuban_ws._stream import WebSocketStream
    from support.websocket import Certificates

KIB, MIB = 1024, 1024 * 1024
MESSAGE = bytes(KIB)


class Flood:
    """Somebody who sends as much as is taken.

    :ivar ahead: bytes that were taken off its hands, and not yet received here.
    """

    def __init__(self, sender: WebSocketStream, receiver: WebSocketStream) -> None:
        self._sender = sender
        self._receiver = receiver
        self.ahead = 0

    async def run(self) -> None:
        while True:
            await self._sender.send([MESSAGE] * 8)
            self.ahead += 8 * KIB

    async def receive(self) -> int:
        """Give the bytes of a batch."""
        size = sum(map(len, await self._receiver.receive()))
        self.ahead -= size
        return size


@pytest.mark.long
@pytest.mark.parametrize(
    "encrypted", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["ws", "wss"]
)
async def test_who_handles_slowly_reads_little_until_he_is_quick_again(
    certificates: Certificates, *, encrypted: bool
) -> None:
    link = linked()
    if encrypted:
        link = linked(
            "wss://127.0.0.1:0",
            ssl=certificates.listening(),
            connect={"ssl": certificates.connecting()},
        )
    async with link as (sender, receiver), anyio.create_task_group() as group:
        flood = Flood(sender, receiver)
        group.start_soon(flood.run)
        with anyio.fail_after(30):
            small = 0
            while small < 3:
                size = await flood.receive()
                await anyio.wait_all_tasks_blocked()  # the sender gets rid of all that is taken
                small = small + 1 if size <= 24 * KIB and flood.ahead > 16 * KIB else 0
                time.sleep(0.2)  # noqa: ASYNC251  # this is what it is about
            while receiver._read_ahead.size < MIB:
                await flood.receive()
        group.cancel_scope.cancel()
