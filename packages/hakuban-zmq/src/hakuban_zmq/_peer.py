"""Somebody who said hello to a listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hakuban.transport import get_logger

from ._frames import Refusal

if TYPE_CHECKING:
    import anyio

    from hakuban.transport import RefusedError

    from ._listener import Listener
    from ._stream import ZeroMQStream

logger = get_logger("hakuban.zmq")


class Peer:
    """Somebody who said hello, by the name that the ROUTER has for its connection.

    :param session: what it calls the link.
    :ivar address: text for people.
    :ivar key: what it has proven to own; empty without CURVE.
    :ivar question: open while an authorising plugin is asked; None before.
    :ivar stream: None until it was let in.
    """

    __slots__ = (
        "_listener",
        "address",
        "descriptor",
        "key",
        "name",
        "question",
        "session",
        "stream",
    )

    def __init__(
        self,
        listener: Listener,
        name: bytes,
        descriptor: int | None,
        session: bytes,
        address: str,
        key: str,
    ) -> None:
        self._listener = listener
        self.name = name
        self.descriptor = descriptor
        self.session = session
        self.address = address
        self.key = key
        self.question: anyio.CancelScope | None = None
        self.stream: ZeroMQStream | None = None

    def send(self, data: bytes, /) -> bool:
        return self._listener.send(self.name, data, told=True)

    def look(self) -> bool:
        return self._listener.look()

    def forget(self) -> None:
        self._listener.forget(self)

    def refuse(self, refusal: RefusedError) -> None:
        """Say no."""
        logger.info("%s: refused: %s", self.address, refusal.reason)
        answer = Refusal(refusal.reason, refusal.retry, refusal.code)
        self._listener.send(self.name, answer.encode(self.session))

    def hear(self, data: bytes) -> bool:
        """Take a frame; False when there is no such session."""
        return self.stream is not None and self.stream.hear(data)

    def lose(self, reason: str) -> None:
        """The link, or what was to become one, is gone."""
        if self.stream is not None:
            self.stream.lose(reason)
        elif self.question is not None:
            self.question.cancel()
