"""Every asynchronous test runs on asyncio, on uvloop and on trio; HAKUBAN_BACKENDS=trio,asyncio narrows that.

What a test records as its property `figure` is printed at the end.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["support.leaks", "support.tables"]

hypothesis.settings.register_profile("many", max_examples=5_000, deadline=None)

_BACKENDS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
_WANTED = os.environ.get("HAKUBAN_BACKENDS", "asyncio,uvloop,trio").split(",")


@pytest.fixture(
    params=[
        pytest.param(_BACKENDS[name], id=name)
        for name in _WANTED
        if name == "asyncio" or importlib.util.find_spec(name)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Give the backend of an asynchronous test: its name and options."""
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `-m thorough` what has run on another loop: what takes long, and the packages' own tests on uvloop."""
    for item in items:
        parameters = (
            item.callspec.params
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else {}
        )
        loop = _loop(parameters)
        long = item.get_closest_marker("long") and loop != "asyncio"
        # uvloop is asyncio on another loop; what users see of it (tests/contract) runs every time
        if long or (
            loop == "uvloop" and "packages" in item.path.parts and "loop" not in parameters
        ):
            item.add_marker("thorough")


def _loop(parameters: dict[str, Any]) -> str:
    """Return the loop that a test runs on: its own, that of a story's column, or that of a process it starts."""
    for name, backend in _BACKENDS.items():
        if parameters.get("anyio_backend") == backend:
            return name
    if isinstance(column := parameters.get("scene"), str):
        return column.partition("-")[2]
    return str(parameters.get("loop", "asyncio"))


@pytest.fixture(autouse=True)
def no_line_of_the_log_is_lost() -> Iterator[None]:
    """Find our own lines that cannot be formatted: a guarded logger drops them, where pytest's handler has raised."""
    from hakuban import _logger

    before = set(_logger.printed)
    yield
    assert set(_logger.printed) == before


_figures: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the figures of a test."""
    if report.when == "teardown":
        test = report.nodeid.rpartition("::")[2]
        _figures.extend(
            f"{test}: {value}" for name, value in report.user_properties if name == "figure"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if _figures:
        terminalreporter.section("figures", sep="-")
    for figure in _figures:
        terminalreporter.write_line(figure)
