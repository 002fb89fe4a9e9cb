"""Load balancing between leaves, as the crate's own tests and measurements have it."""

from __future__ import annotations

import pytest

from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from support.tree import Shape, Tree

TAG = TagDescriptor("t")
THINGS = [ObjectDescriptor(["t"], number) for number in range(10)]


def star(*names: str) -> Tree:
    """A router whose first leaf observes ten objects."""
    tree = Tree()
    first, *_ = tree.leaves(Shape.SR, "observing", *names)
    for thing in THINGS:
        first.observe(thing)
    tree.run()
    return tree


def test_a_newcomer_that_can_produce_one_object_takes_it() -> None:
    tree = star("regu", "riko")
    _, observing, regu, riko = tree.nodes
    for contract in [*observing.observers.values()][3:]:
        contract.close()
    holder = regu.expose(TAG)
    tree.run()
    newcomer = riko.expose(THINGS[1])
    tree.advance(1.0)
    assert len(holder.sinks) == 2
    assert list(newcomer.sinks) == [THINGS[1]]


def test_ten_objects_are_shared_with_a_newcomer() -> None:
    tree = star("b", "c")
    _, _, b, c = tree.nodes
    first = b.expose(TAG)
    tree.run()
    assert len(first.sinks) == 10
    second = c.expose(TAG)
    tree.advance(1.0)
    assert (len(first.sinks), len(second.sinks)) == (5, 5)
    assert sum(first.assignments.values()) == 10


def test_objects_move_when_the_observer_drops_those_of_one_side() -> None:
    tree = star("b", "c")
    _, observing, b, c = tree.nodes
    first, second = b.expose(TAG), c.expose(TAG)
    tree.advance(3.0)
    assert (len(first.sinks), len(second.sinks)) == (5, 5)
    dropped = [*first.sinks]
    for observer in [*observing.observers.values()]:
        if observer.target in dropped:
            observer.close()
    tree.advance(1.0)
    assert len(first.sinks) >= 2
    assert not {*first.sinks} & {*dropped}


def test_capacities_of_three_and_one_share_eight_objects_as_six_and_two() -> None:
    tree = star("b", "c")
    _, observing, b, c = tree.nodes
    for contract in [*observing.observers.values()][8:]:
        contract.close()
    large, small = b.expose(TAG, 3), c.expose(TAG, 1)
    tree.advance(2.0)
    assert (len(large.sinks), len(small.sinks)) == (6, 2)


def test_capacity_zero_gets_nothing_until_it_is_raised() -> None:
    tree = star("b")
    exposer = tree.nodes[2].expose(TAG, 0)
    tree.advance(3.0)
    assert exposer.sinks == {}
    exposer.set_capacity(1)
    tree.advance(3.0)
    assert len(exposer.sinks) == 10


@pytest.mark.parametrize(
    ("limit", "counts"),
    [
        ([(0.0, 3)], {0.1: 3, 6.0: 3}),
        ([(2.0, 0), (2.0, 5), (5.0, 7)], {0.9: 0, 1.9: 0, 2.1: 5, 3.45: 5, 3.55: 6, 6.0: 7}),
        ([(4.0, 8)], {0.45: 0, 0.55: 1, 1.05: 2, 2.05: 4, 3.95: 7, 4.05: 8, 9.0: 8}),
    ],
)
def test_a_load_limit_is_followed_to_the_moment(
    limit: list[tuple[float, int]], counts: dict[float, int]
) -> None:
    tree = star()
    exposing = tree.node("exposing")
    exposer = exposing.expose(TAG)
    start = tree.now
    tree.connect(exposing, tree.nodes[0], *limit)
    seen = {}
    for seconds in counts:
        tree.advance(start + seconds - tree.now)
        seen[seconds] = len(exposer.sinks)
    assert seen == counts


def test_a_ramp_starts_anew_with_each_connection() -> None:
    tree = star()
    exposing = tree.node("exposing")
    exposer = exposing.expose(TAG)
    wire = tree.connect(exposing, tree.nodes[0], (4.0, 8))
    tree.advance(2.1)
    assert len(exposer.sinks) == 4
    wire.cut()
    tree.connect(exposing, tree.nodes[0], (4.0, 8))
    tree.advance(1.1)
    assert len(exposer.sinks) == 2


def test_who_comes_when_all_others_are_full_gets_the_rest() -> None:
    tree = star("c")
    exposing = tree.node("exposing")
    full = exposing.expose(TAG)
    tree.connect(exposing, tree.nodes[0], (0.0, 3))
    tree.advance(1.0)
    free = tree.nodes[2].expose(TAG)
    tree.advance(1.0)
    assert len(full.sinks) + len(free.sinks) == 10
    assert len(full.sinks) == 3


@pytest.mark.promise("self-healing")
def test_objects_of_a_lost_peer_are_shared_by_the_others() -> None:
    tree = star("b", "c", "d")
    exposers = [node.expose(TAG) for node in tree.nodes[2:]]
    tree.advance(2.0)
    assert sorted(len(exposer.sinks) for exposer in exposers) == [3, 3, 4]
    tree.wire_of(exposers[0].node).cut()
    tree.advance(1.0)
    assert [len(exposer.sinks) for exposer in exposers] == [0, 5, 5]


def test_an_exposer_on_the_router_beats_any_leaf() -> None:
    tree = star("b")
    below = tree.nodes[2].expose(TAG, 1_000)
    tree.run()
    here = tree.nodes[0].expose(TAG, 1)
    tree.advance(2.0)
    assert below.sinks == {}
    assert len(here.sinks) == 10
