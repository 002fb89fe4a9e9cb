"""What this process holds of the operating system: descriptors and threads, each under a key that names it alone."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

DESCRIPTORS: Final = "/proc/self/fd"
THREADS: Final = Path("/proc/self/task")
IDLE: Final = ("Trio thread ", "libuv-worker")
"""What trio calls a thread that waits 10 s for the next call (while it runs one it has another name), and uvloop the four
that a process keeps for ever."""


def descriptors() -> dict[tuple[int, str], None]:
    """List the open descriptors, and what each is."""
    found: dict[tuple[int, str], None] = {}
    for name in os.listdir(DESCRIPTORS):  # noqa: PTH208  # Path costs more than all the rest, and this runs for each test
        with suppress(OSError):  # that of the listing itself
            if len(name) > 1 or name > "2":  # pytest has these three lead elsewhere now and then
                found[int(name), os.readlink(f"{DESCRIPTORS}/{name}")] = None  # noqa: PTH115  # as above
    return found


def describe_descriptor(key: tuple[int, str]) -> str:
    """Say what a descriptor is: of a socket the addresses, too."""
    number, target = key
    addresses = ""
    if target.startswith("socket:"):
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as sock:
            addresses = f" at {sock.getsockname()!r}"
            addresses += f", connected to {sock.getpeername()!r}"
    return f"descriptor {number}: {target}{addresses}"


def threads() -> dict[int, str]:
    """List the threads, those that Python does not know among them, by their ids; without those that are idle for reuse."""
    running = os.listdir(THREADS)  # noqa: PTH208  # as above
    found: dict[int, str] = {}
    if len(running) == 1:
        return found  # as a rule
    main = os.getpid()  # asked each time: tests of mutants run in forks
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    for name in running:
        with suppress(OSError):  # it has ended meanwhile
            thread = int(name)
            if thread == main:
                continue
            called = known.get(thread) or (THREADS / name / "comm").read_text().strip()
            if not called.startswith(IDLE):
                found[thread] = called
    return found
