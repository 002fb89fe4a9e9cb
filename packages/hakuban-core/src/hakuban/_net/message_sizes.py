"""Messages that are too large for a peer: those that are skipped, and what a peer takes that has not stated it."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from .._exceptions import LinkError
from .._logger import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._engine.engine import Engine
    from .._engine.entries import LinkEntry
    from .._remote import Traffic
    from .._wire import Session
    from .link_peer import LinkPeer


TOO_BIG: Final = 1009
REMEMBERED: Final = 600.0  # seconds
AGAIN: Final = 60.0  # seconds within which a further 1009 shows that the last guess was too high
LEAST: Final = 1_024  # bytes: below this nothing could be sent at all
MOST_PEERS: Final = 1_000


class SizedLink(Protocol):
    """A link that has ended, or is about to send.

    :ivar peer: the other side.
    """

    peer: LinkPeer

    @property
    def reason(self) -> Exception | None:
        """Why it ended."""
        ...

    @property
    def largest_sent(self) -> int:
        """Bytes of the largest message that was sent."""
        ...


class Skips:
    """What is not sent on a link since it is too large: reported to the machine, counted, and logged the first time.

    :param traffic: counts for the connection.
    """

    __slots__ = ("_engine", "_limit", "_reported", "_traffic")

    def __init__(self, engine: Engine, traffic: Traffic) -> None:
        self._engine = engine
        self._traffic = traffic
        self._reported = False
        self._limit: int | None = None  # bytes; None where nothing was too large

    def retry_oversized(self, link: LinkEntry, session: Session) -> None:
        """Have sent again what was too large, if the limit has grown since."""
        if self._limit is not None and session.max_sent > self._limit:
            self._limit = None
            self._engine.retry_oversized(link)

    def report(self, link: LinkEntry, session: Session) -> None:
        """Take what a session has skipped."""
        skipped, oversized = session.skipped, session.oversized
        self._limit = session.max_sent
        self._traffic.states_skipped += len(skipped)
        states = [descriptor for descriptor, _ in skipped]
        others = [descriptor for descriptor, _ in oversized]
        self._engine.not_sent(link, states, others)
        if not self._reported:
            self._reported = True
            descriptor, size = (skipped or oversized)[0]
            logger.warning(
                "%s: %s of %s was skipped: its message has %d bytes, the largest that is sent there has %d;"
                " others of this link are not reported",
                link,
                "a state" if skipped else "a contract or channel",
                descriptor,
                size,
                session.max_sent,
            )
        skipped.clear()
        oversized.clear()


class SizeCap:
    """The largest message that is sent to a peer for a while: learnt from links that it, or a proxy, ended with 1009.

    Not thread-safe: it belongs to one event loop.

    :param whom: who it is, for the log.
    """

    __slots__ = ("_last", "_most", "_whom")

    def __init__(self, whom: str) -> None:
        self._whom = whom
        self._most: int | None = None
        self._last = -math.inf

    def most(self, now: float) -> int | None:
        """Return the bytes of the largest message that is sent; None for no such limit."""
        if self._most is not None and now - self._last >= REMEMBERED:
            self._most = None
            logger.info("%s: messages of any size are sent again", self._whom)
        return self._most

    def ended(self, link: SizedLink, now: float) -> None:
        """A link has ended: learn from that, if it was for the size of a message.

        :param now: monotonic seconds.
        """
        taken = link.peer.max_taken
        if not _was_too_big(link):
            return
        if taken is not None and link.largest_sent > taken:  # sent before that was known; now it is
            if self._most is not None and self._most >= taken:
                self._most = None  # a guess, which is of no use any more
            return
        most = self.most(now)
        if most is not None and now - self._last < AGAIN:
            most //= 2
        else:
            largest = link.largest_sent - 1
            most = largest if most is None else min(largest, most)
        self._last = now
        before, self._most = self._most, max(LEAST, most)
        if self._most == before:
            return
        logger.warning(
            "%s: it ended the link since a message was too large (1009); for %g minutes none over %d bytes is sent:"
            " states that do not fit are skipped, and shown with their age",
            self._whom,
            REMEMBERED / 60,
            self._most,
        )


class SizeCaps:
    """The same for all peers of a listener, by their host and the id of their node: without that id nothing is learnt."""

    __slots__ = ("_caps",)

    def __init__(self) -> None:
        self._caps: OrderedDict[tuple[str, str], SizeCap] = OrderedDict()

    def find(self, link: SizedLink) -> SizeCap | None:
        """Return what is known of the peer of a link."""
        return self._caps.get(_key(link))

    def ended(self, link: SizedLink, now: float, others: Iterable[SizedLink]) -> None:
        """A link has ended: learn from that.

        :param others: those that are left. They are looked at only where there is something to learn: when very many links
            end at once, each would look at all others. From a node that has another link nothing is learnt, since it may
            be somebody else who claims its id.
        """
        host, node = key = _key(link)
        if not node or not _was_too_big(link) or any(other.peer.node == node for other in others):
            return
        cap = self._caps.setdefault(key, SizeCap(f"node {node} at {host}"))
        cap.ended(link, now)
        if len(self._caps) > MOST_PEERS:
            self._caps.popitem(last=False)


def _was_too_big(link: SizedLink) -> bool:
    """Return whether the other side has ended a link for the size of a message."""
    reason = link.reason
    return type(reason) is LinkError and reason.code == TOO_BIG


def _key(link: SizedLink) -> tuple[str, str]:
    return _host(link.peer.address), link.peer.node


def _host(address: str) -> str:
    """Take off what differs between connections from one host: the port, or the number of a client in this process."""
    if address.startswith("[") or address.count(":") == 1:
        return address.rpartition(":")[0]
    return address.rstrip("0123456789") if " " in address else address
