"""Mutants of the shell, made by cosmic-ray: which of them does no test notice?

Run: hatch run mutants:generated [PATH ...] [--changed REVISION] [--most N]

For each module the tests of its package are run once, to know which of them pass through which line. A mutant of a line is
put into a copy of the sources, and those tests are run on it, the quick ones first. What nobody notices is printed, unless
`equivalent.toml` gives a reason why nobody can.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from mutants.shell import ROOT, copy, is_noticed, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
BACKENDS: Final = {"HAKUBAN_BACKENDS": "asyncio,trio"}
MOST_TESTS: Final = 40  # for one mutant
CORE = "packages/hakuban-core"
# What is mutated, and the tests that have to notice: of the same package, and of whoever uses it.
GUARDS: Final = {
    f"{CORE}/src/hakuban/_loops": (
        f"{CORE}/tests/_loops",
        f"{CORE}/tests/_api",
        f"{CORE}/tests/_net",
        f"{CORE}/tests/test_threads.py",
    ),
    f"{CORE}/src/hakuban/_engine": (
        f"{CORE}/tests/_engine/test_bounded_calls.py",
        f"{CORE}/tests/_api",
        f"{CORE}/tests/_net",
        f"{CORE}/tests/test_threads.py",
    ),
    f"{CORE}/src/hakuban/_net": (f"{CORE}/tests/_net", f"{CORE}/tests/test_handover.py"),
    f"{CORE}/src/hakuban/_api": (f"{CORE}/tests/_api", f"{CORE}/tests/test_arguments.py"),
    f"{CORE}/src/hakuban/_transport": (f"{CORE}/tests/_transport", f"{CORE}/tests/_net"),
    f"{CORE}/src/hakuban/_sockets": (f"{CORE}/tests/_sockets", "packages/hakuban-ws/tests"),
    "packages/hakuban-ws/src": ("packages/hakuban-ws/tests",),
    "packages/hakuban-zmq/src": ("packages/hakuban-zmq/tests",),
    "packages/hakuban-router/src": ("packages/hakuban-router/tests",),
}
# One operator for each kind: that `<` becomes `>=` or `is` says no more.
OPERATORS: Final = (
    "AddNot",
    "ExceptionReplacer",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ZeroIterationForLoop",
)


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    :ivar line: where it differs first, from 1 on.
    :ivar before: that line.
    :ivar after: the same in the mutant.
    """

    text: str
    line: int
    before: str
    after: str


def mutants_of(source: str) -> Iterator[Mutant]:
    """Make the mutants of a module, none twice."""
    seen = {source}
    for text in (*_by_operators(source), *_without_statements(source)):
        if text in seen:
            continue
        seen.add(text)
        old, new = source.splitlines(), text.splitlines()
        line = next(at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other)
        if old[line] != "if TYPE_CHECKING:":  # what is for type checkers is noticed by them
            yield Mutant(text, line + 1, old[line].strip(), new[line].strip())


def _by_operators(source: str) -> Iterator[str]:
    for name in OPERATORS:
        occurrence = 0
        while (text := mutate_code(source, get_operator(f"core/{name}")(), occurrence)) is not None:
            yield text
            occurrence += 1


def _without_statements(source: str) -> Iterator[str]:
    """Leave out one statement: a call, a deletion, or a change of an attribute or item."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not _does_something(node):
            continue
        assert isinstance(node, ast.stmt)
        assert node.end_lineno is not None
        first, last = node.lineno - 1, node.end_lineno
        indent = " " * node.col_offset
        yield "".join([*lines[:first], f"{indent}pass\n", *lines[last:]])


def _does_something(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Await))
    if isinstance(node, (ast.Delete, ast.AugAssign)):
        return True
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)


# ---- which tests ----------------------------------------------------------------------------------------------------


def tests_by_line(guards: Sequence[str], folder: Path) -> dict[str, dict[int, list[str]]]:
    """Run tests on a copy; return by file and line which of them pass there, the quick ones first.

    :raises RuntimeError: they fail without a mutant.
    """
    report = folder / "lines.json"
    done = run(folder, ["-p", "passing_lines", *guards], None, MUTANTS_REPORT=str(report), **BACKENDS)
    if done.returncode:
        raise RuntimeError(done.stdout.decode()[-3000:] + done.stderr.decode()[-3000:])
    found: dict[str, dict[int, list[str]]] = {}
    for file, lines in json.loads(report.read_text()).items():
        found[file] = {int(line): names for line, names in lines.items()}
    return found


def is_mutant_noticed(mutant: Mutant, path: Path, tests: Sequence[str], folder: Path) -> bool:
    """Put a mutant into a copy, run tests on it, and take it out again."""
    original = path.read_text()
    path.write_text(mutant.text)
    try:
        return is_noticed(folder, tests, **BACKENDS)
    finally:
        path.write_text(original)


# ---- the whole ------------------------------------------------------------------------------------------------------


def equivalent() -> dict[tuple[str, str, str], str]:
    """Read the mutants that make no difference: file, line and what became of it; and why."""
    items = tomllib.loads((HERE / "equivalent.toml").read_text()).get("mutant", [])
    return {(item["file"], item["before"], item["after"]): item["reason"] for item in items}


def chosen_files(paths: Sequence[str], changed: str | None) -> list[str]:
    """List the modules to be mutated, below the root."""
    if changed is not None:
        command = ["git", "diff", "--name-only", changed, "--", "packages/*/src/*.py"]
        paths = subprocess.check_output(command, cwd=ROOT, text=True).split()
    files = {
        str(file.relative_to(ROOT)) for folder in GUARDS for file in (ROOT / folder).rglob("*.py")
    }
    return sorted(file for file in files if not paths or any(file.startswith(one) for one in paths))


def main() -> int:
    """Print what nobody notices, and a line for each package; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--changed", metavar="REVISION")
    parser.add_argument("--most", type=int, default=10**6, help="mutants of each module")
    options = parser.parse_args()
    known, count, alive = equivalent(), Counter[tuple[str, str]](), 0
    for folder, guards in GUARDS.items():
        files = [one for one in chosen_files(options.paths, options.changed) if one.startswith(f"{folder}/")]
        if not files:
            continue
        with tempfile.TemporaryDirectory() as name:
            copied = Path(name)
            copy(copied)
            passing = tests_by_line(guards, copied)
            for file in files:
                path = copied / file.partition("/src/")[2]
                began = perf_counter()
                outcomes = Counter[str]()
                for mutant in list(mutants_of(path.read_text()))[: options.most]:
                    if (file, mutant.before, mutant.after) in known:
                        outcome = "equivalent"
                    else:
                        tests = passing.get(str(path), {}).get(mutant.line, [])[:MOST_TESTS]
                        noticed = bool(tests) and is_mutant_noticed(mutant, path, tests, copied)
                        outcome = "noticed" if noticed else "alive"
                    if outcome == "alive":
                        alive += 1
                        print(f"{file}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}")
                    outcomes[outcome] += 1
                    count[folder, outcome] += 1
                print(f"{file}: {dict(outcomes)} {perf_counter() - began:.0f} s", flush=True)
    for folder in GUARDS:
        made = {what: count[folder, what] for what in ("noticed", "equivalent", "alive")}
        if any(made.values()):
            print(f"{folder}: {sum(made.values())} made, {made}")
    return int(alive > 0)


if __name__ == "__main__":
    raise SystemExit(main())
