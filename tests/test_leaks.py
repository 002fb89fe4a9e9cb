"""The leak checker finds each kind of leak that is planted, on each loop, and says what it is; and nothing where nothing is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from support.leaks import KINDS

PLANTED = Path(__file__).parent / "support/planted_leaks.py"
REPORT = re.compile(
    r"_+ ERROR at teardown of test_(\w+?)__(\S+) _+\n(.*?)(?=\n[_=]{3,})", re.DOTALL
)
COLLECTED = re.compile(r"::test_(\w+?)__(\S+) (PASSED|SKIPPED)")


@pytest.mark.thorough
def test_each_kind_of_leak_is_found_on_each_loop() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run(
        [*command, str(PLANTED)],
        cwd=PLANTED.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    ran = [
        (kind, test)
        for kind, test, outcome in COLLECTED.findall(done.stdout)
        if outcome == "PASSED"
    ]
    texts = defaultdict(
        str, {(kind, test): text for kind, test, text in REPORT.findall(done.stdout)}
    )
    for kind, test in ran:
        text = texts[kind, test]
        if kind == "nothing":
            assert not text, (test, text)
        elif kind == "write":
            assert "write leaks(" in text, (test, text)
        else:
            word = kind.replace("_", " ").replace("wake up", "wake-up")
            assert re.search(rf"^  {word}: ", text, re.MULTILINE), (kind, test, text or done.stdout)
    kinds = {kind.replace("_", " ").replace("wake up", "wake-up") for kind, _ in ran}
    assert kinds == {*KINDS, "nothing", "write"}
    loops = {test.rpartition("[")[2].rstrip("]") for _, test in ran}
    assert loops >= {"asyncio", "trio"}
    assert "FAILED" not in done.stdout
