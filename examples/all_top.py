"""Live counters of this machine from three exposing processes, through a router, to a table.

    python examples/all_top.py                  a scripted tour: an exposer is killed, then the router
    python examples/all_top.py --calm           nothing is killed
    python examples/all_top.py --plain          rows of text, for pipes
    python examples/all_top.py --seconds 10     ends by itself

Each counter is an object whose name says what to measure. All three exposers could produce all of them; each counter
is produced by one of them, and only while the table looks at it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import psutil

import hakuban
from hakuban.transport import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

TAG = "top"
EXPOSERS = ("red", "green", "blue")


# ---- exposing ----------------------------------------------------------------------------------------------------------


class Counters:
    """Reads counters of this machine; rates are taken over the time between two looks."""

    def __init__(self) -> None:
        self._cores: list[float] = []
        self._cores_at = 0.0
        self._before: dict[str, tuple[float, int]] = {}

    def read(self, what: dict[str, Any]) -> tuple[float, str]:
        """Measure what the name of an object asks for; give value and unit."""
        match what:
            case {"cpu": int(core)}:
                return self._core(core), "%"
            case {"memory": "used"}:
                return psutil.virtual_memory().percent, "%"
            case {"network": str(nic)}:
                counters = psutil.net_io_counters(pernic=True)[nic]
                return self._rate(nic, counters.bytes_sent + counters.bytes_recv), "kB/s"
            case {"disk": str(disk)}:
                io = psutil.disk_io_counters(perdisk=True)[disk]
                return self._rate(disk, io.read_bytes + io.write_bytes), "kB/s"
            case _:
                raise ValueError(f"nobody here can measure {what}")

    def _core(self, core: int) -> float:
        if time.monotonic() - self._cores_at > 0.1:  # all cores come in one look
            self._cores = psutil.cpu_percent(percpu=True)
            self._cores_at = time.monotonic()
        return self._cores[core]

    def _rate(self, key: str, count: int) -> float:
        now = time.monotonic()
        then, before = self._before.get(key, (now - 1, count))
        self._before[key] = (now, count)
        return max(0.0, (count - before) / (now - then) / 1000)


async def expose(url: str, name: str) -> None:
    """Produce whatever counter somebody asks for, only while somebody asks."""
    counters = Counters()

    async def produce(sink: hakuban.ObjectStateSink[Any]) -> None:
        while True:
            value, unit = counters.read(sink.descriptor.json)
            sink.set({"value": round(value, 1), "unit": unit, "by": name})
            await anyio.sleep(0.25)

    node = hakuban.LocalNode(name)
    async with node.connect(url):
        with node.tag(TAG).expose(capacity=10) as contract:
            await contract.serve(produce)


# ---- observing ---------------------------------------------------------------------------------------------------------


def wanted() -> list[dict[str, Any]]:
    """List what there is to see on this machine."""
    cores = range(min(psutil.cpu_count() or 1, 8))
    disks = psutil.disk_io_counters(perdisk=True) or {}
    return [
        *({"cpu": core} for core in cores),
        {"memory": "used"},
        *({"network": nic} for nic in sorted(psutil.net_io_counters(pernic=True))[:3]),
        *({"disk": disk} for disk in sorted(disks)[:2]),
    ]


Row = tuple[str, str, str, str]


@contextlib.contextmanager
def observe(node: hakuban.LocalNode) -> Iterator[Callable[[], list[Row]]]:
    """Observe all counters; yield a function that gives a row for each: name, value, age, who produces it."""
    with contextlib.ExitStack() as stack:
        contracts = [
            stack.enter_context(node.object([TAG], what).observe(type=dict)) for what in wanted()
        ]

        def rows() -> list[Row]:
            return [_row(contract) for contract in contracts]

        yield rows


def _row(contract: hakuban.ObjectObserve[dict[str, Any]]) -> Row:
    name = " ".join(str(part) for item in contract.descriptor.json.items() for part in item)
    state = contract.object_state()
    if state is None:
        return name, "-", "-", "-"
    age = "0.0" if state.synchronized else f"{state.age:.3f}"
    value = f"{state.data['value']} {state.data['unit']}"
    # written by other nodes, and meant for a terminal
    return name, printable(value), age, printable(f"{state.data['by']}")


async def show_plain(rows: Callable[[], list[Row]]) -> None:
    """Print all rows again and again, with tabs between the columns."""
    while True:
        for row in rows():
            print("\t".join(row))
        sys.stdout.flush()
        await anyio.sleep(0.1)


async def show_table(rows: Callable[[], list[Row]], news: list[str]) -> None:
    """Keep a table up to date."""
    from rich.live import Live
    from rich.table import Table

    with Live(refresh_per_second=10) as live:
        while True:
            table = Table("counter", "value", "age (s)", "produced by", caption=news[-1])
            for name, value, age, producer in rows():
                style = "" if age == "0.0" else "yellow"
                table.add_row(name, value, age, producer, style=style)
            live.update(table)
            await anyio.sleep(0.1)


# ---- processes ---------------------------------------------------------------------------------------------------------


class Cast:
    """The router and the exposers: processes that this program starts, kills and ends."""

    def __init__(self, url: str, news: Callable[[str], None]) -> None:
        self._url = url
        self._news = news
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start the router, or an exposer."""
        if name == "router":
            command = ["-m", "hakuban_router", "--bind", self._url, "--log-level", "warning"]
        else:
            command = [__file__, "--expose", name, "--url", self._url]
        # in a group of its own: a Ctrl-C of the terminal reaches this program alone, which then ends all of them
        self._processes[name] = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, process_group=0
        )
        self._news(f"{name} started, process {self._processes[name].pid}, {self._url}")

    def kill(self, name: str) -> None:
        """Kill a process as a power failure would."""
        self._processes[name].kill()
        self._processes[name].wait()
        self._news(f"{name} killed")

    def end(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(timeout=5)


async def tour(cast: Cast, end: float) -> None:
    """Kill an exposer, then the router, and let both come back, well before the end."""
    seconds = end - anyio.current_time()
    await anyio.sleep(seconds * 0.25)
    cast.kill("red")
    await anyio.sleep(seconds * 0.2)
    cast.start("red")
    await anyio.sleep(seconds * 0.1)
    cast.kill("router")
    await anyio.sleep(min(1.5, seconds * 0.1))
    cast.start("router")


@contextlib.asynccontextmanager
async def stopping_on_signals(scope: anyio.CancelScope) -> AsyncIterator[None]:
    """Cancel a scope on SIGTERM and SIGHUP, as SIGINT does by itself, so that no process is left behind."""

    async def watch() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                scope.cancel()

    async with anyio.create_task_group() as tasks:
        if os.name == "posix":
            tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()


async def view(options: argparse.Namespace) -> None:
    """Start everybody, and look."""
    url = options.url or f"ws://127.0.0.1:{_free_port()}"
    news: list[str] = []

    def tell(text: str) -> None:
        news.append(text)
        if options.plain:
            print(f"# {text}", flush=True)

    cast = Cast(url, tell)
    node = hakuban.LocalNode("viewer")
    try:
        for name in ("router", *EXPOSERS):
            cast.start(name)
        with anyio.move_on_after(options.seconds) as scope:
            async with stopping_on_signals(scope), node.connect(url):
                with observe(node) as rows:
                    async with anyio.create_task_group() as tasks:
                        if not options.calm:
                            tasks.start_soon(tour, cast, scope.deadline)
                        await (show_plain(rows) if options.plain else show_table(rows, news))
    finally:
        cast.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30, help="end after this time (30)")
    parser.add_argument("--plain", action="store_true", help="rows of text instead of a table")
    parser.add_argument("--calm", action="store_true", help="kill nothing")
    parser.add_argument("--url", help="where the router listens (a free port)")
    parser.add_argument("--expose", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # a link that is lost shows in the table, which lines of text would tear
    logging.getLogger("hakuban").setLevel(logging.ERROR)
    code = 0
    try:
        if options.expose:
            anyio.run(expose, options.url, options.expose)
        else:
            anyio.run(view, options)
    except* KeyboardInterrupt:
        code = 130  # what shells expect after Ctrl-C
    except* BrokenPipeError:
        # `| head` has read enough; Python flushes again at the end: let that go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
