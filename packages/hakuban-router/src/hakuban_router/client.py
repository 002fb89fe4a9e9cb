"""The `hakuban` command: looks at objects, and produces them, from a shell.

Two examples:

    hakuban observe ws://127.0.0.1:3001 weather '{"city": "Poznań"}'
    vmstat 1 | awk '{print $1; fflush()}' | hakuban expose ws://127.0.0.1:3001 '["load"]' '"run queue"'
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._cli import UsageError
from ._client_arguments import parse
from ._signals import INTERRUPTED, record_signals
from ._stdio import OutputError, occupy_closed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._signals import Signals

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Observe or expose; return the exit code.

    0; 1 for a link refused, patience lost, a bad line of input or an output that cannot be written; 2 for arguments and
    URLs; 130 after SIGINT.
    """
    occupy_closed()
    signals = record_signals(INTERRUPTED)
    from ._stderr import standard_error_by_thread

    with standard_error_by_thread():
        return _main(sys.argv[1:] if argv is None else argv, signals)


def _main(argv: Sequence[str], signals: Signals) -> int:
    try:
        request = parse(argv)
    except (UsageError, OutputError) as error:
        from ._log import say

        say("hakuban", f"error: {error}")
        return 2 if isinstance(error, UsageError) else 1
    from . import _client as _probe

    return _probe.run(request, signals)


if __name__ == "__main__":
    sys.exit(main())
