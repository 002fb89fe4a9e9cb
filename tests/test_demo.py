"""The demo of the README, as somebody watches it who pulls plugs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from typing_extensions import override

from support.ports import free_port
from support.processes import Program, RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples/all_top.py"
HATCH = ROOT / ".hatch/bin/hatch"
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
        self.url = f"ws://127.0.0.1:{free_port()}"  # where its router will listen again
        super().__init__([sys.executable, str(DEMO), "--plain", "--url", self.url, *options])

    @override
    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.stop()  # a kill would leave its processes behind
        super().__exit__(*exc_info)

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
            assert started[3] == self.url
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
        return bool(self.rows) and all(row.age == 0 for row in self.rows.values())

    def some_fresh(self) -> bool:
        return any(row.age == 0 for row in self.rows.values())

    def producers(self) -> set[str]:
        return {row.producer for row in self.rows.values()}

    def ends_well(self, code: int = 0) -> None:
        """Check that it ends by itself, and leaves nobody behind."""
        while self.step() is not None:
            pass
        assert self.wait() == code
        assert "Traceback" not in "\n".join(self.err.seen)
        assert [pid for _, pid in self.pids if psutil.pid_exists(pid)] == []


@pytest.mark.thorough
@pytest.mark.promise("stale-visible", "self-healing")
def test_counters_survive_an_exposer_and_a_router_that_are_killed() -> None:
    with Demo("--calm", "--seconds", "10") as demo:
        demo.until(lambda: demo.all_fresh() and demo.producers() == {"red", "green", "blue"})
        psutil.Process(demo.pid_of("red")).kill()
        took = demo.until(lambda: demo.all_fresh() and demo.producers() == {"green", "blue"})
        assert took < 1

        psutil.Process(demo.pid_of("router")).kill()
        demo.until(lambda: not demo.some_fresh())
        with RouterProcess(bind=demo.url):
            assert demo.until(demo.some_fresh) < 1
            demo.until(demo.all_fresh)
            assert demo.producers() <= {"green", "blue"}
            demo.ends_well()


@pytest.mark.thorough
@pytest.mark.promise("stale-visible", "self-healing")
def test_the_tour_kills_and_starts_again_by_itself() -> None:
    with Demo("--seconds", "8") as demo:
        demo.until(lambda: demo.all_fresh() and "red" in demo.producers())
        demo.until(lambda: demo.all_fresh() and "red" not in demo.producers())
        demo.until(lambda: not demo.some_fresh())
        demo.until(demo.all_fresh)
        assert [name for name, _ in demo.pids] == [
            *("router", "red", "green", "blue"),
            *("red", "router"),
        ]
        demo.ends_well()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_the_demo_ends_with_everybody_when_it_is_told_to(name: str) -> None:
    signum = signal.Signals[name]
    with Demo() as demo:
        demo.until(demo.all_fresh)
        demo.process.send_signal(signum)
        demo.ends_well(130 if name == "SIGINT" else 0)


# ---- as the README says it ---------------------------------------------------------------------------------------------


@contextmanager
def hatch_run_demo(*options: str, url: str, pipe: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run it as the README says, in a terminal's process group of its own."""
    if not HATCH.exists():
        pytest.skip("needs .hatch/bin/hatch, as README.md makes it")
    command = f"'{HATCH}' run demo {' '.join(options)} --url {url} {pipe}"
    with subprocess.Popen(
        ["sh", "-c", command if pipe else f"exec {command}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def processes_of(url: str) -> list[list[str]]:
    """Give the command lines in which a URL stands: hatch, the demo, its router and its exposers."""
    running = psutil.process_iter(["cmdline"])
    return [line for process in running if url in (line := process.info["cmdline"] or [])]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_in_the_terminal_of_the_demo_ends_it_with_130_and_leaves_nothing() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    with hatch_run_demo("--plain", "--calm", url=url) as process:
        assert process.stdout is not None
        while process.stdout.readline().startswith("#"):
            pass  # until the rows begin
        assert len(processes_of(url)) == 6
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert processes_of(url) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("lines", [3, 30])
def test_a_reader_of_the_demo_that_has_read_enough_ends_it_without_a_word(lines: int) -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    with hatch_run_demo("--plain", "--calm", url=url, pipe=f"| head -{lines}") as process:
        out, err = process.communicate(timeout=30)
    assert len(out.splitlines()) == lines
    assert (process.returncode, err) == (0, "")
    assert processes_of(url) == []
