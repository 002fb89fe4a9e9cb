"""From exec to the first accepted connection, beside a Python that imports the libraries a router needs.

Run: python benchmarks/startup_bench.py [RUNS]
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CACHE = tempfile.TemporaryDirectory()
# As after `pip install`: bytecode is there. Without this, a checkout would be compiled at each start.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPYCACHEPREFIX": CACHE.name,
}
IMPORTS = "import asyncio, ssl, anyio, wsproto, pluggy, msgspec"
PROMISED = 2.0  # times the reference


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something listens, which the process has to do."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.001)
    raise SystemExit(f"it has ended with exit code {process.returncode} before it listened")


def reference() -> float:
    """Import the libraries and exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def router() -> float:
    """Start a router, and connect as soon as that works."""
    port = free_port()
    command = [sys.executable, "-m", "hakuban_router", "-b", f"ws://127.0.0.1:{port}"]
    start = time.perf_counter()
    null = subprocess.DEVNULL
    with subprocess.Popen(command, stderr=null, stdin=null, env=ENVIRONMENT) as process:
        wait_for(port, process)
        elapsed = time.perf_counter() - start
        process.terminate()
    assert process.returncode == 0
    return elapsed


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    reference()  # the first runs fill the caches of files
    router()
    times: dict[str, list[float]] = {"reference": [], "router": []}
    for _ in range(runs):  # in turn, so that a busy machine slows both
        times["reference"].append(reference())
        times["router"].append(router())
    for name, seconds in times.items():
        ordered = sorted(seconds)
        median = statistics.median(ordered)
        print(f"{name:10} median {median:.3f} s  min {ordered[0]:.3f} s  max {ordered[-1]:.3f} s")
    ratio = statistics.median(times["router"]) / statistics.median(times["reference"])
    print(f"ratio      {ratio:.2f} (promised: {PROMISED:g})")


if __name__ == "__main__":
    main()
