"""States on data channels: what is sent, what is shared between links, what is remembered."""

from __future__ import annotations

import gc
from random import Random
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._contents import Content
from hakuban._diff import diff
from hakuban._exceptions import DiffError, PeerViolationError
from hakuban._limits import Limits
from hakuban._session_events import (
    ChannelKind,
    CloseChannel,
    ItemIgnored,
    OpenChannel,
    SendState,
    SendSynchronized,
    StateReceived,
    SynchronizedReceived,
)
from hakuban._wire import Session, encoding
from hakuban._wire.tags import MessageTag, Side, StateTag
from support.wire import THING, deliver, linked, with_channel

JSON = ("JSON",)


def content(data: bytes, *version: int, format: tuple[str, ...] = JSON) -> Content:
    return Content(data, format, version)


def send(session: Session, state: Content, age: int = 0, channel: int = 2) -> bytes:
    (message,) = session.encode(SendState(channel, state, age))
    return message


def patch(body: bytes, age: int = 0, channel: int = 2) -> bytes:
    """A message of one patch."""
    action = bytes((StateTag.PATCH,)) + body + encoding.age(age)
    return encoding.message(Side.UPSTREAM, channel, MessageTag.STATE_STREAM, [action])


def received(message: bytes, session: Session) -> Content:
    (event,) = session.receive(message)
    assert isinstance(event, StateReceived)
    return event.content


def values(state: Content) -> tuple[bytes, tuple[str, ...], tuple[int, ...]]:
    return state.data, state.format, state.version


# ---- one link -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ChannelKind)
def test_states_and_ages_flow_on_either_kind_of_channel(kind: ChannelKind) -> None:
    sender, receiver = with_channel(kind)
    first, second = content(b"abc", 1), content(b"abcd", 2)
    for state, age in ((first, 0), (second, 5)):
        (event,) = deliver([send(sender, state, age)], receiver)
        assert isinstance(event, StateReceived)
        assert (event.channel, event.age) == (2, age)
        assert values(event.content) == values(state)
    (message,) = sender.encode(SendSynchronized(2, 1_500_063))
    assert message.hex() == "010002030101fc9fe31600"
    assert deliver([message], receiver) == [SynchronizedReceived(2, 1_500_063)]


@pytest.mark.parametrize("channel", [2, 0xFA, 0xFB, 0xFFFF, 1 << 16, 0xFFFFFFFF, 1 << 32])
def test_states_flow_on_channels_of_any_number(channel: int) -> None:
    sender, receiver = with_channel(ChannelKind.STREAM, channel)
    for state in (content(b"abc", 1), content(b"abcd", 2), content(bytes(10_000), 3)):
        (message,) = sender.encode(SendState(channel, state, 0))
        (event,) = deliver([message], receiver)
        assert isinstance(event, StateReceived)
        assert event.channel == channel
        assert values(event.content) == values(state)


def test_the_first_state_of_a_channel_is_whole() -> None:
    sender, _ = with_channel(ChannelKind.STREAM)
    state = content(b'{"x":1}', 1)
    assert send(sender, state).startswith(bytes.fromhex("010002030100 0102 0101 044a534f4e"))


def test_a_format_is_left_out_while_it_stays_the_same() -> None:
    sender, receiver = with_channel(ChannelKind.STREAM)
    states = [
        content(b"a", 1),
        content(b"b", 2),
        content(b"c", 3, format=("JSON", "zstd")),
        content(b"d", 4, format=("JSON", "zstd")),
        content(b"e", 5, format=()),
    ]
    messages = [send(sender, state) for state in states]
    options = [message[8] for message in messages]
    assert options == [1, 0, 1, 0, 1]
    assert [values(received(message, receiver)) for message in messages] == list(
        map(values, states)
    )


def test_a_state_follows_one_that_nobody_holds_any_more() -> None:
    sender, receiver = with_channel(ChannelKind.STREAM)
    first = content(b"x" * 500, 1)
    deliver([send(sender, first)], receiver)
    del first
    gc.collect()
    second = content(b"y" + b"x" * 499, 2)
    message = send(sender, second)
    assert list(second.encodings) == [None]
    assert message[8] == 1  # the format is said again
    assert values(received(message, receiver)) == values(second)


