"""A thread without an event loop sets an object as fast as it can, through a router, to one that observes.

Run: python benchmarks/thread_flood.py [SECONDS]
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import Any

import psutil

import hakuban
import hakuban.sync

STATE = "%20d" + 80 * "x"


def resident(pid: int) -> float:
    memory: int = psutil.Process(pid).memory_info().rss
    return memory / 1e6


def expose(url: str, seconds: float) -> None:
    """Flood, with the time of each set in the state; then a last state, and lines for `main`."""
    node = hakuban.LocalNode("exposer", serializer=hakuban.RAW)
    with hakuban.sync.connect(node, url), node.object("flood").expose() as contract:
        contract.wait_assigned_sync(10)
        end, count = time.monotonic() + seconds, 0
        print("warm", flush=True)
        while time.monotonic() < end:
            contract.set_object_data((STATE % time.monotonic_ns()).encode())
            count += 1
        last = time.monotonic_ns()
        contract.set_object_data(b"last" + (STATE % last).encode())
        print(last, count, flush=True)
        sys.stdin.readline()


def observe(url: str) -> None:
    """Say when the last state was there, and how many came before."""
    node, count = hakuban.LocalNode("observer", serializer=hakuban.RAW), 0
    with hakuban.sync.connect(node, url), node.object("flood").observe() as contract:
        for state in contract:
            count += 1
            if state.data.startswith(b"last"):
                print(time.monotonic_ns(), count, flush=True)
                sys.stdin.readline()
                return


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def line(process: Any) -> list[str]:
    words: list[str] = process.stdout.readline().split()
    return words


def main(seconds: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    router = subprocess.Popen([sys.executable, "-m", "hakuban_router", "-b", url])
    observer = started("observe", url)
    exposer = started("expose", url, seconds)
    processes = {"router": router, "observer": observer, "exposer": exposer}
    try:
        line(exposer)
        time.sleep(0.5)
        before = {name: resident(process.pid) for name, process in processes.items()}
        sent, sets = line(exposer)
        seen, states = line(observer)
        grown = {name: resident(process.pid) - before[name] for name, process in processes.items()}
        print(f"last state after {(int(seen) - int(sent)) / 1e6:.2f} ms")
        print(
            f"{float(sets) / float(seconds):,.0f} sets/s, {float(states) / float(seconds):,.0f} states/s seen"
        )
        print(", ".join(f"{name} {size:+.1f} MB" for name, size in grown.items()))
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["expose", url, seconds]:
            expose(url, float(seconds))
        case ["observe", url]:
            observe(url)
        case rest:
            main(*(rest or ["5"]))
