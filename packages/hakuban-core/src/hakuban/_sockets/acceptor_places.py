"""The places of an acceptor, and which of them are given up when there is none left."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stream import SocketStream

_SILENCE: Final = 2.0
"""Seconds of silence after which a place goes to whoever comes next."""
_LOOKS: Final = 1_000
"""Connections looked at in one go: about 1 ms."""


class Place:
    """What an accepted connection has of an `Acceptor`, which makes it.

    :ivar given_up: whether the connection was sent away: it was silent, and others wanted its place.
    """

    __slots__ = ("_places", "given_up")

    def __init__(self, places: Places) -> None:
        self._places = places
        self.given_up: bool = False

    def watch(self, stream: SocketStream) -> None:
        """Note that the connection has not asked for a link yet: silent for 2 s, it goes when places are short.

        It is cancelled then, wherever it waits.
        """
        self._places.watch(self, stream)

    def keep(self) -> None:
        """Note that it has asked for a link: from now on it keeps its place."""
        self._places.keep(self)


class Places:
    """The places that are taken. The silent who have not asked for a link keep theirs while there are others."""

    def __init__(self) -> None:
        self._taken: dict[Place, anyio.CancelScope] = {}
        # By when anything was last received, as far as is known: that is looked at only when a place is wanted.
        self._unasked: OrderedDict[Place, tuple[float, SocketStream]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    @contextmanager
    def known(self) -> Iterator[None]:
        """Let `send_any_away` find these."""
        known = _KNOWN.get(None)
        if known is None:
            known = []
            _KNOWN.set(known)
        known.append(self)
        try:
            yield
        finally:
            known.remove(self)

    def take(self) -> tuple[Place, anyio.CancelScope]:
        """Return a place, and the scope that is cancelled to end its connection.

        It is shielded, so that connections outlive the listening sockets: whoever is sent away must not come right back
        in.
        """
        place, scope = Place(self), anyio.CancelScope(shield=True)
        self._taken[place] = scope
        return place, scope

    def leave(self, place: Place) -> None:
        """The connection is gone."""
        self.keep(place)
        self._taken.pop(place, None)

    def watch(self, place: Place, stream: SocketStream) -> None:
        """See `Place.watch`."""
        self._unasked[place] = stream.last_received, stream

    def keep(self, place: Place) -> None:
        """See `Place.keep`."""
        self._unasked.pop(place, None)

    def send_away(self, most: int) -> int:
        """Send the silent away, the longest silent first; return how many go.

        :param most: how many.
        """
        gone = 0
        now = time.monotonic()
        for _ in range(min(_LOOKS, len(self._unasked))):
            place, (received, stream) = next(iter(self._unasked.items()))
            if stream.last_received > received:
                self._refresh(place, stream.last_received, stream)
            elif gone == most or now - received < _SILENCE:
                break
            elif stream.has_unread():  # it is we who stood still
                self._refresh(place, now, stream)
            else:
                self._give_up(place)
                gone += 1
        return gone

    def _refresh(self, place: Place, when: float, stream: SocketStream) -> None:
        self._unasked[place] = when, stream
        self._unasked.move_to_end(place)

    def _give_up(self, place: Place) -> None:
        self.keep(place)
        place.given_up = True
        self._taken.pop(place).cancel()

    def end(self) -> None:
        """End all connections."""
        for scope in self._taken.values():
            scope.cancel()


# Those of one event loop, since the tasks of another could not be ended from here.
_KNOWN: RunVar[list[Places]] = RunVar("hakuban.sockets.places")


def send_any_away(most: int) -> int:
    """Do what `Places.send_away` does, with the places of all acceptors of this event loop."""
    gone = 0
    for places in _KNOWN.get(()):
        gone += places.send_away(most - gone)
    return gone
