"""ZMTP as RFC 37 has it, byte by byte: what our listener sends, and the edges of what it takes."""

from __future__ import annotations

import tracemalloc

import pytest

from hakuban.transport import PeerViolationError
from hakuban_zmq._zmtp import (
    COMMAND,
    CURVE,
    MORE,
    NULL,
    FrameReader,
    check_metadata,
    command,
    encode,
    encode_metadata,
    greeting,
    pong,
    read_metadata,
)


@pytest.mark.parametrize(
    ("mechanism", "as_server"), [(NULL, b"\0"), (CURVE, b"\1"), (b"PLAIN", b"\0")]
)
def test_a_greeting_says_who_is_the_server_where_the_mechanism_has_one(
    mechanism: bytes, as_server: bytes
) -> None:
    signature, version = b"\xff" + bytes(8) + b"\x7f", b"\3\1"
    name = mechanism + bytes(20 - len(mechanism))
    assert greeting(mechanism) == signature + version + name + as_server + bytes(31)


@pytest.mark.parametrize("flags", [0, MORE, COMMAND])
def test_a_body_of_up_to_255_bytes_has_its_size_in_one_byte_and_a_larger_one_in_eight(
    flags: int,
) -> None:
    assert encode(b"", flags) == bytes([flags, 0])
    assert encode(bytes(255), flags) == bytes([flags, 255]) + bytes(255)
    assert encode(bytes(256), flags) == bytes([flags | 2, 0, 0, 0, 0, 0, 0, 1, 0]) + bytes(256)


@pytest.mark.parametrize("size", [0, 1, 16])
def test_up_to_16_bytes_of_a_ping_come_back(size: int) -> None:
    context = b"c" * size
    assert pong(b"\0\x0a" + context) == command(b"PONG", context)


def test_a_reader_that_always_has_a_part_of_the_next_frame_keeps_nothing_of_those_before() -> None:
    data = encode(bytes(60_000))
    reader = FrameReader(60_000)
    reader.feed(data[:10])
    tracemalloc.start()
    try:
        for _ in range(100):
            reader.feed(data[10:] + data[:10])
            assert reader.take() is not None
            assert reader.take() is None
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * len(data)


METADATA = encode_metadata([(b"Socket-Type", b"DEALER"), (b"Identity", b"me")])


@pytest.mark.parametrize("size", sorted(set(range(1, len(METADATA))) - {22}))
def test_metadata_that_is_cut_off_anywhere_in_a_property_is_malformed(size: int) -> None:
    with pytest.raises(PeerViolationError, match="malformed metadata"):
        read_metadata(METADATA[:size])


def test_metadata_without_a_name_is_malformed() -> None:
    with pytest.raises(PeerViolationError, match="malformed metadata"):
        read_metadata(encode_metadata([(b"", b"x")]))


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ([(b"Socket-Type", b"SUB")], "its socket is SUB"),
        ([(b"Socket-Type", b"X" * 30)], f"its socket is {'X' * 20}"),
        ([(b"Socket-Type", b"")], "its socket is of no type"),
        ([(b"Identity", b"me")], "its socket is of no type"),
    ],
)
def test_which_socket_cannot_connect_here_is_told(
    properties: list[tuple[bytes, bytes]], told: str
) -> None:
    with pytest.raises(PeerViolationError) as caught:
        check_metadata(encode_metadata(properties))
    assert caught.value.reason == f"a DEALER may connect here, and {told}"
