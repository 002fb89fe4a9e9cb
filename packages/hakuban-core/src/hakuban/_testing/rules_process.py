"""Rules on links to another process, which is killed or stops to answer, through nodes at both ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from anyio.lowlevel import checkpoint

from .._api.node import LocalNode
from .environment import PATIENCE, Rule, until, within
from .peer import CAN_FREEZE, Carried, OtherProcess, link_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._net.connection import Connection, Listener
    from .environment import Environment


TIMEOUT: Final = 1.0
KEEP_ALIVE: Final = 0.25


@dataclass(slots=True)
class _Links:
    """Both links between two processes, and the other process."""

    connection: Connection
    listener: Listener
    other: OtherProcess

    async def expect_up(self) -> None:
        with within(PATIENCE, "a node connects to one in another process"):
            await self.connection.wait_up()
        with within(PATIENCE, "a node is connected to from another process"):
            await until(self._has_peer)

    async def expect_down(self, event: str) -> None:
        with within(TIMEOUT + PATIENCE, f"the node of the connecting side notices that {event}"):
            await until(self._is_down)
        with within(PATIENCE, f"the node of the listening side notices that {event}"):
            await until(self._has_no_peer)

    async def _has_peer(self) -> bool:
        await checkpoint()
        return bool(self.listener.peers)

    async def _has_no_peer(self) -> bool:
        await checkpoint()
        return not self.listener.peers

    async def _is_down(self) -> bool:
        await checkpoint()
        return not self.connection.up


@asynccontextmanager
async def _linked(env: Environment) -> AsyncIterator[_Links]:
    """Link this process and another one in both directions; a side that is silent for 1 s has gone."""
    options = replace(env.options, timeout=TIMEOUT, keep_alive=KEEP_ALIVE)
    serve_options = replace(env.serve_options, timeout=TIMEOUT, keep_alive=KEEP_ALIVE)
    with LocalNode("here, above") as above, LocalNode("here, below") as below:
        async with above.listen(
            env.new_url(), transport=env.transport, **link_arguments(serve_options)
        ) as listener:
            carried = Carried(env.transport, env.new_url(), listener.url, options, serve_options)
            with OtherProcess(carried) as other:
                url = await other.url()
                async with below.connect(
                    url, transport=env.transport, wait=False, **link_arguments(options)
                ) as connection:
                    links = _Links(connection, listener, other)
                    await links.expect_up()
                    yield links


async def _check_other_process(env: Environment) -> None:
    async with _linked(env):
        pass


async def _check_killed(env: Environment) -> None:
    await _check_lost(env, OtherProcess.kill, "the other process was killed")


async def _check_frozen(env: Environment) -> None:
    await checkpoint()
    if CAN_FREEZE:
        await _check_lost(env, OtherProcess.freeze, "the other process says nothing any more")


async def _check_lost(env: Environment, harm: Callable[[OtherProcess], None], event: str) -> None:
    async with _linked(env) as links:
        harm(links.other)
        await links.expect_down(event)
        with LocalNode("a newcomer") as newcomer:
            async with newcomer.connect(
                links.listener.url,
                transport=env.transport,
                wait=False,
                **link_arguments(env.options),
            ) as connection:
                with within(PATIENCE, f"the listener goes on after {event}"):
                    await connection.wait_up()


PROCESS_RULES: Final = (
    Rule(
        "nodes of two processes are linked by the transport",
        "let `pickle` take the transport, and the options given, to another process: classes in modules that can be"
        " imported; for a transport that works within one process only, say check_transport(..., process=False)",
        _check_other_process,
    ),
    Rule(
        "when the process at the other end is killed, the link ends",
        "raise EndOfStream or BrokenResourceError from receive when the connection ends without a goodbye; where that"
        " does not show, leave detects_silence out, and the core watches",
        _check_killed,
    ),
    Rule(
        "when the other end says nothing for options.timeout seconds, the link ends",
        "with detects_silence, only bytes that were received are a sign of life, not those that could be sent; or leave"
        " it out, and the core watches",
        _check_frozen,
    ),
)
