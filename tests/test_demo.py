"""The demo of the README, as somebody watches it who pulls plugs."""

from __future__ import annotations

import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import pytest

from support.processes import Program, RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable

DEMO = Path(__file__).parents[1] / "examples/all_top.py"
STARTED = re.compile(r"# (\w+) started, process (\d+), (\S+)")


@dataclass
class Row:
    """What the demo says of one counter: `age` is in seconds, 0 while it is current."""

    value: str
    age: float
    producer: str


class Demo(Program):
    """The demo, printing rows.

    :ivar rows: the last row of each counter.
    :ivar pids: all processes that it has started, by name, the last one of each name last.
    """

    def __init__(self, *options: str) -> None:
        self.rows: dict[str, Row] = {}
        self.pids: list[tuple[str, int]] = []
        self.url = ""
        super().__init__([sys.executable, str(DEMO), "--plain", *options])

    def pid_of(self, name: str) -> int:
        return next(pid for known, pid in reversed(self.pids) if known == name)

    def step(self) -> str | None:
        """Read a line; None at the end."""
        line = self.out.next()
        if line is None:
            return None
        started = STARTED.match(line)
        if started:
            self.pids.append((started[1], int(started[2])))
            self.url = started[3]
        elif not line.startswith("#"):
            name, value, age, producer = line.split("\t")
            self.rows[name] = Row(value, float(age) if age != "-" else float("inf"), producer)
        return line

    def until(self, condition: Callable[[], bool]) -> float:
        """Read until something is so; give the seconds that took."""
        began = time.monotonic()
        while not condition():
            assert self.step() is not None, f"the demo ended: {self.err.seen}"
        return time.monotonic() - began

    def all_fresh(self) -> bool:
        return len(self.rows) >= 2 and all(row.age == 0 for row in self.rows.values())

    def producers(self) -> set[str]:
        return {row.producer for row in self.rows.values()}

    def ends_well(self) -> None:
        """Check that it ends by itself, and leaves nobody behind."""
        while self.step() is not None:
            pass
        assert self.wait() == 0
        assert "Traceback" not in "\n".join(self.err.seen)
        assert [pid for _, pid in self.pids if psutil.pid_exists(pid)] == []
