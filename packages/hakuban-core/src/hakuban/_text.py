"""Text that other people wrote, made fit for logs, errors and terminals."""

from __future__ import annotations

import re

__all__ = ["plain_text", "printable", "redacted"]

_HOST_AND_PORT = re.compile(r"(?:\[[^]]*\]|[^:]*)(?::[0-9]*)?")


def plain_text(what: str, value: object) -> str:
    """Take a text; of a subclass its value.

    :raises TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {'None' if value is None else type(value).__name__}")
    return str.__str__(value)


def printable(text: str) -> str:
    """Replace what is not to be seen (control characters, line breaks, changes of writing direction) by escapes.

    A peer must not write log lines of its own, nor talk to the terminal.

    :raises TypeError: it is no text.
    """
    text = plain_text("a text", text)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def redacted(url: str) -> str:
    """Hide what may be a secret: user and password, query and fragment. Works for whatever was meant to be a URL."""
    bare, _, _ = without_credentials(plain_text("a URL", url)).partition("#")
    path, question, query = bare.partition("?")
    return printable(f"{path}{question}{'...' if query else ''}")


def without_credentials(url: str) -> str:
    """Hide user and password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority:
        # "user:pass/word@host": an unescaped password ends the authority early, and what looks like a port is none.
        if "@" not in rest or _HOST_AND_PORT.fullmatch(authority):
            return url
        authority = rest
    return f"{scheme}{separator}...@{rest[authority.rindex('@') + 1 :]}"
