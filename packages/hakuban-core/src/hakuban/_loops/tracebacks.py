"""Exceptions without the frames that they came through.

A frame holds all that its function knew: the link, its session, half a message. An exception that is kept by one of them
makes a circle with it, and so does one that a task ended with (asyncio keeps it with the task): all of that would stay in
memory until the collector comes by, which may be long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def forget_frames(error: BaseException | None) -> None:
    """Take the traceback away from an exception, and from those that have led to it."""
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        BaseException.with_traceback(one, None)  # whatever its class makes of attributes
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions


def forget_cancellation(error: BaseException) -> None:
    """Take the traceback away from a cancellation, and let go of what it came from (on trio a group of them), or in the midst of.

    The latter keeps its own: on trio it may be what the *canceller* was dealing with, a fault that is reported yet.
    """
    BaseException.with_traceback(error, None)
    error.__cause__ = error.__context__ = None


async def contained(scope: anyio.CancelScope, part: Callable[[], Awaitable[object]]) -> None:
    """Run a part of something as a task, of which nothing stays when it is cancelled.

    :param scope: ends the part, and the task without an exception: one of those is kept on asyncio. A cancellation from
        elsewhere comes out without frames.
    """
    with scope:
        try:
            await part()
        except anyio.get_cancelled_exc_class() as error:
            del part  # this frame stays
            forget_cancellation(error)  # caught here or not: on trio a frame of anyio's may keep it
            raise
