"""URLs: taken apart, and without telling what may be a password."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._exceptions import InvalidURLError
from hakuban._text import redacted
from hakuban._transport.options import LinkOptions
from hakuban._transport.urls import split_url
from hakuban.transport import host_and_port, url_parts


def refusal_of(url: str) -> InvalidURLError:
    with pytest.raises(InvalidURLError) as caught:
        split_url(url)
    return caught.value


@pytest.mark.parametrize(
    ("url", "scheme", "bare"),
    [
        ("ws://h:1/a?b=c#name=x", "ws", "ws://h:1/a?b=c"),
        ("WSS://H:1", "wss", "WSS://H:1"),
        ("zmq+ipc:///tmp/x#timeout=1", "zmq+ipc", "zmq+ipc:///tmp/x"),
        ("memory://", "memory", "memory://"),
    ],
)
def test_the_scheme_and_the_url_without_its_fragment_come_apart(
    url: str, scheme: str, bare: str
) -> None:
    assert split_url(url)[:2] == (scheme, bare)


@pytest.mark.parametrize("url", ["ws://h:1/,name=x", "ws://h:1/name=x"])
def test_what_looks_like_an_option_in_the_path_is_path(url: str) -> None:
    assert split_url(url) == ("ws", url, LinkOptions())


@pytest.mark.parametrize("url", ["", "ws", "127.0.0.1:3001", "ws:/h", "://h", "1ws://h", " ws://h"])
def test_a_url_without_a_scheme_is_refused(url: str) -> None:
    assert "scheme" in refusal_of(url).reason


@pytest.mark.parametrize("character", ["\r", "\n", "\t", " ", "\0", "\x7f"])
def test_control_characters_never_reach_a_transport(character: str) -> None:
    assert "control" in refusal_of(f"ws://h:1/{character}x").reason


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://user:secret@h:1/p#name=x", "ws://...@h:1/p"),
        ("ws://secret@h", "ws://...@h"),
        ("ws://a:secret@b:secret@h:1", "ws://...@h:1"),
        ("user:secret@h:1", "...@h:1"),
        ("ws://user:secret/word@h:1", "ws://...@h:1"),
        ("ws://user:secret#word@h:1", "ws://...@h:1"),
        ("ws://[::1]:1/@x", "ws://[::1]:1/@x"),
        ("ws://[::1]/@x", "ws://[::1]/@x"),
        ("ws://h:1/#name=ann@lab", "ws://h:1/"),
        ("ws://h:1/p?token=secret", "ws://h:1/p?..."),
        ("ws://h:1/\x1b[2Jx", "ws://h:1/\\x1b[2Jx"),
        ("ws://h/@x", "ws://h/@x"),
        ("zmq+ipc://@x", "zmq+ipc://@x"),
        ("ws:/user:secret@h:3001", "...@h:3001"),
        ("http//user:secret@h:3001", "...@h:3001"),
        ("ws:///user:secret@h:3001/p", "ws://...@h:3001/p"),
        ("ws://user:1234/secret@h", "ws://...@h"),
        ("ws://h:1/p?mail=ann@lab", "ws://h:1/p?..."),
        ("memory://lab", "memory://lab"),
        (
            "x" * 1_000_000,
            "x" * 1_000_000,
        ),  # in time: a quadratic search would run into the time limit
        ("/@" * 100_000, "/@" * 100_000),
    ],
    ids=lambda url: url[:40],
)
def test_what_may_be_a_secret_is_hidden_and_nothing_else(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "ws://user:secret@h:1#nane=x",
        "ws://user:secret@h:1/ #name=x",
        "user:secret@h:1",
        "ws://user:sec#secret@h:1",
        "ws://user:sec,#secret@h:1",
    ],
)
def test_an_error_about_a_url_tells_no_password(url: str) -> None:
    error = refusal_of(url)
    assert "secret" not in f"{error} {error.url} {error.reason}"


@given(st.text())
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    for url in (text, f"ws://h:1#{text}", f"ws://h:1#load-limit={text}"):
        redacted(url)
        with suppress(InvalidURLError):
            split_url(url)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("tcp://127.0.0.1:3001", ("127.0.0.1", 3001)),
        ("tcp://Lab:0/path?a=1", ("lab", 0)),
        ("acme+tcp://[::1]:80", ("::1", 80)),
        ("tcp://user:secret@h:1", ("h", 1)),
    ],
)
def test_host_and_port_come_out_of_a_url(url: str, parts: tuple[str, int]) -> None:
    assert host_and_port(url) == parts


@pytest.mark.parametrize(
    "url", ["tcp://h", "tcp://:1", "tcp://", "h:1", "tcp://h:x", "tcp://h:65536", "tcp://[::1:1"]
)
def test_a_url_without_host_or_port_is_refused(url: str) -> None:
    with pytest.raises(InvalidURLError) as caught:
        host_and_port(url)
    assert caught.value.url == url


def test_a_url_that_is_refused_keeps_its_password_to_itself() -> None:
    with pytest.raises(InvalidURLError) as caught:
        host_and_port("tcp://user:secret@h")
    assert "secret" not in str(caught.value)


def test_the_port_may_be_left_to_a_default() -> None:
    assert host_and_port("tcp://h", default_port=80) == ("h", 80)
    assert host_and_port("tcp://h:1", default_port=80) == ("h", 1)


@pytest.mark.parametrize("url", ["tcp://[::1", "tcp://user:secret@[h]", "tcp://u:secret@h]"])
def test_brackets_without_an_address_are_refused_without_a_quotation(url: str) -> None:
    with pytest.raises(InvalidURLError) as caught:
        url_parts(url)
    assert "secret" not in str(caught.value)
    assert "[::1]:3001" in str(caught.value)
