from __future__ import annotations

import pytest

from hakuban.transport import InvalidURLError
from hakuban_ws._urls import Endpoint, parse_url


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("ws://router", Endpoint("ws", "router", 80, "")),
        ("wss://router", Endpoint("wss", "router", 443, "")),
        ("ws://router:3001/", Endpoint("ws", "router", 3001, "/")),
        ("wss://10.0.0.1:1/a/b?c=d&e", Endpoint("wss", "10.0.0.1", 1, "/a/b?c=d&e")),
        ("ws://[::1]:3001", Endpoint("ws", "::1", 3001, "")),
        ("WS://Router", Endpoint("ws", "router", 80, "")),
        ("ws://h:1/,name=x", Endpoint("ws", "h", 1, "/,name=x")),
        ("ws://h:1?q", Endpoint("ws", "h", 1, "?q")),
        ("ws://127.1", Endpoint("ws", "127.1", 80, "")),
        ("ws://my_router.", Endpoint("ws", "my_router.", 80, "")),
        ("ws://Żółw:1", Endpoint("ws", "xn--w-uga1v8h", 1, "")),
    ],
)
def test_urls_are_read(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url, listening=False) == endpoint


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://router", "neither ws nor wss"),
        ("ws://", "host is missing"),
        ("ws:///path", "host is missing"),
        ("ws://:3001", "host is missing"),
        ("ws://router:0", "port 0"),
        ("ws://router:x", "port is no number"),
        ("ws://router:65536", "port is no number"),
        ("ws://[::1", "brackets"),
        ("ws://[::1]x:3001", "brackets"),
        ("ws://a..b", "neither a name nor an address"),
        ("ws://127.0.0.256", "neither a name nor an address"),
        ("ws://router/ż", "percent-encoded"),
        ("ws://router/a b", "percent-encoded"),
        ("ws://router#name=x", "fragment"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, reason: str) -> None:
    with pytest.raises(InvalidURLError, match=reason):
        parse_url(url, listening=False)


def test_a_url_to_bind_names_its_port_and_may_leave_it_to_the_system() -> None:
    with pytest.raises(InvalidURLError, match="needs a port"):
        parse_url("ws://127.0.0.1", listening=True)
    assert parse_url("ws://127.0.0.1:0", listening=True).port == 0


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidURLError) as caught:
        parse_url("wss://user:secret@router:3001/x", listening=False)
    assert "secret" not in str(caught.value)
    assert "Authorization" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ws://router:80", "wss://[fe80::1]:3001/a?b", "ws://127.0.0.1:3001"]
)
def test_an_endpoint_writes_itself_as_a_url(url: str) -> None:
    assert str(parse_url(url, listening=False)) == url


def test_the_zone_of_an_address_is_not_told_to_the_other_side() -> None:
    assert parse_url("ws://[fe80::1%eth0]:3001", listening=False).authority == "[fe80::1]:3001"
