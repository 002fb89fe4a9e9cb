"""Break the machine in known ways, and see that the exploration of trees notices.

Each `*.patch` beside this file is applied to a copy of the package. A mutant that survives a seed means that the
exploration is too weak; one that does not apply has to be brought up to date.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
TESTS = HERE.parent
SOURCE = TESTS.parent / "packages/hakuban-core/src/hakuban"
EXAMPLES = 300
# The seed of the whole exploration, as pytest's --hypothesis-seed sets it.
EXPLORER = """
import sys, hypothesis.core, hakuban
assert hakuban.__file__.startswith(sys.argv[1]), hakuban.__file__
hypothesis.core.global_force_seed = int(sys.argv[2])
from support.any_tree import explore
explore(int(sys.argv[3]), shrinks=False)
"""


def mutants() -> list[Path]:
    """List the patches."""
    return sorted(HERE.glob("*.patch"))


def apply(patch: Path | None, folder: Path) -> None:
    """Make a copy of the package, with the fault in it if there is one."""
    shutil.copytree(SOURCE, folder / "hakuban", ignore=shutil.ignore_patterns("__pycache__"))
    if patch is not None:
        subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)


def is_caught(folder: Path, seed: int, examples: int = EXAMPLES) -> bool:
    """Explore trees of the machines in a copy of the package; say whether something was not as it has to be.

    :raises RuntimeError: something else went wrong.
    """
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{TESTS}"}
    command = [sys.executable, "-c", EXPLORER, str(folder), str(seed), str(examples)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "state = AnyTree()" not in done.stdout + done.stderr:
        raise RuntimeError(done.stdout + done.stderr)
    return done.returncode != 0


def try_all(seeds: int) -> int:
    """Print a table; return how many are not caught with each seed."""
    survivors = 0
    for patch in (None, *mutants()):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            apply(patch, folder)
            started = perf_counter()
            caught = sum(is_caught(folder, seed) for seed in range(seeds))
        survivors += caught != (0 if patch is None else seeds)
        what = "unchanged" if patch is None else patch.stem
        print(
            f"{what:40} caught with {caught} of {seeds} seeds {perf_counter() - started:6.1f} s",
            flush=True,
        )
    return survivors
