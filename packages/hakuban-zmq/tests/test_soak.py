"""Messages in bursts, both ways at once, through a queue of ten chunks, with waits that are cancelled."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hakuban_zmq import ZeroMQTransport
from support.zeromq import linked

if TYPE_CHECKING:
    from hakuban_zmq._stream import ZeroMQStream

NUMBER = struct.Struct(">I")
SIZES = [0] * 50 + [50] * 40 + [1_000] * 9 + [70_000]


async def talk(sender: ZeroMQStream, count: int, dice: random.Random) -> None:
    number = 0
    while number < count:
        burst = min(dice.choice([1, 1, 1, 2, 10, 100]), count - number)
        await sender.send(
            [NUMBER.pack(one) + bytes(dice.choice(SIZES)) for one in range(number, number + burst)]
        )
        number += burst
        if dice.random() < 0.1:
            await checkpoint()


async def listen(receiver: ZeroMQStream, count: int, dice: random.Random) -> int:
    """Receive all, cancel one wait in a hundred at a moment of its own, and give how many were."""
    number = cancelled = calls = 0
    while number < count:
        messages = []
        calls += 1
        if calls % 100 == 1:
            seconds = dice.choice([0, 0.0001, 0.001]) if cancelled else 0
            with anyio.move_on_after(seconds) as scope:
                messages = list(await receiver.receive())
            cancelled += scope.cancelled_caught
        else:
            with anyio.fail_after(20):
                messages = list(await receiver.receive())
        for message in messages:
            assert NUMBER.unpack_from(message) == (number,)
            number += 1
    return cancelled


async def soak(count: int) -> None:
    dice = random.Random(count)
    cancelled = []

    async def receive(stream: ZeroMQStream) -> None:
        cancelled.append(await listen(stream, count, dice))

    async with (
        linked(transport=ZeroMQTransport(high_water_mark=10)) as (one, two),
        anyio.create_task_group() as group,
    ):
        for sender, receiver in ((one, two), (two, one)):
            group.start_soon(talk, sender, count, dice)
            group.start_soon(receive, receiver)
    assert all(cancelled)


async def test_50_000_messages_each_way() -> None:
    await soak(50_000)


@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_1_000_000_messages_each_way() -> None:
    await soak(1_000_000)
