"""The words that the machine (`_core`) and the session of a link (`_wire`) exchange: values, no bytes, no decisions.

A *channel* is a number that the listening side of a link gives to one flow of states of one object ("U n" of the
protocol; 1 is its control channel). A *stream* flows away from the listening side, a *sink* towards it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from ._limits import MOST_VERSION_ITEMS

if TYPE_CHECKING:
    from ._contents import Content
    from ._descriptors import ObjectDescriptor, TagDescriptor


class ChannelKind(Enum):
    """What a data channel is for, in the words of the listening side."""

    STREAM = "stream"  # ObjectStreamFromUpstream: states flow to the connecting side
    SINK = "sink"  # ObjectSinkToUpstream: the connecting side is the exposer


class Verb(Enum):
    """What a contract action does; the values are the tags of the protocol."""

    OBSERVE = 0
    UNOBSERVE = 1
    EXPOSE = 2
    UNEXPOSE = 3
    SET_CAPACITY = 4


@dataclass(slots=True)
class ContractAction:
    """One contract of a connecting node changes. `capacity` belongs to EXPOSE and SET_CAPACITY only."""

    verb: Verb
    descriptor: ObjectDescriptor | TagDescriptor
    capacity: int = 0


_INT64_MAX: Final = 2**63 - 1

_NodeId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
_Nanoseconds: TypeAlias = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
_Size: TypeAlias = Annotated[int, Meta(ge=1, le=_INT64_MAX)]
_Integer: TypeAlias = Annotated[int, Meta(ge=-_INT64_MAX - 1, le=_INT64_MAX)]
_Version: TypeAlias = Annotated[tuple[_Integer, ...], Meta(max_length=MOST_VERSION_ITEMS)]


class Note(Struct, frozen=True, kw_only=True):
    """How things are with a node of this project: sent to another one beside the protocol (docs/protocol.md, Notes).

    What is UNSET is as it was. A fact that is sent twice, or not at all, does no harm.

    :ivar node: the id of the node that sends this.
    :ivar name: its name.
    :ivar above: the nodes above it, from the nearest on: (id, name) each.
    :ivar max_message: bytes of the largest message that it takes.
    :ivar clock: its version clock, Unix nanoseconds.
    :ivar version: of its software.
    :ivar ignored: what it has ignored of what this side sent: (descriptor, cut, and the reason).
    :ivar held: the versions that are held of objects which this side is about to produce: (tags, object, version), the
        first two as JSON texts.
    """

    node: _NodeId | UnsetType = UNSET
    name: str | UnsetType = UNSET
    above: tuple[tuple[_NodeId, str], ...] | UnsetType = UNSET
    max_message: _Size | UnsetType = UNSET
    clock: _Nanoseconds | UnsetType = UNSET
    version: str | UnsetType = UNSET
    ignored: tuple[tuple[str, str], ...] | UnsetType = UNSET
    held: tuple[tuple[tuple[str, ...], str, _Version], ...] | UnsetType = UNSET


# ---- what the machine has a session send ----------------------------------------------------------------------------


@dataclass(slots=True)
class SendContracts:
    """Announce changed contracts (connecting side only)."""

    actions: list[ContractAction]


@dataclass(slots=True)
class OpenChannel:
    """Open a data channel (listening side only)."""

    channel: int
    kind: ChannelKind
    descriptor: ObjectDescriptor


@dataclass(slots=True)
class CloseChannel:
    """Close a data channel (listening side only)."""

    channel: int


@dataclass(slots=True)
class SendState:
    """Send a state on an open channel. `age` is in microseconds, 0 for "now"."""

    channel: int
    content: Content
    age: int


@dataclass(slots=True)
class SendSynchronized:
    """Send how old the last sent state is. `age` is in microseconds, 0 for "now"."""

    channel: int
    age: int


@dataclass(slots=True)
class SendNote:
    """Report to a peer of this project how things are."""

    note: Note


Instruction: TypeAlias = (
    SendContracts | OpenChannel | CloseChannel | SendState | SendSynchronized | SendNote
)


# ---- what a session has read from its peer --------------------------------------------------------------------------


@dataclass(slots=True)
class PeerNamed:
    """The peer sent its name."""

    name: str


@dataclass(slots=True)
class PeerLimited:
    """The connecting peer declared its load limit: points of (seconds from now, load), sorted; empty is no limit."""

    points: tuple[tuple[float, int], ...]


@dataclass(slots=True)
class ChannelOpened:
    """The listening peer opened a data channel."""

    channel: int
    kind: ChannelKind
    descriptor: ObjectDescriptor


@dataclass(slots=True)
class ChannelClosed:
    """The listening peer closed a data channel."""

    channel: int


@dataclass(slots=True)
class StateReceived:
    """A state arrived, patched and checked. `age` is in microseconds, 0 for "now"."""

    channel: int
    content: Content
    age: int


@dataclass(slots=True)
class SynchronizedReceived:
    """The peer stated how old its last state on a channel is. `age` is in microseconds, 0 for "now"."""

    channel: int
    age: int


@dataclass(slots=True)
class ItemIgnored:
    """Something the peer sent is over a limit, or no JSON, and was left out; the link goes on.

    :ivar reason: one line for people.
    :ivar descriptor: what it was about, as the peer wrote it, as far as it is to be shown.
    """

    reason: str
    descriptor: str = ""


@dataclass(slots=True)
class NoteReceived:
    """The peer is a node of this project, and stated how things are."""

    note: Note


@dataclass(slots=True)
class NoteIgnored:
    """What looked like a note is none. `reason` is one line for people."""

    reason: str


PeerEvent: TypeAlias = (
    PeerNamed
    | PeerLimited
    | ContractAction
    | ChannelOpened
    | ChannelClosed
    | StateReceived
    | SynchronizedReceived
    | ItemIgnored
    | NoteReceived
    | NoteIgnored
)
