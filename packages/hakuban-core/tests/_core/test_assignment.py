"""Who produces an object: the order of choice, capacities, load limits, rebalancing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from hakuban._core.events import Tick
from hakuban._core.load_limit import LoadLimit
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind
from support.peer import Above, Below, closed, opened
from support.tree import Tree

if TYPE_CHECKING:
    from support.machines import Exposer, Node

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], "thing")
TWICE = ObjectDescriptor(["t", "u"], "twice")
THINGS = [ObjectDescriptor(["t"], number) for number in range(12)]
SINK = ChannelKind.SINK


def assigned(node: Node, thing: ObjectDescriptor = THING) -> object:
    picture = node.picture(thing)
    assert picture is not None
    exposer: object = picture["assigned_exposer"]
    return exposer


def load(node: Node, peer: Below) -> float:
    links = node.machine.snapshot(node.world.now).downstream_connections
    found: float = next(
        item["load"] for item in links if item["downstream_connection_id"] == peer.link
    )
    return found


def produced(node: Node, peer: Below) -> int:
    """Count the objects that a peer produces."""
    pictures = node.machine.snapshot(node.world.now).objects
    return sum(item["assigned_exposer"] == {"DownstreamConnection": peer.link} for item in pictures)


# ---- order of choice -------------------------------------------------------------------------------------------------


def test_above_beats_here_and_here_beats_below(node: Node) -> None:
    node.observe(THING)
    below = Below(node)
    below.expose(THING, 100)
    assert assigned(node) == {"DownstreamConnection": below.link}
    by_tag = node.expose(TAG)
    assert assigned(node) == {"TagExposeContract": by_tag.contract}
    assert load(node, below) == 0.0
    above = Above(node)
    channel = above.feed(THING)
    assert assigned(node) == {"UpstreamConnection": above.link}
    assert by_tag.sinks == {}
    above.close(channel)
    assert assigned(node) == {"TagExposeContract": by_tag.contract}
    by_tag.close()
    assert assigned(node) == {"DownstreamConnection": below.link}


def test_a_new_channel_from_above_before_the_old_one_closes_changes_nothing(node: Node) -> None:
    here = node.expose(THING)
    observer = node.observe(THING)
    above = Above(node)
    first = above.feed(THING)
    second = above.feed(THING)
    above.publish(first, b"1", (1,))
    above.publish(second, b"1", (1,))
    above.close(first)
    assert here.sinks == {}
    assert observer.is_fresh(THING)
    above.close(second)
    assert not observer.is_fresh(THING)
    assert list(here.sinks) == [THING]


@pytest.mark.parametrize(
    ("capacities", "chosen"), [((1, 5), 1), ((5, 1), 0), ((2, 2), 0), ((0, 1), 1), ((0, 0), None)]
)
def test_here_the_highest_capacity_is_chosen_and_then_the_oldest(
    node: Node, capacities: tuple[int, ...], chosen: int | None
) -> None:
    exposers = [node.expose(THING, capacity) for capacity in capacities]
    node.observe(THING)
    assert [bool(item.sinks) for item in exposers] == [number == chosen for number in range(2)]


def test_an_object_contract_is_chosen_before_a_tag_contract(node: Node) -> None:
    by_tag, by_name = node.expose(TAG, 100), node.expose(THING, 1)
    node.observe(THING)
    assert by_tag.sinks == {}
    assert list(by_name.sinks) == [THING]


@pytest.mark.parametrize("first", [THING, TAG])
def test_who_produces_here_goes_on_when_a_better_contract_comes(
    node: Node, first: ObjectDescriptor | TagDescriptor
) -> None:
    node.observe(THING)
    holder = node.expose(first)
    newcomers = [node.expose(THING, 9), node.expose(TAG, 9)]
    assert holder.assignments == {THING: 1}
    assert not any(item.sinks for item in newcomers)
    holder.set_capacity(0)
    assert holder.sinks == {}
    assert list(newcomers[0].sinks) == [THING]


def test_who_drops_a_sink_gets_the_next_one_though_another_contract_is_larger(node: Node) -> None:
    observer, holder = node.observe(THING), node.expose(THING)
    larger = node.expose(THING, 9)
    holder.publish(THING, b"1")
    first = holder.sinks[THING]
    holder.drop_sink(THING)
    assert not observer.is_fresh(THING)
    assert holder.sinks[THING] != first
    assert larger.sinks == {}


def test_below_the_least_loaded_peer_is_chosen_and_then_the_oldest(node: Node) -> None:
    peers = [Below(node) for _ in range(3)]
    for peer in peers:
        peer.expose(TAG)
    for thing in THINGS[:3]:
        node.observe(thing)
    assert [produced(node, peer) for peer in peers] == [1, 1, 1]
    node.observe(THINGS[3])
    assert [produced(node, peer) for peer in peers] == [2, 1, 1]


def test_objects_are_shared_in_proportion_to_capacities(node: Node) -> None:
    large, small = Below(node), Below(node)
    large.expose(TAG, 3)
    small.expose(TAG, 1)
    for thing in THINGS[:8]:
        node.observe(thing)
    assert (produced(node, large), produced(node, small)) == (6, 2)
    assert load(node, large) == pytest.approx(2.0)
    assert load(node, small) == pytest.approx(2.0)


def test_capacities_of_an_object_and_of_all_its_tags_add_up(node: Node) -> None:
    peer = Below(node)
    node.observe(TWICE)
    peer.expose(TWICE, 2)
    peer.expose(TAG, 3)
    peer.expose(TagDescriptor("u"), 5)
    assert load(node, peer) == pytest.approx(1 / 10)
    peer.set_capacity(TAG, 1)
    assert load(node, peer) == pytest.approx(1 / 8)
    peer.unexpose(TWICE)
    assert load(node, peer) == pytest.approx(1 / 6)


def test_a_holder_below_is_not_displaced_by_a_lighter_one_at_once(node: Node) -> None:
    holder, newcomer = Below(node), Below(node)
    holder.expose(THING)
    node.observe(THING)
    newcomer.expose(THING, 50)
    assert assigned(node) == {"DownstreamConnection": holder.link}


def test_when_the_producer_leaves_another_one_takes_over_in_the_same_step(node: Node) -> None:
    first, second = Below(node), Below(node)
    first.expose(THING)
    second.expose(THING)
    node.observe(THING)
    first.leave()
    assert assigned(node) == {"DownstreamConnection": second.link}
    second.unexpose(THING)
    assert assigned(node) is None


@pytest.mark.parametrize("where", ["here", "below"])
def test_capacity_zero_is_no_exposer_until_it_is_raised(node: Node, where: str) -> None:
    node.observe(THING)
    exposer: Exposer | Below
    if where == "here":
        exposer = node.expose(THING, 0)
        change = exposer.set_capacity
    else:
        exposer = Below(node)
        exposer.expose(THING, 0)
        change = lambda capacity: exposer.set_capacity(THING, capacity)  # noqa: E731 -- the same by another road
    assert assigned(node) is None
    change(1)
    assert assigned(node) is not None
    change(0)
    assert assigned(node) is None


def test_capacities_beyond_32_bits_are_the_greatest_that_fit(node: Node) -> None:
    exposer = node.expose(THING, 2**40)
    assert node.picture(THING)["cumulative_object_exposer_capacity"] == 2**32 - 1  # type: ignore[index]  # it is there
    exposer.set_capacity(2**40)
    assert node.picture(THING)["cumulative_object_exposer_capacity"] == 2**32 - 1  # type: ignore[index]  # it is there


def test_loads_come_back_to_nothing_after_any_number_of_fractions(node: Node) -> None:
    peer = Below(node)
    peer.expose(TAG, 3)
    for _ in range(20):
        observers = [node.observe(thing) for thing in THINGS]
        for observer in observers:
            observer.close()
    assert load(node, peer) == 0.0


# ---- load limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "limits"),
    [
        ([(0.0, 3)], {0: 3, 1: 3, 100: 3}),
        ([(4.0, 8)], {0: 0, 1: 2, 2.5: 5, 4: 8, 9: 8}),
        ([(2.0, 0), (2.0, 5), (5.0, 7)], {0: 0, 1.9: 0, 2: 5, 3.5: 6, 5: 7, 6: 7}),
        ([(1.0, 4), (3.0, 2)], {0.5: 2, 1: 4, 2: 3, 3: 2, 8: 2}),
    ],
)
def test_a_limit_is_a_line_through_its_points(
    points: list[tuple[float, int]], limits: dict[float, float]
) -> None:
    load_limit = LoadLimit(points, 10.0)
    assert {after: load_limit.limit(10.0 + after) for after in limits} == pytest.approx(limits)


@pytest.mark.parametrize(
    ("points", "asked_after", "load", "allowed_after"),
    [
        ([(4.0, 8)], 0.0, 2.0, 1.0),
        ([(4.0, 8)], 1.0, 3.0, 1.5),
        ([(4.0, 8)], 0.0, 9.0, math.inf),
        ([(4.0, 8)], 5.0, 9.0, math.inf),
        ([(2.0, 0), (2.0, 5), (5.0, 7)], 0.5, 1.0, 2.0),
        ([(2.0, 0), (2.0, 5), (5.0, 7)], 2.5, 6.0, 3.5),
        ([(2.0, 0), (2.0, 5), (5.0, 7)], 3.0, 7.0 + 5e-10, 5.0),
        ([(1.0, 4), (3.0, 2), (4.0, 4)], 2.0, 3.5, 3.75),
    ],
)
def test_a_ramp_knows_when_it_will_allow_a_load(
    points: list[tuple[float, int]], asked_after: float, load: float, allowed_after: float
) -> None:
    load_limit = LoadLimit(points, 10.0)
    now = 10.0 + asked_after
    assert not load_limit.allows(load, now)
    crossing = load_limit.crossing(load, now)
    assert crossing - 10.0 == pytest.approx(allowed_after)
    if crossing < math.inf:
        assert load_limit.allows(load, crossing)
        assert not load_limit.allows(load, crossing - 0.001)


def test_a_limit_without_a_slope_is_filled_and_not_exceeded(tree: Tree, node: Node) -> None:
    peer = Below(node, (0.0, 3))
    peer.expose(TAG)
    for thing in THINGS[:10]:
        node.observe(thing)
    tree.advance(6.0)
    assert produced(node, peer) == 3


def test_capacity_fractions_fill_a_limit_to_the_brim(node: Node) -> None:
    peer = Below(node, (0.0, 1))
    peer.expose(TAG, 3)
    for thing in THINGS[:4]:
        node.observe(thing)
    assert produced(node, peer) == 3


def test_a_limit_that_is_lowered_takes_nothing_away_and_one_that_is_raised_gives(
    tree: Tree, node: Node
) -> None:
    peer = Below(node, (0.0, 4))
    peer.expose(TAG)
    for thing in THINGS[:8]:
        node.observe(thing)
    peer.limit((0.0, 2))
    tree.advance(2.0)
    assert produced(node, peer) == 4
    peer.limit((0.0, 6))
    tree.advance(1.0)
    assert produced(node, peer) == 6
    peer.limit()
    tree.advance(1.0)
    assert produced(node, peer) == 8


def test_a_ramp_lets_objects_in_at_the_very_moment_it_crosses_their_load(
    tree: Tree, node: Node
) -> None:
    peer = Below(node, (4.0, 8))
    start = tree.now
    peer.expose(TAG)
    for thing in THINGS[:8]:
        node.observe(thing)
    counts = []
    for number in range(1, 9):
        tree.advance(start + number * 0.5 + 0.02 - tree.now)
        counts.append(produced(node, peer))
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_ramp_lets_a_lighter_peer_take_objects_over(tree: Tree, node: Node) -> None:
    holder = Below(node)
    holder.expose(TAG)
    for thing in THINGS[:8]:
        node.observe(thing)
    newcomer = Below(node, (2.0, 0), (4.0, 8))
    newcomer.expose(TAG)
    tree.advance(1.9)
    assert produced(node, newcomer) == 0
    tree.advance(3.0)
    assert (produced(node, holder), produced(node, newcomer)) == (4, 4)


def test_objects_that_nobody_may_take_go_to_the_next_peer_that_comes(
    tree: Tree, node: Node
) -> None:
    full = Below(node, (0.0, 1))
    full.expose(TAG)
    for thing in THINGS[:3]:
        node.observe(thing)
    assert produced(node, full) == 1
    free = Below(node)
    free.expose(TAG)
    tree.advance(1.0)
    assert produced(node, full) + produced(node, free) == 3


# ---- rebalancing -----------------------------------------------------------------------------------------------------


def share(node: Node, objects: int) -> tuple[Below, Below]:
    """Have one peer produce all objects, and another one come that could."""
    holder, newcomer = Below(node), Below(node)
    holder.expose(TAG)
    for thing in THINGS[:objects]:
        node.observe(thing)
    newcomer.expose(TAG)
    return holder, newcomer


def test_ten_objects_are_shared_with_a_newcomer_within_a_second(tree: Tree, node: Node) -> None:
    holder, newcomer = share(node, 10)
    holder.receive()
    tree.advance(1.0)
    assert (produced(node, holder), produced(node, newcomer)) == (5, 5)
    assert len(closed(holder.receive())) == 5
    assert len(opened(newcomer.receive(), SINK)) == 5


def test_nothing_moves_back_and_forth(tree: Tree, node: Node) -> None:
    holder, newcomer = share(node, 9)
    tree.advance(1.0)
    assert (produced(node, holder), produced(node, newcomer)) == (5, 4)
    holder.receive()
    newcomer.receive()
    tree.advance(60.0)
    assert holder.receive() == newcomer.receive() == []
    assert node.machine.next_deadline() is None


@pytest.mark.parametrize(
    ("threshold", "moves"), [(0.0, 1), (0.9, 1), (1.0, 0), (1.2, 0), (None, 0)]
)
def test_an_object_moves_only_if_the_newcomer_is_lighter_by_more_than_the_threshold(
    tree: Tree, threshold: float | None, moves: int
) -> None:
    node = tree.node("strict", rebalance=threshold)
    _, newcomer = share(node, 2)  # 2 against 1 after the move
    tree.advance(2.0)
    assert produced(node, newcomer) == moves


def test_a_larger_capacity_takes_an_object_over(tree: Tree, node: Node) -> None:
    small, large = Below(node), Below(node)
    small.expose(THING, 1)
    node.observe(THING)
    large.expose(THING, 1)
    tree.advance(2.0)
    assert assigned(node) == {"DownstreamConnection": small.link}
    large.set_capacity(THING, 5)
    tree.advance(1.0)
    assert assigned(node) == {"DownstreamConnection": large.link}


def test_objects_move_when_others_are_not_wanted_any_more(tree: Tree, node: Node) -> None:
    first, second = Below(node), Below(node)
    first.expose(TAG)
    second.expose(TAG)
    observers = [node.observe(thing) for thing in THINGS[:10]]
    tree.advance(1.0)
    mine = [
        item
        for item in observers
        if assigned(node, next(iter(item.streams))) == {"DownstreamConnection": first.link}
    ]
    assert len(mine) == 5
    for observer in mine:
        observer.close()
    tree.advance(1.0)
    assert abs(produced(node, first) - produced(node, second)) <= 1


def test_an_object_that_a_peer_can_not_produce_does_not_move_to_it(tree: Tree, node: Node) -> None:
    holder, newcomer = Below(node), Below(node)
    holder.expose(TAG)
    for thing in THINGS[:4]:
        node.observe(thing)
    newcomer.expose(THINGS[0])
    tree.advance(2.0)
    assert produced(node, newcomer) == 1
    assert assigned(node, THINGS[0]) == {"DownstreamConnection": newcomer.link}


def test_a_peer_that_dies_during_rebalancing_gets_nothing(tree: Tree, node: Node) -> None:
    holder, newcomer = share(node, 4)
    deadline = node.machine.next_deadline()
    assert deadline is not None
    newcomer.leave()
    tree.advance(deadline - tree.now + 1.0)
    assert produced(node, holder) == 4


def test_the_next_look_at_many_objects_waits_so_that_looking_does_not_take_all_the_time() -> None:
    tree = Tree(checked=False)
    node = tree.node("large")
    things = [ObjectDescriptor(["t"], number) for number in range(5_000)]
    first, second = Below(node), Below(node)
    first.expose(TAG)
    second.expose(TAG)
    for thing in things:
        node.observe(thing)
    tree.advance(5.0)
    looks = 0
    end = tree.now + 10.0
    while tree.now < end:
        # somebody comes or goes ten times a second
        node.observe(ObjectDescriptor(["t"], f"one of {tree.now}"))
        deadline = node.machine.next_deadline()
        if deadline is not None and tree.now >= deadline > 0.0:
            looks += 1
        tree.advance(0.1)
    assert looks <= 20


def test_nothing_is_due_without_work(tree: Tree, node: Node) -> None:
    assert node.machine.next_deadline() is None
    share(node, 4)
    deadline = node.machine.next_deadline()
    assert deadline is not None
    assert tree.now < deadline <= tree.now + 1.0
    node.handle(Tick())  # too early: it changes nothing
    assert node.machine.next_deadline() == deadline
