"""Observers and exposers come and go in trees of nodes: who is told what, and who takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._core.new_state import Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import CloseChannel, OpenChannel, SendContracts, SendState
from support.tree import Shape, Tree, Way

if TYPE_CHECKING:
    from support.machines import Target

TAG = TagDescriptor("t")
X = ObjectDescriptor(["t"], "x")

every_shape = pytest.mark.parametrize("shape", Shape, ids=lambda shape: shape.name)
by_object_and_tag = pytest.mark.parametrize(
    ("observed", "exposed"),
    [(X, X), (TAG, X), (X, TAG)],
    ids=["object-object", "tag-object", "object-tag"],
)


@every_shape
@by_object_and_tag
@pytest.mark.promise("on-demand")
def test_who_is_not_observed_any_more_is_unassigned(
    shape: Shape, observed: Target, exposed: Target
) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(observed), b.expose(exposed)
    tree.run()
    assert list(exposer.sinks) == [X]
    observer.close()
    tree.advance(1.0)
    assert exposer.sinks == {}
    assert exposer.assignments == {X: 1}


@every_shape
@by_object_and_tag
@pytest.mark.promise("stale-visible")
def test_who_observes_is_told_that_nobody_produces_any_more(
    shape: Shape, observed: Target, exposed: Target
) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(observed), b.expose(exposed)
    tree.run()
    exposer.publish(X, b"1")
    tree.run()
    exposer.close()
    tree.run()
    if observed == TAG:
        assert observer.streams == {}  # nobody holds a contract of the object any more
    else:
        assert observer.data(X) == [b"1"]
        assert not observer.is_fresh(X)


def test_unobserve_and_unexpose_tell_each_side_one_thing_and_nothing_else() -> None:
    tree = Tree()
    a, b = tree.leaves(Shape.SR, "a", "b")
    observer, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"1")
    tree.run()
    told = [tree.wire_of(node).told for node in (a, b)]
    kinds = [[type(item) for item in way[Way.DOWN]] for way in told]
    assert kinds == [[OpenChannel, SendState], [OpenChannel]]
    observer.close()
    tree.run()
    kinds = [[type(item) for item in way[Way.DOWN]] for way in told]
    assert kinds == [[OpenChannel, SendState, CloseChannel], [OpenChannel, CloseChannel]]
    kinds = [[type(item) for item in way[Way.UP]] for way in told]
    assert kinds == [[SendContracts, SendContracts], [SendContracts, SendState]]


@every_shape
def test_an_observer_that_comes_back_gets_the_next_state(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"xxx", (1,))
    tree.run()
    observer.close()
    tree.run()
    observer = a.observe(X)
    tree.run()
    exposer.publish(X, b"xxxy", (2,))
    tree.run()
    assert observer.data(X)[-1] == b"xxxy"
    assert observer.is_fresh(X)
    assert exposer.assignments == {X: 2}


@every_shape
@pytest.mark.promise("self-healing")
def test_an_exposer_that_comes_back_is_assigned_again(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(X), b.expose(TAG)
    tree.run()
    exposer.publish(X, b"1", (1,))
    tree.run()
    exposer.close()
    exposer = b.expose(TAG)
    tree.run()
    exposer.publish(X, b"2", (2,))
    tree.run()
    assert observer.data(X) == [b"1", b"2"]
    assert observer.is_fresh(X)


@every_shape
@pytest.mark.parametrize("exposed", [X, TAG], ids=["object", "tag"])
@pytest.mark.parametrize("how", ["disconnects", "unexposes"])
@pytest.mark.promise("self-healing", "one-exposer")
def test_the_other_exposer_takes_over(shape: Shape, exposed: Target, how: str) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    observer = a.observe(X)
    first = b.expose(exposed)
    tree.run()
    second = c.expose(exposed)
    tree.run()
    first.publish(X, b"1", (1,))
    tree.run()
    assert second.sinks == {}
    if how == "disconnects":
        tree.wire_of(b).cut()
    else:
        first.close()
    tree.run()
    assert list(second.sinks) == [X]
    assert not observer.is_fresh(X)
    assert observer.data(X) == [b"1"]
    second.publish(X, b"2", (2,))
    tree.run()
    assert observer.data(X) == [b"1", b"2"]
    assert observer.is_fresh(X)


@every_shape
def test_a_hand_over_keeps_the_channels_of_observers_open(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    observer, first, second = a.observe(X), b.expose(X), c.expose(X)
    tree.run()
    first.publish(X, b"1", (1,))
    tree.run()
    stream, told = observer.streams[X], tree.wire_of(a).told[Way.DOWN]
    told.clear()
    first.close()
    tree.run()
    second.publish(X, b"2", (2,))
    tree.run()
    assert observer.streams == {X: stream}
    assert not [item for item in told if isinstance(item, (OpenChannel, CloseChannel))]


@every_shape
@pytest.mark.promise("monotonic")
def test_a_successor_with_lower_versions_is_not_seen_and_what_is_seen_stays_stale(
    shape: Shape,
) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    observer, first, second = a.observe(X), b.expose(X), c.expose(X)
    tree.run()
    first.publish(X, b"10", (10,))
    tree.run()
    first.close()
    tree.run()
    assert second.publish(X, b"3", (3,)) in (Outcome.ACCEPTED, Outcome.NOT_NEWER)
    tree.run()
    assert observer.data(X) == [b"10"]
    assert not observer.is_fresh(X)
    assert sum(len(node.stale) for node in tree.nodes) == 1
    second.publish(X, b"11", (11,))
    tree.run()
    assert observer.data(X) == [b"10", b"11"]
    assert observer.is_fresh(X)


@every_shape
@pytest.mark.promise("whole")
def test_an_exposer_that_counts_from_one_again_is_seen_exactly_when_all_were_away(
    shape: Shape,
) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    exposer = b.expose(X)
    for life in ("old", "new"):
        observer = a.observe(X)
        tree.run()
        states = [f"{life} {number}".encode() for number in range(1, 5)]
        for number, data in enumerate(states, 1):
            exposer.publish(X, data, (number,))
            tree.run()
        assert observer.data(X) == states
        observer.close()
        tree.run()


@every_shape
def test_the_same_version_with_other_data_is_ignored(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"1", (5,))
    tree.run()
    assert exposer.publish(X, b"2", (5,)) is Outcome.NOT_NEWER
    tree.run()
    assert observer.data(X) == [b"1"]


def test_two_redundant_exposers_of_the_same_version_follow_each_other_freshly() -> None:
    tree = Tree()
    a, b, c = tree.leaves(Shape.SR, "a", "b", "c")
    observer, own = a.observe(X), c.observe(X)
    exposers = [node.expose(X) for node in (b, c)]
    for exposer in exposers:
        exposer.offer(b"configuration", (1,))
    tree.run()
    assert list(exposers[0].sinks) == [X]
    exposers[0].close()
    tree.run()
    assert list(exposers[1].sinks) == [X]
    for reader in (observer, own):
        assert reader.data(X) == [b"configuration"]
        assert reader.is_fresh(X)


def test_a_reassignment_before_the_exposer_heard_of_its_end_starts_it_anew() -> None:
    tree = Tree()
    a, b = tree.leaves(Shape.SR, "a", "b")
    observer, exposer = a.observe(X), b.expose(X)
    exposer.offer(b"1")
    tree.run()
    tree.wire_of(b).slow.add(Way.DOWN)
    observer.close()
    tree.run()
    observer = a.observe(X)
    tree.run()
    assert observer.states(X) == []
    tree.wire_of(b).slow.clear()
    tree.run()
    assert observer.data(X) == [b"1"]
    assert observer.is_fresh(X)
    assert exposer.assignments == {X: 2}


@pytest.mark.promise("isolation", "no-crash")
def test_who_violates_the_rules_is_gone_at_once_and_a_healthy_peer_takes_over() -> None:
    tree = Tree()
    a, b, c = tree.leaves(Shape.SR, "a", "b", "c")
    observer, wild, healthy = a.observe(X), b.expose(X), c.expose(X)
    tree.run()
    wild.publish(X, b"1", (1,))
    tree.run()
    wire = tree.wire_of(b)
    (action,) = (item for item in wire.told[Way.UP] if isinstance(item, SendContracts))
    wire.send(Way.UP, action.actions[0])
    wire.deliver(Way.UP)
    assert not wire.up
    tree.run()
    assert wild.sinks == {}
    assert list(healthy.sinks) == [X]
    healthy.publish(X, b"2", (2,))
    tree.run()
    assert observer.data(X) == [b"1", b"2"]
