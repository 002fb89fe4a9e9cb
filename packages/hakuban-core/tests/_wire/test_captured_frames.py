"""All frames captured between nodes of the crate decode, and encode to the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hakuban._limits import Limits
from hakuban._session_events import Verb
from hakuban._wire import Session, encoding
from hakuban._wire.reader import Reader
from hakuban._wire.tags import (
    ChannelTag,
    ControlTag,
    EventTag,
    ExchangeTag,
    MessageTag,
    Side,
    StateTag,
)
from support.wire import finished

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parent.parent / "fixtures"
SEQUENCES: list[str] = list(json.loads((FIXTURES / "index.json").read_text()))


def frames(sequence: str) -> list[dict[str, Any]]:
    recorded: list[dict[str, Any]] = json.loads((FIXTURES / f"{sequence}.json").read_text())
    return [frame for frame in recorded if frame["hex"] is not None]


EVENTS = {EventTag.OPEN: "Open", EventTag.MESSAGE: "Message", EventTag.CLOSE: "Close"}
SIDES = {Side.UPSTREAM: "U", Side.DOWNSTREAM: "D"}
KINDS = {
    MessageTag.UNINITIALIZED: "UninitializedChannelActions",
    MessageTag.UPSTREAM_CONTROL: "UpstreamControlChannelActions",
    MessageTag.DOWNSTREAM_CONTROL: "DownstreamControlChannelActions",
    MessageTag.STATE_STREAM: "StateStreamActions",
}
CHANNELS = {
    ChannelTag.UPSTREAM_CONTROL: "UpstreamControl",
    ChannelTag.DOWNSTREAM_CONTROL: "DownstreamControl",
    ChannelTag.OBJECT_SINK_TO_UPSTREAM: "ObjectSinkToUpstream",
    ChannelTag.OBJECT_STREAM_FROM_UPSTREAM: "ObjectStreamFromUpstream",
}
VERBS = {
    Verb.OBSERVE: "Observe",
    Verb.UNOBSERVE: "Unobserve",
    Verb.EXPOSE: "Expose",
    Verb.UNEXPOSE: "Unexpose",
    Verb.SET_CAPACITY: "SetExposeCapacity",
}


def key(names: dict[Any, str], name: str) -> Any:
    return next(tag for tag, known in names.items() if known == name)


def decode_initialize(reader: Reader) -> list[Any]:
    assert reader.u32() == 0
    channel = ChannelTag(reader.u32())
    decoded: list[Any] = [CHANNELS[channel]]
    if channel in {ChannelTag.OBJECT_SINK_TO_UPSTREAM, ChannelTag.OBJECT_STREAM_FROM_UPSTREAM}:
        decoded.extend(object_texts(reader))
    return ["Initialize", decoded]


def object_texts(reader: Reader) -> list[Any]:
    texts = finished(reader.object_texts())
    assert isinstance(texts, list)
    return [texts[:-1], texts[-1]]


def decode_control(reader: Reader) -> list[Any]:
    subject = reader.u32()
    if subject == ControlTag.EXCHANGE:
        if reader.u32() == ExchangeTag.SET_NAME:
            return ["Exchange", ["SetName", reader.name()]]
        return ["Exchange", ["SetLoadLimit", [list(point) for point in reader.load_limit()]]]
    verb = Verb(reader.u32())
    decoded: list[Any] = [VERBS[verb]]
    if subject == ControlTag.OBJECT_CONTRACT:
        decoded.extend(object_texts(reader))
    else:
        texts = reader.tag_text()
        assert isinstance(texts, list)
        decoded.extend(texts)
    if verb in {Verb.EXPOSE, Verb.SET_CAPACITY}:
        decoded.append(reader.u32())
    return ["Object" if subject == ControlTag.OBJECT_CONTRACT else "Tag", decoded]


def decode_state(reader: Reader) -> list[Any]:
    if reader.u32() == StateTag.PATCH:
        patch = reader.patch()
        assert patch is not None
        return [
            "PatchAndSetAndMemorize",
            list(patch.version),
            None if patch.format is None else list(patch.format),
            patch.difference.hex(),
            patch.age,
        ]
    return ["SetSynchronized", reader.unsigned()]


DECODERS: dict[MessageTag, Callable[[Reader], list[Any]]] = {
    MessageTag.UNINITIALIZED: decode_initialize,
    MessageTag.UPSTREAM_CONTROL: decode_control,
    MessageTag.DOWNSTREAM_CONTROL: decode_control,
    MessageTag.STATE_STREAM: decode_state,
}


def decode(data: bytes) -> dict[str, Any]:
    reader = Reader(data, Limits())
    event, side, channel = reader.event()
    decoded: dict[str, Any] = {
        "event": EVENTS[EventTag(event)],
        "channel": [SIDES[Side(side)], channel],
    }
    if event == EventTag.MESSAGE:
        kind = MessageTag(reader.u32())
        actions = [DECODERS[kind](reader) for _ in range(reader.length())]
        decoded["message"] = {"type": KINDS[kind], "actions": actions}
    return decoded


def encode_action(action: list[Any]) -> bytes:
    match action:
        case ["Initialize", [channel]]:
            return encoding.initialize_control(key(CHANNELS, channel))
        case ["Initialize", [channel, tags, text]]:
            return encoding.initialize_data(key(CHANNELS, channel), tags, text)
        case ["Exchange", ["SetName", name]]:
            return encoding.set_name(name)
        case ["Exchange", ["SetLoadLimit", points]]:
            return encoding.set_load_limit([tuple(point) for point in points])
        case ["Object", [verb, tags, text, *capacity]]:
            return encoding.object_contract(
                key(VERBS, verb), tags, text, capacity[0] if capacity else None
            )
        case ["Tag", [verb, text, *capacity]]:
            return encoding.tag_contract(key(VERBS, verb), text, capacity[0] if capacity else None)
        case ["PatchAndSetAndMemorize", version, format, diff, age]:
            body = encoding.patch_body(
                tuple(version), None if format is None else tuple(format), bytes.fromhex(diff)
            )
            return bytes((StateTag.PATCH,)) + body + encoding.age(age)
        case ["SetSynchronized", age]:
            return bytes((StateTag.SET_SYNCHRONIZED,)) + encoding.age(age)
        case _:
            raise AssertionError(action)


def encode(decoded: dict[str, Any]) -> bytes:
    side, channel = key(SIDES, decoded["channel"][0]), decoded["channel"][1]
    if decoded["event"] == "Open":
        return encoding.open_channel(side, channel)
    if decoded["event"] == "Close":
        return encoding.close_channel(side, channel)
    message = decoded["message"]
    actions = [encode_action(action) for action in message["actions"]]
    return encoding.message(side, channel, key(KINDS, message["type"]), actions)


def test_the_captured_sequences_are_all_there() -> None:
    assert sum(len(frames(sequence)) for sequence in SEQUENCES) == 147


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_captured_frames_decode_to_what_they_say(sequence: str) -> None:
    for frame in frames(sequence):
        assert decode(bytes.fromhex(frame["hex"])) == frame["decoded"]


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_captured_frames_are_encoded_to_the_same_bytes(sequence: str) -> None:
    for frame in frames(sequence):
        assert encode(frame["decoded"]).hex() == frame["hex"]


def sent(sequence: str, party: str, direction: str) -> list[str]:
    return [
        frame["hex"]
        for frame in frames(sequence)
        if (frame["party"], frame["direction"]) == (party, direction)
    ]


def test_a_connecting_session_begins_as_a_captured_one_does() -> None:
    session = Session(listening=False, name="observer")
    assert [message.hex() for message in session.opening()] == sent(
        "connect", "observer", "client->server"
    )


def test_a_connecting_session_with_a_load_limit_begins_as_a_captured_one_does() -> None:
    session = Session(listening=False, name="exposer", load_limit=[(0.0, 10), (5.0, 20)])
    assert [message.hex() for message in session.opening()] == sent(
        "connect-load-limit", "exposer", "client->server"
    )


def test_a_listening_session_begins_as_a_captured_one_does() -> None:
    session = Session(listening=True, name="router")
    assert [message.hex() for message in session.opening()] == sent(
        "connect", "observer", "server->client"
    )
