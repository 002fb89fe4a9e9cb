"""The options of `hakuban-router`: one table defines the flags, the environment variables and `--show-config`."""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from typing_extensions import override

from ._stdio import write_out
from ._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


PREFIX = "HAKUBAN_ROUTER_"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOOPS = ("auto", "asyncio", "uvloop", "trio")

T = TypeVar("T")


class UsageError(Exception):
    """The arguments, or the environment, make no sense; the text is for the user, and holds no secrets."""


# ---- values --------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return text


def positive(text: str) -> int:
    """Read a number above 0.

    :raises ValueError: it is none.
    """
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError("not a number above 0")
    return int(text)


def _threshold(text: str) -> float:
    return _number(text, math.nextafter(math.inf, 0.0), "not a number of 0 or more")


def _seconds(text: str) -> float:
    return _number(text, 1e9, "not a number of seconds from 0 to 1e9")


def _number(text: str, most: float, fault: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise ValueError(fault)
    return value


def _duration(text: str) -> str:
    # Only what would break out of a URL's fragment is refused here: the core reads durations.
    if not re.fullmatch("[0-9a-z.]+", text):
        raise ValueError("not a duration like 5s, 700ms or 1m30s")
    return text


def _switch(text: str) -> bool:
    answers = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in answers:
        raise ValueError("neither true nor false")
    return answers[text.lower()]


def _one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"not one of {', '.join(words)}")
        return text.lower()

    return check


# ---- the table -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Option:
    """How one option is spelled and read.

    :ivar help: one line for `--help`.
    :ivar parse: reads one value; raises ValueError with what is wrong.
    :ivar short: the one-letter flag, or "".
    :ivar metavar: the value's name in `--help`; "" for a switch.
    :ivar many: whether it may be given again; its variable holds values separated by blanks.
    :ivar variable: a second environment variable, asked after the one that is made of the name.
    """

    help: str
    parse: Callable[[str], object]
    short: str
    metavar: str
    many: bool
    variable: str


def _option(
    default: T,
    help: str,
    parse: Callable[[str], object] = _text,
    *,
    short: str = "",
    metavar: str = "",
    many: bool = False,
    variable: str = "",
) -> T:
    option = Option(help, parse, short, metavar, many, variable)
    made: T = field(default=default, metadata={"option": option})
    return made


@dataclass(slots=True, kw_only=True)
class Config:
    """What was set for the router, and defaults for the rest. A field is an option; its name spells flag and variable.

    Durations and sizes of links stay text: they become part of a URL's fragment, which the core reads.
    """

    bind: tuple[str, ...] = _option(
        ("ws://127.0.0.1:3001",), "listen on this address", short="-b", metavar="URL", many=True
    )
    connect: str | None = _option(
        None, "connect to the router above this one", short="-c", metavar="URL"
    )
    name: str | None = _option(
        None, "name told to peers; name= in a URL goes before it", short="-n", metavar="NAME"
    )
    monitor_tag: str | None = _option(
        None, "expose snapshots of this router as objects of this tag", metavar="TAG"
    )
    rebalance_threshold: float = _option(
        0.1, "difference of load that moves an object to another exposer", _threshold,
        metavar="LOAD",
    )  # fmt: skip
    max_clock_lead: float = _option(
        86_400.0, "seconds by which the clocks of nodes below may be ahead of this machine's",
        _seconds, metavar="SECONDS",
    )  # fmt: skip
    loop: str = _option(
        "auto", f"event loop, one of {', '.join(LOOPS)}; auto takes uvloop where installed",
        _one_of(*LOOPS), metavar="LOOP",
    )  # fmt: skip
    tls_cert: str | None = _option(None, "certificate chain (PEM) of wss:// binds", metavar="FILE")
    tls_key: str | None = _option(
        None, "private key (PEM) of wss:// binds, if not in --tls-cert", metavar="FILE"
    )
    tls_client_ca: str | None = _option(
        None, "demand client certificates signed by this authority (PEM)", metavar="FILE"
    )
    tls_ca: str | None = _option(
        None, "trust this authority (PEM) instead of the system's when connecting", metavar="FILE"
    )
    allow_origin: tuple[str, ...] = _option(
        (), "let in web pages of this origin, for example https://example.org", metavar="ORIGIN",
        many=True,
    )  # fmt: skip
    max_connections: int | None = _option(
        None, "connections that each bind accepts", positive, metavar="N"
    )
    max_message: int | None = _option(
        None, "bytes of the largest message accepted (16 MiB)", positive, metavar="BYTES"
    )
    timeout: str | None = _option(
        None, "silence that ends a link, for example 6s or 700ms", _duration, metavar="TIME"
    )
    keep_alive: str | None = _option(
        None, "idleness after which a sign of life is sent, for example 2s", _duration,
        metavar="TIME",
    )  # fmt: skip
    compression: bool = _option(
        False, "compress links to peers that can (permessage-deflate)", _switch
    )
    insecure: bool = _option(
        False, "listen beyond this machine although anybody may connect", _switch
    )
    threads: int | None = _option(
        None, "accepted for compatibility, and ignored: the router has one thread", positive,
        short="-t", metavar="N",
    )  # fmt: skip
    log_level: str = _option(
        "info", f"one of {', '.join(LOG_LEVELS)}", _one_of(*LOG_LEVELS), metavar="LEVEL",
        variable="HAKUBAN_LOG",
    )  # fmt: skip


