"""Tests that leave something behind, and some that do not: run by tests/test_leaks.py, in a process of their own.

Of each name the part before `__` is what the checker has to find.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.to_thread
import pytest
import trio
import zmq

import hakuban
from hakuban import sync
from hakuban._loops import wakeups
from hakuban._sockets.acceptor import Acceptor
from hakuban._testing import memory
from hakuban._transport.reassembly import ReassemblyLimit
from hakuban.transport import get_logger
from hakuban_zmq import _address_claims, _contexts
from support import leaks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

leaks.SETTLING = 0.02  # nothing of this goes by itself

kept: list[Any] = []
logger = get_logger("hakuban.tests")
ASYNCIO = ("asyncio", {"use_uvloop": False})


Planting: TypeAlias = "list[Callable[[hakuban.LocalNode], object]]"
NOTHING: Any = None


@pytest.fixture
def unplanted() -> None:
    """Take out of our modules what the last test has left there."""
    wakeups._local.home = None
    memory._listeners.clear()
    _address_claims._bound.clear()
    sync._open.clear()
    if _contexts.shared._context is None:
        _contexts.shared._users = 0
    if sync._loop_thread._users:
        sync._loop_thread.__exit__()


@pytest.fixture(autouse=True)
async def planting(unplanted: None, anyio_backend: object) -> AsyncIterator[Planting]:
    """Have a link, which is what makes the checker look; and take what is to be done when it has ended."""
    above, below = hakuban.LocalNode(), hakuban.LocalNode()
    later: Planting = []
    async with above.listen("memory://") as listener, below.connect(listener.url):
        yield later
    for plant in later:
        plant(above)


# ---- what loops have to end -----------------------------------------------------------------------------------------


async def test_in_a_loop__a_task(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
    else:
        kept.append(asyncio.create_task(asyncio.sleep(1000)))


async def test_in_a_loop__a_timer(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        pytest.skip("it has none but the deadlines of scopes, which end with their tasks")
    asyncio.get_running_loop().call_later(1000, print)


async def test_in_a_loop__a_watched_descriptor(anyio_backend: object) -> None:
    if anyio_backend != ASYNCIO:
        pytest.skip("trio watches for tasks alone, and uvloop does not tell")
    kept.append(socket.socketpair())
    asyncio.get_running_loop().add_reader(kept[-1][0], print)


async def test_in_a_loop__a_task_in_another_thread() -> None:
    async def main() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(1000)))

    await anyio.to_thread.run_sync(asyncio.run, main())


# ---- what the operating system has given ----------------------------------------------------------------------------


def test_thread__one_that_waits() -> None:
    threading.Thread(target=threading.Event().wait, name="one that waits", daemon=True).start()


def test_thread__one_of_libzmq() -> None:
    kept.append(_contexts.shared.acquire().socket(zmq.PAIR))  # which begins the threads
    _contexts.shared._users, _contexts.shared._context = 0, None


def test_thread__that_of_sync_blocks() -> None:
    sync._loop_thread.__enter__()


def test_descriptor__a_file() -> None:
    kept.append(os.open("/dev/null", os.O_RDONLY))


def test_descriptor__a_socket() -> None:
    kept.append(socket.create_server(("127.0.0.1", 0)))


def test_descriptor__an_epoll_of_a_loop() -> None:
    kept.append(asyncio.new_event_loop())


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_table__places_of_waiters(planting: Planting) -> None:
    planting.append(lambda node: node._engine._parking.places.update({"place": {NOTHING: None}}))


def test_table__timers_of_a_node(planting: Planting) -> None:
    planting.append(lambda node: node._engine.timers.append(NOTHING))


def test_table__sinks_of_a_node(planting: Planting) -> None:
    planting.append(lambda node: node._engine._registry._sinks.update({1000: NOTHING}))


def test_table__threads_in_the_lock_of_a_node(planting: Planting) -> None:
    planting.append(lambda node: node._engine._lock._threads.add(1))


def test_table__links_of_a_machine(planting: Planting) -> None:
    planting.append(lambda node: node._engine._machine.world.links.update({1000: NOTHING}))


def test_table__places_of_an_acceptor() -> None:
    async def serve(*_: object) -> None: ...

    acceptor = Acceptor("ws://here", logger=logger, max_connections=1, serve=serve)
    acceptor._places._taken[NOTHING] = anyio.CancelScope()


def test_table__listeners_in_memory() -> None:
    memory._listeners["name"] = NOTHING


def test_table__names_of_zmq() -> None:
    _address_claims._bound["name"] = (1, "path")


def test_table__users_of_the_context_of_zmq() -> None:
    _contexts.shared._users += 1


def test_table__blocks_of_sync() -> None:
    block: Any = "block"
    sync._open.add(block)


# ---- objects --------------------------------------------------------------------------------------------------------


async def test_wake_up__of_a_loop_that_has_ended() -> None:
    wakeups._current_home()._pending.append(print)


def test_object__one_that_is_kept() -> None:
    kept.append(ReassemblyLimit(1))


def test_circle__of_an_object_of_ours() -> None:
    limit: Any = ReassemblyLimit(1)
    limit._sizes[limit] = 1


async def test_circle__of_a_cancelled_task_of_ours(anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        pytest.skip("it keeps nothing of a task")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wakeups.AutoResetEvent().wait)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


# ---- what is no leak ------------------------------------------------------------------------------------------------


async def test_nothing__a_link() -> None:
    """It is the fixture's."""


def test_nothing__an_exception_that_a_test_has_caught() -> None:
    node = hakuban.LocalNode()
    with pytest.raises(hakuban.InvalidDescriptorError) as caught:
        node.object([object()], 1)  # not JSON
    assert caught.type is hakuban.InvalidDescriptorError


async def test_nothing__a_cancelled_task_of_a_test() -> None:
    node = hakuban.LocalNode()

    async def wait() -> None:
        with node.object("name").observe() as observed:
            await observed.wait_state()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_nothing__a_thread_that_is_kept_for_the_next_call() -> None:
    await anyio.to_thread.run_sync(int)


@pytest.mark.leaks("descriptor", reason="a test of this marker")
def test_nothing__what_is_marked() -> None:
    kept.append(os.open("/dev/null", os.O_RDONLY))


@pytest.mark.leaks("descriptor")
def test_write__a_marker_without_a_reason() -> None:
    kept.append(os.open("/dev/null", os.O_RDONLY))


@pytest.mark.leaks("thread", reason="a test of this marker")
def test_descriptor__something_else_is_marked() -> None:
    kept.append(os.open("/dev/null", os.O_RDONLY))
