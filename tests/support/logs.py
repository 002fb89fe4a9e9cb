"""Filters and handlers of a program's log that do as they like, and what stands in a log."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

__all__ = ["fail", "filtered", "handled", "lines_with"]


class Handler(logging.Handler):
    """Does what a test wants with each record."""

    def __init__(self, do: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._do = do

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._do(record)


def fail(_record: logging.LogRecord) -> bool:
    raise ZeroDivisionError("user code")


@contextmanager
def filtered(do: Callable[[logging.LogRecord], bool], name: str = "hakuban") -> Iterator[None]:
    logging.getLogger(name).addFilter(do)
    try:
        yield
    finally:
        logging.getLogger(name).removeFilter(do)


@contextmanager
def handled(do: Callable[[logging.LogRecord], object], name: str = "hakuban") -> Iterator[None]:
    handler = Handler(do)
    logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(name).removeHandler(handler)


def lines_with(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """List the lines of the log in which something stands."""
    return [text for text in caplog.messages if part in text]
