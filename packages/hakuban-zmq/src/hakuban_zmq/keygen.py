"""The `hakuban-zmq-keygen` command: makes certificates for CURVE."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ._curve import CLIENT_KEYS, SECRET_KEY_FILE, SERVER_KEY_FILE, write_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

EPILOG = f"""
NAME.key is to be given away, NAME.key_secret is for its owner alone. Each side names its secret file in
{SECRET_KEY_FILE}; a connecting side the listener's NAME.key in {SERVER_KEY_FILE};
a listener the directory of those that it lets in, in {CLIENT_KEYS}.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the certificates, print their paths, and return the exit code: 1 when a file cannot be written."""
    parser = argparse.ArgumentParser(
        prog="hakuban-zmq-keygen",
        description="Makes certificates for links over ZeroMQ; overwrites nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="of a node or router")
    parser.add_argument("-d", "--directory", default=".", help="where to write them; is made")
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        try:
            paths = write_keys(arguments.directory, name)
        except (OSError, ValueError) as error:
            print(f"hakuban-zmq-keygen: error: {error}", file=sys.stderr)
            return 1
        print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
