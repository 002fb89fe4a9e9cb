"""Changes of tables as events: what `changes()` returns, and what is made of it.

    with node.tag("weather").observe() as weathers:
        async for action, descriptor in weathers.changes():
            ...

See `EventSource`.
"""

from __future__ import annotations

from ._changes import Action, Event
from ._events.buffer import EventBuffer
from ._events.merge import EventMerge, Inclusion
from ._events.registration import Registration
from ._events.source import EventSource

__all__ = [
    "Action",
    "Event",
    "EventBuffer",
    "EventMerge",
    "EventSource",
    "Inclusion",
    "Registration",
]
