"""How links end: the reason in words for users, and the code and reason that the other side receives."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import anyio

from .._exceptions import (
    CircleError,
    HakubanError,
    InvalidURLError,
    LinkError,
    LinkTimeoutError,
    PeerViolationError,
)
from .._text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._transport.interface import MessageStream


STREAM_ERRORS = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""What a stream raises when its link is gone."""

E = TypeVar("E", bound=Exception)

CloseReason: TypeAlias = tuple[int, str]
"""Close code and reason."""

LEAVING: CloseReason = (1000, "")
"""What a connecting side sends when it is cancelled, or leaves."""

GOING_AWAY: CloseReason = (1001, "the listener is closing")
"""The same of a listening side."""

_MOST_CAUSES = 3  # of a group, in words

# For exceptions without a text; the first kind that fits.
_DESCRIPTIONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nobody listens there"),
    (ConnectionResetError, "the other side, or the network, reset the connection"),
    (ConnectionError, "the connection broke"),
    (anyio.EndOfStream, "the other side closed the link"),
    (anyio.ClosedResourceError, "this side closed the link"),
    (anyio.BrokenResourceError, "the connection broke"),
)


def describe(error: BaseException) -> str:
    """Return what an exception means, in a line that is never empty and may be shown on a terminal."""
    if isinstance(error, BaseExceptionGroup):
        leaves = _leaves(error)
        more = len(leaves) - _MOST_CAUSES
        text = "; ".join(dict.fromkeys(describe(leaf) for leaf in leaves[:_MOST_CAUSES]))
        return f"{text}; and {more} more" if more > 0 else text
    text = _text(error)
    if isinstance(error, PeerViolationError):
        about = "" if error.descriptor is None else f" ({printable(str(error.descriptor))})"
        return f"the other side broke the protocol: {text}{about}"
    kind = type(error).__name__
    if isinstance(error, InvalidURLError):
        return error.reason  # the caller states where
    if text and isinstance(error, (HakubanError, *STREAM_ERRORS)):
        return text
    if text and text != kind:
        return f"{kind}: {text}"  # "division by zero", "'key'": too little without
    if error.__cause__ is not None:
        return describe(error.__cause__)
    return next((text for of, text in _DESCRIPTIONS if isinstance(error, of)), kind)


def _text(error: BaseException) -> str:
    try:
        return printable(str(error)).strip()
    except Exception:  # noqa: BLE001  # a class of somebody else's
        return ""


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def single(error: Exception) -> Exception:
    """Take one exception out of the groups that a transport's task groups have put it into.

    Several together, none of them a bug, become one LinkError that states all of them.
    """
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, ExceptionGroup) and not is_bug(error):
        return _caused(LinkError(describe(error)), error)
    return error


def is_bug(error: BaseException) -> bool:
    """Return whether an exception is one that nobody has foreseen: neither an error of ours, nor a link that broke."""
    return not all(isinstance(leaf, (HakubanError, *STREAM_ERRORS)) for leaf in _leaves(error))


def located(error: Exception, url: str) -> Exception:
    """Return an exception with a text, and with a note of where it came up: what users get to see of it.

    :param url: where the link leads, or where it came to, fit to be shown.
    """
    try:
        if not _text(error):
            error.args = (describe(error),)
        note = f"link: {url}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        mute = not _text(error)  # its class makes the text of something else
    except Exception:  # noqa: BLE001  # a class of somebody else's, which takes neither
        mute = True
    if mute:
        return located(_caused(LinkError(describe(error)), error), url)
    if isinstance(error, LinkError):
        error.url = url
    return error


_FOREIGN: Final = "a cancellation came out of the transport, and nobody had asked for one"


class ForeignCancellation:
    """A block out of which a cancellation that nobody asked for comes as an error: on asyncio, libraries let them out.

    (They cancel a future of their own, and wait for it.) It would end whoever waits, without a word.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if _is_foreign(error):
            raise RuntimeError(_FOREIGN) from error


class Guard:
    """A block of a link, whose failure is the end of the link and nobody else's.

    :param fail: called with the reason.
    """

    __slots__ = ("_fail",)

    def __init__(self, fail: Callable[[Exception], None]) -> None:
        self._fail = fail

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        if isinstance(error, STREAM_ERRORS):
            self._fail(lost(error))
        elif isinstance(
            error, Exception
        ):  # a transport's code, on a peer's bytes: whoever reports it sorts it
            self._fail(single(error))
        elif error is not None and _is_foreign(error):
            self._fail(_caused(RuntimeError(_FOREIGN), error))
        else:
            return False
        return True


def _is_foreign(error: BaseException | None) -> bool:
    asyncio = sys.modules.get("asyncio")
    if error is None or asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


def not_entered(error: Exception, patience: float) -> Exception:
    """Return the reason why a transport could not be entered.

    :param patience: seconds that it was allowed.
    """
    error = single(error)
    if isinstance(error, TimeoutError) and not _text(error):
        return _caused(TimeoutError(f"no answer within {patience:g} s"), error)
    return error


def lost(error: Exception) -> LinkError:
    """Return the reason for what a stream has raised."""
    return _caused(LinkError(describe(error)), error)


def _caused(error: E, cause: BaseException) -> E:
    error.__cause__ = cause
    return error


def closed_by_peer(stream: MessageStream) -> LinkError:
    """Return the reason for the end of a stream that the other side has closed in good order."""
    code = getattr(stream, "close_code", None)
    reason = getattr(stream, "close_reason", None)
    text = f": {reason}" if reason else ""
    return LinkError(f"the other side closed the link ({code or 'no code'}){text}", code=code)


def close_code_for(reason: Exception | None, default: CloseReason) -> CloseReason:
    """Return what to close a stream with, for a reason that it ends; `default` if nobody is to blame."""
    if isinstance(reason, (PeerViolationError, CircleError)):
        return reason.code, reason.reason
    if isinstance(reason, LinkTimeoutError):
        return 1001, str(reason)
    if type(reason) is LinkError and reason.code == 1000:
        return 1000, reason.reason  # the peer has left by a word of the protocol
    if reason is not None and is_bug(reason):
        return 1011, "internal error"
    return default
