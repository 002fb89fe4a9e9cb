"""How messages are cut and packed into frames: as few as may be, with nothing left to come, and nothing kept."""

from __future__ import annotations

import pytest

from hakuban_zmq._frames import CHUNK, HEADER, MAX_FRAME, Reassembly, chunks

TO = b"12345678"
LENGTH = 4
RECORD = CHUNK - LENGTH
"""Bytes of the largest message that fits into a frame."""


def come_back(messages: list[bytes]) -> list[int]:
    """Send messages and receive them; give the sizes of their frames."""
    frames = list(chunks(messages, TO))
    reassembly = Reassembly(max(map(len, messages)))
    assert [message for data in frames for message in reassembly.messages(data)] == messages
    assert not reassembly.unfinished
    return [len(data) for data in frames]


@pytest.mark.parametrize("first", [0, 1, 1_000, RECORD // 2])
def test_two_messages_that_fill_a_frame_are_in_one_and_a_byte_more_takes_another(
    first: int,
) -> None:
    rest = RECORD - LENGTH - first
    assert come_back([bytes(first), bytes(rest)]) == [MAX_FRAME]
    assert come_back([bytes(first), bytes(rest + 1)]) == [
        HEADER + LENGTH + first,
        HEADER + LENGTH + rest + 1,
    ]


def test_a_frame_that_is_full_takes_no_message_not_even_an_empty_one() -> None:
    empty = HEADER + LENGTH
    assert come_back([bytes(RECORD), b""]) == [MAX_FRAME, empty]
    assert come_back([b"", bytes(RECORD)]) == [empty, MAX_FRAME]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_message_that_fills_its_frames_is_whole_with_the_last_one(frames: int) -> None:
    assert come_back([bytes(frames * RECORD)]) == [MAX_FRAME] * frames
    assert come_back([bytes(frames * RECORD + 1)]) == [
        *[MAX_FRAME] * frames,
        HEADER + LENGTH + 1,
    ]
    assert come_back([bytes(frames * RECORD - 1)]) == [
        *[MAX_FRAME] * (frames - 1),
        MAX_FRAME - 1,
    ]


def test_what_has_come_of_a_message_is_kept_until_it_is_forgotten() -> None:
    reassembly = Reassembly(3 * CHUNK)
    begin, *_ = chunks([bytes(2 * CHUNK)], TO)
    assert not list(reassembly.messages(begin))
    assert reassembly.unfinished == RECORD
    reassembly.clear()
    assert not reassembly.unfinished
    (another,) = chunks([b"another"], TO)
    assert list(reassembly.messages(another)) == [b"another"]
