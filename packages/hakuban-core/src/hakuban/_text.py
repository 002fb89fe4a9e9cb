"""Text that other people wrote, made fit for logs, errors and terminals."""

from __future__ import annotations

import re
from typing import Final

from ._plain_values import plain_text

_HOST_AND_PORT = re.compile(r"(?:\[[^]]*\]|[^:]*)(?::[0-9]*)?")


def printable(text: str) -> str:
    """Replace what is not to be seen by escapes.

    That is control characters, line breaks, changes of writing direction, what has no width, surrogates, private
    characters, and those that Unicode does not know. A peer must not write log lines of its own, nor talk to the terminal.

    :raises TypeError: it is no text.
    """
    text = plain_text("a text", text)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def printable_lines(text: str) -> str:
    """Do what `printable` does with each line of a text, and keep its line feeds: for tracebacks.

    :raises TypeError: it is no text.
    """
    return "\n".join(map(printable, plain_text("a text", text).split("\n")))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def cut(thing: object) -> str:
    """Show a thing of any length: the names of objects may have 64 KiB."""
    text = str(thing)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


_MOST_SHOWN: Final = 200  # characters


def redacted(url: str) -> str:
    """Hide what may be a secret: user and password, query and fragment. Works for whatever was meant to be a URL."""
    bare, _, _ = _without_credentials(plain_text("a URL", url)).partition("#")
    path, question, query = bare.partition("?")
    return printable(f"{path}{question}{'...' if query else ''}")


def _without_credentials(url: str) -> str:
    """Hide user and password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    before_query = re.split("[?#]", rest, maxsplit=1)[0]
    # the last "@" behind something, as in user:password@, also after a typing error; no pattern, which would be quadratic
    at = before_query.rfind("@")
    while at > 0 and before_query[at - 1] == "/":
        at = before_query.rfind("@", 0, at)
    if at > 0:
        end = at + 1
    elif "@" in rest and not _HOST_AND_PORT.fullmatch(before_query.partition("/")[0]):
        # "user:pass#word@host": an unescaped password ends the authority early, and what looks like a port is none
        end = rest.rindex("@") + 1
    else:
        return url
    return f"{scheme}{separator}...@{rest[end:]}"
