"""Signs of life on links whose transport gives none, and does not notice silence either."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ._exceptions import LinkTimeoutError
from ._liveness import OTHER_TIMEOUT, OUR_TIMEOUT

if TYPE_CHECKING:
    from ._links import Link
    from .transport import TransportOptions

__all__ = ["watch"]


async def watch(link: Link, options: TransportOptions) -> None:
    """Have something said now and then, until cancelled.

    :raises LinkTimeoutError: the peer has been silent for too long.
    """
    keep_alive = options.keep_alive
    asked = -keep_alive
    while True:
        timeout = options.timeout
        if timeout is None:
            timeout = OUR_TIMEOUT if link.peer.ours else OTHER_TIMEOUT
        now, heard = monotonic(), link.peer.last_heard
        if now >= heard + timeout:
            raise LinkTimeoutError(timeout)
        due = max(asked, min(heard, link.last_said)) + keep_alive
        if now >= due:
            asked = now
            link.give_sign()
            due = now + keep_alive
        await anyio.sleep(min(due, heard + timeout) - now)
