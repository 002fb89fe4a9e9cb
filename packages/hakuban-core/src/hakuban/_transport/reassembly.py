"""How much of unfinished messages all links of a listener may hold together."""

from __future__ import annotations

from typing import Final, Protocol

from .._exceptions import PeerViolationError

_LEAST: Final = 64 * 1024
"""Bytes below which a link is not counted: a piece that was read, and a window of small messages."""
_MESSAGES: Final = 4
_MOST: Final = 64 * 1024 * 1024


class Reassembling(Protocol):
    """A link, as `ReassemblyLimit` knows it."""

    def give_up(self, violation: PeerViolationError, /) -> None:
        """Forget what has come of an unfinished message, and end the link."""
        ...


class ReassemblyLimit:
    """Ends the link with the largest unfinished message when all of them together are too much: for listeners.

    Each link may hold one message of `max_message` bytes, of which the last byte never comes. So a listener has one limit
    for all of its links: 64 MiB, or four of the largest messages where that is more. A link with less than 64 KiB counts
    for nothing. Belongs to one event loop.

    :param max_message: bytes of the largest message.
    :ivar most: the limit, in bytes.
    :ivar held: bytes that count at the moment.
    """

    __slots__ = ("_sizes", "held", "most")

    def __init__(self, max_message: int) -> None:
        self.most: int = max(_MOST, _MESSAGES * max_message)
        self.held: int = 0
        self._sizes: dict[Reassembling, int] = {}

    def hold(self, link: Reassembling, size: int) -> None:
        """Note how much of an unfinished message a link holds. Ends a link, perhaps this one, when that is too much.

        :param size: bytes; 0 when there is none, and when the link has ended.
        """
        if size < _LEAST:
            if self._sizes:
                self.held -= self._sizes.pop(link, 0)
            return
        self.held += size - self._sizes.get(link, 0)
        self._sizes[link] = size
        while self.held > self.most:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            size = self._sizes.pop(largest)
            self.held -= size
            largest.give_up(
                PeerViolationError(
                    f"unfinished messages are over {self.most} bytes here, and its {size} were the most of one link",
                    code=1013,
                )
            )
