"""The bytes of docs/protocol.md, section Notes, are those that sessions write and read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hakuban._session_events import Note, NoteIgnored, NoteReceived, SendNote
from hakuban._wire import Session, notes
from support.wire import deliver, linked

if TYPE_CHECKING:
    from hakuban._session_events import PeerEvent

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
SECTION = PAGE[PAGE.index("\n## Notes\n") : PAGE.index("\n## A conversation\n")]
FORMAT, WRITTEN, READ = re.findall(r"^```text\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
FROM_LISTENER = "0100010200"


@dataclass(frozen=True)
class Vector:
    """A note of the page: what it is about, its JSON text, and the whole message."""

    title: str
    text: str
    message: bytes

    @property
    def listening(self) -> bool:
        """Whether the listening side sends it."""
        return self.message.hex().startswith(FROM_LISTENER)


def vectors() -> list[Vector]:
    found = []
    for paragraph in WRITTEN.strip().split("\n\n"):
        title, text, *lines = paragraph.splitlines()
        found.append(Vector(title, text, bytes.fromhex("".join(lines))))
    return found


def lists_to_tuples(value: Any) -> Any:
    return tuple(map(lists_to_tuples, value)) if isinstance(value, list) else value


def note_of(text: str) -> Note:
    """Make the note of a JSON text, by another reader than the one of the sessions."""
    return Note(**{key: lists_to_tuples(value) for key, value in json.loads(text).items()})


def read(message: bytes) -> list[PeerEvent]:
    """Have the side read a message that it is meant for."""
    listening, connecting = linked()
    return deliver([message], connecting if message.hex().startswith(FROM_LISTENER) else listening)


def test_the_vectors_are_of_both_sides_and_of_every_key() -> None:
    assert {vector.listening for vector in vectors()} == {True, False}
    told = {key for vector in vectors() for key in json.loads(vector.text)}
    assert told == set(Note.__struct_fields__)
    table = re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)
    assert table == list(Note.__struct_fields__)


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.title)
def test_a_note_is_written_and_read_as_the_page_says(vector: Vector) -> None:
    note = note_of(vector.text)
    assert vector.message[5:] == b"hkn1" + vector.text.encode()
    session = Session(listening=vector.listening, name="")
    assert session.encode(SendNote(note)) == [vector.message]
    assert read(vector.message) == [NoteReceived(note)]


@pytest.mark.parametrize("line", READ.splitlines())
def test_what_is_no_note_or_none_that_can_be_read_is_treated_as_the_page_says(line: str) -> None:
    outcome, data = line[:13], re.split(r"   +", line[16:])[0]
    events = read(bytes.fromhex(data))
    match outcome:
        case "means nothing":
            assert events == []
        case "is ignored   ":
            assert [type(event) for event in events] == [NoteIgnored]
        case "says nothing ":
            assert events == [NoteReceived(Note())]
        case _:
            assert events == [NoteReceived(Note(clock=2))]


def test_heads_and_the_greatest_size_are_as_the_page_says() -> None:
    assert f"{notes.LARGEST // 1024} KiB at most" in FORMAT
    for listening in (True, False):
        assert Session(listening=listening, name="").keep_alive().hex(" ") in FORMAT
