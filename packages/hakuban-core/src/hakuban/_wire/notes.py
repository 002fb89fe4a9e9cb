"""Notes: what nodes of this project send each other behind a message of the protocol that has no actions.

Bytes behind a complete message are nobody's, so a note means nothing to a node that does not know notes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import DecodeError
from msgspec.json import Decoder, Encoder

from hakuban._session_events import Note, NoteIgnored, NoteReceived

if TYPE_CHECKING:
    from .reader import Reader

LARGEST: Final = 64 * 1024
"""Bytes of the largest message that carries a note."""

_MAGIC: Final = b"hkn1"

_encode = Encoder().encode
_decode = Decoder(Note).decode


def encoded(note: Note) -> bytes:
    """Write a note, as it stands behind the message."""
    return _MAGIC + _encode(note)


def read(reader: Reader) -> NoteReceived | NoteIgnored | None:
    """Read what stands behind a message that has no actions; None where it is no note."""
    rest = reader.rest()
    if not rest.startswith(_MAGIC):
        return None
    if reader.size > LARGEST:
        return NoteIgnored(f"a note of {reader.size} bytes (limit {LARGEST})")
    try:
        return NoteReceived(_decode(rest[len(_MAGIC) :]))
    except (DecodeError, ValueError, RecursionError) as error:
        return NoteIgnored(f"a note does not decode: {error}")
