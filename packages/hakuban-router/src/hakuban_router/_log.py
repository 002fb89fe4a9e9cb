"""The log of a program: one line for each record, to stderr."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from typing_extensions import override

from hakuban.transport import get_logger, printable

from ._stderr import StandardError

logger: Final = get_logger("hakuban.router")


class Formatter(logging.Formatter):
    """Writes times in UTC with milliseconds, and no control characters but the line breaks of tracebacks.

    Names, descriptors and reasons come from peers: they must not write log lines of their own, nor talk to the terminal.
    The lines of a traceback are indented, since the text of an exception may have several, and one may look like a record.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    @override
    def format(self, record: logging.LogRecord) -> str:
        # the finished text: another handler may have left a traceback in the record
        line, *more = super().format(record).split("\n")
        return "\n".join([line, *(f"  {printable(one)}" for one in more)])


def start_logging(level: str, format: str) -> None:
    """Log to stderr from this level on ("debug", "info", "warning" or "error")."""
    handler = logging.StreamHandler()
    formatter = Formatter(format)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])

    def notice(count: int) -> str:
        text = "%d lines of the log were dropped: the standard error was not read"
        record = logging.LogRecord(
            "hakuban.router", logging.WARNING, __file__, 0, text, (count,), None
        )
        return formatter.format(record)

    if isinstance(sys.stderr, StandardError):
        sys.stderr.notice = notice


def say(program: str, text: str) -> None:
    """Report something to the user, in one line of stderr."""
    print(f"{program}: {printable(text)}", file=sys.stderr)
