"""Trees of bare machines: linked in memory without bytes, on a virtual clock, with links that can be slow or cut."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from hakuban._contents import Content
from hakuban._core import Machine, invariants
from hakuban._core.events import LinkDown, LinkUp, Tick
from hakuban._session_events import (
    ChannelClosed,
    ChannelOpened,
    CloseChannel,
    NoteReceived,
    OpenChannel,
    PeerLimited,
    PeerNamed,
    SendContracts,
    SendNote,
    SendState,
    SendSynchronized,
    StateReceived,
    SynchronizedReceived,
)

from .machines import Node, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakuban._session_events import Instruction, PeerEvent

EPOCH = 1_700_000_000 * 10**9  # Unix nanoseconds at virtual time zero
_MOMENT = 1e-6  # seconds that each doing takes: no two default versions are the same
_PATIENCE = 10_000  # turns after which a tree that is not quiet never will be


class Shape(Enum):
    """Where the leaves of a tree are."""

    SR = "single router"
    TWO_R = "two stacked routers, all leaves below the inner one"
    STAR = "a root, and a router for each leaf"


class Way(Enum):
    """The two ways of a link."""

    UP = "up"
    DOWN = "down"


def heard(instruction: Instruction) -> Iterator[PeerEvent]:
    """Give what a peer hears when an instruction is carried out."""
    match instruction:
        case SendContracts():
            yield from instruction.actions
        case OpenChannel():
            yield ChannelOpened(instruction.channel, instruction.kind, instruction.descriptor)
        case CloseChannel():
            yield ChannelClosed(instruction.channel)
        case SendState():
            content = instruction.content
            copy = Content(content.data, content.format, content.version)
            yield StateReceived(instruction.channel, copy, instruction.age)
        case SendSynchronized():
            yield SynchronizedReceived(instruction.channel, instruction.age)
        case SendNote():
            yield NoteReceived(instruction.note)
        case _:
            assert_never(instruction)


class Wire:
    """A link between two nodes. What was pulled and not yet delivered is under way.

    :ivar skew: nanoseconds by which the clock above is ahead.
    :ivar told: all that has been pulled, until a test clears it.
    :ivar slow: the ways that `Tree.run` leaves alone: there only `pull` and `deliver` move anything.
    """

    def __init__(self, upper: Node, lower: Node, skew: int) -> None:
        self.upper = upper
        self.lower = lower
        self.skew = skew
        self.ids = {Way.DOWN: upper.machine.new_link(), Way.UP: lower.machine.new_link()}
        self.alive = {Way.DOWN: True, Way.UP: True}  # whether the sender of this way knows the link
        self.slow: set[Way] = set()
        self.told: dict[Way, list[Instruction]] = {way: [] for way in Way}
        self._open: dict[Way, list[int]] = {way: [] for way in Way}  # as each sender knows it
        self._under_way: dict[Way, deque[PeerEvent]] = {way: deque() for way in Way}

    def sender(self, way: Way) -> Node:
        return self.upper if way is Way.DOWN else self.lower

    def receiver(self, way: Way) -> Node:
        return self.lower if way is Way.DOWN else self.upper

    def introduce(self, limit: tuple[tuple[float, int], ...], *, notes: bool) -> None:
        """Link both ends, and put on the way what they say first."""
        upper, lower = self.upper, self.lower
        stated = upper.machine.read_clock(lower.world.now, upper.wall) + self.skew
        upper.handle(LinkUp(self.ids[Way.DOWN], False, upper.name, wall=upper.wall))
        lower.handle(LinkUp(self.ids[Way.UP], True, lower.name, clock=stated, wall=lower.wall))
        if notes:
            for way in Way:
                note = self.sender(way).machine.first_note(self.ids[way], 1000, lower.world.now)
                assert note is not None
                self._under_way[way].append(NoteReceived(note))
        self._under_way[Way.DOWN].append(PeerNamed(self.upper.name))
        self._under_way[Way.UP].extend([PeerNamed(self.lower.name), PeerLimited(limit)])

    def _check(self, way: Way, instruction: Instruction) -> None:
        """Check that an instruction makes sense to a session."""
        opened = self._open[way]
        match instruction:
            case OpenChannel():
                assert way is Way.DOWN, "only the listening side opens channels"
                assert instruction.channel > max(opened, default=1), "channels are numbered upwards"
                opened.append(instruction.channel)
            case CloseChannel():
                opened.remove(instruction.channel)
            case SendState() | SendSynchronized():
                assert instruction.channel in opened, "a state is sent on a channel that is closed"
            case SendNote():
                pass
            case _:
                assert way is Way.UP, "only the connecting side announces contracts"

    def pull(self, way: Way, most: float = math.inf) -> list[Instruction]:
        """Have the sender say up to so many things; give them."""
        pulled: list[Instruction] = []
        while self.alive[way] and len(pulled) < most:
            instruction = self.sender(way).pull(self.ids[way])
            if instruction is None:
                break
            pulled.append(instruction)
            self.told[way].append(instruction)
            self._check(way, instruction)
            self._under_way[way].extend(heard(instruction))
        return pulled

    def deliver(self, way: Way, most: float = math.inf) -> int:
        """Have the receiver hear up to so many things; give how many. At a dead end they get lost."""
        back = Way.UP if way is Way.DOWN else Way.DOWN
        delivered = 0
        while self._under_way[way] and delivered < most:
            event = self._under_way[way].popleft()
            delivered += 1
            if isinstance(event, ChannelOpened):
                self._open[back].append(event.channel)
            elif isinstance(event, ChannelClosed):
                self._open[back].remove(event.channel)
            if self.alive[back]:
                self.receiver(way).receive(self.ids[back], event)
            if self.ids[back] in self.receiver(way).faults:
                self.cut()
        return delivered

    def send(self, way: Way, event: PeerEvent) -> None:
        """Put on the way what the sender's machine would not say."""
        self._under_way[way].append(event)

    def cut(self, *ends: Way) -> None:
        """Have the senders of both ways, or of some, notice that the link has ended."""
        for way in ends or Way:
            if self.alive[way]:
                self.alive[way] = False
                self.sender(way).handle(LinkDown(self.ids[way]))

    @property
    def up(self) -> bool:
        return all(self.alive.values())


