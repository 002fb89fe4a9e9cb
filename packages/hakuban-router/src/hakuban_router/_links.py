"""What the options mean for the links: URLs with defaults, and TLS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._cli import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ._cli import Config

__all__ = ["connecting_tls", "listening_tls", "with_defaults"]


def with_defaults(url: str, config: Config) -> str:
    """Put the options that hold for every link into a URL's fragment, in front: the last of two equal keys holds."""
    bare, _, fragment = url.partition("#")
    items = [
        f"{key.replace('_', '-')}={value}"
        for key in ("timeout", "keep_alive", "max_message")
        if (value := getattr(config, key)) is not None
    ]
    items += [f"{switch}=true" for switch in ("compression", "insecure") if getattr(config, switch)]
    if fragment:
        items.append(fragment)
    return f"{bare}#{','.join(items)}" if items else bare


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
