"""Who waits at which place. Under the lock only; whoever is to be woken is woken outside it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._loops.wakeups import Waiter


class Parking:
    """Waiters by their places: whatever they wait for a change of.

    :param later: has something done outside the lock.
    :ivar places: the waiters at each.
    """

    __slots__ = ("_later", "places")

    def __init__(self, later: Callable[[Callable[[], None]], None]) -> None:
        self._later = later
        self.places: dict[object, dict[Waiter, None]] = {}

    def add(self, place: object, waiter: Waiter) -> None:
        """Have a waiter woken by the next `wake` of a place."""
        self.places.setdefault(place, {})[waiter] = None

    def remove(self, place: object, waiter: Waiter) -> None:
        """Forget a waiter; nothing if it was woken."""
        waiters = self.places.get(place)
        if waiters is not None and waiter in waiters:
            del waiters[waiter]
            if not waiters:
                del self.places[place]

    def wake(self, place: object) -> None:
        """Have everybody woken who waits at a place."""
        waiters = self.places.get(place)
        if waiters is not None:
            # first, or an interruption could lose them
            for waiter in waiters:
                self._later(waiter.wake)
            del self.places[place]

    def wake_all(self) -> None:
        """Have everybody woken."""
        for place in list(self.places):
            self.wake(place)

    def wake_some(self, most: int) -> None:
        """Have one woken at each of a few places, so that they look at the time."""
        for place in list(islice(self.places, most)):
            waiter = next(iter(self.places[place]))
            self._later(waiter.wake)
            # from here on another thread may wake it, and take it out there
            self.remove(place, waiter)
