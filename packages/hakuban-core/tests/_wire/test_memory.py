"""A message of very many tiny actions is read one by one."""

from __future__ import annotations

import tracemalloc

import pytest

from hakuban._session_events import ChannelKind
from hakuban._wire import encoding
from hakuban._wire.tags import MessageTag, Side
from support.wire import linked, with_channel

ACTIONS = 20_000

TINY = {
    "names": (Side.DOWNSTREAM, 1, MessageTag.UPSTREAM_CONTROL, encoding.set_name("")),
    "ages": (Side.UPSTREAM, 2, MessageTag.STATE_STREAM, b"\x01\x00"),
}


@pytest.mark.parametrize("name", TINY)
def test_a_message_of_many_tiny_actions_takes_no_memory(name: str) -> None:
    side, channel, kind, action = TINY[name]
    session = linked()[0] if name == "names" else with_channel(ChannelKind.SINK)[1]
    message = encoding.message(side, channel, kind, [action] * ACTIONS)
    tracemalloc.start()
    try:
        count = sum(1 for _ in session.receive(message))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == ACTIONS
    assert peak < 50_000
