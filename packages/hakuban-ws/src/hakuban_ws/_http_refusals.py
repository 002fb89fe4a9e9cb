"""What answers in HTTP mean to the connecting side, in words. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from hakuban.transport import RefusedError, printable, redacted

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_TEXT = 200  # characters of the other side's words
_HEALTHY = "hakuban ok"
# What may be another answer the next time; so may be every error of a server.
_RETRIED = frozenset(
    {
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_LATER = "it asks to come back later"
_STEPS = {
    400: "does it want wss://, or is it another server than a WebSocket listener?",
    401: "it wants credentials: headers={'Authorization': ...}",
    403: "this node is not let in: does the listener know its credentials or its origin?",
    404: "is the path of the URL right, and has the listener behind it started?",
    407: "a proxy wants credentials: connect without it, or headers={'Proxy-Authorization': ...}",
    408: _LATER,
    425: _LATER,
    426: "it speaks another version of WebSocket: upgrade one of the two sides",
    429: _LATER,
    503: _LATER,
}


def refusal(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> RefusedError:
    """Make the error for an answer that is no upgrade.

    :param body: what came of it so far; a refusal has its reason in the first line.
    """
    line = _first_line(body)
    text = f"HTTP {status}{': ' if line else ''}{line}; {_step(status, headers, line)}"
    return RefusedError(
        text, retry=status in _RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def no_websocket(reason: str) -> RefusedError:
    """Make the error for an answer that is none."""
    return RefusedError(f"no WebSocket there: {printable(reason)[:_MOST_TEXT]}", retry=False)


def _first_line(body: bytes) -> str:
    line = body[:_MOST_TEXT].partition(b"\n")[0].decode("ascii", "replace").strip()
    # a page is none that people can read
    return "" if line.startswith("<") else "".join(filter(str.isprintable, line))


def _step(status: int, headers: Iterable[tuple[bytes, bytes]], line: str) -> str:
    if status in _STEPS:
        return _STEPS[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "a fault of the server or of a proxy before it: its log says more"
    if status >= HTTPStatus.BAD_REQUEST:
        return "are host, port and path of the URL right?"
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        return f"redirects are not followed: connect to where it leads{_target(headers)}"
    if line == _HEALTHY:
        return "a listener of hakuban answers, but a proxy before it does not pass WebSockets on"
    return "another server answers there: are host, port and path of the URL right?"


def _target(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name.lower() == b"location":
            return f", {redacted(value.decode('latin-1'))[:_MOST_TEXT]}"
    return ""
