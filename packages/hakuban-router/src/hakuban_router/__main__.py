"""The `hakuban-router` command, also `python -m hakuban_router`."""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ._signals import record_signals
from ._stdio import OutputError, occupy_closed, write_out
from ._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._cli import Config
    from ._signals import Signals

__all__ = ["choose_loop", "main"]

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the router; return the exit code: 0 after a signal, 2 for arguments and URLs, 1 for what the machine refuses."""
    gc.disable()  # until it listens: imports leave much to search through, and nothing to find
    occupy_closed()
    signals = record_signals()
    from ._stderr import standard_error_by_thread

    with standard_error_by_thread():
        return _main(sys.argv[1:] if argv is None else argv, signals)


def _main(argv: Sequence[str], signals: Signals) -> int:
    from ._cli import UsageError, parse

    try:
        arguments = parse(argv, os.environ)
        if arguments.show_config:
            write_out(f"{arguments.describe()}\n".encode())
            return 0
        if arguments.transports:
            return _list_transports()
        return _run(arguments.config, signals)
    except UsageError as error:
        return _complain(str(error), 2)
    except OutputError as error:
        return _complain(str(error), 1)


def _run(config: Config, signals: Signals) -> int:
    import anyio

    from . import _app
    from . import _link_options as _links
    from ._exit_codes import unforeseen
    from ._log import logger, start_logging
    from ._open_files import raise_open_files_limit

    raise_open_files_limit()
    loop = choose_loop(config.loop)
    listening_tls, connecting_tls = _links.listening_tls(config), _links.connecting_tls(config)
    start_logging(config.log_level, LOG_FORMAT)
    logger.info("hakuban-router %s on %s", __version__, loop)
    if config.threads is not None:
        logger.info("--threads is ignored: the router has one thread")
    try:
        with signals.beside_a_loop():
            failure = anyio.run(
                _app.run,
                config,
                listening_tls,
                connecting_tls,
                signals,
                backend="trio" if loop == "trio" else "asyncio",
                backend_options={} if loop == "trio" else {"use_uvloop": loop == "uvloop"},
            )
    except SystemExit as error:  # of a task; but only a signal ends a router with 0
        logger.exception("the router has failed")
        failure = unforeseen("the router has failed", error)
    return 0 if failure is None else _complain(failure.reason, failure.code)


def _list_transports() -> int:
    """Print a line for each scheme: itself, distribution, version, and what is wrong."""
    from hakuban.transport import installed_transports, printable

    for one in installed_transports():
        error = "" if one.error is None else f" error: {one.error}"
        line = printable(f"{one.scheme} {one.distribution} {one.version}{error}")
        write_out(f"{line}\n".encode())
    return 0


def choose_loop(wanted: str) -> str:
    """Return the event loop to use: "asyncio", "uvloop" or "trio".

    :raises UsageError: it is not installed.
    """
    from ._cli import UsageError

    if wanted == "auto":
        return "uvloop" if find_spec("uvloop") else "asyncio"
    if wanted in ("uvloop", "trio") and find_spec(wanted) is None:
        raise UsageError(f"--loop {wanted}: not installed; pip install 'hakuban-router[{wanted}]'")
    return wanted


def _complain(reason: str, code: int) -> int:
    from ._log import say

    say("hakuban-router", f"error: {reason}")
    return code


if __name__ == "__main__":
    sys.exit(main())
