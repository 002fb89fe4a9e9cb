"""KeyboardInterrupt at any place of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import hakuban

from .tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SOURCES = str(Path(hakuban.__file__).parent)


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line, or line or bytecode, that this package executes in the calling thread."""

    def __init__(self, at: int, *, opcodes: bool) -> None:
        self._left = at
        self._opcodes = opcodes
        self.struck = False
        self.place = "nowhere"

    def run(self, function: Callable[[], object]) -> None:
        try:
            with traced(self._trace):
                function()
        except KeyboardInterrupt:
            assert self.struck

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if self.struck or not frame.f_code.co_filename.startswith(SOURCES):
            return None
        frame.f_trace_opcodes = (
            self._opcodes
        )  # beside lines: Python 3.12 and later give few of these
        if event in ("line", "opcode"):
            self._left -= 1
            if self._left < 0:
                self.struck = True
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace
