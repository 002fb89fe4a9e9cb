"""What the options mean for the links: URLs with defaults, and TLS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._cli import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ._cli import Config


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

# As OpenSSL names them: a key of another certificate, one of another kind; and a file without one, or with half of one.
_OTHER_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_NO_CERTIFICATE = ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "PEM lib")


def listening_tls(config: Config) -> ssl.SSLContext | None:
    """Make the context of wss:// binds; None where no option asks for one.

    :raises UsageError: a file cannot be used, one is missing, or no bind would use them.
    """
    wanted = any(url.lower().startswith("wss:") for url in config.bind)
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("tls_client_ca", "tls_key", "tls_cert")
        if getattr(config, name) is not None
    ]
    if not wanted and not given:
        return None
    if not wanted:
        # whoever gave them believes that unknown peers are kept out, or that nobody reads along
        raise UsageError(
            f"{given[0]} is for wss:// binds, and there is none: write wss:// instead of ws://, or leave it out"
        )
    if config.tls_cert is None:
        beside = f", and {given[0]} is not enough" if given else ""
        raise UsageError(
            f"TLS on a bind needs --tls-cert{beside}: name a certificate chain (PEM), and with --tls-key its private key,"
            " if that is in a file of its own"
        )
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:  # an SSLError is one too
        _check_readable(config.tls_cert, config.tls_key)
        raise _unusable_chain(config.tls_cert, config.tls_key, error) from None
    if config.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        with _readable("--tls-client-ca", config.tls_client_ca):
            context.load_verify_locations(config.tls_client_ca)
    return context


def _check_readable(cert: str, key: str | None) -> None:
    """Raise UsageError if one of two files cannot be read, or the first is no certificate."""
    import ssl
    from pathlib import Path

    for flag, path in (("--tls-cert", cert), ("--tls-key", key)):
        if path is not None:
            with _readable(flag, path), Path(path).open("rb"):
                pass
    with _readable("--tls-cert", cert):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)


def _unusable_chain(cert: str, key: str | None, error: OSError) -> UsageError:
    """Return an error that states which of two readable files is at fault; neither Python nor OpenSSL does."""
    import ssl

    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    if reason in _OTHER_KEY:
        where = f"--tls-key {key!r}" if key is not None else "the private key there"
        return UsageError(
            f"--tls-cert {cert!r}: {where} is not that of its first certificate: take the key that was made with it,"
            " and let the router's own certificate stand first"
        )
    if reason:
        return UsageError(f"--tls-cert {cert!r}: OpenSSL says {_words(reason)}")
    if key is None:
        return UsageError(
            f"--tls-key is missing: there is no private key (PEM) in --tls-cert {cert!r}; name its file"
        )
    return UsageError(f"--tls-key {key!r}: no private key (PEM) in it")


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
    import ssl

    try:
        yield
    except ssl.SSLError as error:
        reason = error.reason or "PEM lib"  # as OpenSSL calls what is damaged
        fault = "no certificate (PEM) in it" if reason in _NO_CERTIFICATE else _words(reason)
        raise UsageError(f"{flag} {path!r}: {fault}") from None
    except OSError as error:
        raise UsageError(f"{flag} {path!r}: {error.strerror or error}") from None


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()
