"""What the two nodes of a link have sent each other in notes."""

from __future__ import annotations

from typing import Generic, TypeVar

NEVER = -(2**100)  # nanoseconds: less than any base of a clock

R = TypeVar("R")


class LinkNotes(Generic[R]):
    """What the two nodes of a link have sent each other in notes, and what is to be sent.

    :param R: the type of objects' records.
    :ivar note_received: whether the peer has sent a note: then it gets more than the first one.
    :ivar due: whether there may be something to send.
    :ivar restate: whether the clock is to be sent, changed or not.
    :ivar node: the id of the peer; "" where it has sent none.
    :ivar above: the nodes above the peer, from the nearest on: (id, name) each.
    :ivar peer_clock: the base of the peer's clock; NEVER where it has sent none.
    :ivar ignored: (descriptor, reason) of what is ignored here, to be reported.
    :ivar held: objects of which the version to be exceeded is to be sent.
    :ivar misread: whether it was reported that a note of the peer's did not decode.
    :ivar sent_ignored: the descriptors of ignored things that were reported, or are going to be.
    :ivar reported: how many things the peer has reported as ignored.
    """

    __slots__ = (
        "above", "due", "held", "ignored", "misread", "name", "node", "note_received", "peer_clock", "reported",
        "restate", "sent_above", "sent_clock", "sent_ignored",
    )  # fmt: skip

    def __init__(self) -> None:
        self.note_received: bool = False
        self.due: bool = False
        self.restate: bool = False
        self.node: str = ""
        self.name: str = ""
        self.above: tuple[tuple[str, str], ...] = ()
        self.peer_clock: int = NEVER
        self.sent_clock: int = NEVER
        self.sent_above: tuple[tuple[str, str], ...] = ()
        self.ignored: list[tuple[str, str]] = []
        self.held: dict[R, None] = {}
        self.misread: bool = False
        self.sent_ignored: set[str] = set()
        self.reported: int = 0
