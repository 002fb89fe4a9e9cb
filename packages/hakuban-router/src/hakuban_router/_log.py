"""The log of a program: one line for each record, to stderr."""

from __future__ import annotations

import logging
import time

from typing_extensions import override

__all__ = ["Formatter", "one_line", "start_logging"]

# Names, descriptors and reasons come from peers: they must not write log lines of their own, nor talk to the terminal.
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def one_line(text: str) -> str:
    """Replace control characters, line breaks among them, by escapes."""
    return text.translate(_VISIBLE)


class Formatter(logging.Formatter):
    """Writes times in UTC with milliseconds, and no control characters outside of tracebacks."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


def start_logging(level: str, format: str) -> None:
    """Log to stderr from this level on ("debug", "info", "warning" or "error")."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.raiseExceptions = False  # a reader of stderr that has gone is no reason for tracebacks
