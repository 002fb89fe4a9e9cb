"""How much work the steps of a machine are, whatever computer this runs on: the lines of Python that they pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hakuban

from .tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from hakuban import LocalNode

    from .machines import Node

LINES = 60_000
"""The most that a step may pass: about 3 ms, where it may take 10 ms."""

SOURCES = str(Path(hakuban.__file__).parent)


class CountedMachine:
    """A machine whose lines are counted; a step ends where its effects are taken.

    :ivar most: the lines of the longest step.
    :ivar total: those of all steps.
    :ivar blind: whether nothing is counted, since another tool (that which measures what tests cover) traces lines.
    """

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self.blind: bool = sys.gettrace() is not None
        self.begin()

    def begin(self) -> None:
        """Count anew."""
        self.most = self.total = self._lines = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._machine, name)
        return self.counted(found) if callable(found) else found

    def take_effects(self) -> Any:
        self.most = max(self.most, self._lines)
        self.total += self._lines
        self._lines = 0
        return self._machine.take_effects()

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Have the lines of a function counted, too."""

        def call(*arguments: Any) -> Any:
            if self.blind:
                return function(*arguments)
            with traced(self._enter):
                return function(*arguments)

        return call

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename.startswith(SOURCES) else None

    def _line(self, _frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        self._lines += event == "line"
        return self._line


def count_work(node: Node) -> CountedMachine:
    """Count what the machine of a node does from here on."""
    counted = CountedMachine(node.machine)
    node.machine = counted  # type: ignore[assignment]  # it has all that a machine has
    return counted


def count_work_of(node: LocalNode) -> CountedMachine:
    """Count what a node does under its lock from here on."""
    engine = node._engine
    counted = CountedMachine(engine._machine)
    engine._machine = counted  # type: ignore[assignment]  # it has all that a machine has
    return counted
