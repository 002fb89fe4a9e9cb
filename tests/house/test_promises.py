"""Every promise is proved by a test that names it, and no test names a promise that nobody made."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = [
    path for folder in (ROOT / "packages", ROOT / "tests") for path in folder.rglob("test_*.py")
]


def promised() -> set[str]:
    return set(
        re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/promises.md").read_text(), re.MULTILINE)
    )


def proved() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in TESTS:
        for marks in re.findall(r"mark\.promise\(([^)]*)\)", path.read_text()):
            for promise in re.findall(r'"([a-z-]+)"', marks):
                found.setdefault(promise, []).append(path.name)
    return found


def test_each_promise_is_proved_by_a_test() -> None:
    assert promised(), "docs/promises.md lists no promise"
    assert promised() - set(proved()) == set()


def test_no_test_names_an_unknown_promise() -> None:
    assert set(proved()) - promised() == set()
