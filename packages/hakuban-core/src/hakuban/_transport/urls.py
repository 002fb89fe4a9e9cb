"""URLs: the scheme chooses the transport, the fragment holds the options of the link, and the rest is the transport's."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from .._exceptions import InvalidURLError
from .._plain_values import plain_text
from .options import URL_OPTIONS, LinkOptions

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def split_url(url: str) -> tuple[str, str, LinkOptions]:
    """Take a URL apart into its scheme in lower case, itself without the fragment, and the fragment's options.

    :raises TypeError: it is no text.
    :raises InvalidURLError: no scheme, a blank or control character, an unknown option, a bad value, or an option in the
        query.
    """
    url = plain_text("a URL", url)
    bare, _, fragment = url.partition("#")
    match = _SCHEME.match(bare)
    if match is None:
        raise InvalidURLError(url, "there is no scheme; write ws://host:port, for example")
    if any(character <= " " or character == "\x7f" for character in bare):
        raise InvalidURLError(url, "there is a blank or control character in it")
    try:
        options = LinkOptions.parse(fragment)
    except ValueError as error:
        raise InvalidURLError(url, str(error)) from None
    _expect_no_option_in_query(url, bare.partition("?")[2])
    return match[1].lower(), bare, options


def _expect_no_option_in_query(url: str, query: str) -> None:
    for item in query.split("&"):
        key = item.partition("=")[0]
        if key in URL_OPTIONS:
            # else it may be anything, a secret for example
            known = re.fullmatch("[0-9a-z.:-]*", item.partition("=")[2])
            example = item if known else f"{key}=..."
            raise InvalidURLError(
                url, f"{key!r} is an option of the link: write #{example} instead of ?{example}"
            )


# ---- for transports -------------------------------------------------------------------------------------------------


def url_parts(url: str) -> SplitResult:
    """Take a URL apart as `urllib.parse.urlsplit` does; no error quotes a part of it, which may be a password.

    :raises InvalidURLError: brackets without an address.
    """
    url = plain_text("a URL", url)
    try:
        return urlsplit(url)
    except ValueError:
        reason = "the host is none; IPv6 addresses stand in brackets, like [::1]:3001"
        raise InvalidURLError(url, reason) from None


def host_and_port(
    url: str, *, listening: bool = True, default_port: int | None = None
) -> tuple[str, int]:
    """Take the host, without brackets, and the port out of a URL like tcp://127.0.0.1:3001, for transports with sockets.

    :param listening: whether port 0, a free one, makes sense.
    :param default_port: where the URL names none; None if it has to.
    :raises InvalidURLError: one of them is missing, or is none.
    """
    parts = url_parts(url)
    host = parts.hostname
    try:
        port = parts.port
    except ValueError:  # whose text quotes what may be a password
        raise InvalidURLError(url, "the port is no number from 1 to 65535") from None
    port = default_port if port is None else port
    if not host or port is None:
        missing = "host or port" if default_port is None else "the host"
        example = f"{parts.scheme or 'tcp'}://{'127.0.0.1' if listening else 'router'}:3001"
        raise InvalidURLError(url, f"{missing} is missing; write {example}, for example")
    if port == 0 and not listening:
        raise InvalidURLError(url, "port 0 is for listening only; name the port to connect to")
    return host, port
