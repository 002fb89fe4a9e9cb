"""ZeroMQ's contexts: nothing is left, nothing hangs, threads and forks do not disturb each other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from hakuban.transport import RefusedError, TransportOptions
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._contexts import shared
from support.waiting import until
from support.zeromq import accepting, linked, peer_process, resources, serve_alone

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["tcp", "ipc", "inproc"])
async def test_links_leave_no_descriptor_and_no_thread(kind: str, tmp_path: Path) -> None:
    where = {"tcp": "127.0.0.1:0", "ipc": f"{tmp_path}/s", "inproc": "leaks"}[kind]
    transport = ZeroMQTransport()
    async with accepting(f"zmq+{kind}://{where}") as (url, accepted):
        async with transport.connect(url, TransportOptions()):
            await accepted.receive()
        await until(lambda: resources()[1] > 0)
        before = resources()
        for _ in range(50):
            async with transport.connect(url, TransportOptions()) as stream:
                other_end = await accepted.receive()
                await stream.send([b"x"])
                await other_end.receive()
            await other_end.aclose()
        await until(lambda: resources() <= before)


async def test_the_last_user_takes_the_context_along() -> None:
    async with linked():
        assert shared._users == 1
        inside = resources()
    assert shared._users == 0
    await until(lambda: resources()[0] < inside[0] and resources()[1] < inside[1])


async def test_failures_leave_nothing() -> None:
    transport = ZeroMQTransport()

    async def fail() -> None:
        with pytest.raises(OSError, match="nobody"):
            async with transport.connect("zmq+tcp://127.0.0.1:1", TransportOptions()):
                pass
        with pytest.raises(FileNotFoundError):
            await serve_alone(transport, "zmq+ipc:///missing/s")

    await fail()
    before = resources()
    for _ in range(20):
        await fail()
    await until(lambda: resources() <= before)
    assert shared._users == 0


def run(function: Any, backend: tuple[str, dict[str, Any]]) -> Any:
    return anyio.run(function, backend=backend[0], backend_options=backend[1])


def test_a_name_within_the_process_links_event_loops_of_two_threads(
    anyio_backend: tuple[str, dict[str, Any]],
) -> None:
    listening = threading.Event()

    async def listen() -> None:
        async with accepting("zmq+inproc://threads") as (_, accepted):
            listening.set()
            stream = await accepted.receive()
            with suppress(anyio.EndOfStream):
                while True:
                    await stream.send(await stream.receive())

    async def connect() -> None:
        async with ZeroMQTransport().connect("zmq+inproc://threads", TransportOptions()) as stream:
            for number in range(1_000):
                await stream.send([b"%d" % number])
                assert list(await stream.receive()) == [b"%d" % number]

    thread = threading.Thread(target=run, args=(listen, anyio_backend))
    thread.start()
    assert listening.wait(10)
    run(connect, anyio_backend)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
async def test_a_child_of_fork_has_links_of_its_own_and_leaves_those_of_its_parent() -> None:
    code = """
import os, sys, anyio
from hakuban.transport import TransportOptions
from hakuban_zmq import ZeroMQTransport

async def exchange():
    async with ZeroMQTransport().connect(sys.argv[1], TransportOptions()) as stream:
        await stream.send([b"x"])
        assert list(await stream.receive()) == [b"x"]

async def main():
    async with ZeroMQTransport().connect(sys.argv[1], TransportOptions()) as stream:
        child = os.fork()
        if child == 0:
            os._exit(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", "pass"]))
        assert os.waitpid(child, 0)[1] == 0
        await stream.send([b"x"])
        assert list(await stream.receive()) == [b"x"]

def in_child():
    child = os.fork()
    if child == 0:
        anyio.run(exchange)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0

from hakuban_zmq._contexts import shared
context = shared.acquire()  # in use, as by another thread
in_child()
anyio.run(exchange)
in_child()
shared.release(context)
anyio.run(main)
print("done")
"""
    async with peer_process("listen") as listener:
        command = [sys.executable, "-W", "error", "-c", code, listener.url]
        with anyio.fail_after(30):
            done = await anyio.run_process(command, check=False)
        assert done.stderr == b""
        assert done.stdout == b"done\n"


@pytest.mark.parametrize("url", ["zmq+tcp://127.0.0.1:0", "zmq+inproc://exit"])
def test_the_interpreter_exits_although_a_thread_listens(url: str) -> None:
    code = f"""
import threading, anyio
from functools import partial
from hakuban.transport import TransportOptions
from hakuban_zmq import ZeroMQTransport
ready = threading.Event()

async def handler(stream):
    await anyio.sleep_forever()

async def main():
    async with anyio.create_task_group() as group:
        url = await group.start(partial(ZeroMQTransport().serve, {url!r}, TransportOptions(), handler))
        async with ZeroMQTransport().connect(url, TransportOptions()):
            ready.set()
            await anyio.sleep_forever()

threading.Thread(target=anyio.run, args=(main,), daemon=True).start()
assert ready.wait(10)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=20, check=False)
    assert done.returncode == 0


async def test_a_link_refused_leaves_the_listener_as_it_was() -> None:
    async with accepting(max_connections=0) as (url, _):
        for _ in range(3):
            with pytest.raises(RefusedError):
                async with ZeroMQTransport().connect(url, TransportOptions()):
                    pass
