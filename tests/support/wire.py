"""Sessions of the wire protocol, linked without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hakuban._descriptors import ObjectDescriptor
from hakuban._limits import Limits
from hakuban._session_events import ChannelKind, OpenChannel
from hakuban._wire import Session

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from hakuban._session_events import PeerEvent

T = TypeVar("T")
THING = ObjectDescriptor(["tag"], {"id": 1})


def finished(steps: Generator[None, None, T]) -> T:
    """Run all steps of something, and give what comes of it."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def deliver(messages: Iterable[bytes], session: Session) -> list[PeerEvent]:
    """Let a session read messages; give all events."""
    return [
        event
        for message in messages
        for event in session.receive(message)
        if event is not None  # only a turn for others
    ]


def linked(limits: Limits | None = None) -> tuple[Session, Session]:
    """A listening and a connecting session that have introduced themselves."""
    limits = limits or Limits()
    listening = Session(listening=True, name="listener", limits=limits)
    connecting = Session(listening=False, name="connector", limits=limits)
    deliver(listening.opening(), connecting)
    deliver(connecting.opening(), listening)
    return listening, connecting


def with_channel(
    kind: ChannelKind, channel: int = 2, limits: Limits | None = None
) -> tuple[Session, Session]:
    """A sending and a receiving session with one data channel between them."""
    listening, connecting = linked(limits)
    deliver(listening.encode(OpenChannel(channel, kind, THING)), connecting)
    return (listening, connecting) if kind is ChannelKind.STREAM else (connecting, listening)
