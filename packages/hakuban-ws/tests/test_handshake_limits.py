"""What goes through a handshake, to the byte; and what was agreed on there, in each direction."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

import pytest

from hakuban.transport import RefusedError, TransportOptions
from hakuban_ws._handshake import (
    MAX_FIRST_LINE,
    MAX_HEAD,
    MAX_HEADERS,
    REQUEST,
    RESPONSE,
    ClientHandshake,
    Head,
    HTTPAnswer,
    ServerHandshake,
)
from hakuban_ws._http_refusals import refusal
from hakuban_ws._urls import parse_url
from support.websocket import UPGRADE

if TYPE_CHECKING:
    from hakuban_ws._frames import FrameWriter

NOW = 1_700_000_000_123_456_789


def request(path: str = "/", headers: dict[str, str] | None = None) -> bytes:
    """What is sent to a listener.

    :raises ValueError: it would not be read.
    """
    url = parse_url(f"ws://router:3001{path}", listening=False)
    return ClientHandshake(url, TransportOptions(headers=headers or {})).request


def is_read(head: bytes) -> bool:
    """Whether a listener takes in a request of ours, or what we send to none that is so long."""
    try:
        whole = Head(REQUEST).feed(head)
    except HTTPAnswer as answer:
        response = answer.encode()
    else:
        assert whole == head
        assert ServerHandshake(whole).headers["host"] == "router:3001"
        return True
    assert response.startswith(b"HTTP/1.1 431 ")
    assert response.partition(b"\r\n\r\n")[2].startswith(
        (b"first line over", b"head over", b"more than")
    )
    return False


# -- a connecting side sends just what a listener reads


def test_the_longest_path_that_is_sent_is_the_longest_that_is_read() -> None:
    plain = request("/")
    longest = "/" + "x" * (MAX_FIRST_LINE - plain.index(b"\n"))
    head = request(longest)
    assert head.index(b"\n") == MAX_FIRST_LINE
    assert is_read(head)
    assert not is_read(head.replace(b"xx ", b"xxx ", 1))
    with pytest.raises(ValueError, match="path and query are over the 8192 bytes"):
        request(f"{longest}x")


def test_the_most_headers_that_are_sent_are_the_most_that_are_read() -> None:
    own = request().count(b"\r\n") - 2
    most = {f"X-{i}": "x" for i in range(MAX_HEADERS - own)}
    head = request(headers=most)
    assert is_read(head)
    assert not is_read(head[:-2] + b"One-More: x\r\n\r\n")
    with pytest.raises(ValueError, match="or the 128 of them"):
        request(headers={**most, "One-More": "x"})


def test_the_longest_headers_that_are_sent_are_the_longest_that_are_read() -> None:
    value = "x" * (MAX_HEAD - len(request(headers={"X": ""})))
    head = request(headers={"X": value})
    assert len(head) == MAX_HEAD
    assert is_read(head)
    assert not is_read(head.replace(b"X: ", b"X: x"))
    with pytest.raises(ValueError, match="the headers are over the 32768 bytes"):
        request(headers={"X": f"{value}x"})


@pytest.mark.parametrize("excess", [0, 1])
def test_a_response_may_have_a_first_line_as_long_as_a_request(excess: int) -> None:
    start = b"HTTP/1.1 101 "
    line = start + b"x" * (MAX_FIRST_LINE - len(start) - 1 + excess) + b"\r"
    head, data = Head(RESPONSE), line + b"\n\r\nand so on"
    if excess:
        with pytest.raises(HTTPAnswer, match="first line over 8192 bytes"):
            head.feed(data)
    else:
        assert head.feed(data) == line + b"\n\r\n"
        assert head.rest == b"and so on"


# -- what was agreed on for one direction does not hold for the other


def repeated_after(distance: int) -> bytes:
    """A message whose second half is its first."""
    half = random.Random(distance).randbytes(distance)
    return half + half


def compressed(writer: FrameWriter, message: bytes) -> bytes:
    """What is in the frame of a message."""
    (unit,) = writer.units([message])
    assert unit[0] == 0xC2
    masked = bool(unit[1] & 0x80)
    length, size = unit[1] & 0x7F, 2
    if length == 126:
        length, size = int.from_bytes(unit[2:4]), 4
    key, data = (unit[size : size + 4], unit[size + 4 :]) if masked else (bytes(4), unit[size:])
    assert len(data) == length
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


@pytest.mark.parametrize("sides", [(9, 15), (15, 9)], ids=["of the server", "of the client"])
def test_each_side_compresses_with_the_window_that_the_other_one_keeps(
    sides: tuple[int, int],
) -> None:
    server, client = sides
    offer = f"permessage-deflate; server_max_window_bits={server}; client_max_window_bits={client}"
    head = UPGRADE + f"Sec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
    accepted, _ = ServerHandshake(head).accept(NOW, compression=True)
    message = repeated_after(2000)
    for listening, bits in ((True, server), (False, client)):
        reader, _ = accepted.codec(listening=not listening, max_message=10_000)
        _, writer = accepted.codec(listening=listening, max_message=10_000)
        for unit in writer.units([message]):
            reader.feed(unit)
        assert reader.messages() == [message]
        data = compressed(accepted.codec(listening=listening, max_message=10_000)[1], message)
        decompressor = zlib.decompressobj(-bits)  # which refuses what lies farther back
        assert decompressor.decompress(data + b"\0\0\xff\xff") == message
        assert (len(data) < 3000) is (bits == 15)


@pytest.mark.parametrize("resetting", ["server", "client"])
def test_the_side_that_agreed_to_starts_each_message_afresh(resetting: str) -> None:
    offer = f"permessage-deflate; {resetting}_no_context_takeover"
    head = UPGRADE + f"Sec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
    accepted, _ = ServerHandshake(head).accept(NOW, compression=True)
    message = random.Random(1).randbytes(500)
    for side in ("server", "client"):
        _, writer = accepted.codec(listening=side == "server", max_message=1000)
        reader, _ = accepted.codec(listening=side != "server", max_message=1000)
        first, second = compressed(writer, message), compressed(writer, message)
        assert (second == first) is (side == resetting)
        if side != resetting:
            assert len(second) < 50
        _, writer = accepted.codec(listening=side == "server", max_message=1000)
        for _ in range(2):
            reader.feed(b"".join(writer.units([message])))
            assert reader.messages() == [message]


# -- what an answer means, at the limits between kinds of them


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (299, "another server answers there", False),
        (300, "redirects are not followed: connect to where it leads, /there", False),
        (399, "redirects are not followed: connect to where it leads, /there", False),
        (400, "does it want wss://, or is it another server than a WebSocket listener?", False),
        (402, "are host, port and path of the URL right?", False),
        (499, "are host, port and path of the URL right?", False),
        (500, "a fault of the server or of a proxy before it", True),
        (599, "a fault of the server or of a proxy before it", True),
    ],
)
def test_each_hundred_of_answers_has_its_text(status: int, text: str, *, retry: bool) -> None:
    error = refusal(status, [(b"Location", b"/there")], b"")
    assert isinstance(error, RefusedError)
    assert f"HTTP {status}; {text}" in error.reason
    assert error.retry is retry
