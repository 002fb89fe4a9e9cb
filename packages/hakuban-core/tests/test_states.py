"""States as observers hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from hakuban import RAW, DeserializationError, ObjectDescriptor
from hakuban._api.codecs import JSON
from hakuban._api.decoding import Decoder
from hakuban._contents import Content
from hakuban._states import ObjectState

if TYPE_CHECKING:
    from hakuban._contents import Format

T = TypeVar("T")


def state(data: bytes = b"1", age: float | None = None, *version: int) -> ObjectState[int]:
    return ObjectState.received(
        Content(data, ("JSON",), version or (1, 2)), age, Decoder(JSON, int)
    )


def test_a_state_tells_what_was_published() -> None:
    known = state(b"42")
    assert known.data == 42
    assert known.raw == b"42"
    assert known.format == ("JSON",)
    assert known.version == (1, 2)
    assert known.synchronized
    assert known.age == 0.0


def test_a_stale_state_tells_its_age() -> None:
    assert not state(age=1.5).synchronized
    assert state(age=1.5).age == 1.5
    assert not state(age=0.0).synchronized


def test_data_are_decoded_once_and_only_when_they_are_looked_at() -> None:
    class Counting:
        decoded = 0

        def serialize(self, value: Any, /) -> tuple[Format, bytes]:
            return (), value

        def deserialize(self, format: Format, data: bytes, type: type[T], /) -> T:
            self.decoded += 1
            return RAW.deserialize(format, data, type)

    counting = Counting()
    known = ObjectState[bytes].received(Content(b"x", (), (1,)), None, Decoder(counting, bytes))
    assert counting.decoded == 0
    assert known.data is known.data
    assert counting.decoded == 1


def test_a_state_that_does_not_decode_says_so_at_each_look() -> None:
    broken = state(b"no number")
    for _ in range(2):
        with pytest.raises(DeserializationError, match="cannot decode"):
            _ = broken.data
    assert broken.raw == b"no number"


def test_states_are_equal_when_what_they_say_is() -> None:
    assert state() == state()
    assert hash(state()) == hash(state())
    assert state(age=1.0) == state(age=2.0)
    assert state() != state(age=1.0)
    assert state() != state(b"2")
    assert state() != state(b"1", None, 9)
    assert state() != ObjectState.received(
        Content(b"1", (), (1, 2)), None, Decoder[bytes](RAW, bytes)
    )
    assert state() != "a state"


def test_a_printed_state_shows_object_value_and_age() -> None:
    weather = ObjectDescriptor(["weather"], {"city": "Poznań"})
    content = Content(b'{"celsius":20}', ("JSON",), (1,))
    fresh = ObjectState[object].received(content, None, Decoder(JSON, dict), weather)
    assert str(fresh) == """["weather"]:{"city":"Poznań"} = {'celsius': 20}"""
    stale = ObjectState[object].received(content, 1.5, Decoder(JSON, dict), weather)
    assert str(stale).endswith("= {'celsius': 20}, stale for 1.5 s")
    assert str(state(b'"%s"' % (b"x" * 1_000))) == "= <1002 bytes, DeserializationError>"
    long = ObjectState[str].received(Content(b"x" * 1_000, (), (1,)), None, Decoder(RAW, bytes))
    assert len(str(long)) < 250


def test_a_printed_state_does_not_talk_to_the_terminal() -> None:
    content = Content('"\u009b2J\u202e"'.encode(), ("JSON",), (1,))
    shown = str(
        ObjectState[str].received(content, None, Decoder(JSON, str), ObjectDescriptor([], "\x9b2J"))
    )
    assert shown.isprintable()


def test_states_and_contents_are_shown_without_their_data() -> None:
    assert repr(state(b"12345")) == (
        "<ObjectState 5 bytes, format ['JSON'], version [1, 2], synchronized>"
    )
    assert repr(state(age=1.5)).endswith("1.5 s old>")
    assert repr(Content(b"12345", ("JSON",), (1,))) == "Content(5 bytes, ['JSON'], [1])"


def test_contents_are_compared_by_identity() -> None:
    first, second = (Content(b"1", (), (1,)) for _ in range(2))
    assert first != second
    assert first == first  # noqa: PLR0124 -- that is the question
