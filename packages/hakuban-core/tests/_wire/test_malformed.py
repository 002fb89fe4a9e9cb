"""What a session does with the malformed input that the crate's router and connector were tried with.

Where the crate's router dies, or keeps a dead connection open, ours ends the link with a reason.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hakuban._exceptions import DiffError, LinkError, PeerViolationError, WireError
from hakuban._session_events import (
    ChannelKind,
    CloseChannel,
    ContractAction,
    ItemIgnored,
    OpenChannel,
    PeerEvent,
    StateReceived,
    Verb,
)
from hakuban._wire import Session, encoding
from hakuban._wire.tags import ChannelTag, MessageTag, Side
from support.wire import THING, deliver, linked

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "malformed-router.json").read_text()
)

OF_THE_TRANSPORT = re.compile(
    r"text message|.*websocket|fragmented message|TCP|HTTP|silent TCP|WS upgrade"
)

BEFORE_THE_HANDSHAKE = {
    "first message not Uninitialized",
    "message without Open",
    "Initialize DownstreamControl from the connecting side",
    "Initialize ObjectSinkToUpstream from the connecting side",
    "Uninitialized with 0 actions",
    "Uninitialized with 2 actions",
    "open + close before Initialize",
}

# A contract that contradicts the ones before is well-formed: the machine ends the link, the session passes it on.
LEFT_TO_THE_MACHINE = re.compile(
    r"duplicate|Unobserve while|tag Unexpose while|SetExposeCapacity while"
)

UNDECODABLE = re.compile(r"huge length")

# The crate takes references to nothing, and never writes them.
REFERS_TO_NOTHING = {"patch: zero-length old ref", "patch: zero-length new ref position 0"}

# No JSON, or nested too deep: that item is ignored, and no more.
IGNORED = {
    case["case"]
    for case in CASES
    if case["case"].startswith(("Observe, descriptor JSON: ", "Observe, bad JSON tag"))
    and not case["result"].startswith("accepted")
}


def expected(case: dict[str, Any]) -> type[LinkError] | None:
    """What ends the link, by what the crate's router did and where ours decides otherwise."""
    name, result = case["case"], case["result"]
    if name in REFERS_TO_NOTHING:
        return DiffError
    if name in IGNORED or LEFT_TO_THE_MACHINE.match(name) or result.startswith("accepted"):
        return None
    if result == "disconnected" or UNDECODABLE.match(name):
        return WireError
    if name.startswith("patch: "):
        return DiffError
    return LinkError if name == "close control channel D 1" else PeerViolationError


def sent(case: dict[str, Any]) -> list[bytes]:
    """The messages of a case; the recording cut the three long ones after 150 bytes."""
    messages = [bytes.fromhex(data) for data in case["sent"]]
    if nesting := re.search(r"nesting (\d+)", case["case"]):
        depth = int(nesting[1])
        action = encoding.object_contract(Verb.OBSERVE, [], "[" * depth + "]" * depth, None)
        whole = encoding.message(Side.DOWNSTREAM, 1, MessageTag.UPSTREAM_CONTROL, [action])
        assert whole.startswith(messages[0])
        return [whole]
    return messages


def run(case: dict[str, Any]) -> list[PeerEvent]:
    """Feed a case to a listening session that opens a data channel for each contract, as its machine would."""
    if case["case"] in BEFORE_THE_HANDSHAKE:
        session = Session(listening=True, name="router")
        session.opening()
    else:
        session, _ = linked()
    events: list[PeerEvent | None] = []
    kinds = {Verb.OBSERVE: ChannelKind.STREAM, Verb.EXPOSE: ChannelKind.SINK}
    channel = 2
    for message in sent(case):
        for event in session.receive(message):
            events.append(event)
            if isinstance(event, ContractAction) and event.verb in kinds:
                session.encode(OpenChannel(channel, kinds[event.verb], THING))
                channel += 1
    return [event for event in events if event is not None]


FOR_SESSIONS = [case for case in CASES if not OF_THE_TRANSPORT.match(case["case"])]


@pytest.mark.parametrize("case", FOR_SESSIONS, ids=[case["case"] for case in FOR_SESSIONS])
def test_malformed_input_ends_the_link_or_does_no_harm(case: dict[str, Any]) -> None:
    error = expected(case)
    if error is None:
        run(case)
    else:
        with pytest.raises(error) as raised:
            run(case)
        assert type(raised.value) is error


def test_every_case_is_either_of_the_transport_or_of_the_session() -> None:
    left_out = [case["case"] for case in CASES if case not in FOR_SESSIONS]
    assert len(left_out) == 12
    assert len(FOR_SESSIONS) == 115


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_a_descriptor_that_is_no_json_or_nested_too_deep_is_ignored(name: str) -> None:
    (case,) = (case for case in CASES if case["case"] == name)
    assert [type(event) for event in run(case)] == [ItemIgnored]


WITH_STATES = [
    case
    for case in FOR_SESSIONS
    if expected(case) is None and case["note"].startswith("observer got ")
]


