"""Links whose key is taken off the list while they are up: the handshake asks about a key, and nobody asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from hakuban.transport import RefusedError, get_logger

if TYPE_CHECKING:
    from hakuban.transport import Heartbeats

    from ._allow_list import AllowList

logger = get_logger("hakuban.zmq")

_PERIOD: Final = 2.0
"""Seconds, at the least, from one look at the list that counts to the next: while unknown peers ask there are more."""
_AGAIN: Final = 0.25
"""Seconds after which it is asked again whether there was another look."""
_REVOKED: Final = "the key of this link is no longer on the list of those let in"


class Link(Protocol):
    """A link that is up."""

    remote_address: str

    def revoke(self, reason: str, /) -> None:
        """End it, and send the other side the reason."""


class Revocation:
    """Ends the links of keys that two looks in turn did not find, since a file may just be replaced: within 10 s.

    Directories are looked at by `AllowList.watch`, never here. One that cannot be read ends nobody's link, as it lets
    nobody in.

    :param allowed: None where there is no list.
    """

    def __init__(self, allowed: AllowList | None) -> None:
        self._allowed = allowed
        self._links: WeakKeyDictionary[Link, bytes] = WeakKeyDictionary()
        self._missing: frozenset[bytes] = frozenset()
        self._looks = 0

    def begin(self, heartbeats: Heartbeats) -> None:
        """Have `check` called."""
        if self._allowed is not None:
            heartbeats.watch(self, 0.0)

    def admit(self, key: str) -> None:
        """Look at the key of somebody who sends HELLO: the connection may be older than the list.

        :raises RefusedError: it was taken off.
        """
        if self._allowed is not None and key.encode() not in self._allowed.known:
            raise RefusedError(_REVOKED, retry=False)

    def watch(self, link: Link, key: str) -> None:
        """Watch over a link that is up."""
        if self._allowed is not None:
            self._links[link] = key.encode()

    def check(self, now: float) -> float:
        """Compare the links with the list, if there was another look at it; called by `Heartbeats`."""
        if self._allowed is None or self._allowed.looks == self._looks:
            return now + _AGAIN
        self._looks = self._allowed.looks
        self._compare(self._allowed.known)
        return now + _PERIOD

    def _compare(self, known: frozenset[bytes]) -> None:
        missing = frozenset(self._links.values()) - known
        gone = missing & self._missing
        for link, key in [*self._links.items()] if gone else ():
            if key in gone:
                logger.info(
                    "%s: its key is not allowed any more: %s", link.remote_address, key.decode()
                )
                link.revoke(_REVOKED)
                del self._links[link]
        self._missing = missing