def test_what_was_sent_is_remembered_weakly_and_what_was_received_is_kept() -> None:
    sender, receiver = with_channel(ChannelKind.STREAM)
    sent = content(b"data", 1)
    got = received(send(sender, sent), receiver)
    weak_sent, weak_got = ref(sent), ref(got)
    del sent, got
    gc.collect()
    assert weak_sent() is None
    assert weak_got() is not None


def test_a_new_channel_begins_from_nothing() -> None:
    sender, receiver = with_channel(ChannelKind.STREAM)
    state = content(b"data", 1)
    deliver([send(sender, state)], receiver)
    deliver(sender.encode(OpenChannel(3, ChannelKind.STREAM, THING)), receiver)
    assert values(received(send(sender, state, channel=3), receiver)) == values(state)


def test_extreme_states_and_ages_arrive() -> None:
    sender, receiver = with_channel(ChannelKind.STREAM)
    for state in (
        content(b"", format=()),
        content(b"\xff" * 300, -(2**63), 2**63 - 1),
        content(bytes(range(256)), *range(1000), format=("ż",) * 64),
    ):
        assert values(received(send(sender, state), receiver)) == values(state)
    for age, arrives in ((0, 0), (2**64 - 1, 2**64 - 1), (2**64, 2**64 - 1)):
        assert deliver(sender.encode(SendSynchronized(2, age)), receiver) == [
            SynchronizedReceived(2, arrives)
        ]


def test_one_message_may_hold_many_states() -> None:
    _, receiver = with_channel(ChannelKind.STREAM)
    actions = [
        b"\0" + encoding.patch_body((1,), JSON, b"a") + b"\0",
        b"\1\7",
        b"\0" + encoding.patch_body((2,), None, b"b") + b"\5",
    ]
    message = encoding.message(Side.UPSTREAM, 2, MessageTag.STATE_STREAM, actions)
    one, age, two = deliver([message], receiver)
    assert isinstance(one, StateReceived)
    assert isinstance(two, StateReceived)
    assert age == SynchronizedReceived(2, 7)
    assert (values(one.content), values(two.content)) == ((b"a", JSON, (1,)), (b"b", JSON, (2,)))


def test_a_first_patch_without_format_is_a_violation() -> None:
    _, receiver = with_channel(ChannelKind.STREAM)
    with pytest.raises(PeerViolationError, match="has no format"):
        deliver([patch(encoding.patch_body((1,), None, b"a"))], receiver)


def test_a_patch_to_more_than_the_limit_ends_the_link() -> None:
    limits = Limits(max_object=300)
    _, receiver = with_channel(ChannelKind.STREAM, limits=limits)
    assert len(received(patch(encoding.patch_body((1,), JSON, b"a" * 300)), receiver).data) == 300
    with pytest.raises(DiffError):
        deliver([patch(encoding.patch_body((2,), None, b"a" * 301))], receiver)
    assert deliver([patch(encoding.patch_body((3,), JSON, b"a"))], receiver) == []


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=40),
            st.lists(st.text(max_size=3), max_size=2).map(tuple),
            st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(tuple),
            st.integers(0, 2**64 - 1),
            st.booleans(),
        )
    )
)
def test_whatever_is_sent_arrives_whether_the_sender_holds_on_to_it_or_not(
    steps: list[tuple[bytes, tuple[str, ...], tuple[int, ...], int, bool]],
) -> None:
    sender, receiver = with_channel(ChannelKind.SINK)
    held = []
    for data, format, version, age, hold in steps:
        state = Content(data, format, version)
        (event,) = deliver([send(sender, state, age)], receiver)
        assert isinstance(event, StateReceived)
        assert values(event.content) == (data, format, version)
        assert event.age == age
        if hold:
            held.append(state)


# ---- many links -----------------------------------------------------------------------------------------------------


