"""The log: one line for each record, whatever peers call themselves."""

from __future__ import annotations

import logging
import re

from hakuban_router.__main__ import LOG_FORMAT
from hakuban_router._log import Formatter


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
    assert re.search(r"peer x\\n2026 ERROR fake\\x1b\[2J\\x9b0m ń gone$", line)
    # nor change the direction of what follows
    assert Formatter("%(message)s").format(record("a\r\x7f\t\u202eb")) == r"a\r\x7f\t\u202eb"


def test_tracebacks_keep_their_lines_and_nothing_else_that_a_terminal_would_obey() -> None:
    made = record("failed")
    try:
        raise ValueError("why\x1b[2J")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    lines = Formatter(LOG_FORMAT).format(made).splitlines()
    assert lines[0].endswith("failed")
    assert lines[-1] == r"ValueError: why\x1b[2J"
