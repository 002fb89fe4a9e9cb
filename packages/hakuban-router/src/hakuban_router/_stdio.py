"""The standard files of the process, in whatever condition they are; lines of the standard input."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


CHUNK = 64 * 1024
HIGHEST = 2  # the standard error
LONGEST = 16 * 1024 * 1024  # more than any state may have; the rest of a longer line is thrown away


def occupy_closed() -> None:
    """Open whichever of 0, 1 and 2 were closed by whoever started us, or sockets get these numbers: libuv aborts then."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= HIGHEST:
        pass
    os.close(descriptor)


class OutputError(Exception):
    """The standard output cannot be written; the text is one line for the user."""


def write_out(data: bytes) -> bool:
    """Write to the standard output, and flush it; return False when its reader has gone, which is no failure.

    On a terminal what is not to be seen is escaped: names and states are written by peers.

    After either kind of end whatever else is written goes nowhere, what Python flushes at its end included.

    :raises OutputError: it cannot be written, on a full disk for example.
    """
    if sys.stdout is None:  # closed by whoever started us, who wants no lines
        return True
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(_escaped(data) if sys.stdout.isatty() else data)
        sys.stdout.buffer.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return False
        raise OutputError(
            f"cannot write to the standard output: {error.strerror or error}"
        ) from None
    return True


def _escaped(data: bytes) -> bytes:
    """Escape as JSON does, so that JSON stays what it is; line feeds are kept."""
    text = data.decode("utf-8", "backslashreplace")
    return "\n".join(map(_escaped_line, text.split("\n"))).encode()


def _escaped_line(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def read_lines(
    handle: Callable[[bytes], object], at_end: Callable[[], object] | None = None
) -> None:
    """Call `handle` with each line, without its end, and `at_end` once; both in a thread that ends with the process."""
    threading.Thread(target=_run, args=(handle, at_end), name="stdin", daemon=True).start()


def _run(handle: Callable[[bytes], object], at_end: Callable[[], object] | None) -> None:
    for line in _lines():
        handle(line)
    if at_end is not None:
        at_end()


def _lines() -> Iterator[bytes]:
    if sys.stdin is None:
        return
    descriptor = sys.stdin.fileno()
    rest = bytearray()
    while chunk := _read(descriptor):
        *lines, last = chunk.split(b"\n")
        for line in lines:
            rest += line
            yield bytes(rest[:LONGEST])
            rest.clear()
        rest += last[: LONGEST - len(rest)]
    if rest:
        yield bytes(rest)


def _read(descriptor: int) -> bytes:
    # Not through sys.stdin: a daemon thread that holds its lock when the interpreter ends is a fatal error.
    try:
        return os.read(descriptor, CHUNK)
    except OSError:
        return b""  # nothing to read from, a terminal in the background for example


def ignore_terminal_stop() -> None:
    """Let a read in the background fail, instead of stopping the whole process (a shell's `&`). Main thread only."""
    if hasattr(signal, "SIGTTIN"):
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
