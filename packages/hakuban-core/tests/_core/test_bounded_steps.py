"""No step takes long, however much it is about: what concerns many objects is done in slices."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from hakuban._core import invariants
from hakuban._core.events import Tick
from hakuban._core.graph import Downlink
from hakuban._core.world import STEP
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind
from support.peer import Above, Below, opened, sent
from support.tree import Tree

if TYPE_CHECKING:
    from support.machines import Node

MANY = 600
MANY_TAGS = 12_000  # there is less to do for a tag
MOST_IN_A_STEP = 64
TAG = TagDescriptor("t")
SINK = ChannelKind.SINK
THINGS = [ObjectDescriptor(["t"], number) for number in range(MANY)]


@pytest.fixture
def node() -> Node:
    """A node whose invariants are checked when the test says so."""
    return Tree(checked=False).node("node")


def shrinks_slowly(node: Node, sizes: list[int]) -> None:
    """Check that something went away in slices, all of it, and in no more steps than needed."""
    assert sizes[-1] == 0
    assert max(a - b for a, b in pairwise(sizes)) <= MOST_IN_A_STEP
    assert len(sizes) <= 2 * MANY / MOST_IN_A_STEP
    invariants.check(node.machine)


def test_a_peer_with_many_objects_goes_in_slices(node: Node) -> None:
    peer, objects = Below(node), node.machine.world.objects
    for thing in THINGS:
        peer.observe(thing)
    peer.leave()
    shrinks_slowly(node, [MANY, len(objects), *(len(objects) for _ in node.slices())])


def test_the_channels_of_a_lost_peer_go_in_slices(node: Node) -> None:
    exposer, observer = Below(node), Below(node)
    for thing in THINGS:
        exposer.expose(thing)
        observer.observe(thing)
    channels = opened(exposer.receive(), SINK)
    observer.receive()
    for channel in channels:
        exposer.publish(channel, b"x", (channel,))
    for peer in (exposer, observer):
        peer.leave()
        (dead,) = node.machine.world.reaping
        assert isinstance(dead, Downlink)
        held = [len(dead.inlets) + len(dead.dirty)]
        held += [len(dead.inlets) + len(dead.dirty) for _ in node.slices()]
        assert held[0] > MANY / 2
        assert held[-1] == 0
        assert max(a - b for a, b in pairwise(held)) <= 2 * MOST_IN_A_STEP


def test_a_peer_with_many_tags_goes_in_slices(node: Node) -> None:
    peer, tags = Below(node), node.machine.world.tags
    for number in range(MANY_TAGS):
        peer.observe(TagDescriptor(number))
    peer.leave()
    sizes = [MANY_TAGS, len(tags), *(len(tags) for _ in node.slices())]
    assert sizes[-1] == 0
    assert max(a - b for a, b in pairwise(sizes)) <= STEP // 2
    invariants.check(node.machine)


def test_a_tag_with_many_objects_counts_as_many_when_its_peer_goes(node: Node) -> None:
    peer, world = Below(node), node.machine.world
    for number in range(8):
        peer.observe(TagDescriptor(number))
    for number in range(MANY):
        node.observe(ObjectDescriptor(range(8), number))
    for _ in node.slices():
        pass
    peer.leave()
    (dead,) = world.reaping
    assert isinstance(dead, Downlink)
    sizes = [len(dead.interests), *(len(dead.interests) for _ in node.slices())]
    shrinks_slowly(node, sizes)
    assert world.reaping == {}


def test_what_comes_from_above_goes_in_slices(node: Node) -> None:
    above, objects = Above(node), node.machine.world.objects
    for number, thing in enumerate(THINGS):
        above.feed(thing) if number % 2 else above.demand(thing)
    above.leave()
    shrinks_slowly(node, [MANY, len(objects), *(len(objects) for _ in node.slices())])


def test_a_contract_of_a_tag_reaches_many_objects_in_slices(node: Node) -> None:
    for thing in THINGS:
        node.observe(thing)
    exposer = node.expose(TAG)
    counts = [0, len(exposer.sinks), *(len(exposer.sinks) for _ in node.slices())]
    assert counts[-1] == MANY
    assert max(b - a for a, b in pairwise(counts)) <= MOST_IN_A_STEP
    exposer.close()
    sinks = node.machine.world.sinks
    shrinks_slowly(node, [MANY, len(sinks), *(len(sinks) for _ in node.slices())])


def test_what_a_step_is_about_does_not_wait_behind_many_others(node: Node) -> None:
    for thing in THINGS:
        node.observe(thing)
    node.expose(TAG)
    assert node.machine.next_deadline() == 0.0
    late = ObjectDescriptor([], "late")
    observer, exposer = node.observe(late), node.expose(late)
    exposer.publish(late, b"1")
    assert observer.data(late) == [b"1"]


def test_facts_of_a_dead_link_are_void_before_they_are_gone(node: Node) -> None:
    peer, other = Below(node), Below(node)
    for thing in THINGS:
        peer.observe(thing)
    peer.expose(TAG)
    for thing in THINGS:
        other.observe(thing)
    for _ in node.slices():
        pass
    peer.leave()
    last = THINGS[-1]
    picture = node.picture(last)
    assert picture is not None
    assert picture["assigned_exposer"] == {"DownstreamConnection": peer.link}  # not settled yet
    node.observe(last)
    picture = node.picture(last)
    assert picture is not None
    assert picture["assigned_exposer"] is None
    assert peer.receive() == []
    node.observe(TAG)
    newcomer = Below(node)
    newcomer.observe(TAG)
    for _ in node.slices():
        pass
    invariants.check(node.machine)


def test_an_object_may_go_and_come_back_while_its_dead_link_is_buried(node: Node) -> None:
    peer = Below(node)
    peer.observe(TAG)
    for number in range(100):
        peer.observe(TagDescriptor(number))
    peer.observe(THINGS[0])
    peer.leave()
    observer = node.observe(THINGS[0])
    observer.close()
    again = Below(node)
    again.observe(TAG)
    for _ in node.slices():
        pass
    assert list(node.machine.world.tags) == [TAG]
    node.observe(THINGS[0])
    invariants.check(node.machine)


def test_a_link_that_ends_during_rebalancing_moves_nothing(node: Node) -> None:
    first, second = Below(node), Below(node)
    first.expose(TAG)
    for thing in THINGS:
        node.observe(thing)
    for _ in node.slices():
        pass
    second.expose(TAG)
    tree = node.world
    assert isinstance(tree, Tree)
    tree.advance(0.2)
    while not node.machine.world.rebalancing:
        tree.now += 0.01
        node.handle(Tick())
    second.leave()
    for _ in node.slices():
        pass
    links = node.machine.snapshot(tree.now).downstream_connections
    assert [item["load"] for item in links] == [MANY]
    invariants.check(node.machine)


def test_objects_that_wait_to_be_settled_are_settled_before_they_move(node: Node) -> None:
    first, second = Below(node), Below(node)
    first.expose(TAG)
    second.expose(TAG)
    for thing in THINGS:
        node.observe(thing)
    tree = node.world
    assert isinstance(tree, Tree)
    tree.advance(5.0)
    for thing in THINGS[:500]:
        first.expose(thing, 9)
    while not node.machine.world.rebalancing:
        tree.now += 0.01
        node.handle(Tick())
    first.unexpose(TAG)
    for _ in node.slices():
        pass
    invariants.check(node.machine)


def test_an_object_that_is_passed_on_costs_no_more_than_three_kilobytes(node: Node) -> None:
    observer, exposer = Below(node), Below(node)
    things = [(f'{{"id":{number}}}', b"x" * 200) for number in range(MANY)]
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for text, _ in things:
            observer.observe(ObjectDescriptor.from_json(['"t"'], text))
            exposer.expose(ObjectDescriptor.from_json(['"t"'], text))
        observer.receive()
        for channel, (_, data) in zip(opened(exposer.receive(), SINK), things, strict=True):
            exposer.publish(channel, bytes(bytearray(data)), (0, 1_700_000_000, channel))
        assert len(sent(observer.receive())) == MANY
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{(after - before) / MANY:.0f} bytes an object")
    assert (after - before) / MANY <= 3 * 1024
