from __future__ import annotations

import os
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban.transport import PeerViolationError
from hakuban_ws._deflate import Deflater, Inflater

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 100_000


@given(
    messages=st.lists(st.binary(max_size=2000), max_size=8),
    bits=st.integers(9, 15),
    reset=st.booleans(),
)
def test_messages_come_back_with_any_agreed_parameters(
    messages: list[bytes], bits: int, *, reset: bool
) -> None:
    deflater, inflater = Deflater(bits, reset=reset), Inflater(reset=reset, max_message=LIMIT)
    assert [inflater.inflate(deflater.compress(message)) for message in messages] == messages


@pytest.mark.parametrize("excess", [-1, 0, 1, 2])
@pytest.mark.parametrize("content", [bytes, os.urandom], ids=["zeros", "random"])
def test_the_limit_holds_to_the_byte(excess: int, content: Callable[[int], bytes]) -> None:
    message = content(LIMIT + excess)
    data = Deflater(15, reset=False).compress(message)
    inflater = Inflater(reset=False, max_message=LIMIT)
    if excess <= 0:
        assert inflater.inflate(data) == message
    else:
        with pytest.raises(PeerViolationError, match="over 100000 bytes") as caught:
            inflater.inflate(data)
        assert caught.value.code == 1009


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = Deflater(15, reset=False).compress(bytes(100_000_000))
    assert len(bomb) < 500_000
    tracemalloc.start()
    try:
        with pytest.raises(PeerViolationError):
            Inflater(reset=False, max_message=LIMIT).inflate(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * LIMIT + 2 * len(bomb)


@pytest.mark.parametrize("data", [b"\xff", b"\x07garbage", b"\x00\x01"])
def test_what_does_not_decompress_is_a_violation(data: bytes) -> None:
    with pytest.raises(PeerViolationError) as caught:
        Inflater(reset=False, max_message=LIMIT).inflate(data)
    assert caught.value.code == 1007


def test_a_sender_may_end_its_stream_with_a_message_and_begin_another() -> None:
    inflater = Inflater(reset=False, max_message=LIMIT)
    for message in (b"one " * 20, b"two " * 20):
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = compressor.compress(message) + compressor.flush(zlib.Z_FINISH) + b"\x00"
        assert inflater.inflate(data) == message


def test_bytes_behind_the_last_block_are_a_violation() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(b"x") + compressor.flush(zlib.Z_FINISH)
    with pytest.raises(PeerViolationError, match="after its last"):
        Inflater(reset=False, max_message=LIMIT).inflate(data + data)
