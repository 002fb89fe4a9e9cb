"""A copy of the sources, and a process that has collected the tests which guard it (`server.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mutants.shell import HERE, ROOT, copy, is_noticed, write_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mutants.making import Mutant

BACKENDS = {"HAKUBAN_BACKENDS": "asyncio,trio"}
LONGEST_TEST = 20  # seconds of one without a mutant
STARTING = 20.0  # seconds that a process takes to begin with tests


class Worker:
    """Runs tests on mutants, one after the other.

    :ivar tests: the names of all tests, and the words of each.
    """

    def __init__(self, guards: Sequence[str]) -> None:
        """Start; the tests of `guards` are collected meanwhile."""
        self._stack = ExitStack()
        self.copy = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._files = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        copy(self.copy)
        self._orders, theirs = Pipe()
        self._output = (self._files / "output").open("wb")
        paths = (self.copy, HERE.parent, HERE / "in_processes")
        options = [
            "-q",
            "-n0",
            "-p",
            "mutants.server",
            "-p",
            "no:cacheprovider",
            "--timeout",
            f"{LONGEST_TEST}",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *guards],
            env={
                **os.environ,
                **BACKENDS,
                "HYPOTHESIS_STORAGE_DIRECTORY": str(self._files),
                "MUTANTS_CONNECTION": str(theirs.fileno()),
                "MUTANTS_COPY": str(self.copy),
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
            },
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        self.tests: dict[str, frozenset[str]] = self._answer()

    def __enter__(self) -> Self:
        """Enter."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the process end."""
        try:
            self._orders.send(None)
            self._orders.close()
            self._process.wait(10.0)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._stack.close()

    def path(self, file: str) -> Path:
        """Tell where a file of the repository is in the copy."""
        return self.copy / file.partition("/src/")[2]

    def measure(
        self, tests: Sequence[str]
    ) -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
        """Run tests without a mutant; return by file in the copy and line which pass there, and the seconds of each.

        What fails under coverage and beside other tests is left out, and said: it would notice everything.
        """
        folder = self._files / "lines"
        folder.mkdir()
        self._orders.send(("measure", list(tests), str(folder)))
        lines, seconds, failed = self._answer()
        for name in failed:
            print(f"left out, fails without a mutant: {name}", flush=True)
        return (
            {
                str(Path(file).relative_to(self.copy)): {
                    line: [name for name in names if name not in failed]
                    for line, names in found.items()
                }
                for file, found in lines.items()
            },
            seconds,
        )

    def noticing_test(
        self, file: str, mutant: Mutant, tests: dict[str, float], longest: float
    ) -> str:
        """Run tests on a mutant, until one fails.

        :param tests: their names, and the seconds that each may take.
        :param longest: the seconds that all may take.
        :returns: which has; "" if none.
        """
        path = self.path(file)
        self._orders.send(("mutant", str(path), mutant.text, tests, longest))
        answer: str | None = self._answer()
        if answer is not None:
            return answer
        original = path.read_text()
        write_source(path, mutant.text)
        try:
            noticed = is_noticed(self.copy, list(tests), STARTING + longest, **BACKENDS)
            return "(new process)" if noticed else ""
        finally:
            write_source(path, original)

    def _answer(self) -> Any:  # what was ordered
        try:
            answer = self._orders.recv()
        except EOFError:
            raise RuntimeError(f"the process has ended:\n{self._last_lines()}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _last_lines(self) -> str:
        return (self._files / "output").read_bytes().decode(errors="replace")[-5000:]
