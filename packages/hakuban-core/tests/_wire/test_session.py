"""Channels, control and the end of a session; states are in test_states.py."""

from __future__ import annotations

import struct

import pytest

from hakuban._contents import Content
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._exceptions import LinkError, PeerViolationError, ProtocolMismatchError, WireError
from hakuban._limits import Limits
from hakuban._session_events import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    CloseChannel,
    ContractAction,
    ItemIgnored,
    OpenChannel,
    PeerLimited,
    PeerNamed,
    SendContracts,
    SendState,
    SendSynchronized,
    SynchronizedReceived,
    Verb,
)
from hakuban._wire import Session, encoding
from hakuban._wire.tags import ChannelTag, MessageTag, Side
from support.wire import THING, deliver, linked, with_channel

OPEN_D2 = bytes.fromhex("000102")
OPEN_U2 = bytes.fromhex("000002")
CLOSE_U2 = bytes.fromhex("020002")


def control(*actions: bytes, channel: int = 1) -> bytes:
    """A message of a connecting peer."""
    return encoding.message(Side.DOWNSTREAM, channel, MessageTag.UPSTREAM_CONTROL, actions)


def initialize(side: Side, channel: int, action: bytes) -> bytes:
    return encoding.message(side, channel, MessageTag.UNINITIALIZED, [action])


def stream(text: str, channel: int = 2) -> bytes:
    """A listening peer says that a channel is a stream."""
    tag = ChannelTag.OBJECT_STREAM_FROM_UPSTREAM
    return initialize(Side.UPSTREAM, channel, encoding.initialize_data(tag, [], text))


# ---- introduction ---------------------------------------------------------------------------------------------------


def test_both_sides_learn_the_other_ones_name_and_the_listener_the_load_limit() -> None:
    listening = Session(listening=True, name="rou ter")
    connecting = Session(listening=False, name="źródło", load_limit=[(0.5, 10), (2.0, 2**32 - 1)])
    assert deliver(listening.opening(), connecting) == [PeerNamed("rou ter")]
    assert deliver(connecting.opening(), listening) == [
        PeerNamed("źródło"),
        PeerLimited(((0.5, 10), (2.0, 2**32 - 1))),
    ]


def test_a_keep_alive_says_nothing() -> None:
    listening, connecting = linked()
    assert connecting.keep_alive().hex() == "0101010100"
    assert listening.keep_alive().hex() == "0100010200"
    assert deliver([connecting.keep_alive()], listening) == []
    assert deliver([listening.keep_alive()], connecting) == []


@pytest.mark.parametrize("side", ["00", "01"])
@pytest.mark.parametrize("listening", [True, False])
def test_a_peer_of_0_8_0_is_told_apart_and_not_tried_again(side: str, *, listening: bool) -> None:
    session = Session(listening=listening, name="")
    with pytest.raises(ProtocolMismatchError, match=r"0\.8\.0") as raised:
        deliver([bytes.fromhex(f"00000000{side}0000000100000000000000")], session)
    assert not raised.value.retry


def test_a_name_may_be_said_again_and_on_a_second_control_channel() -> None:
    listening, _ = linked()
    second = initialize(
        Side.DOWNSTREAM, 2, encoding.initialize_control(ChannelTag.UPSTREAM_CONTROL)
    )
    messages = [
        control(encoding.set_name("again")),
        OPEN_D2,
        second,
        control(encoding.set_name("second"), channel=2),
    ]
    assert deliver(messages, listening) == [PeerNamed("again"), PeerNamed("second")]


@pytest.mark.parametrize(
    "points",
    [
        [(-1.0, 1)],
        [(float("nan"), 1)],
        [(float("inf"), 1)],
        [(1.1e9, 1)],
        [(2.0, 1), (1.0, 1)],
    ],
)
def test_a_load_limit_without_a_meaning_is_a_violation(points: list[tuple[float, int]]) -> None:
    listening, _ = linked()
    with pytest.raises(PeerViolationError, match="load limit"):
        deliver([control(encoding.set_load_limit(points))], listening)


def test_load_limits_at_the_borders_are_taken() -> None:
    listening, _ = linked()
    points = [(0.0, 0), (0.0, 5), (1e9, 2**32 - 1)]
    assert deliver([control(encoding.set_load_limit(points))], listening) == [
        PeerLimited(tuple(points))
    ]


# ---- contracts ------------------------------------------------------------------------------------------------------

