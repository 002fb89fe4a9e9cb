"""Break the sources in known ways and in generated ones: what do the tests not notice?

Run: hatch run mutants [PATH ...] [--changed [REVISION]] [--named TEXT] [--tests PATH ...]

Without arguments all of it, which takes hours: five faults of the core's machine (`*.patch`), those of `shell.toml`, and
generated ones. With paths, or for what has changed, the part of that which is in these files.
"""

from __future__ import annotations

import argparse
import subprocess
from time import perf_counter

from mutants import generated, run, shell

CORES_MACHINE = "packages/hakuban-core/src/hakuban/_core"
SEEDS = 5


def _changed_since(revision: str) -> list[str]:
    tracked = ["git", "diff", "--name-only", revision, "--", "packages/*/src/*.py"]
    new = ["git", "ls-files", "--others", "--exclude-standard", "--", "packages/*/src/*.py"]
    return [
        path
        for command in (tracked, new)
        for path in subprocess.check_output(command, cwd=shell.ROOT, text=True).split()
    ]


def main() -> int:
    """Print what nobody notices, and a line for each package; return the exit code."""
    parser = argparse.ArgumentParser(prog="hatch run mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files or folders of the sources; without, all")
    parser.add_argument(
        "--changed", nargs="?", const="HEAD", metavar="REVISION",
        help="files that differ from there; without a revision, from the last commit",
    )  # fmt: skip
    parser.add_argument(
        "--named", metavar="TEXT", help="only faults of shell.toml with this in their names"
    )
    parser.add_argument(
        "--tests", nargs="+", metavar="PATH", help="only generated ones, and these tests alone"
    )
    options = parser.parse_args()
    paths = [path.rstrip("/") for path in options.paths]
    if options.changed is not None:
        paths += _changed_since(options.changed)
        if not paths:
            print("nothing has changed")
            return 0

    def is_chosen(file: str) -> bool:
        return not paths or any(file == path or file.startswith(f"{path}/") for path in paths)

    began, alive = perf_counter(), 0
    if (
        options.named is None
        and options.tests is None
        and any(
            is_chosen(str(file.relative_to(shell.ROOT)))
            for file in (shell.ROOT / CORES_MACHINE).glob("*.py")
        )
    ):
        alive += run.try_all(SEEDS)
    if options.tests is None:
        faults = [fault for fault in shell.faults() if is_chosen(f"packages/{fault.file}")]
        faults = [fault for fault in faults if options.named is None or options.named in fault.name]
        still = shell.try_all(faults) if faults else 0
        print(f"{len(faults)} faults put in by hand, {still} alive", flush=True)
        alive += still
    if options.named is None:
        files = [file for file in generated.files_of_shell() if is_chosen(file)]
        totals = generated.try_all(files, options.tests or ())
        print(f"\n{perf_counter() - began:.0f} s")
        for folder, total in totals.items():
            print(f"{folder:40} {generated.figures(total)}")
            alive += total["alive"]
    return int(alive > 0)


if __name__ == "__main__":
    raise SystemExit(main())
