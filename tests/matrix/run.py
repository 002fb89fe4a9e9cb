"""Run the contract suite on Pythons, event loops and transports, and print what was seen in each of these cells.

By default on one Python, that of hatch; --all takes each Python of hatch's matrix. A Python runs in its environment of
that matrix, in one run of pytest.

The exit code is 1 when a cell has failed, or no test has passed in it. So it is when a cell could not run since a
Python or a package is missing, unless --allow-missing says that this one may be: a run of nothing is never green.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
# What has to be installed for them, if anything.
LOOPS = {"asyncio": "", "uvloop": "uvloop", "trio": "trio", "threads": ""}
TRANSPORTS = {"memory": "", "ws": "hakuban_ws", "zmq": "hakuban_zmq"}
# Parameters of a test: [memory-trio-star], [trio-ws://127.0.0.1:0]
TRANSPORT = re.compile(rf"[\[-]({'|'.join(TRANSPORTS)})[\]:+-]")
LOOP = re.compile(rf"[\[-]({'|'.join(LOOPS)})[\]-]")
PROBE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]))
"""


@dataclass
class Cell:
    """A Python, a transport and a loop.

    :ivar lacks: the Pythons and packages that are missing.
    """

    python: str
    transport: str
    loop: str
    passed: int = 0
    failed: int = 0
    lacks: list[str] = field(default_factory=list)

    @property
    def needs(self) -> list[str]:
        """The packages without which it cannot run."""
        return [name for name in (TRANSPORTS[self.transport], LOOPS[self.loop]) if name]

    @override
    def __str__(self) -> str:
        if self.lacks:
            return "MISSING"
        if self.failed:
            return f"{self.failed} FAILED, {self.passed} passed"
        return f"{self.passed} passed" if self.passed else "FAILED: no test"


class Table:
    """All cells.

    :ivar lacking: why each Python or package that is missing is so.
    :ivar faults: what failed beside the tests of a cell.
    """

    def __init__(
        self, pythons: Sequence[str], transports: Sequence[str], loops: Sequence[str]
    ) -> None:
        self._loops = loops
        self._cells: dict[tuple[str, ...], Cell] = {
            (python, transport, loop): Cell(python, transport, loop)
            for python in pythons
            for transport in transports
            for loop in loops
        }
        self._others: Counter[str] = Counter()
        self.lacking: dict[str, str] = {}
        self.faults: list[str] = []

    def cells(self, python: str) -> list[Cell]:
        """List those of a Python."""
        return [cell for cell in self._cells.values() if cell.python == python]

    def miss(self, cells: Iterable[Cell], name: str, why: str) -> None:
        """Note that these cells cannot run."""
        for cell in cells:
            cell.lacks.append(name)
            self.lacking[name] = why

    def count(self, python: str, test: str, *, passed: bool) -> None:
        """Count a test in the cell that its parameters name."""
        transport, loop = TRANSPORT.search(test), LOOP.search(test)
        named = (python, transport[1], loop[1]) if transport and loop else ()
        cell = self._cells.get(named)
        if cell is None:
            self._others[python] += 1
            if not passed:
                self.faults.append(f"{python}: {test}")
        elif passed:
            cell.passed += 1
        else:
            cell.failed += 1

    def exit_code(self, may_be_missing: Collection[str]) -> int:
        """Judge."""
        runs = [cell for cell in self._cells.values() if not cell.lacks]
        good = runs and all(cell.passed and not cell.failed for cell in runs)
        return 0 if good and not self.faults and set(self.lacking) <= set(may_be_missing) else 1

    @override
    def __str__(self) -> str:
        lines = [["Python", "transport", *self._loops]]
        for cell in self._cells.values():
            if cell.loop == self._loops[0]:
                lines.append([cell.python, cell.transport])
            lines[-1].append(str(cell))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        rows += [f"and {count} other tests on {python}" for python, count in self._others.items()]
        rows += [f"MISSING {name}: {why}" for name, why in self.lacking.items()]
        return "\n".join([*rows, *(f"FAILED {fault}" for fault in self.faults)])