@pytest.mark.parametrize("case", WITH_STATES, ids=[case["case"] for case in WITH_STATES])
def test_what_the_crate_takes_from_odd_states_is_what_we_take(case: dict[str, Any]) -> None:
    observed = ast.literal_eval(case["note"].removeprefix("observer got "))
    states = [event.content for event in run(case) if isinstance(event, StateReceived)]
    assert [([*state.version], [*state.format], state.data) for state in states] == [
        state[:3] for _, state in observed
    ]


# ---- to a connecting session (malformed-client.json has names only) -------------------------------------------------


def data_channel(tag: ChannelTag, channel: int, text: str = '"x"') -> list[bytes]:
    return [
        encoding.open_channel(Side.UPSTREAM, channel),
        encoding.message(
            Side.UPSTREAM,
            channel,
            MessageTag.UNINITIALIZED,
            [encoding.initialize_data(tag, [], text)],
        ),
    ]


def states(channel: int, *actions: str) -> bytes:
    return encoding.message(
        Side.UPSTREAM, channel, MessageTag.STATE_STREAM, [bytes.fromhex(a) for a in actions]
    )


STREAM = data_channel(ChannelTag.OBJECT_STREAM_FROM_UPSTREAM, 2)
SINK = data_channel(ChannelTag.OBJECT_SINK_TO_UPSTREAM, 2)
STATE = "00 0102 01 01 0158 03 616263 00"  # version [1], format ["X"], data abc, now

TO_A_CONNECTOR: dict[str, tuple[list[bytes], type[LinkError] | None]] = {
    "router closes its control channel U1": ([bytes.fromhex("020001")], LinkError),
    "SetLoadLimit on DownstreamControl": ([bytes.fromhex("01000102010001 00")], PeerViolationError),
    "UpstreamControl actions on U1": ([bytes.fromhex("0100010101 00000178")], PeerViolationError),
    "open D id from the listening side": ([bytes.fromhex("000105")], PeerViolationError),
    "message on unknown channel": ([states(9)], PeerViolationError),
    "message on D1 (client's control channel)": ([bytes.fromhex("0101010100")], None),
    "Initialize UpstreamControl from listening side": (
        [bytes.fromhex("000002"), bytes.fromhex("01000200010000")],
        PeerViolationError,
    ),
    "bad JSON descriptor in Initialize": (
        data_channel(ChannelTag.OBJECT_STREAM_FROM_UPSTREAM, 2, "{"),
        None,
    ),
    "random bytes": ([bytes.fromhex("cd072cd8be6f9f62")], WireError),
    "patch old ref out of range": (
        [*STREAM, states(2, STATE), states(2, "00 0104 00 03 ff800a 00")],
        DiffError,
    ),
    "patch truncated": ([*STREAM, states(2, "00 0102 01 01 0158 03 6162ff 00")], DiffError),
    "first patch without format": (
        [*STREAM, states(2, "00 0102 00 03 616263 00")],
        PeerViolationError,
    ),
    "stale version after newer": (
        [*STREAM, states(2, STATE), states(2, "00 0101 00 01 78 00")],
        None,
    ),
    "two streams for the same object": (
        [*STREAM, *data_channel(ChannelTag.OBJECT_STREAM_FROM_UPSTREAM, 3)],
        None,
    ),
    "stream for an object nobody observes": (STREAM, None),
    "sink for an object nobody exposes": (SINK, None),
    "two sinks for the same object": (
        [*SINK, *data_channel(ChannelTag.OBJECT_SINK_TO_UPSTREAM, 3)],
        None,
    ),
    "state sent on a sink channel": ([*SINK, states(2, STATE)], PeerViolationError),
    "SetSynchronized before any state": ([*STREAM, states(2, "0100")], None),
}


@pytest.mark.parametrize("name", TO_A_CONNECTOR)
def test_malformed_input_from_a_listener_ends_the_link_or_does_no_harm(name: str) -> None:
    messages, error = TO_A_CONNECTOR[name]
    _, session = linked()
    if error is None:
        deliver(messages, session)
    else:
        with pytest.raises(error) as raised:
            deliver(messages, session)
        assert type(raised.value) is error


def test_every_case_tried_with_the_connector_is_there() -> None:
    cases = json.loads(
        (Path(__file__).parent.parent / "fixtures" / "malformed-client.json").read_text()
    )
    of_the_transport = {"text message", "WS close 1001"}
    assert {case["case"] for case in cases} == TO_A_CONNECTOR.keys() | of_the_transport


# ---- states that are under way when their channel is closed ---------------------------------------------------------


def test_a_state_that_was_under_way_when_its_channel_was_closed_is_ignored() -> None:
    session, _ = linked()
    session.encode(OpenChannel(2, ChannelKind.SINK, THING))
    assert len(deliver([states(2, STATE)], session)) == 1
    session.encode(CloseChannel(2))
    assert deliver([states(2, STATE), b"\x01\x00\x02garbage"], session) == []
