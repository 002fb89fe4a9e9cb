"""A plugin for pytest: which test passes through which line of the sources, the quick tests first."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

SOURCES = os.environ["PYTHONPATH"].partition(os.pathsep)[0]
seconds: dict[str, float] = {}
measured = coverage.Coverage(data_file=None, source=[SOURCES], concurrency=["thread"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count lines for a test."""
    measured.switch_context(item.nodeid)
    began = perf_counter()
    result = yield
    seconds[item.nodeid] = perf_counter() - began
    return result


def pytest_configure() -> None:
    """Begin."""
    measured.start()


def pytest_sessionfinish() -> None:
    """Write down what was found."""
    measured.stop()
    data = measured.get_data()
    found: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for file in data.measured_files():
        for line, tests in data.contexts_by_lineno(file).items():
            names = [name for name in tests if name in seconds]
            found[file][line] = sorted(names, key=seconds.__getitem__)
    Path(os.environ["MUTANTS_REPORT"]).write_text(json.dumps(found))
