"""The errors of OpenSSL, in words. Pure.

Its reasons are names like `TLSV1_ALERT_UNKNOWN_CA`, with other beginnings in other versions; so a part of each counts.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple


class _Text(NamedTuple):
    """What to report on the side that connects, and on the one that listens."""

    connecting: str
    listening: str


def _alike(words: str) -> _Text:
    return _Text(words, words)


_NO_TLS: Final = _Text(
    "the other side does not speak TLS: is it a ws:// listener, or another protocol?",
    "the peer does not speak TLS: it has to connect with wss://",
)
_NO_VERSION: Final = _alike(
    "no version of TLS in common: see minimum_version and maximum_version of both contexts"
)
_NO_CIPHER: Final = _Text(
    "no cipher in common, or the listener wants a client certificate (ssl=... with load_cert_chain), or has none itself",
    "no cipher in common: has the listener's context a certificate (load_cert_chain), and are the peer's ciphers usual?",
)
_NOT_ACCEPTED: Final = _Text(
    "the listener does not accept our certificate: is it one for clients, and still valid?",
    "the peer does not accept this listener's certificate: is it valid, and for the name that the peer connects to?",
)
_NOT_GIVEN: Final = _Text(
    "the listener wants a client certificate: ssl=... with load_cert_chain",
    "the peer gave no certificate, and only who has one is let in: ssl=... with load_cert_chain there",
)
_NOT_TRUSTED: Final = _Text(
    "the listener has to trust the authority of our certificate: load_verify_locations or --tls-client-ca there",
    "the peer has to trust the authority of this listener's certificate: create_default_context(cafile=...) or --tls-ca",
)
_EXPIRED: Final = _Text(
    "our certificate has expired: renew it, or is the clock of the listener wrong?",
    "this listener's certificate has expired: renew it, or is the clock of the peer wrong?",
)
_REVOKED: Final = _Text(
    "our certificate was revoked: have a new one made",
    "this listener's certificate was revoked: have a new one made",
)
_WEAK: Final = _alike(
    "a key or signature is too weak for this machine: have a stronger certificate made"
)

# The first that is a part of the reason counts.
_REASONS: Final = {
    **dict.fromkeys(("HTTP_REQUEST", "PROXY_REQUEST", "WRONG_VERSION_NUMBER"), _NO_TLS),
    **dict.fromkeys(("UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE"), _NO_TLS),
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    **dict.fromkeys(("CERTIFICATE_REQUIRED", "DID_NOT_RETURN_A_CERTIFICATE"), _NOT_GIVEN),
    "UNKNOWN_CA": _NOT_TRUSTED,
    "CERTIFICATE_EXPIRED": _EXPIRED,
    "CERTIFICATE_REVOKED": _REVOKED,
    **dict.fromkeys(("BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE"), _NOT_ACCEPTED),
    **dict.fromkeys(("CERTIFICATE_UNKNOWN", "ACCESS_DENIED"), _NOT_ACCEPTED),
    "UNRECOGNIZED_NAME": _alike("the listener does not know this host name: is the URL right?"),
    **dict.fromkeys(("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"), _NO_VERSION),
    **dict.fromkeys(("NO_PROTOCOLS", "VERSION_TOO"), _NO_VERSION),
    **dict.fromkeys(("HANDSHAKE_FAILURE", "NO_SHARED", "NO_CIPHERS"), _NO_CIPHER),
    **dict.fromkeys(("NO_SUITABLE", "INSUFFICIENT_SECURITY"), _NO_CIPHER),
    **dict.fromkeys(("TOO_SMALL", "TOO_WEAK", "WRONG_SIGNATURE_TYPE"), _WEAK),
    "BAD_RECORD_MAC": _alike("what came was changed on its way: is there a faulty middlebox?"),
    "ALERT_INTERNAL_ERROR": _alike("TLS failed at the other side: its log says more"),
}
_TRUST: Final = _Text(
    "trust its authority: ssl=ssl.create_default_context(cafile=...), or --tls-ca",
    "trust its authority: load_verify_locations, or --tls-client-ca",
)
_LOOK: Final = "`openssl s_client -connect HOST:PORT` shows more"
# By X509_V_ERR_...: what is to be done about a certificate that does not verify.
_STEPS: Final = {
    9: _alike("is the clock of this machine wrong?"),
    10: _alike("have it renewed, or is the clock of this machine wrong?"),
    **dict.fromkeys((2, 18, 19, 20, 21), _TRUST),
    23: _alike("have a new one made"),
    **dict.fromkeys(
        (62, 64), _alike("connect by a name that is in it, or have one made for this name")
    ),
}


def describe_tls_error(error: ssl.SSLError, *, listening: bool) -> str:
    """Return what is wrong, and what to do, on the side that listens or on the one that connects."""
    if isinstance(error, ssl.SSLCertVerificationError):
        whose = "the peer's" if listening else "the"
        step = _STEPS.get(error.verify_code, _alike(_LOOK))[listening]
        return f"{whose} certificate does not verify: {error.verify_message.rstrip('.')}; {step}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "the connection ended in the TLS handshake"
    # None, where OpenSSL has no name for it
    reason = error.reason or "NO_REASON_GIVEN"
    for part, words in _REASONS.items():
        if part in reason:
            return words[listening]
    return f"no agreement on TLS: {reason.replace('_', ' ').lower()}; {_LOOK}"
