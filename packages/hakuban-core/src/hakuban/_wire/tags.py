"""The numbers that the protocol gives to its variants."""

from __future__ import annotations

from enum import IntEnum


class EventTag(IntEnum):
    """What a whole message does to a channel."""

    OPEN = 0
    MESSAGE = 1
    CLOSE = 2


class Side(IntEnum):
    """Who opened a channel, which is the first half of its identity."""

    UPSTREAM = 0  # the listening side
    DOWNSTREAM = 1  # the connecting side


class MessageTag(IntEnum):
    """What the actions of a message are."""

    UNINITIALIZED = 0
    UPSTREAM_CONTROL = 1
    DOWNSTREAM_CONTROL = 2
    STATE_STREAM = 3


class ChannelTag(IntEnum):
    """What a channel is initialized to."""

    UPSTREAM_CONTROL = 0
    DOWNSTREAM_CONTROL = 1
    OBJECT_SINK_TO_UPSTREAM = 2
    OBJECT_STREAM_FROM_UPSTREAM = 3


class ControlTag(IntEnum):
    """What an action on a control channel is about."""

    EXCHANGE = 0
    OBJECT_CONTRACT = 1
    TAG_CONTRACT = 2


class ExchangeTag(IntEnum):
    """What a node states about itself."""

    SET_NAME = 0
    SET_LOAD_LIMIT = 1


class StateTag(IntEnum):
    """What an action on a data channel is."""

    PATCH = 0
    SET_SYNCHRONIZED = 1


INITIALIZE = 0
"""The only action of an uninitialized channel."""
