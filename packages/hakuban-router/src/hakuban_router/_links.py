"""What the options mean for the links: URLs with defaults, TLS, and who may listen where."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hakuban import PluginError
from hakuban.transport import authorizer

from ._cli import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ._cli import Config

__all__ = [
    "beyond_loopback",
    "check_exposure",
    "connecting_tls",
    "listening_tls",
    "shown",
    "with_defaults",
]

_LOOPBACK = re.compile(r"localhost|::1|127(\.[0-9]{1,3}){3}")


def with_defaults(url: str, config: Config) -> str:
    """Put the options that hold for every link into a URL's fragment, in front: the last of two equal keys holds."""
    bare, _, fragment = url.partition("#")
    items = [
        f"{key.replace('_', '-')}={value}"
        for key in ("timeout", "keep_alive", "max_message")
        if (value := getattr(config, key)) is not None
    ]
    if config.compression:
        items.append("compression=true")
    if fragment:
        items.append(fragment)
    return f"{bare}#{','.join(items)}" if items else bare


def shown(url: str) -> str:
    """Give a URL for people: without options, user and password."""
    scheme, separator, rest = url.partition("#")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def check_exposure(config: Config) -> None:
    """Refuse to listen beyond this machine while anybody may connect, unless the user wants that.

    ZeroMQ binds are left to their transport, which knows of its keys.

    :raises UsageError: says which address, and what to do.
    """
    if config.insecure:
        return
    for url in config.bind:
        if url.lower().startswith("zmq+"):
            continue
        certified = config.tls_client_ca is not None and url.lower().startswith("wss:")
        if beyond_loopback(url) and not certified and not _authorised():
            raise UsageError(
                f"{shown(url)} can be reached from other machines, and anybody may connect: use wss:// with"
                " --tls-client-ca, an authorising plugin, or --insecure"
            )


def _authorised() -> bool:
    """Whether a plugin decides about each peer."""
    try:
        return authorizer() is not None
    except PluginError as error:
        raise UsageError(str(error)) from error


def beyond_loopback(url: str) -> bool:
    """Whether other machines can reach this address, as far as its text tells. A name other than localhost may mean any."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return True
    if not parts.netloc:
        return False  # a path on this machine, or no URL at all, which is found out later
    return host is None or not _LOOPBACK.fullmatch(host)


# ---- TLS -----------------------------------------------------------------------------------------


def listening_tls(config: Config) -> ssl.SSLContext | None:
    """Make the context of wss:// binds; None where no option asks for one.

    :raises UsageError: a file cannot be used, or one is missing.
    """
    wanted = any(url.lower().startswith("wss:") for url in config.bind)
    if config.tls_cert is None:
        if wanted or config.tls_key or config.tls_client_ca:
            raise UsageError(
                "TLS on a bind needs --tls-cert (and --tls-key, if the key is in a file of its own)"
            )
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with _readable("--tls-cert", config.tls_cert):
        context.load_cert_chain(config.tls_cert, config.tls_key)
    if config.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        with _readable("--tls-client-ca", config.tls_client_ca):
            context.load_verify_locations(config.tls_client_ca)
    return context


def connecting_tls(config: Config) -> ssl.SSLContext | None:
    """Make the context of `--connect`; None for the transport's default, which trusts the system's authorities.

    :raises UsageError: the file cannot be used.
    """
    if config.tls_ca is None:
        return None
    import ssl

    with _readable("--tls-ca", config.tls_ca):
        return ssl.create_default_context(cafile=config.tls_ca)


@contextmanager
def _readable(flag: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # an SSLError is one too
        raise UsageError(f"{flag} {path!r}: {error.strerror or error}") from None
