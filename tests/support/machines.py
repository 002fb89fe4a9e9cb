"""Bare machines with a shell for tests: it carries effects out, and keeps what observers saw and exposers were told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from hakuban._core import invariants
from hakuban._core.effects import (
    ClockDoubted,
    Effect,
    Ignored,
    LinkReady,
    ObjectForgotten,
    ObjectKnown,
    PeerIgnores,
    PeerRenamed,
    SinkClosed,
    SinkOpened,
    StaleVersion,
    StateChanged,
    StreamClosed,
    StreamOpened,
)
from hakuban._core.events import Tick
from hakuban._core.new_state import NewState, Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hakuban._contents import Version, View
    from hakuban._core import Machine
    from hakuban._core.events import Event
    from hakuban._exceptions import LinkError
    from hakuban._session_events import Instruction, PeerEvent

Target: TypeAlias = ObjectDescriptor | TagDescriptor
Result = TypeVar("Result")

FORMAT = ("JSON",)


class World(Protocol):
    """What machines share: time, and whoever wants to know what happens to them."""

    @property
    def now(self) -> float:
        """Monotonic seconds."""

    @property
    def wall(self) -> int:
        """Unix nanoseconds."""

    def tick(self) -> float:
        """Let a little time pass; give the new `now`."""

    def changed(self, node: Node) -> None:
        """The machine of a node has done something."""

    def saw(self, state: Seen) -> None:
        """An observer has seen a new state."""


@dataclass
class Seen:
    """A view of a state, as its observer came to see it."""

    version: Version
    data: bytes
    since: float | None

    @property
    def synchronized(self) -> bool:
        return self.since is None


class Observer:
    """An observe contract, and all that each of its streams has shown."""

    def __init__(self, node: Node, target: Target, contract: int) -> None:
        self.node = node
        self.target = target
        self.contract = contract
        self.streams: dict[ObjectDescriptor, int] = {}
        self.seen: dict[int, list[Seen]] = {}

    def states(self, descriptor: ObjectDescriptor) -> list[Seen]:
        """Give what the living stream of an object has shown, oldest first; nothing without a stream."""
        stream = self.streams.get(descriptor)
        return [] if stream is None else self.seen[stream]

    def state(self, descriptor: ObjectDescriptor) -> Seen | None:
        """Give what is to be seen of an object."""
        return next(reversed(self.states(descriptor)), None)

    def data(self, descriptor: ObjectDescriptor) -> list[bytes]:
        """Give the data that were seen of an object, one after the other; freshness put aside."""
        seen: list[bytes] = []
        for state in self.states(descriptor):
            if seen[-1:] != [state.data]:
                seen.append(state.data)
        return seen

    def is_fresh(self, descriptor: ObjectDescriptor) -> bool:
        """Whether a state is to be seen, and said to be current."""
        state = self.state(descriptor)
        return state is not None and state.synchronized

    def age(self, descriptor: ObjectDescriptor) -> float:
        """Give the age in seconds of the state that is to be seen."""
        state = self.state(descriptor)
        assert state is not None, f"{descriptor} has no state"
        return 0.0 if state.since is None else self.node.world.now - state.since

    def close(self) -> None:
        self.node.close(self.contract)


class Exposer:
    """An expose contract, its living sinks, and how many it has had of each object."""

    def __init__(self, node: Node, target: Target, capacity: int, contract: int) -> None:
        self.node = node
        self.target = target
        self.capacity = capacity
        self.contract = contract
        self.sinks: dict[ObjectDescriptor, int] = {}
        self.assignments: dict[ObjectDescriptor, int] = {}
        self.keeps = False  # a value that is published at each assignment

    def publish(
        self,
        descriptor: ObjectDescriptor,
        data: bytes,
        version: Version | None = None,
        age: float | None = None,
    ) -> Outcome:
        """Publish a state through the living sink of an object."""
        sink, world, offer = (
            self.sinks[descriptor],
            self.node.world,
            NewState(data, FORMAT, version),
        )
        outcome = self.node.call(
            lambda machine: machine.publish(sink, offer, age, world.now, self.node.wall)
        )
        if outcome is Outcome.ACCEPTED:
            self.keeps = False
        return outcome

    def offer(
        self, data: bytes, version: Version | None = None, age: float | None = None
    ) -> Outcome:
        """Set the value of an object contract, assigned or not."""
        world, offer = self.node.world, NewState(data, FORMAT, version)
        self.keeps = True
        return self.node.call(
            lambda machine: machine.set_kept(self.contract, offer, age, world.now, self.node.wall)
        )

    def set_synchronized(self, descriptor: ObjectDescriptor, age: float | None) -> Outcome:
        sink = self.sinks[descriptor]
        return self.node.call(
            lambda machine: machine.set_synchronized(sink, age, self.node.world.now)
        )

    def drop_sink(self, descriptor: ObjectDescriptor) -> None:
        sink = self.sinks[descriptor]
        self.keeps = False
        self.node.call(lambda machine: machine.drop_sink(sink, self.node.world.now))

    def set_capacity(self, capacity: int) -> None:
        self.capacity = capacity
        self.node.call(
            lambda machine: machine.set_capacity(self.contract, capacity, self.node.world.now)
        )

    def close(self) -> None:
        self.node.close(self.contract)


class Node:
    """A machine and its shell."""

    def __init__(self, world: World, name: str, machine: Machine) -> None:
        self.world = world
        self.name = name
        self.machine = machine
        machine.world.watched = True
        self.known: set[ObjectDescriptor] = set()
        self.observers: dict[int, Observer] = {}
        self.exposers: dict[int, Exposer] = {}
        self.stale: list[StaleVersion] = []
        self.ignored: list[Ignored] = []
        self.ignored_there: list[PeerIgnores] = []
        self.doubted: list[ClockDoubted] = []
        self.ahead = 0  # nanoseconds by which its wall clock is
        self.peers: dict[int, str] = {}
        self.faults: dict[int, LinkError] = {}
        self._ready: set[int] = set()
        self._streams: dict[int, tuple[Observer, ObjectDescriptor]] = {}
        self._sinks: dict[int, tuple[Exposer, ObjectDescriptor]] = {}

    @property
    def wall(self) -> int:
        """What the wall clock of its machine shows, Unix nanoseconds."""
        return self.world.wall + self.ahead

    # ---- what its user does ------------------------------------------------------------------------------------------

    def observe(self, target: Target) -> Observer:
        """Open an observe contract."""
        machine, now = self.machine, self.world.tick()
        if isinstance(target, ObjectDescriptor):
            contract = machine.observe_object(target, now)
        else:
            contract = machine.observe_tag(target, now)
        observer = Observer(self, target, contract)
        self.observers[observer.contract] = observer
        self._absorb(machine.take_effects())
        return observer

    def expose(self, target: Target, capacity: int = 1) -> Exposer:
        """Open an expose contract."""
        machine, now = self.machine, self.world.tick()
        if isinstance(target, ObjectDescriptor):
            contract = machine.expose_object(target, capacity, now)
        else:
            contract = machine.expose_tag(target, capacity, now)
        exposer = Exposer(self, target, capacity, contract)
        self.exposers[exposer.contract] = exposer
        self._absorb(machine.take_effects())
        return exposer

    def close(self, contract: int) -> None:
        """Close a contract."""
        self.observers.pop(contract, None)
        self.exposers.pop(contract, None)
        self.call(lambda machine: machine.close_contract(contract, self.world.now))

    def call(self, operation: Callable[[Machine], Result]) -> Result:
        """Do something on the machine, and carry out what it says."""
        self.world.tick()
        result = operation(self.machine)
        self._absorb(self.machine.take_effects())
        return result

    def picture(self, descriptor: ObjectDescriptor) -> dict[str, Any] | None:
        """Give what a snapshot shows of an object, or None if the node does not know it."""
        names = {"tags": [tag.json for tag in descriptor.tags], "json": descriptor.json}
        objects = self.machine.snapshot(self.world.now).objects
        return next((item for item in objects if item["descriptor"] == names), None)

    # ---- what its links and its clock do -----------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Pass to the machine what has happened, and carry out what it asks for."""
        self.machine.handle(event, self.world.tick())
        self._absorb(self.machine.take_effects())

    def receive(self, link: int, event: PeerEvent) -> None:
        """Pass to the machine what the peer of a link has sent, and carry out what it asks for."""
        _, fault = self.machine.receive(link, [event], self.world.tick())
        if fault is not None:
            self.faults[link] = fault
        self._absorb(self.machine.take_effects())

    def pull(self, link: int) -> Instruction | None:
        """Pull what a link has to say: only if the machine has said that there is something."""
        if link not in self._ready:
            return None
        instruction = self.machine.next_for(link, self.world.tick())
        found = self.machine.world.links.get(link)
        if instruction is None and (found is None or not found.awake):
            self._ready.discard(link)  # else there is more to say, in another step
        self._absorb(self.machine.take_effects())
        return instruction

    @property
    def is_due(self) -> bool:
        """Whether the machine wants a tick now."""
        deadline = self.machine.next_deadline()
        return deadline is not None and deadline <= self.world.now

    def slices(self, *, checked_each: int = 1) -> Iterator[None]:
        """Tick until nothing is left to be done, and check the invariants at each so-manieth slice and at the end."""
        for count in range(1, 100_000):
            if count % checked_each == 0 or not self.is_due:
                invariants.check(self.machine)
                assert self.known == self.machine.world.objects.keys(), "not all is reported"
            if not self.is_due:
                return
            self.handle(Tick())
            yield
        raise AssertionError("there is always more to do")

    def settle(self) -> None:
        """Do all that is due."""
        for _ in self.slices(checked_each=20):
            pass

    # ---- effects -----------------------------------------------------------------------------------------------------

    def _absorb(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case StreamOpened() | StreamClosed() | StateChanged():
                    self._stream(effect)
                case SinkOpened() | SinkClosed():
                    self._sink(effect)
                case LinkReady():
                    self._ready.add(effect.link)
                case PeerRenamed():
                    self.peers[effect.link] = effect.name
                case StaleVersion():
                    self.stale.append(effect)
                case Ignored():
                    self.ignored.append(effect)
                case PeerIgnores():
                    self.ignored_there.append(effect)
                case ClockDoubted():
                    self.doubted.append(effect)
                case ObjectKnown():
                    self.known.add(effect.descriptor)
                case ObjectForgotten():
                    self.known.remove(effect.descriptor)
        self.world.changed(self)

    def _stream(self, effect: StreamOpened | StreamClosed | StateChanged) -> None:
        if isinstance(effect, StreamOpened):
            if observer := self.observers.get(effect.contract):
                self._streams[effect.stream] = observer, effect.descriptor
                observer.streams[effect.descriptor] = effect.stream
                observer.seen[effect.stream] = []
                self._look(effect.stream, effect.view)
        elif isinstance(effect, StreamClosed):
            if effect.stream in self._streams:
                observer, descriptor = self._streams.pop(effect.stream)
                observer.streams.pop(descriptor)
        else:
            self._look(effect.stream, effect.view)

    def _look(self, stream: int, view: View | None) -> None:
        if view is None or stream not in self._streams:
            return
        seen = self._streams[stream][0].seen[stream]
        state = Seen(view.content.version, view.content.data, view.since)
        if seen[-1:] != [state]:
            seen.append(state)
            self.world.saw(state)
            for before in seen[-2:-1]:
                assert state.version >= before.version, "what is seen goes back in version"
                assert state.version > before.version or state.data == before.data, (
                    "data changed under the same version"
                )

    def _sink(self, effect: SinkOpened | SinkClosed) -> None:
        if isinstance(effect, SinkOpened):
            if exposer := self.exposers.get(effect.contract):
                self._sinks[effect.sink] = exposer, effect.descriptor
                exposer.sinks[effect.descriptor] = effect.sink
                count = exposer.assignments.get(effect.descriptor, 0)
                exposer.assignments[effect.descriptor] = count + 1
        elif effect.sink in self._sinks:
            exposer, descriptor = self._sinks.pop(effect.sink)
            exposer.sinks.pop(descriptor)
