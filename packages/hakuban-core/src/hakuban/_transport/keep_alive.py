"""The rule of keep-alive: when a sign of life is due, and when silence has lasted for too long."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .interface import TransportOptions


# Seconds of silence that end a link whose timeout is not set: peers of this project give signs of life, and a
# flooding node of the crate can starve its own socket for seconds.
OUR_TIMEOUT: Final = 6.0
OTHER_TIMEOUT: Final = 20.0

LEAST: Final = 0.01
"""Seconds between two signs of life, at least."""

_LISTENER: Final = (
    0.05  # seconds by which a listener's signs come later: an idle link has one, and not two
)
_LATE: Final = (
    0.05  # seconds by which a check is late because the loop stood still, and not by its timer
)
_LOOK: Final = 0.05  # seconds after the timeout in which a loop that runs reads what has come in
_GRACE: Final = 0.5  # the same for one that has just stood still
_UNREAD: Final = 0.1  # seconds until a link is looked at again that is silent because nobody reads
_MOST_GRACES: Final = 10  # stand-stills in one silence that are made allowance for
_LONGEST: Final = 3600.0  # seconds between two checks, at most


def silence_limit(timeout: float | None, *, ours: bool | None) -> float:
    """Return the seconds of silence that end a link.

    :param timeout: as in the options.
    :param ours: whether the peer is a node of this project; None while that is not known.
    """
    if timeout is not None:
        return timeout
    return OUR_TIMEOUT if ours else OTHER_TIMEOUT


class Verdict(enum.Enum):
    """What is to be done for a link.

    :cvar WAIT: nothing, until it is checked again.
    :cvar SIGN: send a sign of life.
    :cvar END: end the link with LinkTimeoutError, unless what it has received waits unread: then `KeepAlive.spare` it.
    """

    WAIT = enum.auto()
    SIGN = enum.auto()
    END = enum.auto()


class KeepAlive:
    """Decides when a link is to send a sign of life, and when silence ends it: for transports that detect silence.

    It has no clock and does nothing: `check` is called when `due` comes, and returns what to do. All times are those of
    `time.monotonic()`.

    A sign is due when for `options.keep_alive` seconds nothing was received, or nothing was sent, at least 10 ms after
    the one before. Silence ends the link after `options.timeout` seconds *in which this side has run*: a check that
    comes late shows that the event loop has stood still, and the time by which it was late is no silence, since what
    came in meanwhile is not read yet, and nobody was asked for a sign. After that, and before any end, the loop gets
    time to read. Allowance is made for ten stand-stills in one silence, so a peer that is gone is missed in
    bounded time also where each check is late.

    :param options: of which `keep_alive` and `timeout` count.
    :param now: when the link came up.
    :param ours: whether the peer is a node of this project, for the default of the timeout; None while it is not known.
    :param listening: whether this side was connected to.
    :ivar due: when to call `check`, at the latest; never more than an hour ahead.
    :ivar ours: as the parameter; to be set when it becomes known.
    """

    __slots__ = (
        "_asked", "_graces", "_keep_alive", "_looked", "_not_before", "_received", "_stood", "_timeout", "due", "ours",
    )  # fmt: skip

    def __init__(
        self,
        options: TransportOptions,
        now: float,
        *,
        ours: bool | None = True,
        listening: bool = False,
    ) -> None:
        self._keep_alive = max(LEAST, options.keep_alive) + (_LISTENER if listening else 0)
        self._timeout = options.timeout
        self.ours: bool | None = ours
        self._asked = now  # when a sign was last due
        self._received = now
        self._stood = 0.0  # seconds since then in which this side did not run
        self._graces = 0  # allowances made for that
        self._looked = False  # whether the loop had time to read since the silence was too long
        self._not_before = -math.inf  # it ends nothing until then
        self.due: float = now + min(self._keep_alive, self.timeout, _LONGEST)

    @property
    def timeout(self) -> float:
        """Seconds of silence that end the link."""
        return silence_limit(self._timeout, ours=self.ours)

    def check(self, now: float, received: float, sent: float, /) -> Verdict:
        """Return what is to be done now, and set `due` to when to ask again.

        To be called when that has come; earlier does no harm.

        :param received: when something of the other side was last read.
        :param sent: when something was last sent.
        """
        if received > self._received:
            self._received = received
            self._stood = 0.0
            self._graces = 0
            self._looked = False
        late = now - max(self.due, self._received)
        if late > _LATE and self._graces < _MOST_GRACES:
            self._graces += 1
            self._stood += late
            self._not_before = now + _GRACE
        silent_at = max(self._received + self.timeout + self._stood, self._not_before)
        if now >= silent_at:
            if self._looked:
                return Verdict.END
            self._looked = True
            silent_at = self._not_before = now + _LOOK
        return self._plan(now, sent, silent_at)

    def spare(self, now: float, sent: float, /) -> Verdict:
        """Go on with a link that `check` would end, since what it has received waits unread; return what is to be done."""
        return self._plan(now, sent, now + _UNREAD)

    def _plan(self, now: float, sent: float, silent_at: float) -> Verdict:
        sign_at = max(self._asked, min(self._received, sent)) + self._keep_alive
        asks = now >= sign_at
        if asks:
            self._asked = now
            sign_at = now + self._keep_alive
        self.due = min(sign_at, silent_at, now + _LONGEST)
        return Verdict.SIGN if asks else Verdict.WAIT
