"""What the other side of a link may send, and when it may send more. Pure."""

from __future__ import annotations

from hakuban.transport import PeerViolationError, ReadAhead

from ._frames import Window


class ReceiveCredit:
    """Credit that this side grants. What may come still and what lies here unread are never more than the window.

    They are all of it while messages are handled quickly, and otherwise what can be handled soon: what is on its way, in
    ZeroMQ and in both operating systems, goes before each newer value too.

    :param window: the most, and what the other side has to begin with.
    :ivar read_ahead: is notified of how long handling takes.
    """

    __slots__ = ("_chunks", "_size", "_taken", "_taken_chunks", "_window", "read_ahead")

    def __init__(self, window: Window) -> None:
        self._window = window
        self._size, self._chunks = window.size, window.chunks
        self._taken = self._taken_chunks = 0
        self.read_ahead = ReadAhead(window.size)

    def spend(self, size: int) -> None:
        """A chunk has come.

        :raises PeerViolationError: there was no credit for it.
        """
        if self._size <= 0 or self._chunks <= 0:
            raise PeerViolationError("it sent more than it was granted")
        self._size -= size
        self._chunks -= 1

    def take(self, size: int, *, unfinished: bool) -> Window | None:
        """A chunk was taken by the reader; return what is granted with that, if it is worth a frame.

        :param unfinished: whether the reader waits for the rest of a message: that is no reading ahead.
        """
        self.read_ahead.came(size)
        self._taken += size
        self._taken_chunks += 1
        window = self._window
        wanted = window.size if unfinished else self.read_ahead.size
        wanted_chunks = max(1, window.chunks * wanted // window.size)
        # the rest of the window is kept back
        grant = Window(
            max(0, self._taken - window.size + wanted),
            max(0, self._taken_chunks - window.chunks + wanted_chunks),
        )
        if 4 * grant.size < wanted and 4 * grant.chunks < wanted_chunks:
            return None
        self._taken -= grant.size
        self._taken_chunks -= grant.chunks
        self._size += grant.size
        self._chunks += grant.chunks
        return grant
