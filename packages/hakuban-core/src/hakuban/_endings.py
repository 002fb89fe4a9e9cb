"""How links end: the reason that users hear, and the word that the other side hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import anyio

from ._exceptions import LinkError, LinkTimeoutError, PeerViolationError

if TYPE_CHECKING:
    from .transport import MessageStream

__all__ = ["BROKEN", "Farewell", "closed_by_peer", "farewell", "lost"]

BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""What a stream raises when its link is gone."""

Farewell: TypeAlias = tuple[int, str]
"""Close code and reason."""


def lost(error: Exception) -> LinkError:
    """Give the reason for what a stream has raised."""
    reason = LinkError(str(error) or "the link was lost")
    reason.__cause__ = error
    return reason


def closed_by_peer(stream: MessageStream) -> LinkError:
    """Give the reason for the end of a stream that the other side has closed in good order."""
    code = getattr(stream, "close_code", None)
    reason = getattr(stream, "close_reason", None)
    said = ": " + reason if reason else ""
    return LinkError(f"the other side closed the link ({code or 'no code'}){said}", code=code)


def farewell(reason: Exception | None, goodbye: Farewell) -> Farewell:
    """Give what to close a stream with, for a reason that it ends; `goodbye` if nobody is to blame."""
    if isinstance(reason, PeerViolationError):
        return reason.code, reason.reason
    if isinstance(reason, LinkTimeoutError):
        return 1001, str(reason)
    if type(reason) is LinkError and reason.code == 1000:
        return 1000, reason.reason  # the peer has left by a word of the protocol
    return goodbye
