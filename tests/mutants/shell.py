"""Break what waits, retries, closes and cleans up in known ways, and see that its tests notice.

Run: hatch run mutants:shell [TEXT ...]    those whose names contain one of the texts; all without

Each fault of `shell.toml` is put into a copy of all sources, and the tests that guard it are run on that: one of them has
to fail. Without a fault all of them have to pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = sorted(ROOT.glob("packages/*/src"))
FAILED = 1  # pytest's exit code for tests that failed
LONGEST = 300.0  # seconds for the guards of one fault


@dataclass(frozen=True)
class Fault:
    """One fault.

    :ivar file: below `packages`.
    :ivar before: what stands there, once.
    :ivar after: what stands there instead.
    :ivar guards: tests that have to notice, as pytest is told.
    """

    name: str
    file: str
    before: str
    after: str
    guards: tuple[str, ...]


def faults() -> list[Fault]:
    """Read the list."""
    items = tomllib.loads((HERE / "shell.toml").read_text())["fault"]
    return [Fault(**{**item, "guards": tuple(item["guards"])}) for item in items]


def copy(folder: Path) -> None:
    """Copy all sources to one folder, from which they can be imported."""
    for source in SOURCES:
        shutil.copytree(
            source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )


def put_in(fault: Fault, folder: Path) -> None:
    """Put a fault into a copy.

    :raises ValueError: what should stand there does not, or more than once.
    """
    path = folder / fault.file.partition("/src/")[2]
    text = path.read_text()
    if text.count(fault.before) != 1:
        raise ValueError(f"{fault.name}: {fault.file} has changed: bring the fault up to date")
    path.write_text(text.replace(fault.before, fault.after))


def run(folder: Path, guards: tuple[str, ...]) -> int:
    """Run tests on a copy; return pytest's exit code."""
    check = f"import hakuban; assert hakuban.__file__.startswith({str(folder)!r})"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *guards]
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED
    if done.returncode not in (0, FAILED):
        raise RuntimeError(done.stdout.decode() + done.stderr.decode())
    return done.returncode


def main(texts: list[str]) -> int:
    """Print a line for each fault; return the exit code."""
    chosen = [
        fault for fault in faults() if not texts or any(text in fault.name for text in texts)
    ]
    with tempfile.TemporaryDirectory() as name:
        copy(Path(name))
        guards = dict.fromkeys(guard for fault in chosen for guard in fault.guards)
        if run(Path(name), tuple(guards)) == FAILED:
            print("the guards do not even pass without a fault")
            return 1
    alive = 0
    for fault in chosen:
        started = perf_counter()
        with tempfile.TemporaryDirectory() as name:
            copy(Path(name))
            put_in(fault, Path(name))
            noticed = run(Path(name), fault.guards) == FAILED
        alive += not noticed
        print(
            f"{fault.name:60} {'noticed' if noticed else 'ALIVE':8} {perf_counter() - started:5.1f} s",
            flush=True,
        )
    print(f"{len(chosen)} faults, {alive} alive")
    return int(alive > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
