"""Rules on messages while a link is up."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from ..transport import PeerViolationError
from .environment import (
    PATIENCE,
    Finding,
    Rule,
    collect,
    end_of,
    exchange,
    sequence_fault,
    within,
)

if TYPE_CHECKING:
    from ..transport import MessageStream
    from .environment import Environment


MIB: Final = 1024 * 1024
TOO_BIG: Final = 1009
MOST_MESSAGES: Final = 1_000
SIZES: Final = (0, 1, 2, 125, 126, 127, 0, 4_095, 4_096, 65_535, 65_536, 65_537, 1, 0, 200_000, 3)
FLOOD: Final = 64
"""Messages of 1 MiB that are sent to somebody who does not receive."""

MOST_ACCEPTED: Final = 2
"""How many of them may be accepted then: more, and what a slow peer receives is seconds old."""


async def _check_order(env: Environment) -> None:
    numbered = [b"%06d" % number for number in range(3_000)]
    async with env.link() as link:
        for sender, receiver in link.directions():
            got = b"".join(await exchange(sender, receiver, numbered))
            fault = sequence_fault(numbered, [got[i : i + 6] for i in range(0, len(got), 6)])
            if fault:
                raise Finding(fault)


async def _check_empty(env: Environment) -> None:
    messages = [b"", b"", b"after two empty ones"]
    async with env.link() as link:
        for sender, receiver in link.directions():
            got = await exchange(sender, receiver, messages)
            if got.count(b"") != messages.count(b""):
                raise Finding(f"of 2 empty messages {got.count(b'')} arrived")


async def _check_boundaries(env: Environment) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(SIZES)]
    async with env.link() as link:
        for sender, receiver in link.directions():
            for batch in (1, len(messages)):
                got = await exchange(sender, receiver, messages, batch=batch)
                if fault := sequence_fault(messages, got):
                    raise Finding(f"{fault}, in batches of {batch}")


async def _check_large(env: Environment) -> None:
    async with env.link() as link:
        for sender, receiver in link.directions():
            for mebibytes in (1, 5):
                # 255 bytes do not divide a power of two: a chunk that is lost or doubled shows.
                message = (bytes(range(255)) * (mebibytes * MIB // 255 + 1))[: mebibytes * MIB]
                got = await exchange(sender, receiver, [message])
                if got != [message]:
                    raise Finding(f"a message of {mebibytes} MiB did not arrive as it was sent")


async def _check_max_message(env: Environment) -> None:
    limit = 1_000
    for direction in range(2):
        async with env.link(max_message=limit) as link:
            sender, receiver = link.directions()[direction]
            await exchange(sender, receiver, [bytes(limit)])
            async with anyio.create_task_group() as group:
                group.start_soon(_send_quietly, sender, bytes(limit + 1))
                error = await end_of(receiver)
                group.cancel_scope.cancel()
            if not isinstance(error, PeerViolationError) or error.code != TOO_BIG:
                raise Finding(
                    f"with max_message={limit}, {limit + 1} bytes made it raise {error!r}"
                )


async def _send_quietly(sender: MessageStream, message: bytes) -> None:
    with suppress(anyio.BrokenResourceError):  # the receiver may hang up while it is sent
        await sender.send([message])


async def _check_batches(env: Environment) -> None:
    messages = [b"%d" % number for number in range(5_000)] + [bytes(100_000)] * 30 + [b"last"]
    async with env.link() as link:
        for sender, receiver in link.directions():
            await _check_batches_of(sender, receiver, messages)


async def _check_batches_of(
    sender: MessageStream, receiver: MessageStream, messages: list[bytes]
) -> None:
    missing = len(messages)
    async with anyio.create_task_group() as group:
        group.start_soon(sender.send, messages)
        await anyio.sleep(0.2)  # as much as possible shall be waiting, to tempt the receiver
        while missing > 0:
            with within(PATIENCE, f"the last {missing} messages arrive"):
                batch = await receiver.receive()
            missing -= len(batch)
            size = sum(map(len, batch))
            if not 1 <= len(batch) <= MOST_MESSAGES:
                raise Finding(f"receive gave {len(batch)} messages at once")
            if size > MIB and len(batch) > 1:
                raise Finding(f"receive gave {len(batch)} messages with {size} bytes at once")
            if not all(isinstance(message, bytes) for message in batch):
                raise Finding(f"receive gave a {type(batch[0]).__name__} where bytes were due")


async def _check_both_ways(env: Environment) -> None:
    messages = [bytes([number]) * 16_384 for number in range(200)]
    async with env.link() as link, anyio.create_task_group() as group:

        async def one_way(sender: MessageStream, receiver: MessageStream) -> None:
            if fault := sequence_fault(messages, await exchange(sender, receiver, messages)):
                raise Finding(fault)

        for sender, receiver in link.directions():
            group.start_soon(one_way, sender, receiver)


async def _check_back_pressure(env: Environment) -> None:
    # both at once, since each waits for a while to see that nothing goes on
    async with anyio.create_task_group() as group:
        for direction in range(2):
            group.start_soon(_check_back_pressure_of, env, direction)


async def _check_back_pressure_of(env: Environment, direction: int) -> None:
    noise = os.urandom(MIB - 1)  # a transport may compress
    messages = [bytes([number]) + noise for number in range(FLOOD)]
    accepted: list[bytes] = []
    finished = anyio.Event()
    async with env.link() as link:
        sender, receiver = link.directions()[direction]

        async def flood() -> None:
            for message in messages:
                await sender.send([message])
                accepted.append(message)
            finished.set()

        # On asyncio, a socket that anyio has accepted is read without bound until a first receive has waited.
        await exchange(sender, receiver, [b"hello"])
        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            await _until_stuck(accepted, finished)
            if len(accepted) > MOST_ACCEPTED:
                raise Finding(
                    f"send accepted {len(accepted)} messages of 1 MiB while nobody received any"
                )
            del messages[len(accepted) + 10 :]  # those accepted, and some to show that it goes on
            if fault := sequence_fault(messages, await collect(receiver, messages)):
                raise Finding(f"{fault}, after send had waited for the receiver")


async def _until_stuck(accepted: list[bytes], finished: anyio.Event) -> None:
    """Wait until a flood is over or makes no progress for a while: being stuck has no event."""
    before = -1
    while len(accepted) > before and not finished.is_set():
        before = len(accepted)
        with anyio.move_on_after(0.3):
            await finished.wait()


MESSAGE_RULES: Final = (
    Rule(
        "messages arrive in the order in which they were sent",
        "write a batch in its order, from one place, and read from one place",
        _check_order,
    ),
    Rule(
        "an empty message is a message like any other",
        "send a frame for it too; an empty read of a socket is its end, an empty message is not",
        _check_empty,
    ),
    Rule(
        "a message arrives as one message, as it was sent, alone or in a batch",
        "put the length in front of each message, or use a protocol that keeps messages apart",
        _check_boundaries,
    ),
    Rule(
        "messages of 1 MiB and 5 MiB arrive whole",
        "read in a loop until the whole message is there; look for a limit below `max_message`",
        _check_large,
    ),
    Rule(
        "receive takes messages of max_message bytes, and raises PeerViolationError(code=1009) on a larger one",
        "compare the announced length with `options.max_message` before memory is given to it",
        _check_max_message,
    ),
    Rule(
        "receive gives 1 to 1,000 messages as bytes, at most 1 MiB unless a single one is larger",
        "return what one read held, keep the rest for the next call, and wait when there is nothing",
        _check_batches,
    ),
    Rule(
        "send and receive work at the same time, in both directions",
        "let receive run while send waits: no lock around both, and no reading only between writes",
        _check_both_ways,
    ),
    Rule(
        "send waits while the other side does not receive, after 2 MiB at most, and goes on when it does",
        "wait until the operating system has the bytes; queue at most 64 KiB, read ahead as little, and let the system"
        " take less: by SO_SNDBUF = 128 KiB, or TCP_NOTSENT_LOWAT where there is one",
        _check_back_pressure,
    ),
)