class Tree:
    """Nodes and their links.

    :param checked: check the invariants of a machine after everything it does.
    :param notes: whether the nodes begin their links with notes.
    :ivar delivered: how many states observers have seen in all.
    """

    def __init__(self, *, checked: bool = True, notes: bool = False) -> None:
        self.notes = notes
        self.now = 100.0
        self.nodes: list[Node] = []
        self.wires: list[Wire] = []
        self.delivered = 0
        self.skew: dict[Node, int] = {}  # nanoseconds by which the clock of a node is ahead
        self._checked = checked

    # ---- building ----------------------------------------------------------------------------------------------------

    def node(self, name: str, above: Node | None = None, *, rebalance: float | None = 0.1) -> Node:
        """Add a node, linked to another one above it if that is given."""
        node = Node(self, name, Machine(rebalance=rebalance, node=name, name=name))
        self.nodes.append(node)
        if above is not None:
            self.connect(node, above)
        return node

    def leaves(self, shape: Shape, *names: str) -> list[Node]:
        """Add routers in a shape, and leaves below them."""
        root = self.node("root")
        if shape is Shape.TWO_R:
            root = self.node("inner", root)
        if shape is not Shape.STAR:
            return [self.node(name, root) for name in names]
        return [self.node(name, self.node(f"spoke of {name}", root)) for name in names]

    def connect(self, lower: Node, upper: Node, *limit: tuple[float, int]) -> Wire:
        """Link a node to one above it, with a load limit if points of (seconds, load) are given."""
        wire = Wire(upper, lower, self.skew.get(upper, 0))
        self.wires.append(wire)
        wire.introduce(limit, notes=self.notes)
        return wire

    def wire_of(self, lower: Node) -> Wire:
        """Give the living link of a node to the one above it."""
        return next(wire for wire in self.wires if wire.lower is lower and wire.alive[Way.UP])

    # ---- running -----------------------------------------------------------------------------------------------------

    @property
    def wall(self) -> int:
        """Unix nanoseconds."""
        return EPOCH + int(self.now * 1e9)

    def tick(self) -> float:
        """Let a moment pass."""
        self.now += _MOMENT
        return self.now

    def changed(self, node: Node) -> None:
        """Check what has to hold of a machine whenever it has done something."""
        if self._checked:
            invariants.check(node.machine)

    def saw(self, state: Seen) -> None:
        """Count what observers see."""
        assert state.since is None or state.since <= self.now, "a state is from the future"
        self.delivered += 1

    def run(self) -> None:
        """Deliver and tick until everything is quiet; time hardly passes."""
        for _ in range(_PATIENCE):
            if not self._turn():
                return
        raise AssertionError("the tree does not become quiet")

    def advance(self, seconds: float) -> None:
        """Let time pass, and do what is due on the way."""
        end = self.now + seconds
        for _ in range(_PATIENCE):
            self.run()
            deadlines = [node.machine.next_deadline() for node in self.nodes]
            due = min((time for time in deadlines if time is not None), default=math.inf)
            if max(due, self.now) >= end:
                self.now = max(end, self.now)
                self.run()
                return
            self.now = max(self.now, due)
        raise AssertionError("a machine wants ticks all the time")

    def _turn(self) -> bool:
        moved = False
        for node in self.nodes:
            if node.is_due:
                node.handle(Tick(node.wall))
                moved = True
        self.wires = [wire for wire in self.wires if any(wire.alive.values())]
        for wire in self.wires:
            for way in Way:
                if way not in wire.slow:
                    moved |= bool(wire.pull(way)) | bool(wire.deliver(way))
        return moved
