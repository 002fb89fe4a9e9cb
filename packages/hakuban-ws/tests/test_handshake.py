from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban.transport import RefusedError, TransportOptions
from hakuban_ws._handshake import (
    MAX_HEAD,
    REQUEST,
    RESPONSE,
    SUBPROTOCOL,
    Agreement,
    ClientHandshake,
    Head,
    HTTPAnswer,
    ServerHandshake,
)
from hakuban_ws._urls import parse_url
from support.websocket import UPGRADE

NOW = 1_700_000_000_123_456_789


def client(url: str = "ws://router:3001/live?x=1", **options: object) -> ClientHandshake:
    return ClientHandshake(parse_url(url, listening=False), TransportOptions(**options))  # type: ignore[arg-type]  # named by the tests


def agree(
    connecting: ClientHandshake, *, compression: bool = False
) -> tuple[Agreement, Agreement, ServerHandshake]:
    listening = ServerHandshake(connecting.request)
    accepted, response = listening.accept(NOW, compression=compression)
    return connecting.finish(response, b""), accepted, listening


def test_the_request_says_what_the_url_and_the_options_say() -> None:
    _, _, listening = agree(
        client(headers={"Authorization": "Bearer żółw".encode().decode("latin-1")})
    )
    assert listening.path == "/live?x=1"
    assert listening.headers["host"] == "router:3001"
    assert listening.headers["authorization"].encode("latin-1").decode() == "Bearer żółw"


@pytest.mark.parametrize(
    ("url", "target"), [("ws://r", "/"), ("ws://r/", "/"), ("ws://r?a", "/?a"), ("ws://r/a", "/a")]
)
def test_the_target_begins_with_a_slash(url: str, target: str) -> None:
    assert ServerHandshake(client(url).request).path == target


def test_two_of_ours_know_each_other_and_the_clock_is_told() -> None:
    connected, accepted, _ = agree(client())
    assert connected.ours
    assert accepted.ours
    assert connected.peer_clock == NOW
    assert accepted.peer_clock is None
    assert connected.deflate is None


def test_a_client_without_the_sub_protocol_is_welcome_and_no_sub_protocol_is_named() -> None:
    listening = ServerHandshake(UPGRADE + b"\r\n")
    accepted, response = listening.accept(NOW, compression=False)
    assert not accepted.ours
    assert response.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-protocol" not in response.lower()


def test_a_client_that_offers_others_too_gets_ours() -> None:
    offer = b"Sec-WebSocket-Protocol: mqtt, hakuban.0.8\r\n"
    accepted, response = ServerHandshake(UPGRADE + offer + b"\r\n").accept(NOW, compression=False)
    assert accepted.ours
    assert b"Sec-WebSocket-Protocol: hakuban.0.8\r\n" in response


def test_a_listener_without_the_sub_protocol_is_fine() -> None:
    connecting = client()
    plain = connecting.request.replace(SUBPROTOCOL.encode(), b"other")
    _, response = ServerHandshake(plain).accept(NOW, compression=False)
    response = response.replace(b"Hakuban-Time", b"X-Time")
    agreement = connecting.finish(response, b"")
    assert not agreement.ours
    assert agreement.peer_clock is None


@pytest.mark.parametrize("value", [b"-1", b"1e9", b"", b"12345678901234567890", b"now"])
def test_a_clock_that_is_none_is_ignored(value: bytes) -> None:
    connecting = client()
    _, response = ServerHandshake(connecting.request).accept(NOW, compression=False)
    response = response.replace(str(NOW).encode(), value)
    assert connecting.finish(response, b"").peer_clock is None


