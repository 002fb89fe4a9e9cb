"""Rules that a transport breaks only after a while: many messages, and many links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from .environment import Finding, Rule, exchange, sequence_fault
from .leaks import Census
from .rules_serving import echo, expect_echo

if TYPE_CHECKING:
    from .environment import Environment


MESSAGES: Final = 100_000
BATCH: Final = 1_000
LINKS: Final = 200


async def _check_many_messages(env: Environment) -> None:
    messages = [b"%06d" % number for number in range(MESSAGES)]
    async with env.link() as link:
        sender, receiver = link.directions()[0]
        got = await exchange(sender, receiver, messages, batch=BATCH)
        if fault := sequence_fault(messages, got):
            raise Finding(fault)


async def _check_many_links(env: Environment) -> None:
    async with env.serving(echo) as url:
        await _visit(env, url, 5)  # whatever is made once and kept is made now
        await anyio.sleep(0.1)  # and what the visits needed goes
        census = Census.take()
        await _visit(env, url, LINKS)
        await census.expect_no_more(f"{LINKS} links that were closed")


async def _visit(env: Environment, url: str, times: int) -> None:
    for number in range(times):
        async with env.connecting(url) as stream:
            await expect_echo(stream, b"visit %d" % number)


LOAD_RULES: Final = (
    Rule(
        "100,000 small messages arrive, each once and in order",
        "look for a counter that wraps, a queue that drops, a buffer that is cut in the middle of a message",
        _check_many_messages,
    ),
    Rule(
        "200 links, made and closed one after the other, leave no task, thread or descriptor behind",
        "close the socket at both ends, and own each task by a context manager that ends with the link",
        _check_many_links,
    ),
)
