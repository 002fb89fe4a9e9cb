"""What a link asks of whoever connected, or listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .._remote import Peer
    from .link_peer import LinkPeer
    from .link_writer import Writers
    from .message_sizes import SizeCap, SizedLink


class LinkOwner(Protocol):
    """Who wants to know about a link. Called under the lock.

    :ivar careful: whether nothing is announced before the other side has stated who is above it.
    :ivar max_taken: bytes of the largest message that the other side takes, as it stated on an earlier link; or None.
    :ivar writers: where its links write.
    """

    careful: bool
    max_taken: int | None
    writers: Writers

    def established(self, peer: LinkPeer, remote: Peer) -> str:
        """The peer has sent its name; return what is to be logged beside that."""
        ...

    def lost(self, remote: Peer | None, reason: Exception | None) -> None:
        """The link has ended; without a reason, this side wanted it."""
        ...

    def size_cap(self, link: SizedLink) -> SizeCap | None:
        """Return what was learnt of the size of messages that the peer takes."""
        ...
