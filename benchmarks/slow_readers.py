"""Readers that take 10 ms for each of 500 states a second: asynchronously, blocking their loop, and in a thread.

States are 20 kB that nothing can compress. The lag is the age of the state a reader has just been given. Printed are its
99th percentile and maximum in the last 2 of 6 seconds, whether the last state was seen, and what reader and router have
grown by since second 2; and the 99th percentile of a reader that takes no time, alone and beside each of them.

Run: python benchmarks/slow_readers.py [ws]
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack
from typing import Any

import anyio
import psutil

import hakuban.sync
from stuck_observer import node, router, say, started

HERTZ = 500
SIZE = 20_000
SECONDS = 6.0
COUNTED = 2.0
WORK = 0.01
LAST = b"last"


def expose(url: str) -> None:
    """Set until the end; then say that it has come."""
    exposer = node("exposer")
    with hakuban.sync.connect(exposer, url), exposer.object("camera").expose() as contract:
        contract.wait_assigned_sync()
        start = due = time.monotonic()
        while due < start + SECONDS:
            contract.set_object_data(b"    %20d" % time.monotonic_ns() + os.urandom(SIZE))
            due += 1 / HERTZ
            time.sleep(max(0, due - time.monotonic()))
        contract.set_object_data(LAST + b"%20d" % time.monotonic_ns() + os.urandom(SIZE))
        say("end")
        time.sleep(60)


class Lags:
    """When a state was seen, and how old it was then."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seen: list[tuple[float, float]] = []
        self._before = self._after = 0.0

    def note(self, data: bytes) -> bool:
        """Note a state; say whether it is the last."""
        now = time.monotonic()
        self._seen.append((now, now - int(data[4:24]) / 1e9))
        if not self._before and now > self._start + 2:
            self._before = memory()
        self._after = memory()
        return data[:4] == LAST

    def report(self) -> None:
        """Print the 99th percentile and the maximum in ms of the end, and the growth in MB."""
        end = self._seen[-1][0] - COUNTED
        lags = sorted(lag for at, lag in self._seen if at > end)
        p99 = lags[len(lags) * 99 // 100]
        say(p99 * 1e3, lags[-1] * 1e3, self._after - self._before)


def memory() -> float:
    resident: int = psutil.Process().memory_info().rss
    return resident / 1e6


async def read(url: str, kind: str) -> None:
    reader, lags = node(kind), Lags()
    async with reader.connect(url):
        with reader.object("camera").observe() as contract:
            async for state in contract:
                if lags.note(state.data):
                    break
                if kind == "asynchronous":
                    await anyio.sleep(WORK)
                elif kind == "blocking":
                    time.sleep(WORK)  # noqa: ASYNC251  # this is what it is about
    lags.report()


def read_in_thread(url: str) -> None:
    reader, lags = node("thread"), Lags()
    with hakuban.sync.connect(reader, url), reader.object("camera").observe() as contract:
        for state in contract:
            if lags.note(state.data):
                break
            time.sleep(WORK)
    lags.report()


def figures(stream: Any) -> list[float]:
    return [float(word) for word in stream.readline().split()]


def run(scheme: str, *kinds: str) -> tuple[dict[str, list[float]], float]:
    """Give what the readers report, and the growth of the router in MB."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
    with ExitStack() as stack:
        routing = stack.enter_context(router(url))
        readers = {
            kind: stack.enter_context(started("read", url, kind, program=__file__))
            for kind in kinds
        }
        time.sleep(1)
        exposer = stack.enter_context(started("expose", url, program=__file__))
        time.sleep(2)
        before = routing.memory_info().rss
        exposer.readline()
        reports = {kind: figures(reader) for kind, reader in readers.items()}
        return reports, (routing.memory_info().rss - before) / 1e6


def main(scheme: str = "ws") -> None:
    alone, _ = run(scheme, "fast")
    fast = alone["fast"][0]
    say(f"fast reader alone: p99 {fast:.1f} ms")
    for kind in ("asynchronous", "blocking", "thread"):
        reports, grown = run(scheme, "fast", kind)
        p99, longest, reader_grown = reports[kind]
        say(
            f"{kind}: lag p99 {p99:.1f} ms, at most {longest:.1f}; saw the last state;"
            f" grew {reader_grown:+.1f} MB, the router {grown:+.1f};"
            f" a fast reader beside it p99 {reports['fast'][0]:.1f} ms, {reports['fast'][0] / fast:.2f} times"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["expose", url]:
            expose(url)
        case ["read", url, "thread"]:
            read_in_thread(url)
        case ["read", url, kind]:
            anyio.run(read, url, kind)
        case rest:
            main(*rest)
