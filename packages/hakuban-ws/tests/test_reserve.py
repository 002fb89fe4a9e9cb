"""Strangers never get the last descriptors of a process, whichever bind they come to."""

from __future__ import annotations

import re
import select
import socket
import sys
from contextlib import ExitStack
from typing import Final

import anyio
import psutil
import pytest

from hakuban.transport import RefusedError, TransportOptions
from hakuban_ws import WebSocketTransport
from support.processes import Program
from support.watching import until
from support.websocket import port_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")

LIMIT: Final = 256
RESERVE: Final = 64
TWO_BINDS = f"""
import anyio, logging, os, resource, sys
from functools import partial
from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport

logging.basicConfig(stream=sys.stderr, format="LOG %(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))

def open_files():  # whenever a line comes in
    for line in sys.stdin:
        files = []
        try:
            files += [open(os.devnull) for _ in range(int(line))]
        except OSError as error:
            print(error, flush=True)
        print("opened", len(files), flush=True)
        for file in files:
            file.close()

async def main():
    options = TransportOptions(max_connections=1000, handshake_timeout=60.0)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            serve = partial(WebSocketTransport().serve, "ws://127.0.0.1:0", options, lambda stream: stream.receive())
            print(await group.start(serve), flush=True)
        await anyio.to_thread.run_sync(open_files)
        group.cancel_scope.cancel()

backend, uvloop = sys.argv[1].partition("+")[::2]
anyio.run(main, backend=backend, backend_options={{"use_uvloop": bool(uvloop)}} if backend == "asyncio" else {{}})
"""


def knock(port: int, callers: ExitStack) -> bytes:
    """Connect and keep silent until one is turned away; give what that one was told."""
    silent: list[socket.socket] = []
    poll = select.poll()
    for _ in range(LIMIT):
        silent.append(callers.enter_context(socket.create_connection(("127.0.0.1", port))))
        poll.register(silent[-1], select.POLLIN)
    answered = {fd for fd, _ in poll.poll(10_000)}
    return next(sock for sock in silent if sock.fileno() in answered).recv(1000)


async def gets_in(url: str) -> None:
    """Connect within 3 s; who is turned away comes back."""
    with anyio.fail_after(3):
        while True:
            try:
                async with WebSocketTransport().connect(url, TransportOptions()):
                    return
            except (RefusedError, OSError):
                await anyio.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "asyncio+uvloop", "trio"])
def test_strangers_of_one_bind_leave_files_to_the_process_and_links_to_the_other(
    backend: str,
) -> None:
    if "uvloop" in backend:
        pytest.importorskip("uvloop")
    with Program([sys.executable, "-c", TWO_BINDS, backend]) as program, ExitStack() as callers:
        urls = [program.out.next() or "" for _ in range(2)]
        process = psutil.Process(program.pid)
        program.write("1\n")  # whatever is set up once is set up
        assert program.out.next() == "opened 1"
        before = process.num_fds()

        told = knock(port_of(urls[0]), callers)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in told
        most = process.num_fds()
        assert LIMIT - RESERVE - 5 <= most <= LIMIT - RESERVE + 1
        program.write(f"{RESERVE - 10}\n")
        assert program.out.next() == f"opened {RESERVE - 10}"
        anyio.run(gets_in, urls[1])

        callers.close()
        until(lambda: process.num_fds() <= before, "the descriptors return")
        line = program.err.wait(re.compile("LOG .*"))[0]
        assert line.startswith(f"LOG {urls[0]}")
        assert "accepts nobody for now: too few descriptors are left" in line
        assert line.endswith("raise the limit of open files (ulimit -n)")
