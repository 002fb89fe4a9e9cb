"""Links whose key is taken off the list while they are up. libzmq asks about a key when a connection is made, and never again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from hakuban.transport import RefusedError, get_logger

if TYPE_CHECKING:
    from hakuban.transport import Liveness

    from ._curve import AllowList

logger = get_logger("hakuban.zmq")

_PERIOD: Final = 3.0
"""Seconds from one look at the list to the next."""
_REVOKED: Final = "the key of this link is no longer on the list of those let in"


class Link(Protocol):
    """A link that is up."""

    remote_address: str

    def expel(self, reason: str, /) -> None:
        """End it, and tell the other side why."""


class Revocation:
    """Ends the links of keys that were found missing twice in turn, since a file may just be replaced: within 6 s.

    A list that cannot be read ends nobody's link, as it lets nobody in.

    :param allowed: None where there is no list.
    """

    def __init__(self, allowed: AllowList | None) -> None:
        self._allowed = allowed
        self._links: WeakKeyDictionary[Link, bytes] = WeakKeyDictionary()
        self._missing: frozenset[bytes] = frozenset()

    def begin(self, liveness: Liveness) -> None:
        """Have `check` called."""
        if self._allowed is not None:
            liveness.watch(self, 0.0)

    def admit(self, key: str) -> None:
        """Look at the key of somebody who says hello: the connection may be older than the list.

        :raises RefusedError: it was taken off.
        """
        if self._allowed is not None and key.encode() not in self._allowed.known:
            raise RefusedError(_REVOKED, retry=False)

    def watch(self, link: Link, key: str) -> None:
        """Watch over a link that is up."""
        if self._allowed is not None:
            self._links[link] = key.encode()

    def check(self, now: float) -> float:
        """Look at the list; called by `Liveness`."""
        keys = frozenset(self._links.values())
        missing = self._allowed.without(keys) if keys and self._allowed is not None else keys
        for link, key in [*self._links.items()]:
            if key in missing and key in self._missing:
                logger.info(
                    "%s: its key is not allowed any more: %s", link.remote_address, key.decode()
                )
                link.expel(_REVOKED)
                del self._links[link]
        self._missing = missing
        return now + _PERIOD
