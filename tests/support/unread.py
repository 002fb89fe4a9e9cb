"""A router whose standard error nobody reads."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import hakuban
import hakuban.sync

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnreadRouter:
    """A router whose standard error is a pipe: it is read until the router listens, and when a test says so."""

    def __init__(self, *options: str) -> None:
        reader, writer = os.pipe()
        import fcntl

        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        command = [sys.executable, "-m", "hakuban_router", "-b", "ws://127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=writer)
        os.close(writer)
        self.pipe: IO[str] = os.fdopen(reader, encoding="utf-8")
        said = b""
        while not (match := re.search(rb"listening on (\S+)\n", said)):
            said += os.read(reader, 1)
        self.url = match[1].decode()

    def check_health(self, times: int) -> None:
        where = urlsplit(self.url)
        for _ in range(times):
            connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()

    def carry_an_object(self) -> None:
        exposer, observer = hakuban.LocalNode("exposer"), hakuban.LocalNode("observer")
        with (
            exposer,
            observer,
            hakuban.sync.connect(exposer, self.url),
            hakuban.sync.connect(observer, self.url),
            exposer.object("door").expose() as exposing,
            observer.object("door").observe() as observing,
        ):
            for value in range(10):
                exposing.set_object_data(value)
            for state in observing:
                if state.data == 9:
                    return

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; give the exit code, and the seconds until then."""
        start = time.monotonic()
        self.process.send_signal(signum)
        return self.process.wait(20), time.monotonic() - start


@contextmanager
def full_pipe() -> Iterator[int]:
    """Make a pipe that takes nothing any more, and is not read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def unread_router(*options: str) -> Iterator[UnreadRouter]:
    router = UnreadRouter(*options)
    try:
        yield router
    finally:
        router.process.kill()
        router.process.wait(10)
        assert router.process.stdin is not None
        router.process.stdin.close()
        router.pipe.close()
