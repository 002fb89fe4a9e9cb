"""The other end of a machine's link, in the hands of a test: sends and receives one thing at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hakuban._contents import Content
from hakuban._core.events import LinkDown, LinkUp
from hakuban._session_events import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    CloseChannel,
    ContractAction,
    OpenChannel,
    PeerLimited,
    SendContracts,
    SendState,
    StateReceived,
    SynchronizedReceived,
    Verb,
)

from .machines import FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakuban._contents import Version
    from hakuban._core import Machine
    from hakuban._descriptors import ObjectDescriptor
    from hakuban._exceptions import LinkError
    from hakuban._session_events import Instruction, PeerEvent

    from .machines import Node, Target


class Peer:
    """A peer of one node, above it or below it."""

    def __init__(self, node: Node, *, above: bool) -> None:
        self.node = node
        self.link = node.machine.new_link()
        self._last_channel = 1
        node.handle(LinkUp(self.link, above))

    def send(self, event: PeerEvent) -> None:
        """Send something to the node."""
        self.node.receive(self.link, event)

    def receive(self, most: int = 1_000_000) -> list[Instruction]:
        """Take what the node has to say, up to so many things."""
        heard: list[Instruction] = []
        while len(heard) < most and (instruction := self.node.pull(self.link)) is not None:
            heard.append(instruction)
        return heard

    def send_all(self, events: Sequence[PeerEvent]) -> None:
        """Send many things in one go, as the shell does it: what was not taken is sent again, in another step."""
        while events:
            taken = self.node.call(partial(self._send_some, events))
            events = events[taken:]

    def _send_some(self, events: Sequence[PeerEvent], machine: Machine) -> int:
        taken, fault = machine.receive(self.link, events, self.node.world.now)
        assert fault is None
        return taken

    def receive_all(self) -> list[Instruction]:
        """Take all that the node has to say, as the shell does it: in batches, until there is no more."""
        heard: list[Instruction] = []
        more = True
        while more:
            batch, more = self.node.call(self._receive_some)
            heard += batch
        return heard

    def _receive_some(self, machine: Machine) -> tuple[list[Instruction], bool]:
        return machine.next_batch_for(self.link, self.node.world.now)

    def leave(self) -> None:
        """End the link."""
        self.node.handle(LinkDown(self.link))

    @property
    def fault(self) -> LinkError | None:
        """For what the node has ended the link."""
        return self.node.faults.get(self.link)

    def publish(self, channel: int, data: bytes, version: Version, age: int = 0) -> None:
        """Send a state on a channel; the age is in microseconds."""
        self.send(StateReceived(channel, Content(data, FORMAT, version), age))

    def set_synchronized(self, channel: int, age: int) -> None:
        """Send how old the last state of a channel is, in microseconds."""
        self.send(SynchronizedReceived(channel, age))


class Below(Peer):
    """A peer that has connected to the node: it wants and can produce objects."""

    def __init__(self, node: Node, *limit: tuple[float, int]) -> None:
        super().__init__(node, above=False)
        if limit:
            self.limit(*limit)

    def limit(self, *points: tuple[float, int]) -> None:
        self.send(PeerLimited(points))

    def observe(self, target: Target) -> None:
        self.send(ContractAction(Verb.OBSERVE, target))

    def unobserve(self, target: Target) -> None:
        self.send(ContractAction(Verb.UNOBSERVE, target))

    def expose(self, target: Target, capacity: int = 1) -> None:
        self.send(ContractAction(Verb.EXPOSE, target, capacity))

    def unexpose(self, target: Target) -> None:
        self.send(ContractAction(Verb.UNEXPOSE, target))

    def set_capacity(self, target: Target, capacity: int) -> None:
        self.send(ContractAction(Verb.SET_CAPACITY, target, capacity))


class Above(Peer):
    """A peer that the node has connected to: it opens channels."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, above=True)

    def open(self, kind: ChannelKind, descriptor: ObjectDescriptor) -> int:
        self._last_channel += 1
        self.send(ChannelOpened(self._last_channel, kind, descriptor))
        return self._last_channel

    def feed(self, descriptor: ObjectDescriptor) -> int:
        """Open a channel on which states of an object will come down."""
        return self.open(ChannelKind.STREAM, descriptor)

    def demand(self, descriptor: ObjectDescriptor) -> int:
        """Open a channel on which states of an object have to come up."""
        return self.open(ChannelKind.SINK, descriptor)

    def close(self, channel: int) -> None:
        self.send(ChannelClosed(channel))


def opened(heard: list[Instruction], kind: ChannelKind) -> list[int]:
    """Give the channels of a kind that were opened."""
    return [item.channel for item in heard if isinstance(item, OpenChannel) and item.kind is kind]


def closed(heard: list[Instruction]) -> list[int]:
    """Give the channels that were closed."""
    return [item.channel for item in heard if isinstance(item, CloseChannel)]


def sent(heard: list[Instruction]) -> list[bytes]:
    """Give the data of the states that were sent."""
    return [item.content.data for item in heard if isinstance(item, SendState)]


def announced(heard: list[Instruction]) -> list[tuple[Verb, str, int]]:
    """Give the contracts that were announced: verb, name and capacity."""
    batches = [item.actions for item in heard if isinstance(item, SendContracts)]
    return [(item.verb, str(item.descriptor), item.capacity) for batch in batches for item in batch]