def test_a_patch_is_made_once_for_all_links_that_have_the_same_base() -> None:
    links = [with_channel(ChannelKind.STREAM, channel=2 + 300 * i) for i in range(3)]
    states = [content(b"x" * 100, 1), content(b"x" * 99 + b"y", 2)]
    for state in states:
        for i, (sender, receiver) in enumerate(links):
            message = send(sender, state, age=i, channel=2 + 300 * i)
            assert values(received(message, receiver)) == values(state)
    assert list(states[0].encodings) == [None]
    assert list(states[1].encodings) == [ref(states[0])]


def relay() -> tuple[Session, Session, Session]:
    """The sessions of a router towards an exposer and two observers, each with its channel 2."""
    _, from_exposer = with_channel(ChannelKind.SINK)
    return from_exposer, with_channel(ChannelKind.STREAM)[0], with_channel(ChannelKind.STREAM)[0]


def test_a_patch_is_forwarded_as_it_came_to_links_that_have_its_base() -> None:
    from_exposer, observer, late = relay()
    whole = encoding.patch_body((1,), JSON, b"a\xff\xffb")
    first = received(patch(whole), from_exposer)
    assert send(observer, first, age=9) == patch(whole, 9)
    # valid, and nothing that our encoder would write: two copies for one, an escape exchanged, a repetition
    odd = encoding.patch_body((2,), None, bytes.fromhex("ff8001 ff8002 ff7f00 7a 000102"))
    second = received(patch(odd), from_exposer)
    assert second.data == b"a\xffb\xffzzz"
    assert send(observer, second, age=3) == patch(odd, 3)
    assert send(late, second) != patch(odd)
    assert second.encodings.keys() == {ref(first), None}


def test_a_format_that_an_exposer_repeats_is_forwarded_repeated() -> None:
    from_exposer, observer, _ = relay()
    first = received(patch(encoding.patch_body((1,), JSON, b"a")), from_exposer)
    send(observer, first)
    body = encoding.patch_body((2,), JSON, b"b")
    assert send(observer, received(patch(body), from_exposer)) == patch(body)


def test_a_first_patch_is_forwarded_to_links_of_any_base() -> None:
    from_exposer, observer, late = relay()
    send(observer, content(b"an older state, which nobody holds", 1))
    gc.collect()
    body = encoding.patch_body((5,), JSON, b"ab\xff\xff")
    state = received(patch(body), from_exposer)
    assert send(observer, state) == send(late, state) == patch(body)


def test_integers_longer_than_needed_are_forwarded_as_they_came() -> None:
    from_exposer, observer, _ = relay()
    body = bytes.fromhex("fb0100 fc02000000 01 fb0100 fb0400 4a534f4e fb0100 61")
    state = received(patch(body)[:-1] + bytes.fromhex("fb0000"), from_exposer)
    assert values(state) == values(content(b"a", 1))
    assert send(observer, state) == patch(body)


def test_a_long_difference_can_be_found_in_steps_before_it_is_sent() -> None:
    prepared, receiver = with_channel(ChannelKind.STREAM)
    at_once, _ = with_channel(ChannelKind.STREAM)
    random = Random(1)
    old = content(random.randbytes(100_000), 1)
    new = content(
        b"".join(random.randbytes(9) + old.data[at : at + 90] for at in range(0, 99_000, 90)), 2
    )
    for state in (old, new):
        again = content(state.data, state.version[-1])
        instruction = SendState(2, state, 0)
        steps = len(list(prepared.prepare(instruction)))
        (body,) = state.encodings.values()
        assert list(prepared.prepare(instruction)) == []
        (message,) = prepared.encode(instruction)
        assert body in message
        assert message == send(at_once, again)
        (event,) = deliver([message], receiver)
        assert isinstance(event, StateReceived)
        assert values(event.content) == values(state)
        last = again  # held, or the other sender forgets it
    assert steps > 1
    assert last.data == new.data


