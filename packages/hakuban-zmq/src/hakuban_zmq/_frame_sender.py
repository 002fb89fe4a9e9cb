"""What a stream needs of the socket below it."""

from __future__ import annotations

from typing import Final, Protocol


class FrameSender(Protocol):
    """What sends the frames of a stream; it also takes those that have come, and hands them to the stream.

    :ivar stuck: whether messages have to wait; `ZeroMQStream.resume` is called when that is over.
    """

    @property
    def stuck(self) -> bool: ...

    def send(self, data: bytes, /) -> bool:
        """Hand a frame to ZeroMQ, if it takes it now; then take what has come."""
        ...

    def look(self) -> bool:
        """Take what has come; returns whether there is more than that."""
        ...

    def forget(self) -> None:
        """The stream is closed: nothing that comes is for it."""
        ...


class _ClosedSender:
    """Leads nowhere: what a stream has that was closed."""

    stuck = False

    def send(self, _: bytes, /) -> bool:
        return False

    def look(self) -> bool:
        return False

    def forget(self) -> None:
        pass


CLOSED_SENDER: Final = _ClosedSender()
