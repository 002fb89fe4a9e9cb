"""The clock that default versions are taken from. It never goes back, and a whole tree goes by the clock of its root.

It is the largest of: its last value and the time that has passed since; what was stated from above; the wall clock of
this machine, where nobody of this project is above; what was stated from below, as far as that can be believed. So a
clock that is set back changes nothing, and one that is set forward is followed by the root, and by all below it.

All times in here are Unix nanoseconds; a *base* is what a clock showed at monotonic zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._contents import Version

JUMP: Final = 10_000_000  # nanoseconds by which two clocks may differ unreported
LOOK: Final = 1.0  # seconds between two looks at the wall clock, while somebody wants to know
RESTATE: Final = 600.0  # seconds after which a clock is stated again
_SECOND: Final = 10**9
MOST_REPORTED: Final = 100  # nodes whose clocks are reported
DRIFT: Final = 100e-6  # nanoseconds in a nanosecond by which clocks run apart, which is no jump
PAUSE: Final = 0.5  # seconds from the report of one jump to that of the next, doubled each time while they come
LONGEST_PAUSE: Final = 30.0


def default_version(clock: int) -> Version:
    """Return the version of what is published at a time."""
    return (0, *divmod(clock, _SECOND))


def base_of(clock: int, now: float) -> int:
    """Return the base of what a clock shows now."""
    return clock - int(now * 1e9)


class Clock:
    """The clock of one node.

    :param max_lead: nanoseconds by which nodes below may be ahead of this machine's wall clock.
    :ivar jumped: whether it has jumped forward, and not everybody concerned was notified.
    :ivar look: the monotonic time of the next look at the wall clock; infinity while nobody wants to know.
    :ivar restate: the monotonic time at which it is to be stated again.
    """

    __slots__ = (
        "_base", "_doubted", "_excess", "_followed", "_max_lead", "_pause", "_quiet", "_reported", "_wall", "jumped",
        "look", "restate",
    )  # fmt: skip

    def __init__(self, max_lead: int) -> None:
        self._max_lead = max_lead
        self._base: int | None = None  # None before the wall clock was looked at
        self._excess = 0.0  # by how much it has gone forward of late, beyond what clocks run apart
        self._followed = 0.0  # the monotonic time at which it last did
        self._quiet = -math.inf  # the monotonic time from which a jump may be reported again
        self._pause = PAUSE
        self._wall = 0  # the base of the wall clock
        self._doubted: dict[int, int] = {}  # what links below have stated beyond belief
        self._reported: set[str] = set()  # the nodes that did
        self.jumped: bool = False
        self.look: float = math.inf
        self.restate: float = math.inf

    @property
    def base(self) -> int:
        """What it showed, or would have shown, at monotonic zero."""
        return self._base or 0

    def read(self, now: float) -> int:
        """Return what it shows."""
        return (self._base or 0) + int(now * 1e9)

    def see_wall(self, wall: int, now: float, *, root: bool) -> None:
        """Learn what the wall clock of this machine shows.

        :param root: whether it counts, since nobody of this project is above.
        """
        # written out, since this is done for each state that is set
        before, self._wall = self._wall, wall - int(now * 1e9)
        if root or self._base is None:
            self.follow(self._wall, now)
        if self._doubted and abs(self._wall - before) > JUMP:
            for link, base in list(self._doubted.items()):
                if self._believes(base):
                    del self._doubted[link]
                    self.follow(base, now)

    def follow(self, base: int, now: float) -> None:
        """Go as another clock does, if that is ahead."""
        if self._base is None:
            self._base = base
        elif base > self._base:
            passed = min(now - self._followed, RESTATE)
            self._excess = max(0.0, self._excess + base - self._base - passed * DRIFT * _SECOND)
            self._base = base
            if self._excess > JUMP:
                self._excess = 0.0
                self.jumped = True
        else:
            return
        self._followed = now

    def may_spread(self, now: float) -> bool:
        """Return whether there was a jump that is to be reported now.

        At once, unless another was reported a moment ago: a peer that makes the clock jump all the time must not cause
        everything to be published again each time.
        """
        if not self.jumped or now < self._quiet:
            return False
        self.jumped = False
        calm = now - self._quiet > self._pause
        self._pause = PAUSE if calm else min(2 * self._pause, LONGEST_PAUSE)
        self._quiet = now + self._pause
        return True

    @property
    def deadline(self) -> float:
        """The monotonic time at which there is something to be done; infinity for never."""
        return min(self.look, self._quiet) if self.jumped else self.look

    def follow_below(self, link: int, node: str, base: int, now: float) -> int | None:
        """A node below has stated its clock: follow it if it can be believed.

        :return: nanoseconds by which it is ahead of the wall clock, where that is beyond belief and not yet reported.
        """
        self._doubted.pop(link, None)
        if self._believes(base):
            self.follow(base, now)
            return None
        self._doubted[link] = base
        if node in self._reported or len(self._reported) == MOST_REPORTED:
            return None
        self._reported.add(node)
        return base - self._wall

    def attend(self, now: float) -> None:
        """Somebody wants to know: look at the wall clock soon, and state the clock now and then."""
        self.look = min(self.look, now + LOOK)
        if self.restate == math.inf:
            self.restate = now + RESTATE

    def forget(self, link: int) -> None:
        """A link has ended."""
        self._doubted.pop(link, None)

    def _believes(self, base: int) -> bool:
        return base - self._wall <= self._max_lead