def test_nothing_is_prepared_for_a_short_state_nor_for_a_channel_that_is_closed() -> None:
    sender, _ = with_channel(ChannelKind.STREAM)
    short, long = content(b"abc", 1), content(bytes(100_000), 1)
    for instruction in (SendState(2, short, 0), SendState(3, long, 0), CloseChannel(2)):
        assert list(sender.prepare(instruction)) == []
    assert short.encodings == long.encodings == {}


def test_patches_from_bases_that_are_gone_are_forgotten() -> None:
    new = content(b"new", 9)
    for i in range(10):
        sender, _ = with_channel(ChannelKind.STREAM)
        old = content(b"old", i)
        send(sender, old)
        send(sender, new)
        del old
    send(with_channel(ChannelKind.STREAM)[0], new)
    gc.collect()
    assert list(new.encodings) == [None]


# ---- too large ------------------------------------------------------------------------------------------------------


def test_a_state_too_large_for_a_message_is_skipped_and_the_stream_goes_on() -> None:
    limits = Limits(max_message=200)
    sender, receiver = with_channel(ChannelKind.STREAM, limits=limits)
    small, large, next_small = (
        content(b"a" * 100, 1),
        content(bytes(range(256)), 2),
        content(b"a" * 99 + b"b", 3),
    )
    deliver([send(sender, small)], receiver)
    for age, said in ((0, [SynchronizedReceived(2, 1)]), (7, [])):
        assert deliver(sender.encode(SendState(2, large, age)), receiver) == said
    assert [descriptor for descriptor, _ in sender.skipped] == [THING, THING]
    assert all(size > 200 for _, size in sender.skipped)
    message = send(sender, next_small)
    assert list(next_small.encodings) == [ref(small)]
    assert values(received(message, receiver)) == values(next_small)


def test_the_greatest_message_is_as_large_as_the_limit() -> None:
    state = content(bytes(range(256)), 1)
    size = len(send(with_channel(ChannelKind.STREAM)[0], state))
    for limit, skipped in ((size, []), (size - 1, [(THING, size)])):
        sender, _ = with_channel(ChannelKind.STREAM, limits=Limits(max_message=limit))
        send(sender, state)
        assert sender.skipped == skipped


def test_a_link_without_channels_has_nothing_to_skip() -> None:
    listening, _ = linked()
    assert listening.skipped == []


# ---- what is over a limit is passed over ----------------------------------------------------------------------------


SET_SYNCHRONIZED = bytes.fromhex("01000203010100")


def test_a_state_of_which_something_is_over_a_limit_is_passed_over_and_the_next_one_leads_from_it() -> (
    None
):
    _, receiver = with_channel(ChannelKind.STREAM, limits=Limits(max_version=2, max_format=1))
    base = b""
    version_over, format_over = (
        "a version has 3 integers (limit 2)",
        "a format has 2 names (limit 1)",
    )
    told: list[tuple[tuple[int, ...], tuple[str, ...] | None, int, str]] = [
        ((1, 2, 3), JSON, 0, version_over),
        ((1,), ("x", "y"), 0, format_over),
        ((2,), None, 7, format_over),
        ((1, 2, 3), None, 0, version_over),
        ((1, 2, 3), ("x", "y"), 0, version_over),
        ((3,), JSON, 0, ""),
        ((4, 5, 6), None, 0, version_over),
        ((5,), None, 0, ""),
    ]
    before = ""
    for number, (version, format, age, over) in enumerate(told):
        data = base + b"%d" % number
        events = deliver(
            [patch(encoding.patch_body(version, format, diff(base, data)), age)], receiver
        )
        base = data
        if over:
            # what was there before is not current any more, and gets older by itself
            aged = [] if before else [SynchronizedReceived(2, max(age, 1))]
            assert events == [ItemIgnored(over, str(THING)), *aged]
            assert deliver([SET_SYNCHRONIZED], receiver) == [], "that of the ignored one is meant"
        else:
            assert deliver([SET_SYNCHRONIZED], receiver) == [SynchronizedReceived(2, 0)]
            (state,) = events
            assert isinstance(state, StateReceived)
            assert values(state.content) == (data, JSON, version)
        before = over
