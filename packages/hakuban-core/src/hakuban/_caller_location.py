"""Where the code is that has called into this package: what warnings point at."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def place_of_caller() -> tuple[str, int]:
    """Return file and line."""
    frame = _frame()
    return frame.f_code.co_filename, frame.f_lineno


def warn_caller(text: str) -> None:
    """Warn as `warnings.warn` does, however many calls within this package are in between."""
    frame = _frame()
    warnings.warn_explicit(
        text,
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _frame() -> FrameType:
    frame = sys._getframe(1)  # noqa: SLF001  # as the standard library's warnings do
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def _is_ours(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == "hakuban"
