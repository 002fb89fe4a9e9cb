"""What can never work is refused where a program says it, before anything is entered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hakuban import LocalNode, sync
from hakuban.transport import InvalidURLError

if TYPE_CHECKING:
    import ssl

    from support.websocket import Certificates

ANYWHERE = [
    ("ws://h:99999", "port"),
    ("ws://h:x", "port"),
    ("ws://h:-1", "port"),
    ("ws://:3001", "host is missing"),
    ("ws:///path", "host is missing"),
    ("ws:/h:3001", "host is missing|no scheme"),
    ("ws://a..b:3001", "host"),
    ("ws://a_,b:3001", "host"),
    ("ws://300.0.0.1:3001", "host"),
    ("ws://faß.example:3001", "xn--"),
    ("ws://[::1:3001", "brackets"),
    ("ws://[::g]:3001", "brackets"),
    ("ws://[v1.a]:3001", "brackets"),
    ("ws://::1:3001", "brackets"),
    ("ws://user:hunter2@h:3001", "Authorization"),
    ("ws://user@h:3001", "Authorization"),
    ("ws://h:3001/ż", "percent-encoded"),
    ("ws://h:3001?q=ż", "percent-encoded"),
]
TO_CONNECT = [*ANYWHERE, ("ws://h:0", "port 0")]
TO_LISTEN = [
    *ANYWHERE,
    ("ws://127.0.0.1", "needs a port"),
    ("wss://127.0.0.1/", "needs a port"),
    ("wss://127.0.0.1:3001", "--tls-cert"),
]


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(("url", "reason"), TO_CONNECT)
def test_a_url_that_leads_nowhere_is_refused_where_it_is_passed(
    url: str, reason: str, *, wait: bool
) -> None:
    node = LocalNode()
    for connect in (node.connect, lambda *args, **kwargs: sync.connect(node, *args, **kwargs)):
        with pytest.raises(InvalidURLError, match=reason):
            connect(url, wait=wait)


@pytest.mark.parametrize(("url", "reason"), TO_LISTEN)
def test_a_url_that_nobody_can_listen_on_is_refused_where_it_is_passed(
    url: str, reason: str
) -> None:
    node = LocalNode()
    with pytest.raises(InvalidURLError, match=reason):
        node.listen(url)
    with pytest.raises(InvalidURLError, match=reason):
        sync.listen(node, url)


@pytest.mark.parametrize(
    "url",
    [
        "ws://user:hunter2@h:3001",
        "ws://h:hunter2",
        "ws://user:hunter2/x@h:3001",
        "ws://user:hunter2?x@h:3001",
        "ws://[hunter2]:3001",
        "ws://h:99999?token=hunter2",
        "ws://h:3001/ż?token=hunter2",
    ],
)
def test_what_may_be_a_password_is_not_repeated(url: str) -> None:
    node = LocalNode()
    for attempt in (node.connect, node.listen):
        with pytest.raises(InvalidURLError) as caught:
            attempt(url)
        assert "hunter2" not in caught.value.reason
        if "@" in url or "?" in url:
            assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{"X-Token": "two\r\nlines"}, {"X Token": "x"}, {"Host": "x"}, {"X-Token": "€"}]
)
@pytest.mark.parametrize("wait", [True, False])
def test_a_header_that_http_cannot_carry_is_refused_where_it_is_passed(
    headers: dict[str, str], *, wait: bool
) -> None:
    with pytest.raises(ValueError, match="header"):
        LocalNode().connect("ws://127.0.0.1:3001", headers=headers, wait=wait)


def test_a_tls_context_of_the_other_side_is_refused_where_it_is_passed(
    certificates: Certificates,
) -> None:
    node = LocalNode()
    wrong: list[tuple[Any, ssl.SSLContext, str]] = [
        (node.connect, certificates.listening(), r"to connect, .*\(ssl.PROTOCOL_TLS_CLIENT\)"),
        (node.listen, certificates.connecting(), r"to listen, .*\(ssl.PROTOCOL_TLS_SERVER\)"),
    ]
    for attempt, context, text in wrong:
        with pytest.raises(ValueError, match=text):
            attempt("wss://127.0.0.1:3001", ssl=context)
