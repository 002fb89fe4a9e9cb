"""What one state of 100 bytes costs the wire: microseconds of CPU to receive, to encode, to forward.

Run: python benchmarks/wire_bench.py
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from hakuban._contents import Content
from hakuban._descriptors import ObjectDescriptor
from hakuban._session_events import (
    ChannelKind,
    ContractAction,
    OpenChannel,
    SendContracts,
    SendState,
    StateReceived,
    Verb,
)
from hakuban._wire import Session

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 20_000
ROUNDS = 5
SECOND = 1_795_416_259


def contents(count: int) -> list[Content]:
    return [
        Content(b'{"value":%07d,%s}' % (i, b" " * 82), ("JSON",), (0, SECOND, 466_877_000 + i))
        for i in range(count)
    ]


def linked(kind: ChannelKind) -> tuple[Session, Session]:
    """A listening and a connecting session with data channel 2 between them."""
    listening = Session(listening=True, name="listener")
    connecting = Session(listening=False, name="connector")
    opening = listening.encode(OpenChannel(2, kind, ObjectDescriptor(["tag"], {"id": 1})))
    for messages, reader in ((connecting.opening(), listening), (listening.opening(), connecting)):
        for message in messages:
            list(reader.receive(message))
    for message in opening:
        list(connecting.receive(message))
    return listening, connecting


def encode() -> float:
    """Encode states on one link, diff included."""
    states = contents(COUNT)
    listening, _ = linked(ChannelKind.STREAM)
    start = time.process_time()
    for content in states:
        listening.encode(SendState(2, content, 0))
    return time.process_time() - start


def encode_again() -> float:
    """Encode states that another link has encoded before."""
    states = contents(COUNT)
    first, _ = linked(ChannelKind.STREAM)
    second, _ = linked(ChannelKind.STREAM)
    for content in states:
        first.encode(SendState(2, content, 0))
    start = time.process_time()
    for content in states:
        second.encode(SendState(2, content, 0))
    return time.process_time() - start


def receive() -> float:
    """Receive states on one link, patch included."""
    listening, connecting = linked(ChannelKind.STREAM)
    messages = [listening.encode(SendState(2, content, 0))[0] for content in contents(COUNT)]
    start = time.process_time()
    for message in messages:
        for _ in connecting.receive(message):
            pass
    return time.process_time() - start


def forward() -> float:
    """Receive states from an exposer and encode them for an observer, as a router does."""
    router_up, exposer = linked(ChannelKind.SINK)
    router_down, _ = linked(ChannelKind.STREAM)
    messages = [exposer.encode(SendState(2, content, 0))[0] for content in contents(COUNT)]
    held: deque[Content] = deque(maxlen=4)  # as the machine holds the bases of links
    start = time.process_time()
    for message in messages:
        for event in router_up.receive(message):
            assert isinstance(event, StateReceived)
            held.append(event.content)
            router_down.encode(SendState(2, event.content, event.age))
    return time.process_time() - start


def contract_messages() -> list[bytes]:
    _, connecting = linked(ChannelKind.STREAM)
    actions = [
        ContractAction(Verb.OBSERVE, ObjectDescriptor(["tag"], {"id": i})) for i in range(COUNT)
    ]
    return connecting.encode(SendContracts(actions))


def receive_contracts() -> float:
    """Receive observe contracts, all in one message."""
    messages = contract_messages()
    listening, _ = linked(ChannelKind.STREAM)
    start = time.process_time()
    for message in messages:
        for _ in listening.receive(message):
            pass
    return time.process_time() - start


def best(run: Callable[[], float]) -> float:
    return min(run() for _ in range(ROUNDS)) / COUNT * 1e6


def main() -> None:
    for run in (encode, encode_again, receive, forward, receive_contracts):
        print(f"{run.__name__:20} {best(run):6.2f} us  {run.__doc__}")


if __name__ == "__main__":
    main()
