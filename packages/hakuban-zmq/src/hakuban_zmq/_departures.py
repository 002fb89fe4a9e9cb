"""Peers whose connections have ended, and of whom there may be something to take still. Pure."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """A peer, by the name that the ROUTER has for its connection."""

    name: bytes


P = TypeVar("P", bound=Named)


class Departures(Generic[P]):
    """Says when all that lost peers had said before was taken, however much others say.

    A ROUTER takes from its connections in turn. So from one message of a peer to its next, everybody who has said
    anything is heard: who was not, has nothing left.
    """

    __slots__ = ("_gone", "_heard", "_newly")

    def __init__(self) -> None:
        self._gone: list[P] = []
        self._newly: list[P] = []  # who has left in the middle of a turn
        self._heard: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._gone)

    def add(self, peer: P) -> None:
        """A connection has ended."""
        if self._gone:
            self._newly.append(peer)
        else:
            self._gone.append(peer)
            self._heard.clear()

    def heard(self, name: bytes) -> list[P]:
        """Take note of a message; give those of whom nothing can come any more."""
        if not self._gone:
            return []
        if name not in self._heard:
            self._heard.add(name)
            return []
        silent = [peer for peer in self._gone if peer.name not in self._heard]
        self._gone = [peer for peer in self._gone if peer.name in self._heard] + self._newly
        self._newly = []
        self._heard = {name}
        return silent

    def take(self) -> list[P]:
        """Give all: there are no messages."""
        gone = self._gone + self._newly
        self._gone, self._newly = [], []
        return gone
