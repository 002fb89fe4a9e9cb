"""Break what waits, retries, closes and cleans up in known ways, and see that its tests notice.

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
from importlib.util import cache_from_source
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = sorted(ROOT.glob("packages/*/src"))
NO_TESTS = 5  # pytest's exit code where it has found none
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


def write_source(path: Path, text: str) -> None:
    """Change a module, and forget its compiled form, which goes by size and second."""
    path.write_text(text)
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def put_in(fault: Fault, folder: Path) -> None:
    """Put a fault into a copy.

    :raises ValueError: what should stand there does not, or more than once.
    """
    path = folder / fault.file.partition("/src/")[2]
    text = path.read_text()
    if text.count(fault.before) != 1:
        raise ValueError(f"{fault.name}: {fault.file} has changed: bring the fault up to date")
    write_source(path, text.replace(fault.before, fault.after))


def run(
    folder: Path, arguments: Sequence[str], longest: float | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run tests on a copy of the sources.

    :param arguments: of pytest.
    :param longest: seconds that they may take together; each test has a bound of its own.
    :param variables: of the environment.
    :raises RuntimeError: there are no such tests.
    :raises subprocess.TimeoutExpired: it hangs.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{HERE}", **variables},
        cwd=ROOT,
        capture_output=True,
        timeout=longest,
        check=False,
    )
    output = done.stdout + done.stderr
    if (
        done.returncode == NO_TESTS
        or b"ERROR: not found:" in output
        or b"directory not found" in output
    ):
        raise RuntimeError(output.decode())
    return done


def is_noticed(
    folder: Path, tests: Sequence[str], longest: float = LONGEST, **variables: str
) -> bool:
    """Run tests on a copy with a fault in it; return whether they notice it: by failing, hanging, or not even starting.

    :param longest: the seconds that they may take.
    """
    try:
        return run(folder, tests, longest, **variables).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def try_all(chosen: Sequence[Fault]) -> int:
    """Print a line for each fault; return how many are noticed by nothing.

    :raises RuntimeError: the guards do not even pass without a fault.
    """
    with tempfile.TemporaryDirectory() as name:
        copy(Path(name))
        check = f"import hakuban; assert hakuban.__file__.startswith({name!r})"
        subprocess.run(
            [sys.executable, "-c", check], env={**os.environ, "PYTHONPATH": name}, check=True
        )
        done = run(
            Path(name), tuple(dict.fromkeys(guard for fault in chosen for guard in fault.guards))
        )
        if done.returncode:
            raise RuntimeError(f"guards fail without a fault:\n{done.stdout.decode()[-3000:]}")
    alive = 0
    for fault in chosen:
        started = perf_counter()
        with tempfile.TemporaryDirectory() as name:
            copy(Path(name))
            put_in(fault, Path(name))
            noticed = is_noticed(Path(name), fault.guards)
        alive += not noticed
        print(
            f"{fault.name:60} {'noticed' if noticed else 'ALIVE':8} {perf_counter() - started:5.1f} s",
            flush=True,
        )
    return alive
