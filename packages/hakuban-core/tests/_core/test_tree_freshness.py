"""How fresh a state is, as it is told from node to node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import SendState, SendSynchronized
from support.tree import Shape, Tree, Way

if TYPE_CHECKING:
    from support.machines import Exposer, Observer

X = ObjectDescriptor([], "x")
TAG = TagDescriptor("t")
TAGGED = ObjectDescriptor(["t"], "tagged")
every_shape = pytest.mark.parametrize("shape", Shape, ids=lambda shape: shape.name)


class Line:
    """An observer and an exposer at the two ends of a tree."""

    def __init__(self, shape: Shape) -> None:
        self.tree = Tree()
        a, b = self.tree.leaves(shape, "a", "b")
        self.observer: Observer = a.observe(X)
        self.exposer: Exposer = b.expose(X)
        self.tree.run()
        self.told = self.tree.wire_of(a).told[Way.DOWN]
        self.told.clear()

    def publish(self, version: int, age: float | None) -> None:
        self.exposer.publish(X, b"state", (version,), age)
        self.tree.run()

    def set_synchronized(self, age: float | None) -> None:
        self.exposer.set_synchronized(X, age)
        self.tree.run()

    @property
    def age(self) -> float:
        return self.observer.age(X)

    def heard(self) -> list[type]:
        """Give the kinds of what the observer's node heard since the last time."""
        kinds = [type(item) for item in self.told]
        self.told.clear()
        return kinds


@pytest.fixture(params=Shape, ids=lambda shape: shape.name)
def line(request: pytest.FixtureRequest) -> Line:
    return Line(request.param)


def soon(seconds: float) -> object:
    return pytest.approx(seconds, abs=0.01)


def test_a_state_may_be_old_when_it_is_published(line: Line) -> None:
    line.publish(1, 1.0)
    assert line.age == soon(1.0)
    assert line.heard() == [SendState]


def test_a_younger_age_of_the_same_state_is_told_alone(line: Line) -> None:
    line.publish(1, 3.0)
    line.heard()
    line.publish(1, 1.0)
    assert line.age == soon(1.0)
    line.set_synchronized(0.5)
    assert line.age == soon(0.5)
    assert line.heard() == [SendSynchronized, SendSynchronized]


def test_a_state_becomes_current_without_being_sent_again(line: Line) -> None:
    line.publish(1, 3.0)
    line.heard()
    line.set_synchronized(None)
    assert line.observer.is_fresh(X)
    assert line.heard() == [SendSynchronized]


def test_an_older_age_is_told_to_nobody(line: Line) -> None:
    line.publish(1, 1.0)
    line.heard()
    line.set_synchronized(5.0)
    assert line.age == soon(1.0)
    assert line.heard() == []


@pytest.mark.promise("stale-visible")
def test_the_age_grows_as_time_goes_by(line: Line) -> None:
    line.publish(1, None)
    assert line.age == 0.0
    line.exposer.close()
    line.tree.run()
    for seconds in (1, 2, 3):
        line.tree.advance(1.0)
        assert line.age == soon(seconds)


@pytest.mark.promise("stale-visible")
def test_an_age_survives_a_link_that_was_slow(line: Line) -> None:
    wire = line.tree.wire_of(line.observer.node)
    wire.slow.add(Way.DOWN)
    line.publish(1, 1.0)
    line.tree.advance(2.0)
    wire.slow.clear()
    line.tree.run()
    assert line.age == soon(3.0)


@pytest.mark.promise("stale-visible")
@pytest.mark.parametrize("end", ["observer", "exposer"])
def test_a_lost_link_makes_what_is_seen_stale_at_once(line: Line, end: str) -> None:
    line.publish(1, None)
    line.tree.wire_of(getattr(line, end).node).cut()
    line.tree.run()
    assert not line.observer.is_fresh(X)
    line.tree.advance(2.0)
    assert line.age == soon(2.0)


@pytest.mark.promise("stale-visible")
def test_who_learns_of_an_object_from_above_sees_the_producer_change_to_its_own_side() -> None:
    tree = Tree()
    root = tree.node("root")
    inner = tree.node("inner", root)
    other, watching = tree.node("other", root), tree.node("watching", inner)
    root.observe(TAGGED)
    observer = watching.observe(TAG)
    first = other.expose(TAGGED)
    tree.run()
    first.publish(TAGGED, b"1")
    tree.run()
    assert observer.is_fresh(TAGGED)
    second = inner.expose(TAG)
    tree.run()
    tree.wire_of(other).cut()
    tree.run()
    assert list(second.sinks) == [TAGGED]
    assert not observer.is_fresh(TAGGED)
    second.publish(TAGGED, b"2")
    tree.run()
    assert observer.data(TAGGED) == [b"2"]
    assert observer.is_fresh(TAGGED)


def test_an_age_beyond_all_clocks_stays_the_greatest_through_all_nodes(line: Line) -> None:
    line.publish(1, float("inf"))
    assert line.age >= 1e13
    line.set_synchronized(1e12)
    assert line.age == pytest.approx(1e12)
