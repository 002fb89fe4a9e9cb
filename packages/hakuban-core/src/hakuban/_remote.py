"""What is known of the other side of a link, and of a connection: values, which users see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._plain_values import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer is, as an authorising plugin states it.

    :ivar name: text for people and logs.
    :ivar claims: whatever the plugin wants to remember.
    :raises TypeError: the name is no text.
    """

    name: str
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", plain_text("the name of an identity", self.name))


@dataclass(frozen=True, slots=True)
class Peer:
    """The node on the other side of a link.

    Name and address are as they came: before they go to a terminal, `hakuban.transport.printable` takes control
    characters out; `repr` does that too.

    :ivar id: the number of the link; links of a node are numbered in the order of their making.
    :ivar name: the name that the node gave itself.
    :ivar address: its address, text for people.
    :ivar upstream: whether this side connected to it, and not the other way round.
    :ivar identity: who it is, as an authorising plugin of the listening side states it; None without one.
    """

    id: int
    name: str
    address: str
    upstream: bool
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One state of a `Connection`.

    :ivar up: whether there is an established link.
    :ivar remote: the node on the other side while up, else None.
    :ivar error: why there is no link; None while up, and before the first attempt has failed.
    :ivar attempts: attempts that have failed since there was a link.
    """

    up: bool = False
    remote: Peer | None = None
    error: Exception | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionCounters:
    """What a `Connection` has carried since its block was entered, all links together.

    :ivar messages_in: messages received.
    :ivar messages_out: messages sent.
    :ivar bytes_in: bytes of the messages received, without what the transport adds.
    :ivar bytes_out: bytes of the messages sent.
    :ivar reconnects: links established after the first one.
    :ivar states_skipped: states that were not sent, because their message would have been too large.
    """

    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    reconnects: int
    states_skipped: int


@dataclass(slots=True)
class Traffic:
    """Counts, for one link or several; `ConnectionCounters` describes them."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    states_skipped: int = 0
