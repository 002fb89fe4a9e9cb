"""Tracing what a thread executes, without what the collector would have it execute besides."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def collector_off() -> Iterator[None]:
    """Have the finalizers of what other tests left behind wait: they would come at any line."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def traced(trace: Callable[[FrameType, str, Any], Any]) -> Iterator[None]:
    """Trace the lines of the calling thread."""
    before = sys.gettrace()
    with collector_off():
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


class CallCounter:
    """The calls of functions, of Python or C, that the calling thread makes in the block.

    Unlike time, they are the same everywhere.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.getprofile()
        with collector_off():
            sys.setprofile(self._called)
            try:
                yield
            finally:
                sys.setprofile(before)

    def _called(self, _frame: object, event: str, _argument: object) -> None:
        self.count += event in {"call", "c_call"}
