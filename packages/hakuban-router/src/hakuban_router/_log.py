"""The log of a program: one line for each record, to stderr."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from typing_extensions import override

from hakuban.transport import printable

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Formatter", "say", "start_logging"]


class Formatter(logging.Formatter):
    """Writes times in UTC with milliseconds, and no control characters but the line breaks of tracebacks.

    Names, descriptors and reasons come from peers: they must not write log lines of their own, nor talk to the terminal.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    @override
    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def start_logging(level: str, format: str) -> None:
    """Log to stderr from this level on ("debug", "info", "warning" or "error")."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.raiseExceptions = False  # a reader of stderr that has gone is no reason for tracebacks


def say(program: str, text: str) -> None:
    """Tell the user something, in one line of stderr; a reader of that who has gone is no reason to fail."""
    with suppress(OSError):
        print(f"{program}: {printable(text)}", file=sys.stderr, flush=True)
