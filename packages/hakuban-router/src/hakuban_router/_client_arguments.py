"""The command line of `hakuban`."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._cli import Parser, UsageError, positive
from ._version import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hakuban import ObjectDescriptor, TagDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user wants.

    :ivar expose: produce instead of observe.
    :ivar url: the router.
    :ivar descriptor: one object, or a tag.
    :ivar raw: bytes as they are, instead of JSON.
    :ivar count: states or lines after which to end, or None.
    :ivar timeout: seconds without a state, or without anybody who takes the last value, or None.
    :ivar capacity: of the expose contract.
    """

    expose: bool
    url: str
    descriptor: ObjectDescriptor | TagDescriptor
    raw: bool
    count: int | None
    timeout: float | None
    capacity: int


def _parser() -> argparse.ArgumentParser:
    common = Parser(add_help=False)
    common.add_argument("url", metavar="URL", help="the router, for example ws://127.0.0.1:3001")
    common.add_argument(
        "tags", metavar="TAGS", help="a JSON list of tags; or one tag, as JSON or as a plain word"
    )
    common.add_argument(
        "json", metavar="JSON", nargs="?", help="the object, as JSON or as a plain word"
    )
    common.add_argument(
        "--tag", action="store_true", help="all objects of one tag; then there is no JSON"
    )
    common.add_argument("--count", type=positive, metavar="N", help="end after N states or lines")
    common.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS",
        help="give up (exit code 1) when no state came, or nobody took the last value, for so long",
    )  # fmt: skip
    common.add_argument("--raw", action="store_true", help="bytes as they are instead of JSON")
    parser = Parser(
        prog="hakuban", description="Looks at live objects, and produces them.", allow_abbrev=False
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="observe|expose")
    commands.add_parser(
        "observe", parents=[common], allow_abbrev=False, help="print a JSON line for each state",
        description="Prints a JSON line for each state.",
    )  # fmt: skip
    expose = commands.add_parser(
        "expose", parents=[common], allow_abbrev=False, help="publish each line of the input",
        description="Publishes each line of the input, JSON by JSON, while somebody observes the object;"
        " prints a JSON line whenever that begins or ends.",
    )  # fmt: skip
    expose.add_argument(
        "--capacity", type=positive, default=1, metavar="N",
        help="ability to produce, compared with other exposers",
    )  # fmt: skip
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError("out of range")
    return seconds


def parse(argv: Sequence[str]) -> Request:
    """Read the command line.

    :raises UsageError: it makes no sense.
    :raises SystemExit: after `--help` and `--version`.
    """
    given = _parser().parse_args(argv)
    if given.tag == (given.json is not None):
        raise UsageError("with --tag, give URL and TAG" if given.tag else "give URL, TAGS and JSON")
    from hakuban import InvalidDescriptorError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about floats in names, with lines of this program
            descriptor = _tag(given.tags) if given.tag else _object(given.tags, given.json)
    except InvalidDescriptorError as error:
        raise UsageError(f"that cannot be named: {error.reason}") from None
    return Request(
        expose=given.command == "expose",
        url=given.url,
        descriptor=descriptor,
        raw=given.raw,
        count=given.count,
        timeout=given.timeout,
        capacity=getattr(given, "capacity", 1),
    )


def _tag(text: str) -> TagDescriptor:
    from hakuban import TagDescriptor

    # through its value: the limits of names hold for what users make, and not for what is read
    return TagDescriptor(TagDescriptor.from_json(_json_text(text)).json)


def _object(tags: str, text: str) -> ObjectDescriptor:
    from hakuban import ObjectDescriptor

    listed = json.loads(_json_text(tags))
    texts = [json.dumps(tag) for tag in listed] if isinstance(listed, list) else [_json_text(tags)]
    read = ObjectDescriptor.from_json(texts, _json_text(text))
    return ObjectDescriptor([tag.json for tag in read.tags], read.json)  # with limits, as above


def _json_text(text: str) -> str:
    """Return a JSON text as it is, and a plain word as a JSON string.

    :raises UsageError: it looks like JSON, and is none.
    """
    from hakuban import InvalidDescriptorError, TagDescriptor

    try:
        return TagDescriptor.from_json(text).json_text
    except InvalidDescriptorError as error:
        if text[:1] in ("{", "[", '"'):
            raise UsageError(f"{text}: {error.reason}") from None
        return json.dumps(text)