CONTRACTS = [
    ContractAction(Verb.OBSERVE, ObjectDescriptor([], None)),
    ContractAction(Verb.UNOBSERVE, ObjectDescriptor(["ż", 1], {"b": [1], "a": "🐢"})),
    ContractAction(Verb.EXPOSE, THING, 2**32 - 1),
    ContractAction(Verb.SET_CAPACITY, THING, 0),
    ContractAction(Verb.UNEXPOSE, THING),
    ContractAction(Verb.OBSERVE, TagDescriptor("t")),
    ContractAction(Verb.UNOBSERVE, TagDescriptor("t")),
    ContractAction(Verb.EXPOSE, TagDescriptor({"a": 1}), 300),
    ContractAction(Verb.SET_CAPACITY, TagDescriptor(1), 1),
    ContractAction(Verb.UNEXPOSE, TagDescriptor(1)),
]


def test_contracts_arrive_in_one_message_and_in_order() -> None:
    listening, connecting = linked()
    messages = connecting.encode(SendContracts(CONTRACTS))
    assert len(messages) == 1
    assert deliver(messages, listening) == CONTRACTS


def test_descriptors_arrive_as_what_they_mean() -> None:
    listening, _ = linked()
    action = encoding.object_contract(
        Verb.OBSERVE, ['"b"', '"a"', ' "a"'], '{"y": 1e2, "x":"\\u0041"}', None
    )
    assert deliver([control(action)], listening) == [
        ContractAction(
            Verb.OBSERVE, ObjectDescriptor.from_json(['"a"', '"b"'], '{"x":"A","y":100.0}')
        )
    ]


@pytest.mark.parametrize("text", ["", "{", "1 2", "NaN", "1e400", r'"\ud800"', "[" * 100])
def test_a_descriptor_that_is_not_json_is_ignored_alone(text: str) -> None:
    listening, _ = linked()
    *ignored, last = deliver(
        [
            control(
                encoding.object_contract(Verb.OBSERVE, [], text, None),
                encoding.object_contract(Verb.EXPOSE, [text], "1", 5),
                encoding.tag_contract(Verb.OBSERVE, text, None),
                encoding.tag_contract(Verb.OBSERVE, "1", None),
            )
        ],
        listening,
    )
    assert len(ignored) == 3
    for item in ignored:
        assert isinstance(item, ItemIgnored)
        assert "does not decode" in item.reason
        assert text in item.descriptor
    assert last == ContractAction(Verb.OBSERVE, TagDescriptor(1))


DEEP = "[" * 128 + "]" * 128
LONG = '"' + "x" * 64 * 1024 + '"'


@pytest.mark.parametrize("text", [DEEP, LONG], ids=["deep", "long"])
def test_a_contract_whose_descriptor_is_over_a_limit_is_ignored_alone(text: str) -> None:
    listening, _ = linked()
    message = control(
        encoding.object_contract(Verb.OBSERVE, [], text, None),
        encoding.object_contract(Verb.EXPOSE, [text], "1", 5),
        encoding.tag_contract(Verb.UNOBSERVE, text, None),
        encoding.tag_contract(Verb.SET_CAPACITY, text, 500),
        encoding.tag_contract(Verb.OBSERVE, "1", None),
    )
    *ignored, last = deliver([message], listening)
    assert [type(event) for event in ignored] == [ItemIgnored] * 4
    assert last == ContractAction(Verb.OBSERVE, TagDescriptor(1))


def test_a_descriptor_of_the_greatest_depth_and_size_is_taken() -> None:
    listening, _ = linked()
    texts = ["[" * 127 + "]" * 127, '"' + "x" * (64 * 1024 - 2) + '"']
    actions = [encoding.tag_contract(Verb.OBSERVE, text, None) for text in texts]
    events = deliver([control(*actions)], listening)
    assert [type(event) for event in events] == [ContractAction] * 2


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("03", "unknown action 3"),
        ("00 02", "unknown exchange action 2"),
        ("01 05 00 01 31", "unknown contract action 5"),
        ("02 05 01 31", "unknown contract action 5"),
    ],
)
def test_unknown_actions_of_a_connecting_peer_do_not_decode(action: str, reason: str) -> None:
    listening, _ = linked()
    with pytest.raises(WireError, match=reason):
        deliver([control(bytes.fromhex(action))], listening)


@pytest.mark.parametrize("action", ["01 00 00 01 31", "02 00 01 31", "03", "00 02"])
def test_a_listening_peer_has_no_contracts(action: str) -> None:
    _, connecting = linked()
    message = encoding.message(
        Side.UPSTREAM, 1, MessageTag.DOWNSTREAM_CONTROL, [bytes.fromhex(action)]
    )
    with pytest.raises(WireError, match="unknown"):
        deliver([message], connecting)


