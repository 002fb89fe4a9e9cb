"""Frames: what goes in comes out, and whatever else comes in is a PeerViolationError or a message."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban.transport import PeerViolationError, printable
from hakuban_zmq._frames import (
    CHUNK,
    DATA,
    HEADER,
    MAX_FRAME,
    MAX_REASON,
    SESSION,
    Hello,
    Reassembly,
    Refusal,
    Welcome,
    Window,
    chunks,
    encode_bye,
    encode_grant,
    frame,
    read_answer,
    read_bye,
    read_grant,
    read_hello,
)

TO = b"12345678"
sessions = st.binary(min_size=SESSION, max_size=SESSION)
words = st.integers(0, 2**32 - 1)
windows = st.builds(Window, words, words)
sizes = st.one_of(
    st.integers(0, 20), st.integers(CHUNK - 20, CHUNK + 20), st.integers(0, 3 * CHUNK)
)


@given(st.lists(sizes, max_size=20))
def test_messages_come_out_as_they_went_in(lengths: list[int]) -> None:
    messages = [bytes([number]) * length for number, length in enumerate(lengths)]
    frames = list(chunks(messages, TO))
    assert all(HEADER < len(data) <= MAX_FRAME for data in frames)
    assert all(data[:HEADER] == frame(DATA, TO) for data in frames)
    assert len(frames) <= 2 * sum(lengths) // CHUNK + len(lengths) // (CHUNK // 4) + len(lengths)
    reassembly = Reassembly(max(lengths, default=0))
    assert [message for data in frames for message in reassembly.messages(data)] == messages


@given(st.integers(1, 3 * CHUNK))
def test_a_message_one_byte_over_the_limit_is_a_violation(length: int) -> None:
    reassembly = Reassembly(length - 1)
    frames = chunks([bytes(length)], TO)
    with pytest.raises(PeerViolationError) as caught:
        list(chain.from_iterable(map(reassembly.messages, frames)))
    assert caught.value.code == 1009


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_chunk_does_more_than_be_a_violation(bodies: list[bytes]) -> None:
    reassembly = Reassembly(100)
    try:
        for body in bodies:
            assert all(len(one) <= 100 for one in reassembly.messages(frame(DATA, TO, body)))
    except PeerViolationError:
        pass


@given(sessions, st.integers(0, 255), windows)
def test_a_hello_can_be_read_also_with_more_behind_it(
    session: bytes, version: int, window: Window
) -> None:
    hello = Hello(session, version, window)
    assert read_hello(hello.encode()) == read_hello(hello.encode() + b"more") == hello


@given(sessions, st.integers(0, 255), sessions, st.integers(-(2**63), 2**63 - 1), windows)
def test_a_welcome_can_be_read(
    to: bytes, version: int, session: bytes, clock: int, window: Window
) -> None:
    welcome = Welcome(version, session, clock, window)
    assert read_answer(welcome.encode(to), to) == welcome
    assert read_answer(welcome.encode(to), b"somebody") is None


def shown(reason: str) -> str:
    """Cut a reason, and leave no control character in it."""
    return printable(reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore"))


@given(reason=st.text(), retry=st.booleans(), code=st.integers(0, 65_535))
def test_a_refusal_can_be_read(reason: str, *, retry: bool, code: int) -> None:
    answer = read_answer(Refusal(reason, retry, code).encode(TO), TO)
    assert isinstance(answer, Refusal)
    assert (answer.retry, answer.code) == (retry, code)
    assert answer.reason == shown(reason)


@given(st.text(), st.integers(0, 65_535))
def test_a_goodbye_can_be_read(reason: str, code: int) -> None:
    got = read_bye(encode_bye(TO, code, reason))
    assert got == (code, shown(reason))


@given(windows)
def test_a_grant_can_be_read(window: Window) -> None:
    assert read_grant(encode_grant(TO, window)) == window


@given(st.binary(max_size=60))
def test_whatever_is_read_is_read_or_a_violation(data: bytes) -> None:
    for read in (read_hello, read_grant, read_bye):
        try:
            read(data)
        except PeerViolationError:
            pass
    try:
        read_answer(data, data[1:HEADER])
    except PeerViolationError:
        pass