class Environment:
    """The environment that hatch has for a Python.

    :param hatch: the command.
    """

    def __init__(self, hatch: Sequence[str], python: str) -> None:
        self._python = [*hatch, "run", f"hatch-test.py{python}:python"]

    def lacks(self, packages: Iterable[str]) -> list[str]:
        """Make the environment if it is not there, and list which packages it has not got.

        :raises LookupError: there is no such Python.
        :raises RuntimeError: the environment cannot be made.
        """
        command = [*self._python, "-c", PROBE, *packages]
        done = subprocess.run(
            command, cwd=ROOT, env=_outer_variables(), capture_output=True, text=True, check=False
        )
        said = (done.stdout + done.stderr).strip()
        if done.returncode == 0:
            lacking: list[str] = json.loads(done.stdout.splitlines()[-1])
            return lacking
        print(said)
        if "cannot locate Python" in said:
            raise LookupError("there is no such Python on this machine")
        raise RuntimeError("the environment cannot be made")

    def test(
        self, transports: Iterable[str], loops: Iterable[str], more: Sequence[str]
    ) -> tuple[int, str]:
        """Run the suite. Give the exit code of pytest and its report, which is empty when there is none."""
        chosen = {"HAKUBAN_TRANSPORTS": ",".join(transports), "HAKUBAN_BACKENDS": ",".join(loops)}
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            arguments = ["-m", "pytest", "-q", "tests/contract", f"--junitxml={report}", *more]
            done = subprocess.run(
                [*self._python, *arguments], cwd=ROOT, env=_outer_variables() | chosen, check=False
            )
            return done.returncode, report.read_text() if report.exists() else ""


def _outer_variables() -> dict[str, str]:
    """Give the variables of this process as they were before hatch activated the environment that this runs in."""
    variables = {name: value for name, value in os.environ.items() if name != "HATCH_ENV_ACTIVE"}
    active = variables.pop("VIRTUAL_ENV", None)
    folders = variables["PATH"].split(os.pathsep)
    kept = [
        folder for folder in folders if active is None or not Path(folder).is_relative_to(active)
    ]
    return variables | {"PATH": os.pathsep.join(kept)}


def tests_of(report: str) -> Iterator[tuple[str, bool]]:
    """Give the name of each test that was not skipped, and whether it has passed."""
    for test in ET.fromstring(report).iter("testcase") if report else ():
        ends = {child.tag for child in test}
        if "skipped" not in ends:
            yield f"{test.get('classname')}::{test.get('name')}", not ends & {"failure", "error"}


def fill(table: Table, python: str, environment: Environment, more: Sequence[str]) -> None:
    """Run the cells of a Python."""
    cells = table.cells(python)
    try:
        lacking = environment.lacks(sorted({name for cell in cells for name in cell.needs}))
    except LookupError as error:
        table.miss(cells, python, str(error))
        return
    except RuntimeError as error:
        table.faults.append(f"{python}: {error}")
        return
    for name in lacking:
        table.miss([cell for cell in cells if name in cell.needs], name, "it is not installed")
    runs = [cell for cell in cells if not cell.lacks]
    if not runs:
        return
    transports = dict.fromkeys(cell.transport for cell in runs)
    code, report = environment.test(transports, dict.fromkeys(cell.loop for cell in runs), more)
    tests = list(tests_of(report))
    if code not in (0, 1) or (code == 1 and all(passed for _, passed in tests)):
        table.faults.append(f"{python}: pytest ended with exit code {code}")
    for test, passed in tests:
        table.count(python, test, passed=passed)


def known_pythons() -> list[str]:
    """List the Pythons of hatch's matrix."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (matrix,) = tools["hatch"]["envs"]["hatch-test"]["matrix"]
    pythons: list[str] = matrix["python"]
    return pythons


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hatch run matrix",
        usage="%(prog)s [--all] [options] [what else pytest gets, such as -k and -x]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    known, here = known_pythons(), f"{sys.version_info[0]}.{sys.version_info[1]}"
    parser.add_argument("--all", action="store_true", help=f"on Python {', '.join(known)}")
    choices: dict[str, Iterable[str]] = {
        "--python": known,
        "--transport": TRANSPORTS,
        "--loop": LOOPS,
    }
    for option, names in choices.items():
        parser.add_argument(option, action="append", choices=names, help="may be repeated")
    parser.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="NAME",
        help="a Python or a package that need not be there; may be repeated",
    )
    options, rest = parser.parse_known_args(arguments)
    options.pytest = rest
    options.python = known if options.all else options.python or [here]
    return options


def main(arguments: Sequence[str], hatch: Sequence[str]) -> int:
    """Run, print the table, and give the exit code."""
    options = parsed(arguments)
    table = Table(
        options.python, options.transport or list(TRANSPORTS), options.loop or list(LOOPS)
    )
    for python in options.python:
        start = time.monotonic()
        print(f"=== Python {python}", flush=True)
        fill(table, python, Environment(hatch, python), options.pytest)
        print(f"=== {time.monotonic() - start:.0f} s", flush=True)
    print(f"\n{table}", flush=True)
    return table.exit_code(options.allow_missing)


if __name__ == "__main__":
    if "HAKUBAN_HATCH" not in os.environ:
        sys.exit("hatch makes the environments: start this as `hatch run matrix`")
    sys.exit(main(sys.argv[1:], [os.environ["HAKUBAN_HATCH"], "-m", "hatch"]))
