"""A link outlives its own loop's standing still for longer than the time-out, whatever the transport."""

from __future__ import annotations

import importlib
import re
import signal
import sys
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from hakuban import LocalNode
from hakuban.transport import register_plugin, unregister_plugin
from support.processes import Program
from support.waiting import until
from support.websocket import Certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from hakuban import Connection

EXAMPLE: Final = Path(__file__).parents[1] / "examples/transport-plugin"
TIMEOUT: Final = 0.5
PATIENT: Final = 60.0
LINKS: Final = 5
URLS: Final = {
    "memory": "memory://",
    "tcp": "tcp://127.0.0.1:0",
    "ws": "ws://127.0.0.1:0",
    "wss": "wss://127.0.0.1:0",
    "zmq": "zmq+tcp://127.0.0.1:0",
}
BETWEEN_PROCESSES: Final = ("tcp", "ws", "zmq")

OTHER: Final = """
import sys

import anyio
import hakuban
from hakuban.transport import register_plugin

sys.path.append({example!r})
import hakuban_tcp
register_plugin(hakuban_tcp)

async def listen():
    async with hakuban.LocalNode("router").listen({url!r}) as listener:
        print("at", listener.url, flush=True)
        await anyio.sleep_forever()

async def connect():
    async with hakuban.LocalNode("leaf").connect({url!r}) as connection:
        while True:
            print("reconnects", connection.counters.reconnects, "up", connection.up, flush=True)
            await anyio.sleep(0.1)

anyio.run({what})
"""


@pytest.fixture(autouse=True)
def _tcp(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Have the transport of the example, which is installed nowhere."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    plugin = importlib.import_module("hakuban_tcp")
    register_plugin(plugin)
    yield
    unregister_plugin(plugin)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


def other(what: str, url: str) -> Program:
    """Start a process with a node that listens or connects."""
    text = OTHER.format(example=str(EXAMPLE), url=url, what=what)
    return Program([sys.executable, "-c", text])


def fragment(timeout: float) -> str:
    return f"#keep-alive={TIMEOUT / 5}s,timeout={timeout}s"


@asynccontextmanager
async def linked(kind: str, certificates: Certificates) -> AsyncIterator[list[Connection]]:
    """Give links whose ends are both in this loop."""
    listening: dict[str, Any] = {"ssl": certificates.listening()} if kind == "wss" else {}
    connecting: dict[str, Any] = {"ssl": certificates.connecting()} if kind == "wss" else {}
    async with AsyncExitStack() as stack:
        above = stack.enter_context(LocalNode("above"))
        listener = await stack.enter_async_context(
            above.listen(URLS[kind] + fragment(TIMEOUT), **listening)
        )
        connections = []
        for _ in range(LINKS):
            leaf = stack.enter_context(LocalNode("leaf"))
            url = listener.url + fragment(TIMEOUT)
            connections.append(await stack.enter_async_context(leaf.connect(url, **connecting)))
        yield connections


async def stand_still() -> None:
    """Stand still twice, with a moment to breathe; then have time to end what is taken for silent."""
    for _ in range(2):
        time.sleep(1.5 * TIMEOUT)  # noqa: ASYNC251 # the whole loop stands still
        await anyio.sleep(TIMEOUT / 10)
    await anyio.sleep(2 * TIMEOUT)


def broken(connections: dict[str, list[Connection]]) -> dict[str, int]:
    """Count the links of each kind that have ended, if only to be made again."""
    return {
        kind: sum(not link.up or link.counters.reconnects > 0 for link in links)
        for kind, links in connections.items()
    }


@pytest.mark.long
async def test_a_loop_that_stood_still_keeps_its_links(certificates: Certificates) -> None:
    async with AsyncExitStack() as stack:
        connections = {
            kind: await stack.enter_async_context(linked(kind, certificates)) for kind in URLS
        }
        await stand_still()
        assert broken(connections) == dict.fromkeys(URLS, 0)


@pytest.fixture
def routers() -> Generator[dict[str, tuple[Program, str]]]:
    """Give routers of other processes, which are patient with the silence of others, and their URLs."""
    with ExitStack() as stack:
        started = {
            kind: stack.enter_context(other("listen", URLS[kind] + fragment(PATIENT)))
            for kind in BETWEEN_PROCESSES
        }
        yield {kind: (router, bound_url(router)) for kind, router in started.items()}


def bound_url(router: Program) -> str:
    return router.out.wait(re.compile(r"at (\S+)"))[1] + fragment(TIMEOUT)


@asynccontextmanager
async def connected(
    routers: dict[str, tuple[Program, str]],
) -> AsyncIterator[dict[str, list[Connection]]]:
    """Connect to each of them."""
    async with AsyncExitStack() as stack:
        connections = {}
        for kind, (_, url) in routers.items():
            leaf = stack.enter_context(LocalNode("leaf"))
            connections[kind] = [await stack.enter_async_context(leaf.connect(url))]
        yield connections


@pytest.mark.thorough
async def test_one_side_that_stood_still_keeps_its_links_to_one_that_did_not(
    routers: dict[str, tuple[Program, str]],
) -> None:
    async with connected(routers) as connections:
        await stand_still()
        assert broken(connections) == dict.fromkeys(BETWEEN_PROCESSES, 0)


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there is no SIGSTOP")
async def test_a_peer_that_died_while_the_loop_stood_still_is_missed_soon(
    routers: dict[str, tuple[Program, str]],
) -> None:
    async with connected(routers) as connections:
        for router, _ in routers.values():
            router.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5 * TIMEOUT)  # noqa: ASYNC251 # the whole loop stands still
        everybody = dict.fromkeys(BETWEEN_PROCESSES, 1)
        await until(lambda: broken(connections) == everybody, seconds=TIMEOUT + 2)


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there is no SIGSTOP")
def test_processes_that_were_stopped_together_are_linked_still() -> None:
    with ExitStack() as stack:
        processes = []
        for kind in BETWEEN_PROCESSES:
            router = stack.enter_context(other("listen", URLS[kind] + fragment(TIMEOUT)))
            leaf = stack.enter_context(other("connect", bound_url(router)))
            leaf.out.wait(re.compile("reconnects 0 up True"))
            processes += [leaf, router]
        for _ in range(2):
            for signum, seconds in ((signal.SIGSTOP, 3 * TIMEOUT), (signal.SIGCONT, TIMEOUT / 10)):
                for process in processes:
                    process.process.send_signal(signum)
                time.sleep(seconds)
        for leaf in processes[::2]:
            for _ in range(20):  # lines of 0.1 s each
                line = leaf.out.wait(re.compile("reconnects.*"))[0]
                assert line == "reconnects 0 up True"