@pytest.mark.parametrize(
    ("offered", "wanted", "agreed"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_compression_needs_both_sides(*, offered: bool, wanted: bool, agreed: bool) -> None:
    connected, accepted, _ = agree(client(compression=offered), compression=wanted)
    assert (connected.deflate is not None) is agreed
    assert (accepted.deflate is not None) is agreed
    reader, writer = connected.codec(listening=False, max_message=1000)
    other_reader, other_writer = accepted.codec(listening=True, max_message=1000)
    for sender, receiver in ((writer, other_reader), (other_writer, reader)):
        data = b"".join(sender.units([b"x" * 900]))
        assert (len(data) < 100) is agreed
        receiver.feed(data)
        assert receiver.messages() == [b"x" * 900]


@pytest.mark.parametrize(
    "offer",
    [
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    ],
)
def test_the_parameters_that_other_clients_offer_are_understood(offer: bytes) -> None:
    head = UPGRADE + b"Sec-WebSocket-Extensions: " + offer + b"\r\n\r\n"
    accepted, response = ServerHandshake(head).accept(NOW, compression=True)
    assert b"permessage-deflate" in response
    assert accepted.deflate is not None
    reader, _ = accepted.codec(listening=True, max_message=1000)
    _, writer = accepted.codec(listening=False, max_message=1000)
    for _ in range(2):
        reader.feed(b"".join(writer.units([b"y" * 900])))
        assert reader.messages() == [b"y" * 900]


@pytest.mark.parametrize(
    "offer",
    [
        b"permessage-deflate; server_max_window_bits=x",
        b"permessage-deflate; server_max_window_bits=8",
        b"x-webkit-deflate-frame",
    ],
)
def test_extensions_that_cannot_be_are_declined(offer: bytes) -> None:
    head = UPGRADE + b"Sec-WebSocket-Extensions: " + offer + b"\r\n\r\n"
    accepted, response = ServerHandshake(head).accept(NOW, compression=True)
    assert accepted.deflate is None
    assert b"permessage-deflate" not in response
    assert response.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET /two words HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (UPGRADE.replace(b"websocket", b"h2c") + b"\r\n", 200),
        (UPGRADE.replace(b"websocket", b"h2c, websocket") + b"\r\n", 400),
        (UPGRADE.replace(b"Connection: Upgrade\r\n", b"") + b"\r\n", 400),
        (UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n", 426),
        (UPGRADE.replace(b"Host: here\r\n", b"") + b"\r\n", 400),
        (UPGRADE.replace(b"Host: here", b"Host: \xff..") + b"\r\n", 400),
        (UPGRADE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n", 400),
        (UPGRADE + b"no colon\r\n\r\n", 400),
        (UPGRADE + b"nul: \x00\r\n\r\n", 400),
    ],
)
def test_other_requests_get_an_http_answer(head: bytes, status: int) -> None:
    with pytest.raises(HTTPAnswer) as caught:
        ServerHandshake(head)
    assert caught.value.status == status
    response = caught.value.encode()
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in response
    body = response.partition(b"\r\n\r\n")[2]
    assert b"\r\nContent-Length: %d\r\n" % len(body) in response


def test_a_wrong_version_is_told_the_right_one_and_other_methods_the_one_served() -> None:
    with pytest.raises(HTTPAnswer) as caught:
        ServerHandshake(UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in caught.value.encode()
    with pytest.raises(HTTPAnswer) as caught:
        ServerHandshake(b"PUT / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in caught.value.encode()


@pytest.mark.parametrize(
    ("response", "reason", "retry"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP 403: sorry, no", False),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404: sorry, no", True),
        (b"HTTP/1.1 410 Gone\r\n\r\n", "HTTP 410: sorry, no", False),
        (b"HTTP/1.1 429 Too Many\r\n\r\n", "HTTP 429: sorry, no", True),
        (b"HTTP/1.1 301 Moved\r\nLocation: x\r\n\r\n", "HTTP 301", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", "HTTP 200", False),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "HTTP 500", True),
        (b"HTTP/1.1 503 Full\r\n\r\n", "HTTP 503", True),
        (b"HTTP/1.1 101 Yes\r\n\r\n", "no WebSocket there", False),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: A\r\n\r\n",
            "accept token",
            False,
        ),
        (b"HTTP/1.1 nonsense\r\n\r\n", "no WebSocket there", False),
        (b"HTTP/1.1 101 Yes\r\nbad header\r\n\r\n", "no WebSocket there", False),
    ],
)
def test_a_refusal_carries_status_and_reason_and_whether_to_try_again(
    response: bytes, reason: str, *, retry: bool
) -> None:
    with pytest.raises(RefusedError, match=reason) as caught:
        client().finish(response, b"sorry,\x07 no\x1b\nsecond line")
    assert caught.value.retry is retry
    assert caught.value.code == 1008
    assert "second" not in caught.value.reason
    assert caught.value.reason.isprintable()


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"x",
        b"dGhlIHNhbXBsZSBub25jZQ",  # without padding
        b"dGhlIHNhbXBsZSBub25j",  # 15 bytes
        b"dGhlIHNhbXBsZSBub25jZTE=",  # 17
        b"dGhlIHNhbXBsZSBub25jZ-==",  # of another alphabet
        b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        b"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"\xff" * 24,
    ],
)
def test_a_key_that_is_not_16_bytes_in_base64_is_a_bad_request(key: bytes) -> None:
    with pytest.raises(HTTPAnswer, match=r"400 .*Sec-WebSocket-Key"):
        ServerHandshake(UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", key) + b"\r\n")


@pytest.mark.parametrize("extension", [b"permessage-deflate", b"other"])
def test_a_listener_that_accepts_what_was_not_offered_is_refused(extension: bytes) -> None:
    connecting = client()
    _, response = ServerHandshake(connecting.request).accept(NOW, compression=False)
    response = response[:-2] + b"Sec-WebSocket-Extensions: " + extension + b"\r\n\r\n"
    with pytest.raises(RefusedError, match="extension"):
        connecting.finish(response, b"")


def test_a_listener_that_answers_an_offer_with_nonsense_is_refused() -> None:
    connecting = client(compression=True)
    _, response = ServerHandshake(connecting.request).accept(NOW, compression=False)
    nonsense = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=x\r\n\r\n"
    with pytest.raises(RefusedError):
        connecting.finish(response[:-2] + nonsense, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"Upgrade": "x"},
        {"Sec-WebSocket-Key": "x"},
        {"X-Upgrade": " x"},
        {"sec-websocket-protocol": "x"},
        {"": "x"},
        {"new\nline": "x"},
        {"name": "new\r\nline: x"},
        {"name": "€"},
    ],
)
def test_headers_that_cannot_be_sent_are_errors_of_the_caller(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        client(headers=headers)


def test_a_header_that_cannot_be_sent_is_named_without_its_value() -> None:
    with pytest.raises(ValueError, match="'Authorization'") as caught:
        client(headers={"Authorization": "secret\n"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_a_request_with_a_body_gets_an_answer(body: bytes) -> None:
    try:
        _, response = ServerHandshake(UPGRADE + body + b"\r\n\r\n").accept(NOW, compression=False)
    except HTTPAnswer as answer:
        response = answer.encode()
    assert response.startswith(b"HTTP/1.1 ")


def collect(data: bytes, pieces: int = 1) -> tuple[bytes | None, bytes]:
    head = Head(REQUEST)
    size = max(1, len(data) // pieces)
    found = None
    for start in range(0, len(data), size):
        found = head.feed(data[start : start + size])
        if found is not None:
            return found, head.rest + data[start + size :]
    return found, b""


@given(pieces=st.integers(1, 200))
def test_a_head_is_found_in_any_pieces_and_what_follows_is_kept(pieces: int) -> None:
    head = UPGRADE + b"\r\n"
    assert collect(head + b"first frame", pieces) == (head, b"first frame")


def test_a_head_of_more_than_32_kib_is_refused_and_one_of_32_kib_is_not() -> None:
    start, end = UPGRADE + b"X: ", b"\r\n\r\n"
    fits = start + b"x" * (MAX_HEAD - len(start) - len(end)) + end
    assert collect(fits)[0] == fits
    assert ServerHandshake(fits).path == "/path?a=1"
    for pieces in (1, 50):
        with pytest.raises(HTTPAnswer, match="431"):
            collect(start + b"x" + fits[len(start) :], pieces)
    with pytest.raises(HTTPAnswer, match="431"):
        collect(start + bytes(MAX_HEAD))


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_first_line_of_more_than_8_kib_is_refused(pieces: int) -> None:
    with pytest.raises(HTTPAnswer, match="431"):
        collect(b"GET /" + b"x" * 8200 + b" HTTP/1.1\r\nHost: h\r\n\r\n", pieces)
    assert collect(b"GET /" + b"x" * 8100 + b" HTTP/1.1\r\nHost: h\r\n\r\n", pieces)[0] is not None


def test_more_than_128_headers_are_refused_and_128_are_not() -> None:
    head = UPGRADE + b"".join(b"X-%d: x\r\n" % i for i in range(123))
    assert collect(head + b"\r\n")[0] is not None
    with pytest.raises(HTTPAnswer, match="431"):
        collect(head + b"One-More: x\r\n\r\n")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01", b"\x00", b"SSH-2.0-x\r\n", b"get / http\r\n", b"GET\t/", b"\r\n"],
)
def test_what_cannot_become_a_request_is_not_waited_for(garbage: bytes) -> None:
    with pytest.raises(HTTPAnswer, match="400"):
        Head(REQUEST).feed(garbage)


def test_what_cannot_become_a_response_is_not_waited_for() -> None:
    for garbage in (b"SSH-2.0-x\r\n", b"\x15\x03", b"HTTPS", b"HTTP/2 "):
        with pytest.raises(HTTPAnswer):
            Head(RESPONSE).feed(garbage)
    for start in (b"H", b"HTT", b"HTTP/1.1", b"HTTP/1.0 200 OK\r\nx"):
        assert Head(RESPONSE).feed(start) is None


@given(data=st.binary(max_size=400))
def test_any_head_gives_a_handshake_or_an_http_answer(data: bytes) -> None:
    for head in (data + b"\r\n\r\n", UPGRADE + data + b"\r\n\r\n"):
        try:
            whole = Head(REQUEST).feed(head)
            assert whole is not None
            _, response = ServerHandshake(whole).accept(NOW, compression=True)
        except HTTPAnswer as answer:
            response = answer.encode()
        assert response.startswith(b"HTTP/1.1 ")


@given(data=st.binary(max_size=400))
def test_any_response_gives_an_agreement_or_a_refusal(data: bytes) -> None:
    connecting = client(compression=True)
    _, response = ServerHandshake(connecting.request).accept(NOW, compression=True)
    for head in (b"HTTP/1.1 " + data + b"\r\n\r\n", response[:-2] + data + b"\r\n\r\n"):
        try:
            whole = Head(RESPONSE).feed(head)
            assert whole is not None
            client(compression=True).finish(whole, data)
            connecting.finish(whole, data)
        except (HTTPAnswer, RefusedError):
            pass
