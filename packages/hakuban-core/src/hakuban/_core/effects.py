"""What a machine asks of its shell. All are level-triggered: acting on one late, or twice, does no harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .._contents import Version, View
    from .._descriptors import ObjectDescriptor


@dataclass(slots=True)
class StreamOpened:
    """An observe contract sees an object.

    :ivar view: what is to be seen of it; None before the first state.
    """

    contract: int
    stream: int
    descriptor: ObjectDescriptor
    view: View | None


@dataclass(slots=True)
class StreamClosed:
    """The contract sees the object no more. What was read stays readable, and is not synchronized.

    :ivar view: what was to be seen last; None before the first state.
    """

    contract: int
    stream: int
    view: View | None


@dataclass(slots=True)
class StateChanged:
    """There is something new to be seen on a stream."""

    stream: int
    view: View


@dataclass(slots=True)
class SinkOpened:
    """An expose contract is assigned to produce an object. The id is the assignment's generation: never used twice."""

    contract: int
    sink: int
    descriptor: ObjectDescriptor


@dataclass(slots=True)
class SinkClosed:
    """The assignment has ended."""

    contract: int
    sink: int


@dataclass(slots=True)
class ObjectKnown:
    """The node knows an object that it did not know before; reported where somebody wants to know, see `World`."""

    descriptor: ObjectDescriptor


@dataclass(slots=True)
class ObjectForgotten:
    """Nobody holds anything of an object any more; reported as above."""

    descriptor: ObjectDescriptor


@dataclass(slots=True)
class LinkReady:
    """`Machine.next_for` has something to send on this link."""

    link: int


@dataclass(slots=True)
class PeerRenamed:
    """The peer of a link sent its name: an upstream link is established with this."""

    link: int
    name: str


@dataclass(slots=True)
class StaleVersion:
    """A published state was ignored: its version is not newer than the held one; reported once for each assignment."""

    descriptor: ObjectDescriptor
    version: Version
    held: Version


@dataclass(slots=True)
class Ignored:
    """One item of a peer's was over a limit, and was ignored; reported once for each link."""

    link: int
    reason: str


@dataclass(slots=True)
class PeerIgnores:
    """The peer of a link ignores something that this node has sent."""

    link: int
    descriptor: str
    reason: str


@dataclass(slots=True)
class ClockDoubted:
    """The clock of a node below is too far ahead of the wall clock here to be followed; reported once for each node.

    :ivar lead: seconds.
    """

    link: int
    lead: float


Effect: TypeAlias = (
    StreamOpened
    | StreamClosed
    | StateChanged
    | SinkOpened
    | SinkClosed
    | ObjectKnown
    | ObjectForgotten
    | LinkReady
    | PeerRenamed
    | StaleVersion
    | Ignored
    | PeerIgnores
    | ClockDoubted
)
