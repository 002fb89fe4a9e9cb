"""The machine of one node: events and calls in, effects out, and instructions when a link asks for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

from .._exceptions import LinkError
from .._limits import MOST_CAPACITY
from .._session_events import SendState
from . import agenda, note_exchange, oversize
from .assignment import Balancer
from .clock import Clock, base_of
from .events import Event, LinkDown, LinkUp, Tick
from .graph import Downlink, ExposeContract, ObjectRecord, ObserveContract, TagRecord, Uplink
from .incoming import Incoming
from .new_state import NewState, Outcome
from .publishing import publish_new, set_kept, set_synchronized
from .settle import close_sink, open_sink
from .snapshot import NodeSnapshot, Picture
from .world import STEP, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._contents import Version
    from .._descriptors import ObjectDescriptor, TagDescriptor
    from .._session_events import Instruction, Note, PeerEvent
    from .effects import Effect

_BATCH = 32  # things sent in one step
_BATCH_BYTES = 64 * 1024
_ITEM = 25  # units of work for what a peer has sent, or a contract, beside what that leads to


class Machine:
    """Who exists, who wants what, who produces it, and what is to be sent on each link.

    Never blocks, reads no clock: `now` is monotonic seconds, `wall` Unix nanoseconds. A peer's fault is what `receive`
    returns; an exception is a fault of ours.

    :param rebalance: how much lighter (in load) another peer has to be before an object moves to it; None moves none.
    :param max_contracts: contracts that one peer may announce.
    :param max_clock_lead: seconds by which the clocks of nodes below may be ahead of this machine's wall clock.
    :param node: the id of this node, to be sent to peers.
    :param name: its name.
    :param software: its version.
    """

    __slots__ = ("_incoming", "_link_ids", "world")

    def __init__(
        self,
        *,
        rebalance: float | None = 0.1,
        max_contracts: int = 100_000,
        max_clock_lead: float = 86_400.0,
        node: str = "",
        name: str = "",
        software: str = "",
    ) -> None:
        self.world: World = World(Balancer(rebalance), Clock(int(max_clock_lead * 1e9)))
        self.world.node, self.world.name, self.world.software = node, name, software
        self._incoming = Incoming(self.world, max_contracts)
        self._link_ids = 0

    # ---- what happens ------------------------------------------------------------------------------------------------

    def new_link(self) -> int:
        """Return the id of a link to come: 0, 1, 2 ..."""
        self._link_ids += 1
        return self._link_ids - 1

    def handle(self, event: Event, now: float) -> None:
        """Take an event; its effects wait to be taken."""
        world = self.world
        match event:
            case LinkUp():
                self._link_up(event, now)
            case LinkDown():
                link = world.links.get(event.link)
                if link is not None:
                    world.end_link(link, now if event.at is None else min(event.at, now))
            case Tick():
                note_exchange.look_at_clock(world, event.wall, now)
                agenda.look_at_loads(world, now)
            case _:
                assert_never(event)
        agenda.work_off(self.world, now)

    def receive(
        self, link: int, events: Sequence[PeerEvent], now: float
    ) -> tuple[int, LinkError | None]:
        """Take what the peer of a link has sent, one thing after the other; the effects wait to be taken.

        :return: how many things were taken: all, unless they caused much to be done; and the rule that the peer
            has broken. Its link is as good as ended then, and what else it has sent is thrown away.
        """
        world = self.world
        taken, fault = 0, None
        for event in events:
            sender = world.links.get(link)
            if sender is None:  # it has ended: what it sent is thrown away
                taken = len(events)
                break
            if world.left <= 0 and taken:
                break
            taken += 1
            world.left -= _ITEM
            try:
                self._incoming.apply(sender, event, now)
            except LinkError as error:
                fault = error.with_traceback(None)  # which would hold this frame
                world.end_link(sender, math.inf)
            if world.touched:
                agenda.settle_touched(world, now)
        agenda.work_off(world, now)
        return taken, fault

    @property
    def has_room(self) -> bool:
        """Whether this step may do more: it ends when its effects are taken."""
        return self.world.left > 0

    def take_effects(self) -> list[Effect]:
        """Return the effects that nobody has taken yet."""
        world = self.world
        world.left = STEP
        effects, world.effects = world.effects, []
        return effects

    def next_deadline(self) -> float | None:
        """Return the time at which a `Tick` is due; None for never, 0.0 for now."""
        world = self.world
        if any(world.queues):
            return 0.0
        deadline = min(world.balancer.deadline, world.clock.deadline)
        return None if deadline == math.inf else deadline

    def _link_up(self, event: LinkUp, now: float) -> None:
        world = self.world
        link: Downlink | Uplink
        note_exchange.see_wall(world, event.wall, now)
        if event.upstream:
            link = world.uplink = Uplink(event.link)
            link.announcing = [*reversed(world.objects), *reversed(world.tags)]
        else:
            link = Downlink(event.link)
        link.careful = event.careful
        link.local_name = event.local_name
        link.local_address = event.local_address
        link.remote_address = event.remote_address
        world.links[link.id] = link
        world.mark_ready(link)
        if event.clock is not None:
            link.notes.peer_clock = base_of(event.clock, now)
            world.clock.follow(link.notes.peer_clock, now)
            note_exchange.spread(world, now)

    # ---- what a link asks for ----------------------------------------------------------------------------------------

    def next_for(self, link: int, now: float) -> Instruction | None:
        """Return the next thing to send on a link; None when there is nothing, until `LinkReady` is reported again."""
        if (found := self.world.links.get(link)) is None:
            return None
        instruction = note_exchange.next_for(self.world, found, now)
        if instruction is None and self.world.left > 0:
            found.awake = False
        return instruction

    def first_note(self, link: int, max_message: int, now: float) -> Note | None:
        """Return what is to be sent first on a link to a peer that is, or may be, of this project."""
        found = self.world.links.get(link)
        return (
            None if found is None else note_exchange.first_note(self.world, found, max_message, now)
        )

    def read_clock(self, now: float, wall: int) -> int:
        """Return what the clock of this node shows, Unix nanoseconds. Changes nothing, so it needs no lock.

        :param wall: the wall clock of this machine, Unix nanoseconds.
        """
        clock = self.world.clock.read(now)
        return max(clock, wall) if self.world.root else clock

    def set_size_cap(self, link: int, size: int | None) -> None:
        """Learn up to which size messages are sent on a link for now, in bytes; None for no such limit."""
        found = self.world.links.get(link)
        if found is not None:
            found.size_cap = size

    def not_sent(
        self,
        link: int,
        states: Iterable[ObjectDescriptor],
        announcements: Iterable[ObjectDescriptor | TagDescriptor],
    ) -> None:
        """Learn that states, and contracts or channels, were too large for the peer of a link."""
        found = self.world.links.get(link)
        if found is not None:
            oversize.not_sent(self.world, found, states, announcements)

    def room_has_grown(self, link: int) -> bool:
        """Learn that the peer of a link takes larger messages now: what was too large is tried again.

        :return: whether there is more, so that this is to be called again.
        """
        found = self.world.links.get(link)
        return found is not None and oversize.room_has_grown(self.world, found)

    def next_batch_for(self, link: int, now: float) -> tuple[list[Instruction], bool]:
        """Return the next few things to send on a link, and whether there may be more.

        They are few, since what is newer by the time they are sent cannot take their place.
        """
        world = self.world
        batch: list[Instruction] = []
        size = 0
        while (instruction := self.next_for(link, now)) is not None:
            batch.append(instruction)
            if isinstance(instruction, SendState):
                size += len(instruction.content.data)
            if len(batch) == _BATCH or size >= _BATCH_BYTES or world.left <= 0:
                break
        found = world.links.get(link)
        return batch, found is not None and found.awake

    # ---- what the user calls -----------------------------------------------------------------------------------------

    def observe_object(self, descriptor: ObjectDescriptor, now: float) -> int:
        """Open a contract: observe an object."""
        return self._observe(self.world.object(descriptor), now)

    def observe_tag(self, descriptor: TagDescriptor, now: float) -> int:
        """Open a contract: observe all objects that carry a tag, as they come and go."""
        return self._observe(self.world.tag(descriptor), now)

    def expose_object(self, descriptor: ObjectDescriptor, capacity: int, now: float) -> int:
        """Open a contract: be able to produce an object."""
        return self._expose(self.world.object(descriptor), capacity, now)

    def expose_tag(self, descriptor: TagDescriptor, capacity: int, now: float) -> int:
        """Open a contract: be able to produce any object that carries a tag."""
        return self._expose(self.world.tag(descriptor), capacity, now)

    def set_capacity(self, contract: int, capacity: int, now: float) -> None:
        """Change the capacity of an expose contract; 0 makes it no exposer."""
        found = self.world.exposer(contract)
        if found is not None:
            found.target.capacity -= found.capacity
            found.capacity = min(capacity, MOST_CAPACITY)
            found.target.capacity += found.capacity
            self._touch(found)
            agenda.work_off(self.world, now)

    def close_contract(self, contract: int, now: float) -> None:
        """Close a contract: its streams and sinks end. Twice does no harm."""
        if (found := self.world.contracts.pop(contract, None)) is None:
            return
        self.world.left -= _ITEM
        if isinstance(found, ObserveContract):
            del found.target.observers[contract]
        else:
            del found.target.exposers[contract]
            found.target.capacity -= found.capacity
        self._touch(found)
        agenda.work_off(self.world, now)

    def sink_of(self, contract: int, descriptor: ObjectDescriptor | None = None) -> int | None:
        """Return the living sink of an expose contract; of a tag contract for the object named."""
        found = self.world.exposer(contract)
        if found is None:
            return None
        record = found.target if descriptor is None else self.world.objects.get(descriptor)
        sink = found.sinks.get(record) if isinstance(record, ObjectRecord) else None
        return None if sink is None else sink.id

    def set_kept(
        self, contract: int, offer: NewState, age: float | None, now: float, wall: int
    ) -> Outcome:
        """Set the value of an object contract: published if assigned, and at each assignment to come.

        :param age: seconds since the value was current; None for current.
        """
        found = self.world.exposer(contract)
        if found is None:
            return Outcome.NOT_ASSIGNED
        note_exchange.see_wall(self.world, wall, now)
        outcome = set_kept(self.world, found, offer, _since(age, now), now)
        agenda.work_off(self.world, now)
        return outcome

    def publish(
        self, sink: int, offer: NewState, age: float | None, now: float, wall: int
    ) -> Outcome:
        """Publish a state for one assignment, which has to be a living one."""
        found = self.world.sink(sink)
        if found is None:
            return Outcome.NOT_ASSIGNED
        note_exchange.see_wall(self.world, wall, now)
        content = publish_new(self.world, found, offer, _since(age, now), now)
        if content is not None:
            # older than this one: it is not to be published again at the next assignment
            found.contract.kept = found.contract.kept_content = None
        agenda.work_off(self.world, now)
        return Outcome.NOT_NEWER if content is None else Outcome.ACCEPTED

    def relabel(self, sink: int, version: Version | None, now: float, wall: int) -> Outcome:
        """Publish the last data of an assignment again, under another version."""
        found = self.world.sink(sink)
        if found is None:
            return Outcome.NOT_ASSIGNED
        if found.last is None:
            return Outcome.NOT_NEWER
        offer = NewState(found.last.data, found.last.format, version)
        return self.publish(sink, offer, None, now, wall)

    def relabel_kept(
        self, contract: int, version: Version | None, now: float, wall: int
    ) -> Outcome:
        """Return the value of an object contract another version."""
        found = self.world.exposer(contract)
        if found is None or found.kept is None:
            return Outcome.NOT_NEWER
        offer = NewState(found.kept.data, found.kept.format, version)
        return self.set_kept(contract, offer, None, now, wall)

    def set_synchronized(self, sink: int, age: float | None, now: float) -> Outcome:
        """Set how fresh the last state of one assignment is."""
        found = self.world.sink(sink)
        if found is None:
            return Outcome.NOT_ASSIGNED
        set_synchronized(self.world, found.record, found, _since(age, now))
        agenda.work_off(self.world, now)
        return Outcome.ACCEPTED

    def set_kept_synchronized(self, contract: int, age: float | None, now: float) -> Outcome:
        """Set how fresh the value of an object contract is, now and at the assignments to come."""
        found = self.world.exposer(contract)
        if found is None:
            return Outcome.NOT_ASSIGNED
        found.kept_since = _since(age, now)
        sink = self.sink_of(contract)
        return Outcome.KEPT if sink is None else self.set_synchronized(sink, age, now)

    def drop_sink(self, sink: int, now: float) -> None:
        """End an assignment from this side: the state is not current any more. If still chosen, a new sink follows.

        What the contract has kept is forgotten, or it would be published again at once.
        """
        found = self.world.sink(sink)
        if found is not None:
            found.contract.kept = found.contract.kept_content = None
            close_sink(self.world, found, now)
            open_sink(self.world, found.record, found.contract, now)
            agenda.work_off(self.world, now)

    def picture(self) -> Picture:
        """Begin a picture of all facts, in the crate's words. It is drawn in steps."""
        return Picture(self.world)

    def snapshot(self, now: float) -> NodeSnapshot:
        """Return a picture of one moment."""
        picture = self.picture()
        while (snapshot := picture.go_on(now)) is None:
            self.world.left = STEP
        return snapshot

    def _observe(self, record: ObjectRecord | TagRecord, now: float) -> int:
        contract = ObserveContract(self.world.new_id(), record)
        record.observers[contract.id] = contract
        return self._opened(contract, now)

    def _expose(self, record: ObjectRecord | TagRecord, capacity: int, now: float) -> int:
        contract = ExposeContract(self.world.new_id(), record, min(capacity, MOST_CAPACITY))
        record.exposers[contract.id] = contract
        record.capacity += contract.capacity
        return self._opened(contract, now)

    def _opened(self, contract: ObserveContract | ExposeContract, now: float) -> int:
        self.world.contracts[contract.id] = contract
        self.world.left -= _ITEM
        self._touch(contract)
        agenda.work_off(self.world, now)
        return contract.id

    def _touch(self, contract: ObserveContract | ExposeContract) -> None:
        if isinstance(contract.target, TagRecord):
            self.world.touch_all(contract.target)
        else:
            self.world.touch(contract.target)


def _since(age: float | None, now: float) -> float | None:
    return None if age is None else now - max(0.0, age)
