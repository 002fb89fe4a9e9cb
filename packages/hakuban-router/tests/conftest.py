"""Processes that have to end without a traceback, and plugins for them."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.processes import Program, RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORBIDDEN = ("Traceback", "Exception ignored", "Fatal Python error", "Warning: ")


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Whatever is put into this list is ended, and looked through for tracebacks."""
    with ExitStack() as running:
        started: list[Program] = []
        yield started
        for program in reversed(started):
            running.enter_context(program)
    for program in started:
        for line in program.err.seen:
            assert not any(word in line for word in FORBIDDEN), program.err.seen


@pytest.fixture
def start_router(programs: list[Program]) -> Callable[..., RouterProcess]:
    """Start routers that listen."""

    def start(*options: str, bind: str = "ws://127.0.0.1:0") -> RouterProcess:
        router = RouterProcess(*options, bind=bind)
        programs.append(router)
        return router

    return start


@pytest.fixture
def start(programs: list[Program]) -> Callable[..., Program]:
    """Start modules of the router's package: `start("hakuban_router", "--help")`."""

    def start(*command: str) -> Program:
        programs.append(Program([sys.executable, "-m", *command]))
        return programs[-1]

    return start


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a module for processes to come: its entry points, and its code."""

    def install(entry_points: str, code: str) -> None:
        (tmp_path / "plugin_for_tests.py").write_text(code)
        metadata = tmp_path / "plugin_for_tests-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: plugin-for-tests\nVersion: 1\n"
        )
        (metadata / "entry_points.txt").write_text(entry_points)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    return install
