"""What notes cost a router whose links are idle: clocks are told again now and then, both ways, on each link.

Two routers have as many links each. On one of them clocks are told so often that it shows; the other tells none again.
Printed are the CPU of both in the same laps, and from the difference what a note costs, and all of them at their true rate.

Run: python benchmarks/notes_bench.py [--links 2000] [--every 6] [--seconds 12] [--laps 10]
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from statistics import median, quantiles
from typing import TYPE_CHECKING

import anyio
import psutil

from hakuban._core import clock
from hakuban._session_events import Note, SendNote
from hakuban._wire import Session
from hakuban.transport import TransportOptions
from hakuban_ws import WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import TaskGroup, TaskStatus

    from hakuban.transport import MessageStream

NEVER = 1e9
PATIENCE = 60.0  # seconds: a busy machine is no silence
LISTENING = re.compile(r"listening on (\S+)")
ROUTER = """
import sys
from hakuban._core import clock
from hakuban_router.__main__ import main
clock.RESTATE = float(sys.argv.pop(1))
sys.exit(main())
"""


class Router:
    """A router in a process of its own, and the links to it.

    :ivar heard: notes that came from it.
    """

    def __init__(self, url: str, process: psutil.Process, every: float) -> None:
        self._url = url
        self._process = process
        self._every = every
        self.heard = 0

    def cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    async def link(self, number: int, tasks: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        """Be a node that does nothing, and tells its clock as often as the router does."""
        session = Session(listening=False, name=f"idle {number}")
        note = Note(
            node=f"{number:016x}", name="idle", above=(), max_message=1 << 24,
            clock=time.time_ns(), version="0",
        )  # fmt: skip
        async with WebSocketTransport().connect(
            self._url, TransportOptions(timeout=PATIENCE)
        ) as stream:
            await stream.send(session.opening(note))
            if self._every < NEVER:
                tasks.start_soon(self._tell, session, stream)
            task_status.started()
            while True:
                messages = await stream.receive()
                self.heard += sum(b"hkn1" in message for message in messages)

    async def _tell(self, session: Session, stream: MessageStream) -> None:
        await anyio.sleep(random.random() * self._every)
        while True:
            await stream.send(session.encode(SendNote(Note(clock=time.time_ns() - 10**9))))
            await anyio.sleep(self._every)


@contextmanager
def router(every: float) -> Iterator[Router]:
    command = [
        sys.executable,
        "-c",
        ROUTER,
        str(every),
        "--bind",
        f"ws://127.0.0.1:0#timeout={PATIENCE}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while not (found := LISTENING.search(process.stderr.readline())):
                pass
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Router(found[1], psutil.Process(process.pid), every)
        finally:
            process.terminate()


async def measure(quiet: Router, telling: Router, arguments: argparse.Namespace) -> None:
    differences, notes = [], []
    async with anyio.create_task_group() as tasks:
        for number in range(arguments.links):
            for one in (quiet, telling):
                await tasks.start(one.link, number, tasks)
        await anyio.sleep(2 * arguments.every)
        for lap in range(arguments.laps):
            before = [quiet.cpu(), telling.cpu()]
            heard, began = telling.heard, time.monotonic()
            await anyio.sleep(arguments.seconds)
            took = time.monotonic() - began
            loads = [
                (one.cpu() - cpu) / took * 1e3
                for one, cpu in zip((quiet, telling), before, strict=True)
            ]
            rate = (telling.heard - heard) / took
            differences.append(loads[1] - loads[0])
            notes.append(rate)
            print(
                f"lap {lap + 1}: {loads[0]:.1f} and {loads[1]:.1f} ms/s, {rate:.0f} notes/s each way"
            )
        tasks.cancel_scope.cancel()
    true_rate = arguments.links / clock.RESTATE
    costs = [load / rate for load, rate in zip(differences, notes, strict=True) if rate]
    low, _, high = quantiles(costs, n=4)
    for what, scale, unit in (("a note there and one back", 1e3, "us"), ("all", true_rate, "ms/s")):
        print(
            f"{what}: {median(costs) * scale:.2f} {unit}"
            f" (quartiles {low * scale:.2f} and {high * scale:.2f}, n = {len(costs)})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--links", type=int, default=2000, help="to each router")
    parser.add_argument("--every", type=float, default=6, help="seconds between two notes")
    parser.add_argument("--seconds", type=float, default=12, help="of a lap")
    parser.add_argument("--laps", type=int, default=10)
    arguments = parser.parse_args()
    with router(NEVER) as quiet, router(arguments.every) as telling:
        anyio.run(measure, quiet, telling, arguments)


if __name__ == "__main__":
    main()
