"""Runs what a listener was given for its links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._logger import Logger
    from .interface import MessageStream

CLOSING: Final = 5.0  # seconds; `aclose` of a stream that keeps its contract takes less


async def run_handler(
    handler: Callable[[MessageStream], Awaitable[None]],
    stream: MessageStream,
    logger: Logger,
    peer: str,
) -> None:
    """Run the handler of `Transport.serve` for a link that is up, and close its stream, with the code that states why.

    A handler closes its stream and raises nothing: this is for one that does not. Cancellation closes too. Closing takes
    5 s at most.

    :param logger: the transport's, for an exception, which ends this link alone.
    :param peer: who the other side is, text for people.
    """
    code, reason = 1001, "the listener is closed"
    try:
        await handler(stream)
        code, reason = 1000, ""
    except Exception:
        logger.exception("the handler of %s failed", peer)
        code, reason = 1011, "internal error"
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            try:
                await stream.aclose(code, reason)
            except Exception:
                logger.exception("%s: the link could not be closed in good order", peer)
