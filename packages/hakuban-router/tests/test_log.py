"""The log: one line for each record, whatever peers call themselves."""

from __future__ import annotations

import logging
import re

from hakuban_router.__main__ import LOG_FORMAT
from hakuban_router._log import Formatter, one_line


def record(message: str) -> logging.LogRecord:
    made = logging.LogRecord("hakuban.router", logging.INFO, "", 0, message, None, None)
    made.created, made.msecs = 1795521600.1234, 123.4
    return made


def test_a_record_is_a_line_with_utc_time_in_milliseconds() -> None:
    line = Formatter(LOG_FORMAT).format(record("listening on ws://127.0.0.1:3001"))
    assert line == (
        "2026-11-24T12:00:00.123Z INFO hakuban.router: listening on ws://127.0.0.1:3001"
    )


def test_peers_cannot_write_lines_or_talk_to_the_terminal() -> None:
    line = Formatter(LOG_FORMAT).format(record("peer x\n2026 ERROR fake\x1b[2J\x9b0m ń gone"))
    assert re.search(r"peer x\\x0a2026 ERROR fake\\x1b\[2J\\x9b0m ń gone$", line)
    assert one_line("a\r\x7f\tb") == "a\\x0d\\x7f\\x09b"


def test_tracebacks_keep_their_lines() -> None:
    made = record("failed")
    try:
        raise ValueError("why")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    lines = Formatter(LOG_FORMAT).format(made).splitlines()
    assert lines[0].endswith("failed")
    assert lines[-1] == "ValueError: why"
