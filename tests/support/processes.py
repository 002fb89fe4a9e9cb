"""Real processes for tests: started, watched line by line, ended by id."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    import re
    from collections.abc import Sequence


class Lines:
    """Lines of a pipe, read by a thread; can be awaited one by one, and looked at all together."""

    def __init__(self, pipe: IO[str]) -> None:
        self.seen: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self.seen.append(line.rstrip("\n"))
                self._queue.put(self.seen[-1])
        self._queue.put(None)

    def next(self, timeout: float = 20) -> str | None:
        """Give the next line; None at the end of the pipe.

        :raises queue.Empty: there was none in time.
        """
        return self._queue.get(timeout=timeout)

    def wait(self, pattern: re.Pattern[str], timeout: float = 20) -> re.Match[str]:
        """Give the first match in the lines to come."""
        while (line := self.next(timeout)) is not None:
            match = pattern.search(line)
            if match:
                return match
        raise AssertionError(f"ended without {pattern.pattern!r}: {self.seen}")

    def join(self) -> None:
        self._thread.join(timeout=10)


class Program:
    """One process with its output; killed at the end of the block if it has not ended by then."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (env or {}),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    @property
    def pid(self) -> int:
        return self.process.pid

    def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 10) -> int:
        """Send a signal and wait for the end; give the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.wait(10)

    def wait(self, timeout: float = 10) -> int:
        code = self.process.wait(timeout)
        self.out.join()
        self.err.join()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None and "MUTANTS_LINES" in os.environ:
            self.process.terminate()  # who is killed cannot report which lines it passed through
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass


class RouterProcess(Program):
    """Our router on a free port of this machine; `url` is where it listens.

    :param within: a command that runs it, such as `ip netns exec NAME`.
    """

    def __init__(
        self,
        *options: str,
        bind: str = "ws://127.0.0.1:0",
        env: dict[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        import re

        router = [sys.executable, "-m", "hakuban_router", "--bind", bind, *options]
        super().__init__([*within, *router], env)
        listening = re.compile(r"listening on (\S+)")
        try:
            self.url = self.err.wait(listening)[1].rstrip("/")
        except BaseException:
            self.__exit__()
            raise
