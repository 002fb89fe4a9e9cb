"""The work tree beside the last release: a few workloads from end to end, lap by lap in turn.

Run: hatch run bench:compare [--base REVISION] [--only TEXT] [--rounds 5]

The base is the last tag v*, or else the commit that last changed the version, or else, if that one has no router yet,
the last commit. It is checked out into a temporary folder, and runs on the same libraries.

A figure is the median of the ratios of laps that ran one after the other, work tree to base, so that a machine that
is busy for a while slows both. The exit code is 1 when one is above 1.25 with its lower quartile above 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
WORST = 1.25
STARTS = 3  # of each process: one may be slower than its twin for all its life
VERSION = "packages/hakuban-core/src/hakuban/_version.py"
ROUTER = "packages/hakuban-router/src/hakuban_router/__main__.py"


def git(*arguments: str) -> str:
    """Give what git says; nothing if it fails."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def default_base() -> tuple[str, str]:
    """Give the revision to compare with, and what it is."""
    if tag := git("describe", "--tags", "--abbrev=0", "--match", "v*"):
        return tag, "the last release"
    changed = git("log", "-1", "--format=%H", "--", VERSION)
    if changed and git("ls-tree", changed, "--", ROUTER):
        return changed, "no release is tagged: the commit that last changed the version"
    return "HEAD", "nothing has been released: the last commit"


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out into a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = str(Path(folder, "base"))
        command = ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", tree, revision]
        subprocess.run(command, check=True)
        try:
            yield Path(tree)
        finally:
            git("worktree", "remove", "--force", tree)


class Side:
    """A process that runs laps with the packages of one tree."""

    def __init__(self, tree: Path, workload: str, cache: Path) -> None:
        sources = [str(path) for path in sorted(tree.glob("packages/*/src"))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sources)}
        # with bytecode, as what is installed has it
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(cache)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("workloads.py")), workload],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        where = Path(self._line())
        if not where.is_relative_to(tree.resolve()):
            raise SystemExit(f"compare: {workload!r} has imported {where}, which is not in {tree}")

    def lap(self) -> float:
        """Run one, and give the seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("lap\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise SystemExit("compare: a workload has failed, see above; another --base may do")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


@dataclass
class Comparison:
    """What the laps of a workload have taken, in pairs.

    :ivar pairs: seconds of the base and of the work tree.
    """

    name: str
    pairs: list[tuple[float, float]]

    @property
    def quartiles(self) -> list[float]:
        """Those of the ratios."""
        return statistics.quantiles((new / old for old, new in self.pairs), n=4, method="inclusive")

    @property
    def worse(self) -> bool:
        """Whether the work tree is slower than it may be."""
        lower, median, _ = self.quartiles
        return median > WORST and lower > 1

    @override
    def __str__(self) -> str:
        lower, median, upper = self.quartiles
        old, new = (statistics.median(times) * 1e3 for times in zip(*self.pairs, strict=True))
        verdict = "  WORSE" if self.worse else ""
        return f"{self.name:24} {old:10.3f} {new:10.3f} {median:7.2f}   {lower:.2f}-{upper:.2f}{verdict}"


def compared(name: str, base: Path, rounds: int, cache: Path) -> Comparison:
    """Run a workload on both sides in turn: A B, B A, A B."""
    pairs: list[tuple[float, float]] = []
    for _ in range(STARTS):
        with ExitStack() as stack:
            sides = [
                stack.enter_context(Side(tree, name, cache / part))
                for tree, part in ((base, "old"), (ROOT, "new"))
            ]
            for side in sides:
                side.lap()  # the first fills caches
            for _ in range(rounds):
                order = (0, 1) if len(pairs) % 2 == 0 else (1, 0)
                seconds = {which: sides[which].lap() for which in order}
                pairs.append((seconds[0], seconds[1]))
    return Comparison(name, pairs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", help="what to compare with")
    parser.add_argument("--only", default="", help="workloads whose name has this in it")
    parser.add_argument("--rounds", type=int, default=5, help=f"pairs of laps, {STARTS} times")
    options = parser.parse_args()
    base, what = (options.base, "as told") if options.base else default_base()
    names = [name for name in WORKLOADS if options.only in name]
    if not names:
        parser.error(f"no workload has {options.only!r} in its name: {', '.join(WORKLOADS)}")
    if not git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"):
        parser.error(f"this repository has no revision {base!r}")
    print(f"base: {git('describe', '--always', '--tags', base)} ({what})", flush=True)
    print(f"{'':24} {'base ms':>10} {'here ms':>10} {'ratio':>7}   quartiles", flush=True)
    results = []
    with checked_out(base) as tree, tempfile.TemporaryDirectory() as cache:
        for name in names:
            results.append(compared(name, tree, options.rounds, Path(cache)))
            print(results[-1], flush=True)
    worse = [result.name for result in results if result.worse]
    print(f"worse than {WORST:g} times the base: {', '.join(worse) or 'none'}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
