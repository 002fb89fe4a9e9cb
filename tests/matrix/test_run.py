"""The matrix is green only where tests ran and passed: with a hatch of our own, whose only Python is this one."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from matrix.run import main

if TYPE_CHECKING:
    from pathlib import Path

# As hatch answers `run hatch-test.py3.12:python ...`: 3.14 is not there, and for 3.13 something cannot be installed.
HATCH = """
import subprocess, sys
environment, *arguments = sys.argv[2:]
if "3.14" in environment:
    sys.exit("Environment `hatch-test.py3.14` is incompatible: cannot locate Python: 3.14")
if "3.13" in environment:
    sys.exit("there is no solution")
sys.exit(subprocess.run([sys.executable, *arguments]).returncode)
"""
SPOIL = """
def pytest_runtest_call(item):
    assert "trio" not in item.name
"""
# of the tests of the suite one that has all loops, and no other module is collected
ONE = ("--ignore-glob=*/test_[!o]*", "-k", "an_age_said_beforehand")
NONE = ("--ignore-glob=*/test_[!o]*", "-k", "no_test_has_this_name")


@pytest.fixture
def hatch(tmp_path: Path) -> list[str]:
    """Give the command of a hatch."""
    program = tmp_path / "hatch.py"
    program.write_text(HATCH)
    return [sys.executable, str(program)]


def cells(out: str, start: str) -> list[str]:
    """Give the cells of the row that starts so."""
    (row,) = [line for line in out.splitlines() if line.startswith(start)]
    return re.split(r"\s{2,}", row)[2:]


def test_it_is_green_when_a_test_has_passed_in_every_cell(
    hatch: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["--python", "3.12", "--transport", "memory", *ONE], hatch)
    out = capfd.readouterr().out
    assert cells(out, "3.12    memory") == 4 * ["1 passed"]
    assert "MISSING" not in out
    assert code == 0


def test_a_cell_without_a_test_has_failed(
    hatch: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--python", "3.12", "--transport", "memory", *NONE], hatch) == 1
    out = capfd.readouterr().out
    assert out.count("FAILED: no test") == 4
    assert "FAILED 3.12: pytest ended with exit code 5" in out


def test_a_test_that_fails_is_counted_in_its_cell(
    hatch: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "spoil.py").write_text(SPOIL)
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    loops = ["--loop", "trio", "--loop", "asyncio"]
    command = ["--python", "3.12", "--transport", "memory", *loops, *ONE, "-p", "spoil"]
    assert main(command, hatch) == 1
    out = capfd.readouterr().out
    assert cells(out, "3.12    memory") == ["1 FAILED, 0 passed", "1 passed"]


def test_a_missing_python_is_green_only_where_that_was_said(
    hatch: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["--python", "3.12", "--python", "3.14", "--transport", "memory", *ONE]
    assert main([*command, "--allow-missing", "3.13"], hatch) == 1
    assert "MISSING 3.14: there is no such Python" in capfd.readouterr().out
    assert main([*command, "--allow-missing", "3.14"], hatch) == 0


def test_a_run_of_nothing_is_not_green(hatch: list[str]) -> None:
    command = ["--python", "3.14", "--transport", "memory", "--allow-missing", "3.14"]
    assert main(command, hatch) == 1


def test_an_environment_that_cannot_be_made_is_not_just_missing(
    hatch: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["--python", "3.13", "--transport", "memory", "--allow-missing", "3.13"]
    assert main(command, hatch) == 1
    out = capfd.readouterr().out
    assert "there is no solution" in out
    assert "FAILED 3.13: the environment cannot be made" in out