def test_a_listening_peer_has_no_load_limit() -> None:
    _, connecting = linked()
    message = encoding.message(
        Side.UPSTREAM, 1, MessageTag.DOWNSTREAM_CONTROL, [encoding.set_load_limit([])]
    )
    with pytest.raises(PeerViolationError, match="load limit"):
        deliver([message], connecting)


# ---- data channels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ChannelKind)
def test_a_data_channel_opens_and_closes(kind: ChannelKind) -> None:
    listening, connecting = linked()
    assert deliver(listening.encode(OpenChannel(2, kind, THING)), connecting) == [
        ChannelOpened(2, kind, THING)
    ]
    assert deliver(listening.encode(CloseChannel(2)), connecting) == [ChannelClosed(2)]


def test_closing_a_channel_that_is_not_open_says_nothing() -> None:
    listening, _ = linked()
    listening.encode(OpenChannel(2, ChannelKind.SINK, THING))
    assert listening.encode(CloseChannel(2)) == [CLOSE_U2]
    assert listening.encode(CloseChannel(2)) == []


@pytest.mark.parametrize("kind", ChannelKind)
def test_nothing_is_sent_on_a_channel_that_was_closed_in_between(kind: ChannelKind) -> None:
    sender, receiver = with_channel(kind)
    listening, connecting = (sender, receiver) if kind is ChannelKind.STREAM else (receiver, sender)
    deliver(listening.encode(CloseChannel(2)), connecting)
    assert sender.encode(SendState(2, Content(b"", (), ()), 0)) == []
    assert sender.encode(SendSynchronized(2, 5)) == []


def test_nothing_is_sent_on_a_channel_that_states_arrive_on() -> None:
    _, receiver = with_channel(ChannelKind.STREAM)
    assert receiver.encode(SendState(2, Content(b"", (), ()), 0)) == []


def test_channel_numbers_may_have_gaps() -> None:
    listening, connecting = linked()
    for number in (2, 5, 300, 70_000, 2**33):
        messages = listening.encode(OpenChannel(number, ChannelKind.STREAM, THING))
        assert deliver(messages, connecting) == [ChannelOpened(number, ChannelKind.STREAM, THING)]


def test_a_channel_may_close_before_it_is_anything() -> None:
    _, connecting = linked()
    assert deliver([OPEN_U2, CLOSE_U2], connecting) == []


@pytest.mark.parametrize("text", [DEEP, LONG], ids=["deep", "long"])
def test_a_channel_whose_descriptor_is_over_a_limit_is_ignored_with_all_that_is_said_on_it(
    text: str,
) -> None:
    _, connecting = linked()
    (ignored,) = deliver([OPEN_U2, stream(text)], connecting)
    assert isinstance(ignored, ItemIgnored)
    state = bytes.fromhex("010002030100010201010158036162630001")
    assert deliver([state, CLOSE_U2], connecting) == []
    with pytest.raises(PeerViolationError, match="channel 2, which is not open"):
        deliver([state], connecting)


@pytest.mark.parametrize("count", [0, 2])
def test_a_channel_begins_with_one_action(count: int) -> None:
    _, connecting = linked()
    actions = [encoding.initialize_control(ChannelTag.DOWNSTREAM_CONTROL)] * count
    message = encoding.message(Side.UPSTREAM, 2, MessageTag.UNINITIALIZED, actions)
    with pytest.raises(PeerViolationError, match=f"begins with {count} actions"):
        deliver([OPEN_U2, message], connecting)


@pytest.mark.parametrize("action", ["01 00", "00 04"])
def test_a_channel_begins_with_a_known_action(action: str) -> None:
    _, connecting = linked()
    with pytest.raises(WireError, match="unknown action"):
        deliver([OPEN_U2, initialize(Side.UPSTREAM, 2, bytes.fromhex(action))], connecting)


def test_messages_of_an_unknown_kind_do_not_decode() -> None:
    listening, _ = linked()
    with pytest.raises(WireError, match="unknown kind 4"):
        deliver([bytes.fromhex("0101010400")], listening)


def test_actions_of_a_data_channel_are_patches_and_ages() -> None:
    _, receiver = with_channel(ChannelKind.STREAM)
    with pytest.raises(WireError, match="unknown action 2 on a data channel"):
        deliver([bytes.fromhex("01000203010200")], receiver)


