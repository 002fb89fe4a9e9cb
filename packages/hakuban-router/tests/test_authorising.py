"""Plugins that block, or raise what ends programs; and listeners that end although nobody asked them to."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import hakuban
import hakuban.sync
from support.processes import RouterProcess
from support.serving import check_that_it_serves
from support.websocket import UPGRADE
from support.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable

    InstallPlugin = Callable[[str, str], None]

LOOPS = ("asyncio", "uvloop", "trio")
AUTHORISES = "[hakuban.plugins]\ntests = plugin_for_tests\n"


RAISING = """
import asyncio
from hakuban.transport import Identity, hookimpl

errors = [SystemExit(0), asyncio.CancelledError(), KeyboardInterrupt()]

@hookimpl
def hakuban_authorize(request):
    if errors:
        raise errors.pop()
    return Identity("somebody")
"""


@pytest.mark.parametrize("bind", ["ws://127.0.0.1:0", "zmq+tcp://127.0.0.1:0"])
def test_a_plugin_that_raises_what_ends_programs_ends_no_router(
    install_plugin: InstallPlugin, bind: str
) -> None:
    install_plugin(AUTHORISES, RAISING)
    with RouterProcess(bind=bind) as router:
        check_that_it_serves(router.url, seconds=20)
        assert router.stop() == 0
    assert any("authorising a peer failed" in line for line in router.err.seen)


BLOCKING = """
import threading
import time
from hakuban.transport import Identity, hookimpl

@hookimpl
def hakuban_authorize(request):
    if "stuck" in request.path:
        print("stuck", flush=True)
        threading.Event().wait()
    time.sleep(0.005)
    return Identity("somebody")
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_plugin_that_never_returns_keeps_the_router_neither_from_serving_nor_from_ending(
    install_plugin: InstallPlugin, start_router: Callable[..., RouterProcess], loop: str
) -> None:
    install_plugin(AUTHORISES, BLOCKING)
    router = start_router("--loop", loop)
    with hakuban.LocalNode() as node:
        with hakuban.sync.connect(node, f"{router.url}/stuck", wait=False) as connection:
            router.out.wait(re.compile("stuck"))
            check_that_it_serves(router.url, seconds=20)
            assert not connection.up
    assert router.stop() == 0


def knock(url: str, count: int) -> None:
    """Have so many peers ask to be let in, at the same time, and be let in."""
    where = urlsplit(url)
    assert where.hostname
    assert where.port
    with ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = socket.create_connection((where.hostname, where.port), timeout=20)
            peers.append(stack.enter_context(peer))
            peer.sendall(UPGRADE + b"\r\n")
        for peer in peers:
            assert peer.recv(1024).startswith(b"HTTP/1.1 101 ")


@pytest.mark.long
@pytest.mark.parametrize("loop", LOOPS)
def test_whoever_has_a_link_notices_no_plugin(
    install_plugin: InstallPlugin,
    loop: str,
    record_property: Callable[[str, object], None],
) -> None:
    install_plugin(AUTHORISES, BLOCKING)
    binds = ("-b", "ws://127.0.0.1:0", "--loop", loop)
    with RouterProcess(*binds) as router, hakuban.LocalNode() as node:
        other = router.err.wait(re.compile(r"listening on (\S+)"))[1]
        for at in (other, router.url):  # on another bind, and on the same one
            with (
                Witness(at) as witness,
                hakuban.sync.connect(node, f"{router.url}/stuck", wait=False),
            ):
                router.out.wait(re.compile("stuck"))
                for _ in range(10):
                    knock(router.url, 100)
                gap = witness.ask()
                record_property("figure", f"{gap}, 1,000 peers at 5 ms, one for ever")
                assert gap.of_router < 1
        assert router.stop() == 0


ENDING = """
import anyio
from hakuban.transport import hookimpl

class Transport:
    def connect(self, url, options):
        raise OSError

    async def serve(self, url, options, handler, *, task_status):
        task_status.started("ending://here")
        await anyio.sleep(0.1)
        END

@hookimpl
def hakuban_transport(scheme):
    return Transport() if scheme == "ending" else None
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("return", "its serve has returned"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise OSError('the network card is gone')", "OSError: the network card is gone"),
        ("raise ExceptionGroup('tasks', [KeyError('a bug')])", "KeyError: 'a bug'"),
    ],
    ids=["return", "CancelledError", "SystemExit", "OSError", "group"],
)
def test_a_listener_that_ends_ends_the_router_with_a_line(
    install_plugin: InstallPlugin, loop: str, end: str, reason: str
) -> None:
    install_plugin("[hakuban.transports]\nending = plugin_for_tests\n", ENDING.replace("END", end))
    with RouterProcess("-b", "ending://here", "--loop", loop) as router:
        assert router.wait() == 1
    line = router.err.seen[-1]
    assert line.startswith("hakuban-router: error: ending://here listens no more: ")
    assert reason in line
