"""What links write to the log: one line for one fact. See docs/logging.md."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from .._exceptions import CircleError, PeerViolationError
from .._logger import logger
from .close_codes import describe, is_bug

if TYPE_CHECKING:
    from .._engine.entries import LinkEntry


def link_down(link: LinkEntry, reason: Exception | None, *, reported: bool = False) -> None:
    """Log that a link has ended, in one line.

    :param reason: None when this side wanted it.
    :param reported: whether what may be alarming about it was logged before.
    """
    if reason is None:
        if link.remote is not None:
            logger.info("link down: %s: closed by this side", link)
        return
    level, trace = logging.INFO, None
    if is_bug(reason) and not reported:
        level, trace = logging.ERROR, reason
    elif isinstance(reason, PeerViolationError) and not reported:
        level = logging.WARNING
    logger.log(level, "link down: %s: %s", link, describe(reason), exc_info=trace)


class Outage:
    """Time without a good link, as far as the log goes: its first failure and its end are logged, attempts are not.

    What somebody has to mend, a bug of a transport or a circle, is logged too if it comes later; once for each kind.

    :param url: where the link leads, fit to be shown.
    """

    __slots__ = ("_began", "_recovered", "_reported", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._began: float | None = None
        self._reported: set[type[Exception]] = set()  # kinds that somebody has to mend
        self._recovered = False

    def failed(self, link: LinkEntry | None, error: Exception) -> None:
        """A link was lost, or could not be made."""
        was_up = link is not None and link.remote is not None
        first = self._began is None
        to_mend = is_bug(error) or isinstance(error, CircleError)
        news = to_mend and type(error) not in self._reported
        bug = is_bug(error) and news
        if first:
            self._began = monotonic()
            self._recovered = False
        if news:
            self._reported.add(type(error))
        if first or news:
            logger.log(
                logging.ERROR if bug else logging.WARNING,
                "%s %s: %s; trying again until it works",
                "lost the link to" if was_up else "cannot connect to",
                link if was_up else self._url,
                describe(error),
                exc_info=error if bug else None,
            )
        elif link is not None and was_up:
            link_down(link, error, reported=True)

    def recovered(self, *, again: bool) -> str:
        """A link is up; return what is to be logged beside that. Once for each outage.

        :param again: whether it was up before.
        """
        if self._began is None or self._recovered:
            return ""
        self._recovered = True
        lasted = monotonic() - self._began
        up = "up again" if again else "up"
        return f"; the link to {self._url} is {up} after {lasted:.1f} s"

    def over(self) -> None:
        """A link was good for a while."""
        self._began = None
        self._reported.clear()