@pytest.mark.parametrize(
    ("listening", "messages", "reason"),
    [
        (True, ["000005"], "channel 5, which is ours"),
        (True, ["020001"], "channel 1, which is ours"),
        (True, ["020109"], "channel 9 is closed, and was not open"),
        (True, ["000101"], "channel 1 is opened twice"),
        (True, ["0101090100"], "channel 9, which is not open"),
        (True, ["0100630300"], "channel 99, which is not open"),
        (True, ["01010103010100"], "STATE_STREAM actions arrive on channel 1"),
        (False, ["0101020100"], "channel 2, which is not open"),
        (False, ["000002", "020002", "0100020300"], "channel 2, which is not open"),
        (False, ["000002", "01000203010100"], "instead of UNINITIALIZED"),
        (False, ["000002", "01000200010000"], "initialized to UPSTREAM_CONTROL"),
        (True, ["000102", "01010200010001"], "initialized to DOWNSTREAM_CONTROL"),
        (True, ["000102", "01010200010003"], "initialized to OBJECT_STREAM_FROM_UPSTREAM"),
    ],
)
def test_a_peer_that_breaks_a_rule_of_channels_is_told_which(
    *, listening: bool, messages: list[str], reason: str
) -> None:
    session = linked()[0 if listening else 1]
    with pytest.raises(PeerViolationError, match=reason) as raised:
        deliver(map(bytes.fromhex, messages), session)
    assert raised.value.code == 1002


def test_messages_to_our_own_control_channel_are_ignored() -> None:
    listening, connecting = linked()
    assert deliver([bytes.fromhex("010001020100000178")], listening) == []
    assert deliver([bytes.fromhex("0101010100")], connecting) == []


@pytest.mark.parametrize("kind", ChannelKind)
def test_the_receiver_of_states_says_nothing_on_their_channel(kind: ChannelKind) -> None:
    sender, _ = with_channel(kind)
    with pytest.raises(PeerViolationError, match="which states leave on"):
        deliver([bytes.fromhex("01000203010100")], sender)


def test_a_listening_peer_may_open_so_many_channels_and_no_more() -> None:
    limits = Limits(max_channels=3)
    _, connecting = linked(limits)
    deliver([encoding.open_channel(Side.UPSTREAM, n) for n in (2, 3)], connecting)
    deliver([CLOSE_U2, OPEN_U2], connecting)
    with pytest.raises(PeerViolationError, match="more than 3 channels") as raised:
        deliver([encoding.open_channel(Side.UPSTREAM, 4)], connecting)
    assert raised.value.code == 1008


def test_a_connecting_peer_may_open_so_many_channels_and_no_more() -> None:
    listening, _ = linked(Limits(max_control_channels=2))
    deliver([OPEN_D2], listening)
    with pytest.raises(PeerViolationError, match="more than 2 channels"):
        deliver([encoding.open_channel(Side.DOWNSTREAM, 3)], listening)


# ---- the end --------------------------------------------------------------------------------------------------------


def test_a_peer_that_closes_its_control_channel_ends_the_link() -> None:
    listening, connecting = linked()
    for session, message in ((listening, "020101"), (connecting, "020001")):
        with pytest.raises(LinkError, match="closed its control channel") as raised:
            deliver([bytes.fromhex(message)], session)
        assert type(raised.value) is LinkError
        assert raised.value.code == 1000


def test_nothing_is_read_after_the_end() -> None:
    listening, _ = linked()
    with pytest.raises(WireError):
        deliver([b"\x09"], listening)
    assert deliver([control(encoding.set_name("late")), b"\x09"], listening) == []


def test_empty_messages_and_bytes_after_a_message_are_ignored() -> None:
    listening, _ = linked()
    assert deliver([b"", control(encoding.set_name("n")) + b"\xff\xff"], listening) == [
        PeerNamed("n")
    ]


def test_a_message_over_the_limit_is_refused_unread() -> None:
    limits = Limits(max_message=64)
    listening, _ = linked(limits)
    name = control(encoding.set_name("x" * (64 - 8)))
    assert len(name) == 64
    assert len(deliver([name], listening)) == 1
    with pytest.raises(PeerViolationError, match="65 bytes") as raised:
        deliver([name + b"\0"], listening)
    assert raised.value.code == 1009


def test_events_come_out_before_the_rest_of_the_message_is_read() -> None:
    listening, _ = linked()
    events = iter(listening.receive(control(encoding.set_name("first"), b"\x09")))
    assert next(events) == PeerNamed("first")
    with pytest.raises(WireError):
        next(events)


def test_the_rest_of_a_message_is_left_unread_when_its_channel_is_closed_meanwhile() -> None:
    _, listening = with_channel(ChannelKind.SINK)
    events = iter(listening.receive(bytes.fromhex("0100020303 0105 0106 09")))
    assert next(events) == SynchronizedReceived(2, 5)
    listening.encode(CloseChannel(2))
    assert list(events) == []


def test_a_load_limit_is_sent_in_single_precision() -> None:
    message = Session(listening=False, name="", load_limit=[(0.1, 3)]).opening()[2]
    assert message.endswith(struct.pack("<f", 0.1) + b"\x03")
