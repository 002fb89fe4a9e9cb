"""Machines whose wall clocks are wrong, and are set right under running programs: real processes below libfaketime.

Monotonic clocks stay what they are, as on a real machine: each program is checked for that when it has started. What
`time.sleep` asks of the system fails there, so programs have to wait by other means, as all of ours do.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .processes import Program, RouterProcess
from .watching import until

if TYPE_CHECKING:
    from contextlib import ExitStack

LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
TIMEOUT: Final = 15.0
"""Seconds until something is held not to happen any more."""
_RIGHT: Final = 10.0
"""Seconds that a clock may be off what its machine was told, under load."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a leaf said; `at` is monotonic, which is one time for all processes of this computer."""

    kind: str
    at: float
    details: dict[str, Any]

    def matches(self, kind: str, details: dict[str, Any]) -> bool:
        return self.kind == kind and details.items() <= self.details.items()


class Leaf(Program):
    """The program `leaf.py`, and what it said."""

    def __init__(self, env: dict[str, str]) -> None:
        super().__init__([sys.executable, str(Path(__file__).with_name("leaf.py"))], env)
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """All that it has said up to now, oldest first."""
        for line in self.out.seen[len(self._events) :]:
            details = json.loads(line)
            self._events.append(Event(details.pop("event"), details.pop("at"), details))
        return self._events

    def find(self, kind: str, *, since: float = 0.0, **details: Any) -> Event | None:
        """Give the first event of a kind that has these details."""
        found = (event for event in self.events if event.at >= since)
        return next((event for event in found if event.matches(kind, details)), None)

    def wait_event(self, kind: str, *, since: float = 0.0, **details: Any) -> Event:
        """Give the first event of a kind that has these details, when there is one."""
        what = f"process {self.pid} says {kind} {details}"
        return until(lambda: self.find(kind, since=since, **details), what, TIMEOUT)

    def expose(self, key: str, value: str, url: str) -> float:
        """Have it produce an object; give the time at which it was assigned and had a value."""
        since = self._do("expose", key, value, url)
        return max(self.wait_event(kind, since=since, key=key).at for kind in ("set", "assigned"))

    def set(self, key: str, value: str) -> float:
        """Have it set a state; give the time at which it did."""
        since = self._do("set", key, value)
        return self.wait_event("set", since=since, key=key, value=value).at

    def observe(self, who: str, key: str, url: str) -> None:
        """Have a new node look at an object."""
        self._do("observe", who, key, url)

    def wall_clock(self) -> float:
        """Have it say what its wall clock shows; its monotonic clock has to be everybody's."""
        before = self._do("time")
        time_ = self.wait_event("time", since=before)
        assert time_.at <= time.monotonic(), "its monotonic clock is faked, too"
        return float(time_.details["wall"])

    def _do(self, *command: str) -> float:
        now = time.monotonic()
        self.write(json.dumps(command) + "\n")
        return now


class Machine:
    """A computer with a wall clock of its own, and the programs that run there.

    :param folder: where the clock's file is kept.
    :param stack: ends the programs.
    :param ahead: seconds that the wall clock is ahead of the true time; negative if it is slow.
    """

    def __init__(self, folder: Path, stack: ExitStack, ahead: float) -> None:
        self._file = folder / f"clock-{time.monotonic_ns()}"
        self._stack = stack
        self.programs: list[Program] = []
        self.set_clock(ahead)

    def set_clock(self, ahead: float = 0.0) -> None:
        """Step the wall clock, as NTP does: the programs that run here see that when they look next."""
        self._ahead = ahead
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+f}")
        new.replace(self._file)  # or a program might read half of it

    def router(self, *options: str, bind: str = "ws://127.0.0.1:0") -> RouterProcess:
        """Start a router."""
        router = RouterProcess(*options, bind=bind, env=self._environment())
        self._take(router)
        stamp = re.match(r"\S+", router.err.seen[0])
        assert stamp is not None
        self._check_wall(datetime.fromisoformat(stamp[0]).timestamp())
        return router

    def leaf(self) -> Leaf:
        """Start a program that exposes and observes what it is told to."""
        leaf = Leaf(self._environment())
        self._take(leaf)
        self._check_wall(leaf.wall_clock())
        return leaf

    def _environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # it has Python's threads wait for the GIL too long
            "NO_FAKE_STAT": "1",  # or Python would compile each module anew
        }

    def _take(self, program: Program) -> None:
        self.programs.append(program)
        self._stack.callback(_clean_up, program.pid)
        self._stack.enter_context(program)

    def _check_wall(self, shown: float) -> None:
        assert abs(shown - time.time() - self._ahead) < _RIGHT, "its wall clock is another one"


def _clean_up(pid: int) -> None:
    """Remove what libfaketime leaves behind when a process is killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (Path("/dev/shm") / name).unlink(missing_ok=True)
