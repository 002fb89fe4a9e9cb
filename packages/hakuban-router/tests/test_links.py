"""What the options mean for URLs and TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from hakuban_router._cli import Config, UsageError
from hakuban_router._links import connecting_tls, listening_tls, with_defaults

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "config", "expected"),
    [
        ("ws://h:1", Config(), "ws://h:1"),
        ("ws://h:1#,name=x", Config(), "ws://h:1#,name=x"),
        ("ws://h:1#name=x", Config(timeout="1s"), "ws://h:1#timeout=1s,name=x"),
        ("ws://h:1#timeout=9", Config(timeout="1s"), "ws://h:1#timeout=1s,timeout=9"),
        (
            "ws://h:1/p?q#",
            Config(keep_alive="1s", max_message=9, compression=True),
            "ws://h:1/p?q#keep-alive=1s,max-message=9,compression=true",
        ),
        ("ws://h:1", Config(insecure=True), "ws://h:1#insecure=true"),
        ("ws://h:1#insecure=false", Config(insecure=True), "ws://h:1#insecure=true,insecure=false"),
    ],
)
def test_defaults_stand_before_what_the_url_says_itself(
    url: str, config: Config, expected: str
) -> None:
    assert with_defaults(url, config) == expected


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    ca = trustme.CA()
    cert = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    (tmp_path / "nonsense.pem").write_text("nonsense")
    names = ("ca", "key", "cert", "both", "nonsense", "missing")
    return {name: str(tmp_path / f"{name}.pem") for name in names}


def test_a_certificate_serves_binds_with_and_without_client_certificates(
    files: dict[str, str],
) -> None:
    plain = listening_tls(Config(tls_cert=files["cert"], tls_key=files["key"]))
    assert plain is not None
    assert plain.verify_mode == ssl.CERT_NONE
    strict = listening_tls(Config(tls_cert=files["both"], tls_client_ca=files["ca"]))
    assert strict is not None
    assert strict.verify_mode == ssl.CERT_REQUIRED


def test_without_tls_options_there_is_no_context() -> None:
    assert listening_tls(Config()) is None
    assert connecting_tls(Config()) is None


def test_an_authority_for_connecting_replaces_those_of_the_system(files: dict[str, str]) -> None:
    context = connecting_tls(Config(tls_ca=files["ca"]))
    assert context is not None
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tls_cert": "missing"}, "--tls-cert '.*missing.pem': No such file"),
        ({"tls_cert": "nonsense"}, "--tls-cert"),
        ({"tls_cert": "cert"}, "--tls-cert"),
        ({"tls_cert": "both", "tls_client_ca": "nonsense"}, "--tls-client-ca"),
        ({"tls_key": "key"}, "needs --tls-cert"),
        ({"tls_client_ca": "ca"}, "needs --tls-cert"),
    ],
)
def test_files_that_cannot_serve_are_named(
    files: dict[str, str], options: dict[str, str], named: str
) -> None:
    config = Config(**{name: files[file] for name, file in options.items()})  # type: ignore[arg-type]  # all are texts
    with pytest.raises(UsageError, match=named):
        listening_tls(config)


def test_a_wss_bind_needs_a_certificate() -> None:
    with pytest.raises(UsageError, match="needs --tls-cert"):
        listening_tls(Config(bind=("WSS://127.0.0.1:1",)))


def test_an_authority_that_is_none_is_named(files: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--tls-ca .*missing.pem': No such file"):
        connecting_tls(Config(tls_ca=files["missing"]))
