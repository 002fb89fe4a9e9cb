"""Nodes as tests drive them, whatever they are made of: told what to do, and watched by what happens to them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from hakuban import ObjectDescriptor, TagDescriptor

from .watching import changing, until

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind: TypeAlias = Literal[
    "assigned",
    "unassigned",
    "state",
    "stream_opened",
    "stream_closed",
    "connected",
    "disconnected",
    "downstream_connected",
    "downstream_disconnected",
]
Descriptor: TypeAlias = ObjectDescriptor | TagDescriptor


@dataclass(slots=True)
class State:
    """A state as an observer saw it."""

    data: bytes
    format: tuple[str, ...]
    version: tuple[int, ...]
    synchronized: bool
    age: float


@dataclass(slots=True)
class Event:
    """Something that happened to a party; `at` is monotonic."""

    kind: Kind
    at: float
    thing: ObjectDescriptor | None = None
    state: State | None = None


class Party(ABC):
    """One node. Everything here waits at most for what the node itself does at once; tests wait with `until`.

    :ivar events: all that happened, oldest first.
    :ivar assigned: what this node is assigned to produce.
    :ivar latest: the last state that it observed of each object.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self.assigned: set[ObjectDescriptor] = set()
        self.latest: dict[ObjectDescriptor, State] = {}
        self.stack = ExitStack()

    def happened(
        self, kind: Kind, thing: ObjectDescriptor | None = None, state: State | None = None
    ) -> None:
        """Record an event, and let those who wait look again."""
        with changing():
            self.events.append(Event(kind, time.monotonic(), thing, state))
            if thing is not None:
                if kind == "assigned":
                    self.assigned.add(thing)
                elif kind == "unassigned":
                    self.assigned.discard(thing)
                elif state is not None:
                    self.latest[thing] = state

    def count(self, kind: Kind, since: int = 0) -> int:
        return sum(event.kind == kind for event in self.events[since:])

    def sees(
        self, thing: ObjectDescriptor, data: bytes, *, synchronized: bool | None = True
    ) -> State | None:
        """Tell whether the last state of an object is this one; None for `synchronized` takes either."""
        state = self.latest.get(thing)
        if state is None or state.data != data:
            return None
        return state if synchronized is None or state.synchronized is synchronized else None

    def wait_state(
        self,
        thing: ObjectDescriptor,
        data: bytes,
        *,
        synchronized: bool | None = True,
        timeout: float = 15,
    ) -> State:
        """Wait until the last state of an object is this one."""
        fresh = {True: "synchronized", False: "stale", None: "of any age"}[synchronized]
        what = f"{self.name} sees {data[:40]!r} of {thing}, {fresh}"
        found = until(lambda: self.sees(thing, data, synchronized=synchronized), what, timeout)
        assert found is not None
        return found

    def wait_assigned(self, thing: ObjectDescriptor) -> None:
        """Wait until this node is assigned to produce an object."""
        until(lambda: thing in self.assigned, f"{self.name} is assigned to produce {thing}")

    def wait_unassigned(self, thing: ObjectDescriptor) -> None:
        """Wait until this node is not assigned to produce an object."""
        until(lambda: thing not in self.assigned, f"{self.name} is told to stop producing {thing}")

    @abstractmethod
    def connect(self, url: str) -> None:
        """Connect upstream, and wait for the link."""

    @abstractmethod
    def disconnect(self) -> None:
        """End the link upstream, and do not come back."""

    @abstractmethod
    def listen(self) -> str:
        """Listen on a free port of this machine; give the URL."""

    @abstractmethod
    def observe(self, descriptor: Descriptor) -> None: ...

    @abstractmethod
    def unobserve(self, descriptor: Descriptor) -> None: ...

    @abstractmethod
    def expose(self, descriptor: Descriptor, capacity: int = 1) -> None: ...

    @abstractmethod
    def unexpose(self, descriptor: Descriptor) -> None: ...

    @abstractmethod
    def publish(
        self, thing: ObjectDescriptor, data: bytes, version: tuple[int, ...] | None = None
    ) -> None:
        """Set a state of format ("JSON",); it is published now if assigned, and at each assignment to come."""

    @abstractmethod
    def publish_all(self, thing: ObjectDescriptor, states: Sequence[bytes]) -> None:
        """Set many states as fast as that can be said."""

    @abstractmethod
    def vanish(self) -> None:
        """End without a word to anybody, as far as a node of this kind can."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stack.close()
