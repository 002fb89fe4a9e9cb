"""The loggers of this project. What filters and handlers do, user code, must not end a link, a loop or a program.

Nothing else in these packages asks `logging` for a logger: a test looks.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from typing_extensions import override

from ._text import printable, printable_lines

_MOST_KINDS: Final = 100  # of faults that are printed, in the life of a process

printed: Final[dict[tuple[str, str, int], object]] = {}
"""Faults that were printed: class, file, and the line that raised it."""


class Logger(logging.LoggerAdapter[logging.Logger]):
    """Logs as the logger does that it is made of. A line whose filter or handler raises is dropped, and nobody notices.

    The traceback is written to the standard error, once for each kind of fault (the class of the exception, and the line
    that raised it), unless `logging.raiseExceptions` is false. Cancellations, KeyboardInterrupt and SystemExit, which
    are no faults, go through.
    """

    @override
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        try:
            # 2: the line that is reported is the caller's; the frames of `logging` itself do not count
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except Exception as error:  # noqa: BLE001  # code of the program's, which may raise whatever it likes
            _print_once(self.name, error)


def get_logger(name: str) -> Logger:
    """Return the logger of that name, as `logging.getLogger` does.

    A filter or handler that raises loses that line and nothing else, see `Logger`; and in text, arguments and traceback
    of each record that is logged here control characters are escaped: names, addresses and reasons are written by peers.
    """
    inner = logging.getLogger(name)
    inner.addFilter(
        _make_printable
    )  # once, however often it is asked for; children need one of their own
    return Logger(inner)


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg = printable(str(record.msg))
    arguments = record.args
    if isinstance(arguments, tuple):
        record.args = tuple(map(_printable_argument, arguments))
    elif isinstance(arguments, Mapping):
        record.args = {key: _printable_argument(value) for key, value in arguments.items()}
    if record.exc_info and not record.exc_text:
        _make_traceback_printable(record)
    return True


def _printable_argument(value: object) -> object:
    return value if isinstance(value, (int, float)) else printable(str(value))


def _make_traceback_printable(record: logging.LogRecord) -> None:
    """Return the text of the traceback, which formatters take then; of one that is harmless they make what they like."""
    text = "".join(traceback.format_exception(*record.exc_info or ())).rstrip("\n")
    fit = printable_lines(text)
    if fit != text:
        record.exc_text = fit


def _print_once(name: str, error: Exception) -> None:
    """Write the traceback of what a filter or handler has raised, if it is the first of its kind."""
    if not logging.raiseExceptions:
        return
    # closed, full, gone, or somebody's own: there is nowhere left to report it
    with suppress(Exception):
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        kind = (type(error).__qualname__, frame.f_code.co_filename, line)
        mine = object()
        if len(printed) >= _MOST_KINDS or printed.setdefault(kind, mine) is not mine:
            return
        if sys.stderr is not None:
            text = printable_lines("".join(traceback.format_exception(error)))
            sys.stderr.write(
                f"--- a line of the log of {name} was dropped, since a filter or handler has raised; not told again ---\n{text}"
            )
            sys.stderr.flush()


logger: Final = get_logger("hakuban")
