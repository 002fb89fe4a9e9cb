"""What becomes of a state that a local contract publishes, and which version it gets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from hakuban._core.new_state import NewState, Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind, SendState
from support.machines import FORMAT
from support.peer import Above, Below, opened, sent
from support.tree import EPOCH

if TYPE_CHECKING:
    from hakuban._contents import Version
    from support.machines import Exposer, Node, Observer
    from support.tree import Tree

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], "thing")
INT64_MAX = 2**63 - 1


@pytest.fixture
def observer(node: Node) -> Observer:
    return node.observe(THING)


@pytest.fixture
def exposer(observer: Observer) -> Exposer:
    """An assigned exposer."""
    return observer.node.expose(THING)


def version(observer: Observer) -> Version:
    state = observer.state(THING)
    assert state is not None
    return state.version


# ---- outcomes --------------------------------------------------------------------------------------------------------


def test_publishing_says_what_became_of_the_state(observer: Observer, exposer: Exposer) -> None:
    assert exposer.publish(THING, b"1", (5,)) is Outcome.ACCEPTED
    assert exposer.publish(THING, b"2", (5,)) is Outcome.NOT_NEWER
    assert exposer.publish(THING, b"3", (4,)) is Outcome.NOT_NEWER
    assert exposer.publish(THING, b"4", (5, 0)) is Outcome.ACCEPTED
    assert observer.data(THING) == [b"1", b"4"]


def test_nothing_can_be_done_with_an_ended_assignment(
    tree: Tree, node: Node, observer: Observer, exposer: Exposer
) -> None:
    sink = exposer.sinks[THING]
    observer.close()
    machine, offer = node.machine, NewState(b"1", FORMAT, None)
    assert machine.publish(sink, offer, None, tree.now, tree.wall) is Outcome.NOT_ASSIGNED
    assert machine.relabel(sink, None, tree.now, tree.wall) is Outcome.NOT_ASSIGNED
    assert machine.set_synchronized(sink, None, tree.now) is Outcome.NOT_ASSIGNED
    machine.drop_sink(sink, tree.now)
    assert machine.take_effects() == []


def test_nothing_can_be_done_with_a_contract_that_is_closed_or_of_the_other_kind(
    tree: Tree, node: Node, observer: Observer, exposer: Exposer
) -> None:
    exposer.close()
    machine, offer = node.machine, NewState(b"1", FORMAT, None)
    for contract in (exposer.contract, observer.contract, 999):
        assert machine.set_kept(contract, offer, None, tree.now, tree.wall) is Outcome.NOT_ASSIGNED
        assert machine.relabel_kept(contract, None, tree.now, tree.wall) is Outcome.NOT_NEWER
        assert machine.set_kept_synchronized(contract, 1.0, tree.now) is Outcome.NOT_ASSIGNED
        assert machine.sink_of(contract) is None
        machine.set_capacity(contract, 3, tree.now)


def test_a_contract_that_is_closed_publishes_nothing_though_its_many_sinks_end_in_slices(
    tree: Tree, node: Node
) -> None:
    things = [ObjectDescriptor(["t"], number) for number in range(200)]
    observers = [node.observe(thing) for thing in things]
    exposer = node.expose(TAG)
    tree.run()
    sinks = dict(exposer.sinks)
    exposer.close()
    machine, offer = node.machine, NewState(b"1", FORMAT, None)
    assert len(machine.world.sinks) > 100  # most of them have not ended yet
    for sink in sinks.values():
        assert machine.publish(sink, offer, None, tree.now, tree.wall) is Outcome.NOT_ASSIGNED
    tree.run()
    assert machine.world.sinks == {}
    assert [[*observer.seen.values()] for observer in observers] == [[[]]] * len(things)


def test_the_sink_of_an_object_is_found_by_its_name(node: Node, observer: Observer) -> None:
    by_tag = node.expose(TAG)
    machine = node.machine
    assert machine.sink_of(by_tag.contract, THING) == by_tag.sinks[THING]
    assert machine.sink_of(by_tag.contract, ObjectDescriptor(["t"], "unknown")) is None
    assert machine.sink_of(by_tag.contract) is None
    by_name = node.expose(THING)
    assert machine.sink_of(by_name.contract) is None
    by_tag.close()
    assert machine.sink_of(by_name.contract) == by_name.sinks[THING]
    observer.close()
    assert machine.sink_of(by_name.contract, THING) is None


# ---- versions --------------------------------------------------------------------------------------------------------


def test_a_default_version_is_the_time(tree: Tree, observer: Observer, exposer: Exposer) -> None:
    exposer.publish(THING, b"1")
    assert version(observer) == (0, *divmod(tree.wall, 10**9))


def test_default_versions_grow_though_the_clock_stands_or_goes_back(
    tree: Tree, node: Node, observer: Observer, exposer: Exposer
) -> None:
    sink, machine = exposer.sinks[THING], node.machine
    versions: list[Version] = []
    for wall in (EPOCH, EPOCH, EPOCH - 10**9, EPOCH + 1):
        offer = NewState(b"%d" % len(versions), FORMAT, None)
        assert machine.publish(sink, offer, None, tree.now, wall) is Outcome.ACCEPTED
        view = machine.world.objects[THING].held.view
        assert view is not None
        versions.append(view.content.version)
    assert versions == sorted(set(versions))


@pytest.mark.parametrize(
    ("seen", "following"),
    [
        ((7,), (8,)),
        ((0, INT64_MAX, 3), (0, INT64_MAX, 4)),
        ((1, INT64_MAX), (1, INT64_MAX, 0)),
    ],
)
def test_a_default_version_is_larger_than_any_seen(
    observer: Observer, exposer: Exposer, seen: Version, following: Version
) -> None:
    exposer.publish(THING, b"1", seen)
    exposer.publish(THING, b"2")
    assert version(observer) == following


def test_versions_seen_count_though_the_state_was_dropped(node: Node, observer: Observer) -> None:
    exposer = node.expose(THING)
    exposer.publish(THING, b"1", (7,))
    observer.close()
    observer = node.observe(THING)
    exposer.publish(THING, b"2")
    assert version(observer) == (8,)


def test_versions_from_above_count_too(node: Node, observer: Observer, exposer: Exposer) -> None:
    above = Above(node)
    channel = above.feed(THING)
    above.publish(channel, b"1", (7,))
    above.leave()
    exposer.publish(THING, b"2")
    assert version(observer) == (8,)


def test_an_ignored_state_is_counted_and_reported_once_for_each_assignment(
    node: Node, observer: Observer, exposer: Exposer
) -> None:
    exposer.publish(THING, b"1", (5,))
    for number in range(3):
        exposer.publish(THING, b"ignored", (number,))
    assert [(item.version, item.held) for item in node.stale] == [((0,), (5,))]
    exposer.drop_sink(THING)
    exposer.publish(THING, b"ignored", (5,))
    assert [(item.version, item.held) for item in node.stale][1:] == [((5,), (5,))]
    assert node.machine.snapshot(node.world.now).ignored_states == {THING: 4}
    assert observer.data(THING) == [b"1"]


def test_the_held_state_said_again_is_not_reported(node: Node, observer: Observer) -> None:
    peer = Below(node)
    peer.expose(THING)
    channel = opened(peer.receive(), ChannelKind.SINK)[0]
    peer.publish(channel, b"1", (5,))
    peer.publish(channel, b"1", (5,), age=1_000_000)
    assert node.stale == []
    assert not observer.is_fresh(THING)
    peer.publish(channel, b"2", (5,))
    assert len(node.stale) == 1


# ---- freshness -------------------------------------------------------------------------------------------------------


def test_a_state_can_be_published_with_an_age(observer: Observer, exposer: Exposer) -> None:
    exposer.publish(THING, b"1", age=2.0)
    assert observer.age(THING) == pytest.approx(2.0, abs=1e-3)
    exposer.set_synchronized(THING, 1.0)
    assert observer.age(THING) == pytest.approx(1.0, abs=1e-3)
    exposer.set_synchronized(THING, None)
    assert observer.is_fresh(THING)


@pytest.mark.parametrize("age", [-5.0, math.nan, 0.0])
def test_the_future_is_now(observer: Observer, exposer: Exposer, age: float) -> None:
    exposer.publish(THING, b"1", age=age)
    assert observer.age(THING) == pytest.approx(0.0, abs=1e-3)


def test_an_infinite_age_is_the_greatest_that_can_be_told(node: Node, exposer: Exposer) -> None:
    peer = Below(node)
    peer.observe(THING)
    exposer.publish(THING, b"1", age=math.inf)
    (state,) = (item for item in peer.receive() if isinstance(item, SendState))
    assert state.age == 10**19


def test_freshness_without_a_state_is_heard_and_changes_nothing(
    observer: Observer, exposer: Exposer
) -> None:
    assert exposer.set_synchronized(THING, None) is Outcome.ACCEPTED
    assert observer.states(THING) == []


def test_a_dropped_sink_leaves_the_state_stale_and_another_sink_follows(
    observer: Observer, exposer: Exposer
) -> None:
    exposer.publish(THING, b"1")
    exposer.drop_sink(THING)
    assert observer.data(THING) == [b"1"]
    assert not observer.is_fresh(THING)
    assert exposer.assignments[THING] == 2


# ---- the value that an object contract keeps -------------------------------------------------------------------------


def test_a_value_that_is_set_unassigned_is_published_at_the_assignment(node: Node) -> None:
    exposer = node.expose(THING)
    assert exposer.offer(b"1") is Outcome.KEPT
    assert exposer.offer(b"2") is Outcome.KEPT
    observer = node.observe(THING)
    assert observer.data(THING) == [b"2"]
    assert exposer.offer(b"3") is Outcome.ACCEPTED
    assert observer.data(THING) == [b"2", b"3"]


def test_a_kept_value_gets_its_default_version_when_it_is_published(tree: Tree, node: Node) -> None:
    exposer = node.expose(THING)
    exposer.offer(b"1")
    tree.advance(60.0)
    observer = node.observe(THING)
    assert version(observer) == (0, *divmod(tree.wall, 10**9))


def test_a_kept_value_is_dated_by_the_clock_of_the_root(tree: Tree, node: Node) -> None:
    exposer = node.expose(THING)
    exposer.offer(b"1")
    root = tree.node("root")
    tree.skew[root] = 3600 * 10**9
    tree.connect(node, root)
    observer = root.observe(THING)
    tree.run()
    assert version(observer)[1] == pytest.approx(tree.wall // 10**9 + 3600, abs=1)


def test_a_kept_value_is_published_again_at_each_assignment(node: Node) -> None:
    exposer = node.expose(THING)
    exposer.offer(b"1")
    first = node.observe(THING)
    before = version(first)
    first.close()
    second = node.observe(THING)
    assert second.data(THING) == [b"1"]
    assert second.is_fresh(THING)
    assert version(second) > before


def test_a_kept_value_that_is_still_held_is_vouched_for_again_under_its_version(
    tree: Tree, node: Node, observer: Observer, exposer: Exposer
) -> None:
    exposer.offer(b"1")
    before = version(observer)
    above = Above(node)
    above.feed(THING)
    assert not observer.is_fresh(THING)
    above.leave()
    assert observer.is_fresh(THING)
    assert version(observer) == before
    sink = exposer.sinks[THING]
    assert node.machine.relabel(sink, (9,), tree.now, tree.wall) is Outcome.ACCEPTED


def test_kept_values_have_versions_that_only_grow(exposer: Exposer, observer: Observer) -> None:
    observer.close()
    assert exposer.offer(b"1", (5,)) is Outcome.KEPT
    assert exposer.offer(b"2", (5,)) is Outcome.NOT_NEWER
    assert exposer.offer(b"3", (4,)) is Outcome.NOT_NEWER
    observer = exposer.node.observe(THING)
    assert observer.data(THING) == [b"1"]
    assert exposer.offer(b"4", (4,)) is Outcome.NOT_NEWER
    assert exposer.offer(b"5") is Outcome.ACCEPTED
    assert observer.data(THING) == [b"1", b"5"]


def test_the_kept_version_said_again_says_how_fresh_it_is(
    observer: Observer, exposer: Exposer
) -> None:
    exposer.offer(b"1", (5,), age=10.0)
    assert exposer.offer(b"1", (5,)) is Outcome.NOT_NEWER
    assert observer.is_fresh(THING)
    observer.close()
    observer = exposer.node.observe(THING)
    assert observer.is_fresh(THING)


def test_a_kept_value_that_is_not_newer_than_what_is_held_is_reported(
    node: Node, observer: Observer
) -> None:
    exposer = node.expose(THING)
    exposer.publish(THING, b"1", (5,))
    exposer.close()
    late = node.expose(ObjectDescriptor(["t"], "thing"), 0)
    late.offer(b"2", (4,))
    late.set_capacity(1)
    assert observer.data(THING) == [b"1"]
    assert not observer.is_fresh(THING)
    assert len(node.stale) == 1


def test_the_kept_value_ages_with_what_is_said_of_it(
    tree: Tree, node: Node, exposer: Exposer, observer: Observer
) -> None:
    exposer.offer(b"1")
    machine = node.machine
    node.call(lambda _: machine.set_kept_synchronized(exposer.contract, 5.0, tree.now))
    assert observer.age(THING) == pytest.approx(5.0, abs=1e-3)
    observer.close()
    assert machine.set_kept_synchronized(exposer.contract, 7.0, tree.now) is Outcome.KEPT
    observer = node.observe(THING)
    assert observer.age(THING) == pytest.approx(7.0, abs=1e-3)


def test_a_dropped_sink_takes_the_kept_value_with_it(observer: Observer, exposer: Exposer) -> None:
    exposer.offer(b"1")
    exposer.drop_sink(THING)
    assert not observer.is_fresh(THING)
    observer.close()
    observer = exposer.node.observe(THING)
    assert observer.states(THING) == []


def test_what_is_published_through_a_sink_makes_the_kept_value_obsolete(
    observer: Observer, exposer: Exposer
) -> None:
    exposer.offer(b"kept")
    exposer.publish(THING, b"newer")
    observer.close()
    observer = exposer.node.observe(THING)
    assert observer.states(THING) == []


def test_an_ignored_state_does_not_make_the_kept_value_obsolete(
    observer: Observer, exposer: Exposer
) -> None:
    exposer.offer(b"kept", (5,))
    exposer.publish(THING, b"older", (4,))
    observer.close()
    observer = exposer.node.observe(THING)
    assert observer.data(THING) == [b"kept"]


# ---- relabelling -----------------------------------------------------------------------------------------------------


def test_the_last_data_can_get_another_version(
    tree: Tree, node: Node, observer: Observer, exposer: Exposer
) -> None:
    sink, machine = exposer.sinks[THING], node.machine
    assert machine.relabel(sink, None, tree.now, tree.wall) is Outcome.NOT_NEWER  # there are none
    exposer.publish(THING, b"1", (5,))
    exposer.publish(THING, b"ignored", (3,))
    assert machine.relabel(sink, (4,), tree.now, tree.wall) is Outcome.NOT_NEWER
    node.call(lambda _: machine.relabel(sink, (7,), tree.now, tree.wall))
    assert version(observer) == (7,)
    node.call(lambda _: machine.relabel(sink, None, tree.now, tree.wall))
    assert version(observer) == (8,)
    assert observer.data(THING) == [b"1"]


def test_the_kept_value_can_get_another_version(
    tree: Tree, node: Node, observer: Observer, exposer: Exposer
) -> None:
    machine, contract = node.machine, exposer.contract
    assert machine.relabel_kept(contract, (1,), tree.now, tree.wall) is Outcome.NOT_NEWER
    exposer.offer(b"1", (5,))
    node.call(lambda _: machine.relabel_kept(contract, (6,), tree.now, tree.wall))
    assert version(observer) == (6,)
    observer.close()
    assert machine.relabel_kept(contract, (9,), tree.now, tree.wall) is Outcome.KEPT
    observer = node.observe(THING)
    assert version(observer) == (9,)
    assert observer.data(THING) == [b"1"]


# ---- who is told -----------------------------------------------------------------------------------------------------


def test_every_reader_is_told_of_a_new_state(node: Node, exposer: Exposer) -> None:
    peers = [Below(node) for _ in range(3)]
    for peer in peers:
        peer.observe(THING)
        peer.receive()
    exposer.publish(THING, b"1")
    assert [sent(peer.receive()) for peer in peers] == [[b"1"]] * 3
