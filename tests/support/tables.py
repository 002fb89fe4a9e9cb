"""Tables of what ran against the Rust crate, and what did not; and of texts that tests have to say.

The former are the tests marked as a cell; a text is recorded as a property `cell`: table, row, column, text.

A plugin of the root's conftest.py: what is printed at the end is gathered from all workers by a process that collects
no tests itself, and so finds no conftest.py below the root's.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias, cast

import pytest

from .rust import binaries

if TYPE_CHECKING:
    from collections.abc import Sequence

Cell: TypeAlias = tuple[str, str, str]
"""Table, row, column."""

_cells: dict[str, Cell] = {}
"""The cells of all collected tests, selected or not, by the test's id. Several tests may share one."""
_needs_rust: set[str] = set()
"""The selected tests that cannot run without cargo."""
_outcomes: dict[str, str] = {}
_texts: defaultdict[str, dict[tuple[str, str], str]] = defaultdict(dict)
"""The cells that are texts: by table, then by row and column."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that puts a test into a table."""
    config.addinivalue_line(
        "markers",
        "cell(table, row, column): where the result is shown; the name of a parameter stands for its value",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note the cells before any are deselected."""
    for item in items:
        marker = item.get_closest_marker("cell")
        if marker is not None:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            table, row, column = (str(parameters.get(part, part)) for part in marker.args)
            _cells[item.nodeid] = table, row, column


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the crate before the first test, whose time limit it would exceed; without cargo, skip loudly."""
    wanting = [item for item in session.items if "needs_rust" in getattr(item, "fixturenames", ())]
    if not wanting or session.config.option.collectonly or binaries() is not None:
        return
    _needs_rust.update(item.nodeid for item in wanting)
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason="no cargo to build the Rust crate with"))


@pytest.fixture(scope="session")
def needs_rust() -> None:
    """Have the crate's programs, or skip: `pytest_collection_finish` sees to it."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give what was collected to the process that prints: only workers collect when tests are run in several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["interop"] = list(_cells.items()), list(_needs_rust)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take what a worker has collected; all collect the same, one that has crashed gives nothing."""
    cells, needing = getattr(node, "workeroutput", {}).get("interop", ((), ()))
    _cells.update(cells)
    _needs_rust.update(needing)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how each test ended, and what it has to say."""
    if report.when == "call" or not report.passed:
        _outcomes[report.nodeid] = report.outcome
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == "cell":
                table, row, column, text = cast("list[str]", value)
                _texts[table][row, column] = text


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables, and what is missing."""
    if terminalreporter.config.option.collectonly:
        return
    for table in dict.fromkeys(table for table, _, _ in _cells.values()):
        results: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for test, (name, row, column) in _cells.items():
            if name == table:
                results[row, column].append(_outcomes.get(test, "not selected"))
        cells = {place: _summed_up(outcomes) for place, outcomes in results.items()}
        _print_table(terminalreporter, f"interop: {table}", cells)
    for table, texts in _texts.items():
        by_row = sorted(texts.items(), key=lambda cell: cell[0][0])
        _print_table(terminalreporter, table, dict(by_row))
    if _needs_rust:
        missing = {_cells.get(test, (test,)) for test in _needs_rust}
        message = f"NOT RUN: interop with the Rust crate (no cargo): {len(missing)} cells"
        terminalreporter.write_line(message, red=True, bold=True)


def _print_table(
    reporter: pytest.TerminalReporter, title: str, cells: dict[tuple[str, str], str]
) -> None:
    columns = list(dict.fromkeys(column for _, column in cells))
    lines = [["", *columns]]
    lines += [
        [row, *(cells.get((row, column), "-") for column in columns)]
        for row in dict.fromkeys(row for row, _ in cells)
    ]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    reporter.section(title, sep="-")
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        reporter.write_line("  ".join(padded).rstrip())


def _summed_up(outcomes: Sequence[str]) -> str:
    """Give the text of a cell; each backend and direction is a test of it."""
    if "failed" in outcomes:
        return f"FAILED ({outcomes.count('failed')} of {len(outcomes)})"
    passed = outcomes.count("passed")
    if passed == len(outcomes):
        return f"ok ({passed})"
    if passed:
        return f"ok ({passed} of {len(outcomes)})"
    return "NOT RUN" if "skipped" in outcomes else "not selected"
