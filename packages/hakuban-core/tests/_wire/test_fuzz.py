"""No bytes from a peer do anything but give events or end the link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from hakuban._exceptions import LinkError
from hakuban._session_events import ChannelKind, OpenChannel, Verb
from hakuban._wire import encoding
from hakuban._wire.tags import ChannelTag, MessageTag, Side, StateTag
from hakuban._wire.varint import unsigned
from support.wire import THING, linked

if TYPE_CHECKING:
    from hakuban._wire import Session


def sessions() -> tuple[Session, Session]:
    """Linked sessions with a data channel each way: 2 is a sink, 3 a stream."""
    listening, connecting = linked()
    for channel, kind in ((2, ChannelKind.SINK), (3, ChannelKind.STREAM)):
        for message in listening.encode(OpenChannel(channel, kind, THING)):
            assert list(connecting.receive(message)) is not None
    return listening, connecting


def survives(session: Session, messages: list[bytes]) -> None:
    """Read messages; whatever ends the link is a LinkError, and nothing is read after it."""
    for i, message in enumerate(messages):
        try:
            for _ in session.receive(message):
                pass
        except LinkError:
            assert all(list(session.receive(later)) == [] for later in messages[i:])
            return


texts = st.sampled_from(["1", '"t"', "[1,2]", "", "{", '{"a":1}']) | st.text(max_size=5)
numbers = st.integers(0, 300) | st.integers(0, 2**64 - 1)
verbs = st.sampled_from(Verb)
floats = st.floats(width=32)

bodies = st.builds(
    encoding.patch_body,
    st.lists(st.integers(-9, 9), max_size=3).map(tuple),
    st.none() | st.lists(st.text(max_size=3), max_size=2).map(tuple),
    st.binary(max_size=8) | st.just(b"abc"),
)

actions = st.one_of(
    st.binary(max_size=12),
    st.builds(encoding.set_name, st.text(max_size=5)),
    st.builds(encoding.set_load_limit, st.lists(st.tuples(floats, st.integers(0, 9)), max_size=3)),
    st.builds(
        encoding.object_contract, verbs, st.lists(texts, max_size=2), texts, st.integers(0, 9)
    ),
    st.builds(encoding.tag_contract, verbs, texts, st.none() | st.integers(0, 9)),
    st.builds(
        encoding.initialize_data, st.sampled_from(ChannelTag), st.lists(texts, max_size=2), texts
    ),
    st.builds(encoding.initialize_control, st.sampled_from(ChannelTag)),
    st.builds(lambda age: bytes((StateTag.SET_SYNCHRONIZED,)) + unsigned(age), numbers),
    st.builds(
        lambda body, age: bytes((StateTag.PATCH,)) + body + unsigned(age),
        bodies,
        numbers,
    ),
)
sides = st.sampled_from(Side)
channels = st.integers(1, 5)
whole = st.one_of(
    st.builds(encoding.open_channel, sides, channels),
    st.builds(encoding.close_channel, sides, channels),
    st.builds(
        encoding.message,
        sides,
        channels,
        st.sampled_from(MessageTag),
        st.lists(actions, max_size=3),
    ),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message with a byte exchanged, or an end cut off."""
    message = bytearray(draw(whole))
    at = draw(st.integers(0, len(message) - 1))
    if draw(st.booleans()):
        return bytes(message[:at])
    message[at] = draw(st.integers(0, 255))
    return bytes(message)


@given(st.booleans(), st.lists(st.binary(max_size=30), max_size=4))
def test_any_bytes_give_events_or_end_the_link(at_listener: bool, messages: list[bytes]) -> None:
    listening, connecting = sessions()
    survives(listening if at_listener else connecting, messages)


@given(st.booleans(), st.lists(whole | damaged(), min_size=1, max_size=8))
def test_almost_right_messages_give_events_or_end_the_link(
    at_listener: bool, messages: list[bytes]
) -> None:
    listening, connecting = sessions()
    survives(listening if at_listener else connecting, messages)
