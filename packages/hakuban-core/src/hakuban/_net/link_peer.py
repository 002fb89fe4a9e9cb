"""The other side of a link, as far as its stream and its notes show it."""

from __future__ import annotations

import math
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._remote import Identity
    from .._transport.interface import MessageStream
    from .._wire import Session


OVERDUE: Final = 1.5  # keep-alives


class LinkPeer:
    """Reads the optional attributes of a stream, which is somebody else's code.

    :ivar address: where the peer is, text for people; "" before `look`.
    :ivar identity: who it is, as an authorising plugin states it.
    :ivar last_message: the monotonic time at which a message was last received.
    """

    __slots__ = ("_session", "_stream", "address", "identity", "last_message")

    def __init__(self, stream: MessageStream, session: Session) -> None:
        self._stream = stream
        self._session = session
        self.address: str = ""
        self.identity: Identity | None = None
        self.last_message: float = monotonic()

    def look(self) -> None:
        """Read what does not change."""
        self.address = str(getattr(self._stream, "remote_address", None) or "")
        self.identity = getattr(self._stream, "identity", None)

    @property
    def node(self) -> str:
        """The id of its node, which is one of this project; "" where it has not sent it."""
        return self._session.peer_node

    @property
    def max_taken(self) -> int | None:
        """Bytes of the largest message that it takes; None where it has not stated that."""
        return self._session.max_taken

    @property
    def ours(self) -> bool | None:
        """Whether it is a node of this project; None while that is not known."""
        return True if self.node else getattr(self._stream, "peer_is_ours", None)

    @property
    def last_heard(self) -> float:
        """The monotonic time at which anything was last received from it, signs of life included."""
        heard: object = None
        with suppress(Exception):  # somebody else's property
            heard = getattr(self._stream, "last_heard", None)
        if not isinstance(heard, (int, float)) or math.isnan(heard):
            return self.last_message
        return max(self.last_message, min(heard, monotonic()))

    def overdue(self, keep_alive: float) -> bool:
        """Return whether it has been silent for so long that nothing it has sent can be called current."""
        return monotonic() - self.last_heard > OVERDUE * keep_alive

    @property
    def stated_clock(self) -> int | None:
        """What a listening side has stated as its clock in the handshake, Unix nanoseconds."""
        clock = getattr(self._stream, "peer_clock", None)
        return clock if isinstance(clock, int) and 0 <= clock < 2**63 else None
