"""Notes in a session: what is one, what is none, and what the session itself takes from them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from hakuban._contents import Content
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._limits import Limits
from hakuban._session_events import (
    ChannelKind,
    ContractAction,
    Note,
    NoteIgnored,
    NoteReceived,
    OpenChannel,
    PeerNamed,
    SendContracts,
    SendNote,
    SendState,
    SynchronizedReceived,
    Verb,
)
from hakuban._wire import Session, encoding, notes
from hakuban._wire.tags import MessageTag, Side
from support.wire import THING, deliver, linked

if TYPE_CHECKING:
    from hakuban._session_events import PeerEvent

ID = "7c1e2b90a4d35f68"
LARGEST = 64 * 1024
FIRST = Note(
    node=ID, name="źródło", above=(("a", "A"), ("b", "")), max_message=9, clock=8, version="0.1.0"
)


@pytest.fixture(params=[True, False], ids=["from the listener", "from the connector"])
def ends(request: pytest.FixtureRequest) -> tuple[Session, Session]:
    """Give the session that speaks and the one that listens to it."""
    listening, connecting = linked()
    return (listening, connecting) if request.param else (connecting, listening)


def take(data: bytes, ends: tuple[Session, Session]) -> list[PeerEvent]:
    """Have a control message without an action read, with some bytes behind."""
    speaker, hearer = ends
    return deliver([speaker.keep_alive() + data], hearer)


def reason(text: str | bytes, ends: tuple[Session, Session]) -> str:
    """Give why something with the mark of a note is ignored."""
    data = text.encode() if isinstance(text, str) else text
    (event,) = take(b"hkn1" + data, ends)
    assert isinstance(event, NoteIgnored)
    assert event.reason.isprintable()
    return event.reason


# ---- what is a note -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "note",
    [
        FIRST,
        Note(),
        Note(above=()),
        Note(ignored=((str(THING), "no"),)),
        Note(held=((('"t"', "1"), '{"id":1}', (0, -(2**63), 2**63 - 1)), ((), "1", ()))),
        Note(node="x" * 64, name="", max_message=2**63 - 1, clock=0),
    ],
)
def test_a_note_arrives_as_it_was_sent(note: Note, ends: tuple[Session, Session]) -> None:
    speaker, hearer = ends
    (message,) = speaker.encode(SendNote(note))
    assert message.startswith(speaker.keep_alive() + b"hkn1")
    assert deliver([message], hearer) == [NoteReceived(note)]


def test_the_first_note_goes_before_the_name(ends: tuple[Session, Session]) -> None:
    speaker, _ = ends
    listening = speaker.keep_alive().hex() == "0100010200"
    hearer = Session(listening=not listening, name="hearer")
    plain, opening = speaker.opening(), speaker.opening(FIRST)
    assert [*opening[:2], *opening[3:]] == plain
    first, second, *_ = deliver(opening, hearer)
    assert first == NoteReceived(FIRST)
    assert isinstance(second, PeerNamed)


def test_a_note_may_come_on_any_control_channel_and_with_a_longer_zero() -> None:
    listening, _ = linked()
    kind = bytes.fromhex("00 01 00 00")
    behind = b'hkn1{"clock":5}'
    messages = [
        bytes.fromhex("000102"),
        bytes.fromhex("010102") + kind,
        bytes.fromhex("01010201 fb0000") + behind,
    ]
    assert deliver(messages, listening) == [NoteReceived(Note(clock=5))]


@pytest.mark.parametrize(
    "data", [b"", b"h", b"hkn", b"hkn2{}", b"HKN1{}", b" hkn1{}", b"{}", bytes(100_000)]
)
def test_other_bytes_behind_a_message_that_says_nothing_mean_nothing(
    data: bytes, ends: tuple[Session, Session]
) -> None:
    assert take(data, ends) == []


def test_what_stands_behind_a_message_with_an_action_is_no_note() -> None:
    listening, connecting = linked()
    behind = b'hkn1{"clock":5}'
    for tag, side, hearer in (
        (MessageTag.UPSTREAM_CONTROL, Side.DOWNSTREAM, listening),
        (MessageTag.DOWNSTREAM_CONTROL, Side.UPSTREAM, connecting),
    ):
        message = encoding.message(side, 1, tag, [encoding.set_name("name")])
        assert deliver([message + behind], hearer) == [PeerNamed("name")]


def test_what_the_listener_says_to_the_control_channel_of_the_connector_is_no_note() -> None:
    listening, connecting = linked()
    assert deliver([listening.keep_alive()[:1] + b"\1\1\1\0hkn1{}"], connecting) == []


# ---- what is none ---------------------------------------------------------------------------------------------------

WRONG: dict[str, list[Any]] = {
    "node": ["", "x" * 65, ["a"]],
    "name": [["a"], {}],
    "above": [
        {},
        [1],
        [["a"]],
        [["a", "b", "c"]],
        [["", "b"]],
        [["a", 1]],
        [["x" * 65, "b"]],
        "ab",
    ],
    "max_message": [0, -1, 2**63, 2**64, 10**30, 1.0, 1e3, "1"],
    "clock": [-1, 2**63, 2**64, 10**30, 1.0, 1e18, "1", [1]],
    "version": [{}, [0, 1]],
    "ignored": ["ab", [["a"]], [["a", None]], [[1, "b"]], {"a": "b"}],
    "held": [
        [[["1"], "1"]],
        [[[1], "1", [1]]],
        [[["1"], 1, [1]]],
        [[["1"], "1", [1.0]]],
        [[["1"], "1", [True]]],
        [[["1"], "1", [2**63]]],
        [[["1"], "1", [-(2**63) - 1]]],
        [[["1"], "1", [0] * 1001]],
        [[["1"], "1", 1]],
    ],
}
NEITHER = [None, True, False, 1.5]


def test_every_key_has_its_wrong_values_here() -> None:
    assert set(WRONG) == set(Note.__struct_fields__)


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in WRONG.items() for value in [*values, *NEITHER]],
    ids=lambda value: str(value)[:30],
)
def test_a_note_with_a_known_key_of_another_type_is_ignored_as_a_whole(
    key: str, value: Any, ends: tuple[Session, Session]
) -> None:
    about = {"node": "other", "max_message": 100} if key != "node" else {"max_message": 100}
    assert f"`$.{key}" in reason(json.dumps({**about, key: value}), ends)
    _, hearer = ends
    assert hearer.peer_node == ""
    assert hearer.max_sent == Limits().max_message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "true",
        "5",
        '"{}"',
        "[]",
        "[{}]",
        "{",
        "{}{}",
        "{}x",
        "{'clock':1}",
        '{"clock":1,}',
        '{"clock":NaN}',
        '{"clock":01}',
        '{"name":"\\ud800"}',
        '{"name":"\\udc00\\ud800"}',
        '{"else":"\\ud800"}',
        b'{"name":"\xff"}',
        b'{"name":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"\x00",
        b"\xff" * 1000,
        '{"else":' + "[" * 60_000 + "]" * 5_000 + "}",
        '{"else":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"above":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"else":' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}",
        '{"clock":' + "9" * 60_000 + "}",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_json_object_is_ignored(
    text: str | bytes, ends: tuple[Session, Session]
) -> None:
    assert "does not decode" in reason(text, ends)
    assert take(b'hkn1{"clock":5}', ends) == [NoteReceived(Note(clock=5))], "and the link goes on"


def test_a_note_of_64_kib_is_read_and_one_of_a_byte_more_is_not(
    ends: tuple[Session, Session],
) -> None:
    speaker, _ = ends
    head = len(speaker.keep_alive() + b"hkn1")
    for size, kind in ((LARGEST, NoteReceived), (LARGEST + 1, NoteIgnored)):
        text = json.dumps({"else": ""})
        text = text[:-2] + "x" * (size - head - len(text)) + text[-2:]
        (event,) = take(b"hkn1" + text.encode(), ends)
        assert type(event) is kind
    assert isinstance(event, NoteIgnored)
    assert event.reason == f"a note of {LARGEST + 1} bytes (limit {LARGEST})"
    assert notes.LARGEST == LARGEST


@pytest.mark.parametrize(
    "value",
    ["null", "1e999", "[1,[2,{}]]", '"\\ud83d\\ude00"', "123456789012345678901234567890", "{}"],
)
def test_keys_that_are_not_known_are_passed_over(value: str, ends: tuple[Session, Session]) -> None:
    for text in (
        f'{{"clock":5,"declined":{value}}}',
        f' {{ "declined" : {value} , "clock" : 5 }} ',
        f'{{"clock":4,"\\u0063lock":5,"":{value}}}',
    ):
        assert take(b"hkn1" + text.encode(), ends) == [NoteReceived(Note(clock=5))]


# ---- what the session takes -----------------------------------------------------------------------------------------


def test_the_id_of_the_peer_is_known_from_its_note_on(ends: tuple[Session, Session]) -> None:
    speaker, hearer = ends
    assert hearer.peer_node == ""
    deliver(speaker.encode(SendNote(Note(node=ID))), hearer)
    assert hearer.peer_node == ID
    deliver(speaker.encode(SendNote(Note(clock=1))), hearer)
    assert hearer.peer_node == ID


@pytest.mark.parametrize(
    ("taken", "cap", "sent"),
    [
        (300, None, 300),
        (5_000, None, 1_000),
        (2**63 - 1, None, 1_000),
        (300, 200, 200),
        (300, 400, 300),
        (5_000, 400, 400),
    ],
)
def test_what_is_sent_is_no_larger_than_the_peer_or_this_side_takes(
    taken: int, cap: int | None, sent: int
) -> None:
    listening, connecting = linked(Limits(max_message=1_000))
    if cap is not None:
        listening.cap(cap)
    deliver(connecting.encode(SendNote(Note(max_message=taken))), listening)
    assert listening.max_sent == sent
    deliver(connecting.encode(SendNote(Note(max_message=1_000))), listening)
    assert listening.max_sent == (1_000 if cap is None else cap)
    listening.cap(None)
    assert listening.max_sent == 1_000


def test_a_state_that_the_peer_has_said_it_does_not_take_is_skipped() -> None:
    listening, connecting = linked()
    deliver(connecting.encode(SendNote(Note(max_message=200))), listening)
    deliver(listening.encode(OpenChannel(2, ChannelKind.STREAM, THING)), connecting)
    large = Content(bytes(range(256)), ("JSON",), (1,))
    messages = listening.encode(SendState(2, large, 0))
    assert deliver(messages, connecting) == [SynchronizedReceived(2, 1)]
    assert [descriptor for descriptor, _ in listening.skipped] == [THING]


def test_a_note_that_the_peer_does_not_take_is_left_out() -> None:
    listening, connecting = linked()
    deliver(connecting.encode(SendNote(Note(max_message=100))), listening)
    assert listening.encode(SendNote(Note(name="x" * 100))) == []
    assert len(listening.encode(SendNote(Note(name="x" * 50)))) == 1
    assert not listening.oversized


def test_a_channel_that_the_peer_cannot_be_told_of_is_not_opened() -> None:
    listening, connecting = linked()
    deliver(connecting.encode(SendNote(Note(max_message=100))), listening)
    long = ObjectDescriptor(["t"], "x" * 100)
    for channel, kind in ((2, ChannelKind.STREAM), (3, ChannelKind.SINK)):
        assert listening.encode(OpenChannel(channel, kind, long)) == []
    assert [descriptor for descriptor, _ in listening.oversized] == [long, long]
    assert all(size > 100 for _, size in listening.oversized)
    deliver(listening.encode(OpenChannel(4, ChannelKind.SINK, THING)), connecting)


def test_contracts_go_in_as_many_messages_as_the_peer_takes_and_one_that_is_too_long_in_none() -> (
    None
):
    listening, connecting = linked()
    deliver(listening.encode(SendNote(Note(max_message=100))), connecting)
    tags = [TagDescriptor("t" * length) for length in (20, 30, 200, 10, 20, 20)]
    messages = connecting.encode(SendContracts([ContractAction(Verb.OBSERVE, tag) for tag in tags]))
    assert len(messages) == 2
    assert max(map(len, messages)) <= 100
    heard = deliver(messages, listening)
    assert [event.descriptor for event in heard if isinstance(event, ContractAction)] == [
        *tags[:2],
        *tags[3:],
    ]
    assert [(said, size > 200) for said, size in connecting.oversized] == [(tags[2], True)]
    assert connecting.encode(SendContracts([ContractAction(Verb.OBSERVE, tags[2])])) == []