OPTIONS: dict[str, Option] = {one.name: one.metadata["option"] for one in fields(Config)}


# ---- reading it ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Arguments:
    """The command line, read.

    :ivar config: the effective configuration.
    :ivar sources: for each option the flag or variable that set it, or "default".
    :ivar show_config: whether to print that and leave.
    :ivar transports: whether to print the installed transports and leave.
    """

    config: Config
    sources: Mapping[str, str]
    show_config: bool
    transports: bool

    def describe(self) -> str:
        """Write one line for each option: name, value as JSON without secrets, and where it comes from."""
        from hakuban.transport import printable

        lines = []
        for name, source in self.sources.items():
            value = getattr(self.config, name)
            shown = [*map(_shown, value)] if isinstance(value, tuple) else _shown(value)
            text = json.dumps(shown, ensure_ascii=False)
            lines.append(printable(f"{name.replace('_', '-')} = {text}  # {source}"))
        return "\n".join(lines)


def _shown(value: object) -> object:
    """Return a value for people: whatever is a URL, or was meant to be one, without its secrets."""
    from hakuban.transport import redacted

    return redacted(value) if isinstance(value, str) and "://" in value else value


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and leaving, and OutputError when help cannot be printed."""

    @override
    def error(self, message: str) -> NoReturn:
        # it quotes arguments, URLs in the wrong place among them: what follows "://" is hidden up to a last "@"
        bare = re.sub(r"[\w+.-]+://.*", lambda url: str(_shown(url[0])), message, flags=re.DOTALL)
        raise UsageError(f"{bare}; see --help")

    @override
    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        write_out(b"")  # what argparse has printed, and Python would flush too late for an error
        super().exit(status, message)


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Arguments:
    """Read flags and environment: a flag goes before a variable, a variable before the default.

    An empty variable counts as not set. Unknown HAKUBAN_ROUTER_* variables are left alone: Kubernetes sets
    HAKUBAN_ROUTER_PORT and others by itself for a service of that name.

    :raises UsageError: an argument is unknown, or a value cannot be read.
    :raises SystemExit: after `--help` and `--version`.
    """
    given = vars(_parser().parse_args(argv))
    show_config, transports = given.pop("show_config"), given.pop("transports")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, option in OPTIONS.items():
        source, texts = _find(name, option, given, environ)
        sources[name] = source or "default"
        if source:
            parsed = [_value(source, option, text) for text in texts]
            values[name] = tuple(parsed) if option.many else parsed[-1]
    return Arguments(Config(**values), sources, show_config, transports)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="hakuban-router",
        description="Routes live objects between nodes.",
        epilog=f"Each option can be set by a variable too: --log-level is {PREFIX}LOG_LEVEL. A flag goes before it."
        " The fragment of a URL, as in ws://127.0.0.1:3001#name=lab,timeout=3s, goes before both.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, option in OPTIONS.items():
        flags = [flag for flag in (option.short, _flag(name)) if flag]
        if option.metavar:
            action = "append" if option.many else "store"
            parser.add_argument(
                *flags, dest=name, action=action, metavar=option.metavar, help=option.help
            )
        else:
            parser.add_argument(
                *flags, dest=name, action="store_const", const="true", help=option.help
            )
    parser.add_argument(
        "--show-config", action="store_true", default=False,
        help="print the effective configuration, with the source of each value, and exit",
    )  # fmt: skip
    parser.add_argument(
        "--transports", action="store_true", default=False,
        help="print the installed transports, with the error of each that is broken, and exit",
    )  # fmt: skip
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _find(
    name: str, option: Option, given: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, list[str]]:
    """Return the flag or variable that sets an option, and its texts; "" when nothing does."""
    if name in given:
        return _flag(name), given[name] if option.many else [given[name]]
    for variable in (PREFIX + name.upper(), option.variable):
        text = environ.get(variable, "").strip()
        if text:
            return variable, text.split() if option.many else [text]
    return "", []


def _value(source: str, option: Option, text: str) -> object:
    try:
        return option.parse(text)
    except ValueError as error:
        raise UsageError(f"{source} {_shown(text)!r}: {error}") from None
