"""Anything that can happen to a tree of nodes, for Hypothesis to choose from, and what has to be true afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from hakuban._core.new_state import Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor

from .tree import Tree, Way, Wire

if TYPE_CHECKING:
    from .machines import Exposer, Node, Observer, Target

# Versions of the tame objects grow with the clock, whoever publishes; those of the wild one are anybody's guess.
WILD = ObjectDescriptor([], "wild")
PLAIN = ObjectDescriptor([], "plain")
TAGGED = ObjectDescriptor(["t"], "tagged")
BOTH = ObjectDescriptor(["t", "u"], "both")
OBJECTS = (PLAIN, TAGGED, BOTH, WILD)
TARGETS: tuple[Target, ...] = (*OBJECTS, TagDescriptor("t"), TagDescriptor("u"))
ABOVE = {"inner": "root", "other": "root", "a": "inner", "b": "inner", "c": "other", "d": "root"}
NAMES = ("root", *ABOVE)

_names = st.sampled_from(NAMES)
_below = st.sampled_from(tuple(ABOVE))
_targets = st.sampled_from(TARGETS)
_ways = st.sampled_from(Way)
_capacities = st.sampled_from([1, 1, 1, 2, 3, 0])
_ages = st.sampled_from([None, None, 0.5, 20.0])
_runs = st.booleans()
_which = st.integers(0, 11)
_wishes = st.lists(st.tuples(_names, _targets), min_size=2, max_size=6)
_limits = st.sampled_from(
    [(), ((0.0, 1),), ((0.0, 0),), ((0.1, 0), (2.0, 3)), ((1.0, 2), (1.5, 1))]
)


class AnyTree(RuleBasedStateMachine):
    """Seven nodes in three levels, each of which anybody may use; links break, lag and come back."""

    observers = Bundle("observers")
    exposers = Bundle("exposers")
    delivered: ClassVar[int] = 0  # in all runs: a test in which nobody sees anything proves nothing

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree(notes=True)
        self.nodes: dict[str, Node] = {name: self.tree.node(name) for name in NAMES}
        self.wires: dict[str, Wire] = {}
        self.limited = False
        self.count = 0
        self.said: dict[ObjectDescriptor, set[bytes]] = {thing: set() for thing in OBJECTS}

    # ---- what may happen ---------------------------------------------------------------------------------------------

    @initialize(limited=st.integers(0, 3), runs=_runs)
    def plant(self, limited: int, *, runs: bool) -> None:
        self.limited = limited == 0
        for name in ABOVE:
            self._connect(name, ())
        self._run(runs)

    @initialize(target=observers, wishes=_wishes)
    def observe_some(self, wishes: list[tuple[str, Target]]) -> MultipleResults[Observer]:
        return multiple(*(self._observe(name, what) for name, what in [*wishes, ("a", WILD)]))

    @initialize(target=exposers, wishes=_wishes)
    def expose_some(self, wishes: list[tuple[str, Target]]) -> MultipleResults[Exposer]:
        return multiple(*(self._expose(name, what, 1) for name, what in [*wishes, ("c", WILD)]))

    @rule(target=observers, name=_names, what=_targets, runs=_runs)
    def observe(self, name: str, what: Target, *, runs: bool) -> Observer:
        observer = self._observe(name, what)
        self._run(runs)
        return observer

    @rule(target=exposers, name=_names, what=_targets, capacity=_capacities, runs=_runs)
    def expose(self, name: str, what: Target, capacity: int, *, runs: bool) -> Exposer:
        exposer = self._expose(name, what, capacity)
        self._run(runs)
        return exposer

    @rule(observer=consumes(observers), runs=_runs)
    def stop_observing(self, observer: Observer, *, runs: bool) -> None:
        observer.close()
        self._run(runs)

    @rule(exposer=consumes(exposers), runs=_runs)
    def stop_exposing(self, exposer: Exposer, *, runs: bool) -> None:
        exposer.close()
        self._run(runs)

    @rule(target=observers, observer=consumes(observers), runs=_runs)
    def observe_anew(self, observer: Observer, *, runs: bool) -> Observer:
        observer.close()
        observer = self._observe(observer.node.name, observer.target)
        self._run(runs)
        return observer

    @rule(target=exposers, exposer=consumes(exposers), capacity=_capacities, runs=_runs)
    def expose_anew(self, exposer: Exposer, capacity: int, *, runs: bool) -> Exposer:
        exposer.close()
        exposer = self._expose(exposer.node.name, exposer.target, capacity)
        self._run(runs)
        return exposer

    @rule(exposer=exposers, capacity=_capacities, runs=_runs)
    def set_capacity(self, exposer: Exposer, capacity: int, *, runs: bool) -> None:
        exposer.set_capacity(capacity)
        self._run(runs)

    @rule(which=_which, age=_ages, explicit=st.booleans(), runs=_runs)
    def publish(self, which: int, age: float | None, *, explicit: bool, runs: bool) -> None:
        for exposer, thing in self._sinks(which):
            self.tree.tick()
            version = (0, *divmod(self.tree.wall, 10**9)) if explicit else None
            outcome = exposer.publish(thing, self._data(thing), version, age)
            if not explicit:
                assert outcome is Outcome.ACCEPTED, "a default version is not newer"
        self._run(runs)

    @rule(which=_which, version=st.integers(0, 3), age=_ages, runs=_runs)
    def publish_wildly(self, which: int, version: int, age: float | None, *, runs: bool) -> None:
        for exposer, thing in self._sinks(which, WILD):
            exposer.publish(thing, self._data(thing), (version,), age)
        self._run(runs)

    @rule(exposer=exposers, age=_ages, runs=_runs)
    def offer(self, exposer: Exposer, age: float | None, *, runs: bool) -> None:
        if isinstance(exposer.target, ObjectDescriptor):
            exposer.offer(self._data(exposer.target), None, age)
        self._run(runs)

    @rule(which=_which, age=_ages, runs=_runs)
    def set_synchronized(self, which: int, age: float | None, *, runs: bool) -> None:
        for exposer, thing in self._sinks(which):
            exposer.set_synchronized(thing, age)
        self._run(runs)

    @rule(which=_which, runs=_runs)
    def drop_sink(self, which: int, *, runs: bool) -> None:
        for exposer, thing in self._sinks(which):
            exposer.drop_sink(thing)
        self._run(runs)

    @rule(name=_below, ends=st.sampled_from([(), (Way.UP,), (Way.DOWN,)]), runs=_runs)
    def cut(self, name: str, ends: tuple[Way, ...], *, runs: bool) -> None:
        self.wires[name].cut(*ends)
        self._run(runs)

    @rule(name=_below, limit=_limits, runs=_runs)
    def reconnect(self, name: str, limit: tuple[tuple[float, int], ...], *, runs: bool) -> None:
        """The lower end notices first: it has a new link while the upper one may still know the old one."""
        self.wires[name].cut(Way.UP)
        self._connect(name, limit if self.limited else ())
        self._run(runs)

    @rule(runs=_runs)
    def notice(self, *, runs: bool) -> None:
        """Upper ends notice that their peers have moved to new links."""
        self._bury_old_wires()
        self._run(runs)

    @rule(name=_below, way=_ways)
    def slow_down(self, name: str, way: Way) -> None:
        self.wires[name].slow.add(way)

    @rule(name=_below, way=_ways, pulled=st.integers(0, 3), delivered=st.integers(0, 3))
    def move_a_little(self, name: str, way: Way, pulled: int, delivered: int) -> None:
        self.wires[name].pull(way, pulled)
        self.wires[name].deliver(way, delivered)

    @rule(seconds=st.sampled_from([0.001, 0.3, 2.0]))
    def wait(self, seconds: float) -> None:
        self.tree.advance(seconds)

    # ---- what has to be true -----------------------------------------------------------------------------------------

    @rule()
    def come_to_rest(self) -> None:
        """Mend all links, and wait until nothing happens any more."""
        self._bury_old_wires()
        for name in ABOVE:
            wire = self.wires[name]
            wire.slow.clear()
            if not wire.up:
                wire.cut()
                self._connect(name, ())
        self.tree.advance(2.0)
        for thing in OBJECTS:
            self._check_at_rest(thing)
        for thing in OBJECTS:
            if thing is not WILD:
                self._check_news(thing)

    @override
    def teardown(self) -> None:
        if self.wires:
            self.come_to_rest()
            for node in self.nodes.values():
                for contract in [*node.observers, *node.exposers]:
                    node.close(contract)
            self.tree.advance(2.0)
            for node in self.nodes.values():
                world = node.machine.world
                tables = (world.objects, world.tags, world.contracts, world.streams, world.sinks)
                assert not any(tables), f"{node.name} remembers what nobody wants any more"
        AnyTree.delivered += self.tree.delivered

    def _check_at_rest(self, thing: ObjectDescriptor) -> None:
        watching = self._observers_of(thing)
        states = [state for observer in watching if (state := observer.state(thing)) is not None]
        for observer in watching:
            for state in observer.states(thing):
                assert state.data in self.said[thing], "nobody has published what is seen"
        producers = self._producers_of(thing)
        if not producers:
            assert not any(state.synchronized for state in states), (
                "nobody vouches for what is seen"
            )
        if self.limited:
            return  # peers over their limits serve themselves, each for itself
        assert len(producers) <= 1, f"{len(producers)} nodes produce {thing}"
        if not producers:
            assert not (self._is_asked_for(thing) and self._is_possible(thing)), (
                f"nobody produces {thing}"
            )
            return
        assert watching, f"nobody needs {thing}, and it is produced"
        world = producers[0].node.machine.world
        source = world.sinks[producers[0].sinks[thing]]
        if source.version is None:
            assert not producers[0].keeps, "a value that was kept is not published"
            assert not any(state.synchronized for state in states), "nobody has said so"
            return
        vouches = source in source.record.held.synced
        for observer in watching:
            state = observer.state(thing)
            if state is None:
                # by a tag perhaps nothing is to be seen: a peer that can produce by tags serves itself
                assert observer.target != thing, "an observer sees nothing of what is produced"
                continue
            assert state.version >= source.version, "an observer has less than what is produced"
            same = state.version == source.version
            assert state.synchronized is (same and vouches), "an observer sees another freshness"

    def _check_news(self, thing: ObjectDescriptor) -> None:
        """Whatever was, the next state reaches everybody, if there is one producer and his versions grow."""
        producers = self._producers_of(thing)
        if len(producers) != 1 or self.limited:
            return
        data = self._data(thing)
        assert producers[0].publish(thing, data) is Outcome.ACCEPTED
        self.tree.run()
        for observer in self._observers_of(thing):
            state = observer.state(thing)
            if state is not None or observer.target == thing:
                assert state is not None, "an observer sees nothing"
                assert state.data == data, "an observer does not have the latest state"
                assert state.synchronized, "an observer is not told that its state is current"

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _run(self, runs: bool) -> None:
        if runs:
            self.tree.run()

    def _observe(self, name: str, what: Target) -> Observer:
        return self.nodes[name].observe(what)

    def _expose(self, name: str, what: Target, capacity: int) -> Exposer:
        """Open a contract; one of an object has a value from the start."""
        exposer = self.nodes[name].expose(what, capacity)
        if isinstance(what, ObjectDescriptor):
            exposer.offer(self._data(what))
        return exposer

    def _bury_old_wires(self) -> None:
        for wire in self.tree.wires:
            if wire not in self.wires.values():
                wire.cut()

    def _connect(self, name: str, limit: tuple[tuple[float, int], ...]) -> None:
        self.wires[name] = self.tree.connect(self.nodes[name], self.nodes[ABOVE[name]], *limit)

    def _data(self, thing: ObjectDescriptor) -> bytes:
        self.count += 1
        data = b"%d" % self.count
        self.said[thing].add(data)
        return data

    def _observers_of(self, thing: ObjectDescriptor) -> list[Observer]:
        everybody = [item for node in self.nodes.values() for item in node.observers.values()]
        return [item for item in everybody if self._covers(item.target, thing)]

    def _sinks(
        self, which: int, *things: ObjectDescriptor
    ) -> list[tuple[Exposer, ObjectDescriptor]]:
        """Give one of all living sinks, or none if there are none."""
        everybody = [item for node in self.nodes.values() for item in node.exposers.values()]
        sinks = [(item, thing) for item in everybody for thing in item.sinks]
        sinks = [(item, thing) for item, thing in sinks if not things or thing in things]
        return [sinks[which % len(sinks)]] if sinks else []

    def _producers_of(self, thing: ObjectDescriptor) -> list[Exposer]:
        everybody = [item for node in self.nodes.values() for item in node.exposers.values()]
        return [item for item in everybody if thing in item.sinks]

    def _is_asked_for(self, thing: ObjectDescriptor) -> bool:
        """Whether somebody observes the object itself: tags are only looked at where it is known to exist."""
        return any(item.target == thing for item in self._observers_of(thing))

    def _is_possible(self, thing: ObjectDescriptor) -> bool:
        everybody = [item for node in self.nodes.values() for item in node.exposers.values()]
        able = [item for item in everybody if item.capacity > 0]
        return any(self._covers(item.target, thing) for item in able)

    @staticmethod
    def _covers(target: Target, thing: ObjectDescriptor) -> bool:
        return target == thing or target in thing.tags


def explore(examples: int, steps: int = 50, *, shrinks: bool = True) -> None:
    """Have Hypothesis try so many histories of so many steps.

    :raises AssertionError: in one of them something is not true that has to be.
    """
    phases = (Phase.generate, Phase.shrink) if shrinks else (Phase.generate,)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(AnyTree, settings=chosen)
