"""The words that the machine (`_core`) and the session of a link (`_wire`) exchange: values, no bytes, no decisions.

A *channel* is a number that the listening side of a link gives to one flow of states of one object ("U n" of the
protocol; 1 is its control channel). A *stream* flows away from the listening side, a *sink* towards it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ._descriptors import ObjectDescriptor, TagDescriptor
    from ._states import Content


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


# ---- what the machine tells a session to send -----------------------------------------------------------------------


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
    """Say how old the last sent state is. `age` is in microseconds, 0 for "now"."""

    channel: int
    age: int


Instruction: TypeAlias = SendContracts | OpenChannel | CloseChannel | SendState | SendSynchronized


# ---- what a session has read from its peer --------------------------------------------------------------------------


@dataclass(slots=True)
class PeerNamed:
    """The peer said its name."""

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
    """The peer said how old its last state on a channel is. `age` is in microseconds, 0 for "now"."""

    channel: int
    age: int


@dataclass(slots=True)
class ItemIgnored:
    """Something the peer said is over a limit and was left out; the link goes on. `reason` is one line for people."""

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
)
