"""ZMTP in bytes, and CurveZMQ's listening side: whatever a stranger sends is understood, or a violation."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_box_keypair

from hakuban.transport import PeerViolationError
from hakuban_zmq._codec import Codec
from hakuban_zmq._curve_server import CurveHandshake, CurveServer
from hakuban_zmq._zmtp import (
    COMMAND,
    CURVE,
    GREETING,
    MORE,
    NULL,
    Frame,
    FrameReader,
    check_greeting,
    check_metadata,
    command,
    encode,
    encode_metadata,
    expect_command,
    greeting,
    read_command,
    read_metadata,
)

MOST = 70_000


@given(st.lists(st.tuples(st.sampled_from([0, MORE, COMMAND]), st.binary(max_size=600))), st.data())
def test_frames_are_read_as_they_were_written_however_they_come(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(encode(body, flags) for flags, body in frames)
    reader, read = FrameReader(MOST), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:size])
        stream = stream[size:]
        while (frame := reader.take()) is not None:
            read.append(tuple(frame))
    assert read == frames


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_545])
def test_a_body_of_any_size_comes_back(size: int) -> None:
    reader = FrameReader(MOST)
    reader.feed(encode(bytes(size)))
    assert reader.take() == Frame(0, bytes(size))
    assert reader.take() is None


@pytest.mark.parametrize(
    "data",
    [b"\x08\x00", b"\x80\x01a", b"\x02" + (MOST + 1).to_bytes(8, "big"), b"\x02" + b"\xff" * 8],
)
def test_a_frame_that_is_none_or_too_large_is_a_violation_before_it_has_come(data: bytes) -> None:
    reader = FrameReader(MOST)
    reader.feed(data)
    with pytest.raises(PeerViolationError):
        reader.take()


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_a_violation(data: bytes) -> None:
    codec = Codec()
    codec.begin(None)
    codec.feed(data)
    try:
        while codec.take() is not None:
            pass
    except PeerViolationError:
        pass


@given(st.binary(max_size=80))
def test_any_greeting_is_waited_for_understood_or_a_violation(data: bytes) -> None:
    try:
        assert check_greeting(data, NULL) in (True, False)
    except PeerViolationError:
        assert data


@pytest.mark.parametrize("mechanism", [NULL, CURVE])
def test_a_greeting_is_understood_by_who_speaks_the_same(mechanism: bytes) -> None:
    said = greeting(mechanism)
    assert len(said) == GREETING
    assert [check_greeting(said[:size], mechanism) for size in range(65)] == [*[False] * 64, True]


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"\xff" + bytes(8) + b"\x7e",  # not even the signature
        b"\xff" + bytes(8) + b"\x7f\x01",  # ZMTP 2
        greeting(CURVE),
        greeting(b"PLAIN"),
    ],
)
def test_who_speaks_something_else_is_told_apart_at_once(said: bytes) -> None:
    with pytest.raises(PeerViolationError):
        check_greeting(said, NULL)


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=20).map(bytes.lower), st.binary(max_size=300), max_size=5
    )
)
def test_metadata_is_read_as_it_was_written(properties: dict[bytes, bytes]) -> None:
    assert read_metadata(encode_metadata(properties.items())) == properties


@given(st.binary(max_size=60))
def test_any_bytes_are_metadata_or_a_violation(data: bytes) -> None:
    try:
        read = read_metadata(data)
    except PeerViolationError:
        return
    assert bool(read) == bool(data)


@pytest.mark.parametrize("kind", [b"SUB", b"REQ", b"dealer", b""])
def test_a_socket_of_another_type_is_a_violation(kind: bytes) -> None:
    with pytest.raises(PeerViolationError):
        check_metadata(encode_metadata([(b"Socket-Type", kind)]))


@pytest.mark.parametrize("body", [b"", b"\0", b"\0a", b"\x05READ"])
def test_a_command_without_a_name_is_a_violation(body: bytes) -> None:
    with pytest.raises(PeerViolationError):
        read_command(body)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, command(b"READY", b"")),
        Frame(COMMAND | MORE, command(b"READY", b"")),
        Frame(COMMAND, command(b"HELLO", b"")),
        Frame(COMMAND, command(b"ERROR", b"\x03400")),
        Frame(COMMAND, command(b"ERROR", b"")),
    ],
)
def test_another_command_than_the_one_that_was_to_come_is_a_violation(frame: Frame) -> None:
    with pytest.raises(PeerViolationError):
        expect_command(frame, b"READY")


def test_a_ping_is_answered_with_what_came_with_it() -> None:
    codec = Codec()
    codec.begin(None)
    codec.feed(encode(command(b"PING", b"\0\x0acontext"), COMMAND))
    assert codec.take() == b""
    assert codec.pong == command(b"PONG", b"context")


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0" + bytes(17)])
def test_a_malformed_ping_is_a_violation(data: bytes) -> None:
    codec = Codec()
    codec.begin(None)
    codec.feed(encode(command(b"PING", data), COMMAND))
    with pytest.raises(PeerViolationError):
        codec.take()


def test_other_commands_say_nothing() -> None:
    codec = Codec()
    codec.begin(None)
    codec.feed(encode(command(b"SUBSCRIBE", b"all"), COMMAND))
    assert codec.take() == b""
    assert codec.pong is None


# ---- CURVE ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> CurveServer:
    return CurveServer(crypto_box_keypair()[1])


@given(st.binary(max_size=250))
def test_any_bytes_for_a_hello_are_a_violation(data: bytes) -> None:
    handshake = CurveHandshake(CurveServer(bytes(31) + b"\1"))
    with pytest.raises(PeerViolationError):
        handshake.welcome(data)


@pytest.mark.parametrize("length", [193, 194, 195])
def test_a_hello_with_a_key_that_is_none_is_a_violation(server: CurveServer, length: int) -> None:
    with pytest.raises(PeerViolationError):
        CurveHandshake(server).welcome((b"\x01\0" + bytes(250))[:length])


def test_an_initiate_without_a_hello_is_a_violation(server: CurveServer) -> None:
    with pytest.raises(PeerViolationError):
        CurveHandshake(server).identify(os.urandom(400))
