"""What the options mean for URLs and TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from hakuban_router._cli import Config, UsageError
from hakuban_router._link_options import connecting_tls, listening_tls, with_defaults

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
    other, rsa = (
        ca.issue_cert("127.0.0.1"),
        ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA),
    )
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    rsa.private_key_pem.write_to_path(tmp_path / "rsa.pem")
    (tmp_path / "mixed.pem").write_bytes(
        cert.cert_chain_pems[0].bytes() + other.private_key_pem.bytes()
    )
    (tmp_path / "damaged.pem").write_bytes(cert.cert_chain_pems[0].bytes()[:200])
    (tmp_path / "folder.pem").mkdir()
    names = (
        "ca",
        "key",
        "cert",
        "both",
        "other",
        "rsa",
        "mixed",
        "nonsense",
        "damaged",
        "folder",
        "missing",
    )
    return {name: str(tmp_path / f"{name}.pem") for name in names}


WSS = ("wss://127.0.0.1:1",)


def test_a_certificate_serves_binds_with_and_without_client_certificates(
    files: dict[str, str],
) -> None:
    plain = listening_tls(Config(bind=WSS, tls_cert=files["cert"], tls_key=files["key"]))
    assert plain is not None
    assert plain.verify_mode == ssl.CERT_NONE
    both = ("ws://127.0.0.1:1", "WSS://127.0.0.1:2")
    strict = listening_tls(Config(bind=both, tls_cert=files["both"], tls_client_ca=files["ca"]))
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
        ({"tls_cert": "missing", "tls_key": "key"}, "--tls-cert '.*missing.pem': No such file"),
        ({"tls_cert": "cert", "tls_key": "missing"}, "--tls-key '.*missing.pem': No such file"),
        ({"tls_cert": "folder", "tls_key": "key"}, "--tls-cert '.*folder.pem': Is a directory"),
        ({"tls_cert": "cert", "tls_key": "folder"}, "--tls-key '.*folder.pem': Is a directory"),
        ({"tls_cert": "nonsense"}, "--tls-cert '.*': no certificate"),
        ({"tls_cert": "damaged", "tls_key": "key"}, "--tls-cert '.*': no certificate"),
        ({"tls_cert": "key", "tls_key": "cert"}, "--tls-cert '.*key.pem': no certificate"),
        ({"tls_cert": "cert"}, "--tls-key is missing: .* --tls-cert '.*cert.pem'; name its file"),
        ({"tls_cert": "cert", "tls_key": "nonsense"}, "--tls-key '.*': no private key"),
        ({"tls_cert": "cert", "tls_key": "cert"}, "--tls-key '.*': no private key"),
        ({"tls_cert": "cert", "tls_key": "other"}, "--tls-key '.*other.pem' is not that of its"),
        ({"tls_cert": "cert", "tls_key": "rsa"}, "--tls-key '.*rsa.pem' is not that of its"),
        ({"tls_cert": "mixed"}, "--tls-cert '.*': the private key there is not that of its"),
        ({"tls_cert": "both", "tls_client_ca": "nonsense"}, "--tls-client-ca '.*': no certificate"),
        ({"tls_cert": "both", "tls_client_ca": "missing"}, "--tls-client-ca '.*': No such file"),
        ({"tls_key": "key"}, "needs --tls-cert, and --tls-key is not enough: name"),
        ({"tls_client_ca": "ca"}, "needs --tls-cert, and --tls-client-ca is not enough: name"),
    ],
)
def test_files_that_cannot_serve_are_named(
    files: dict[str, str], options: dict[str, str], named: str
) -> None:
    chosen: dict[str, Any] = {name: files[file] for name, file in options.items()}
    with pytest.raises(UsageError, match=named) as caught:
        listening_tls(Config(bind=WSS, **chosen))
    assert "_ssl.c" not in str(caught.value)


@pytest.mark.parametrize("option", ["tls_client_ca", "tls_cert", "tls_key"])
@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "zmq+tcp://127.0.0.1:1"])
def test_options_of_tls_without_a_bind_that_has_it_are_an_error(
    files: dict[str, str], option: str, url: str
) -> None:
    chosen: dict[str, Any] = {option: files["ca"]}
    flag = f"--{option.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"{flag} is for wss:// binds.*: write wss://"):
        listening_tls(Config(bind=(url,), **chosen))


def test_a_wss_bind_needs_a_certificate() -> None:
    with pytest.raises(UsageError, match="needs --tls-cert"):
        listening_tls(Config(bind=("WSS://127.0.0.1:1",)))


def test_an_authority_that_is_none_is_named(files: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--tls-ca .*missing.pem': No such file"):
        connecting_tls(Config(tls_ca=files["missing"]))
