"""States travel through trees of nodes: behind one router, behind two, and between the spokes of a star."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from hakuban._core.events import Tick
from hakuban._core.new_state import NewState, Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import OpenChannel, SendContracts, SendState, SendSynchronized, Verb
from support.tree import Shape, Tree, Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.machines import Exposer, Node, Observer, Target

TAG = TagDescriptor("t")
X = ObjectDescriptor(["t"], "x")
Y = ObjectDescriptor(["t"], "y")

every_shape = pytest.mark.parametrize("shape", Shape, ids=lambda shape: shape.name)
by_object_and_tag = pytest.mark.parametrize(
    ("observed", "exposed"),
    [(X, X), (TAG, X), (X, TAG)],
    ids=["object-object", "tag-object", "object-tag"],
)


def told(tree: Tree, node: Node, way: Way) -> list[object]:
    """Give what went over the link above a node since the last time, and forget it."""
    wire = tree.wire_of(node)
    heard: list[object] = list(wire.told[way])
    wire.told[way].clear()
    return heard


@every_shape
@by_object_and_tag
@pytest.mark.parametrize("observer_first", [True, False])
@pytest.mark.promise("latest", "only-asked")
def test_states_arrive_in_order_and_go_to_nobody_else(
    shape: Shape, observed: Target, exposed: Target, *, observer_first: bool
) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    if observer_first:
        observer = a.observe(observed)
        tree.run()
        exposer = b.expose(exposed)
    else:
        exposer = b.expose(exposed)
        tree.run()
        observer = a.observe(observed)
    tree.run()
    assert list(exposer.sinks) == [X]
    for number, data in enumerate((b"xxx", b"xxxy", b"xxxz"), 1):
        exposer.publish(X, data, (number,))
        tree.run()
        assert observer.is_fresh(X)
    assert observer.data(X) == [b"xxx", b"xxxy", b"xxxz"]
    assert [state.version for state in observer.states(X)] == [(1,), (2,), (3,)]
    assert told(tree, c, Way.DOWN) == told(tree, c, Way.UP) == []
    assert not [item for item in told(tree, b, Way.DOWN) if isinstance(item, SendState)]


@every_shape
@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids="{}".format)
def test_the_order_in_which_wishes_come_does_not_matter(
    shape: Shape, order: tuple[int, ...]
) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    observers: list[Observer] = []
    exposers: list[Exposer] = []
    wishes: list[Callable[[], None]] = [
        lambda: observers.append(a.observe(X)),
        lambda: observers.append(c.observe(TAG)),
        lambda: exposers.append(b.expose(X)),
        lambda: exposers.append(b.expose(TAG)),
    ]
    for step in order:
        wishes[step]()
        tree.run()
    (holder,) = (exposer for exposer in exposers if exposer.sinks)
    holder.publish(X, b"1")
    tree.run()
    assert [observer.data(X) for observer in observers] == [[b"1"], [b"1"]]


@every_shape
def test_the_outermost_format_travels_with_the_state(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    _, exposer = a.observe(X), b.expose(X)
    tree.run()
    for number, format in enumerate((("JSON",), ("JSON", "abc"))):
        sink, offer = exposer.sinks[X], NewState(b"same", format, (number,))
        machine = b.machine
        assert machine.publish(sink, offer, None, tree.now, tree.wall) is Outcome.ACCEPTED
        b.handle(Tick())
        tree.run()
        view = a.machine.world.objects[X].held.view
        assert view is not None
        assert view.content.format == format


@every_shape
@pytest.mark.promise("latest")
def test_a_late_observer_gets_the_current_state_at_once(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    first, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"1")
    tree.run()
    late = c.observe(TAG)
    tree.run()
    assert late.data(X) == first.data(X) == [b"1"]
    assert late.is_fresh(X)


@every_shape
@pytest.mark.promise("stale-visible")
def test_a_late_observer_gets_a_stale_state_when_the_sink_was_dropped(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    first, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"1", (1,))
    tree.run()
    exposer.drop_sink(X)
    tree.run()
    assert not first.is_fresh(X)
    tree.advance(1.0)
    late = c.observe(X)
    tree.run()
    assert late.data(X) == [b"1"]
    assert late.age(X) == pytest.approx(first.age(X), abs=1e-3)
    first.close()
    late.close()
    tree.run()
    assert exposer.sinks == {}


@every_shape
@pytest.mark.promise("stale-visible")
def test_a_late_observer_gets_a_stale_state_when_nobody_can_produce_it(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    first, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"1", (1,))
    tree.run()
    tree.wire_of(b).cut()
    tree.advance(3.0)
    late = c.observe(X)
    tree.run()
    assert late.data(X) == [b"1"]
    for observer in (first, late):
        assert observer.age(X) == pytest.approx(3.0, abs=0.01)
    replacement = c.expose(X)
    tree.run()
    replacement.publish(X, b"2", (2,))
    tree.run()
    assert first.data(X) == late.data(X) == [b"1", b"2"]


@every_shape
def test_a_state_that_nobody_needs_any_more_is_forgotten(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(X), b.expose(X)
    tree.run()
    exposer.publish(X, b"xxx", (1,))
    tree.run()
    exposer.drop_sink(X)
    observer.close()
    tree.advance(0.4)
    observer = a.observe(X)
    tree.advance(1.0)
    assert observer.states(X) == []
    exposer.publish(X, b"xxxy", (2,))
    tree.run()
    assert observer.data(X) == [b"xxxy"]
    assert observer.is_fresh(X)


@every_shape
def test_nodes_that_were_busy_before_they_connected_see_each_other_afterwards(shape: Shape) -> None:
    tree = Tree()
    routers = tree.leaves(shape, "a", "b")
    wires = [tree.wire_of(node) for node in routers]
    for wire in wires:
        wire.cut()
    things = [X, Y]
    observers = [node.observe(TAG) for node in routers]
    for node, thing in zip(routers, things, strict=True):
        node.expose(thing).publish(thing, str(thing).encode())
    assert [list(observer.streams) for observer in observers] == [[X], [Y]]
    for wire in wires:
        tree.connect(wire.lower, wire.upper)
    tree.run()
    for observer in observers:
        assert {thing: observer.data(thing) for thing in things} == {
            thing: [str(thing).encode()] for thing in things
        }


@every_shape
def test_who_observes_and_exposes_alone_serves_itself_and_nobody_hears_of_it(shape: Shape) -> None:
    tree = Tree()
    a, _ = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(X), a.expose(X)
    tree.run()
    assert observer.node is exposer.node
    exposer.publish(X, b"1")
    tree.run()
    assert observer.data(X) == [b"1"]
    assert told(tree, a, Way.DOWN) == []
    assert {type(item) for item in told(tree, a, Way.UP)} == {SendContracts}


@every_shape
def test_a_tag_observer_and_an_object_exposer_on_one_node_tell_nobody(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    observer, exposer = a.observe(TAG), a.expose(X)
    tree.run()
    exposer.publish(X, b"1")
    tree.run()
    assert observer.data(X) == [b"1"]
    assert not [item for item in told(tree, a, Way.UP) if isinstance(item, SendState)]
    assert told(tree, b, Way.DOWN) == []


@every_shape
@pytest.mark.promise("one-exposer")
def test_who_served_itself_offline_gives_way_to_the_exposer_of_the_network(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    wire = tree.wire_of(a)
    wire.cut()
    own, mine = a.observe(X), a.expose(X)
    mine.publish(X, b"mine", (1,))
    observer, exposer = b.observe(X), c.expose(X)
    tree.run()
    exposer.publish(X, b"theirs", (2,))
    tree.run()
    tree.connect(a, wire.upper)
    tree.run()
    assert mine.sinks == {}
    assert own.data(X) == [b"mine", b"theirs"]
    assert own.is_fresh(X)
    assert observer.data(X) == [b"theirs"]


@every_shape
@pytest.mark.parametrize("exposed", [X, TAG], ids=["object", "tag"])
@pytest.mark.promise("one-exposer", "self-healing")
def test_a_leader_is_elected_and_replaced(shape: Shape, exposed: Target) -> None:
    tree = Tree()
    nodes = tree.leaves(shape, "a", "b", "c", "d")
    observers = [node.observe(X) for node in nodes]
    exposers = [node.expose(exposed) for node in nodes]
    tree.run()
    left = list(range(4))
    for term in range(4):
        (leader,) = (number for number in left if exposers[number].sinks)
        exposers[leader].publish(X, b"%d" % term)
        tree.run()
        assert all(observers[number].data(X)[-1] == b"%d" % term for number in left)
        assert all(observers[number].is_fresh(X) for number in left)
        tree.wire_of(nodes[leader]).cut()
        left.remove(leader)
        tree.run()


@every_shape
def test_a_self_server_becomes_the_exposer_of_all_when_somebody_else_observes(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    own, exposer = a.observe(X), a.expose(X)
    exposer.offer(b"1")
    tree.run()
    other = b.observe(X)
    tree.run()
    assert own.data(X) == other.data(X) == [b"1"]
    assert exposer.assignments[X] == 1
    large, mine = c.expose(X, 5), c.observe(X)
    tree.advance(1.0)
    if shape is Shape.SR:  # through a router in between, capacities of a side are seen as one
        assert exposer.sinks == {}
        assert list(large.sinks) == [X]
        tree.wire_of(a).cut()
        tree.advance(1.0)
        large.publish(X, b"2", (9,))
        tree.run()
        assert mine.data(X)[-1] == other.data(X)[-1] == b"2"


@every_shape
def test_what_was_published_offline_arrives_after_connecting(shape: Shape) -> None:
    tree = Tree()
    a, b = tree.leaves(shape, "a", "b")
    wire = tree.wire_of(a)
    wire.cut()
    a.observe(X)
    exposer = a.expose(X)
    exposer.publish(X, b"xxx", (1,))
    observer = b.observe(X)
    tree.run()
    assert observer.states(X) == []
    tree.connect(a, wire.upper)
    tree.run()
    assert observer.data(X) == [b"xxx"]
    assert observer.is_fresh(X)


@every_shape
@pytest.mark.promise("self-healing")
def test_a_tag_observer_is_told_of_all_objects_and_of_the_end_of_one(shape: Shape) -> None:
    tree = Tree()
    a, b, c = tree.leaves(shape, "a", "b", "c")
    on_a, on_b = a.observe(TAG), b.observe(TAG)
    first, second = a.expose(X), b.expose(Y)
    first.publish(X, b"x")
    second.publish(Y, b"y")
    tree.run()
    late = c.observe(TAG)
    tree.run()
    for observer in (on_a, on_b, late):
        assert {thing: observer.data(thing) for thing in observer.streams} == {X: [b"x"], Y: [b"y"]}
    tree.wire_of(b).cut()
    tree.run()
    assert list(on_a.streams) == list(late.streams) == [X]
    assert list(on_b.streams) == [Y]


def test_three_routers_deep_a_state_reaches_the_top_and_the_middle() -> None:
    tree = Tree()
    top = tree.node("top")
    middle = tree.node("middle", top)
    bottom = tree.node("bottom", middle)
    exposing, watching = tree.node("exposing", bottom), tree.node("watching", middle)
    exposer = exposing.expose(TAG)
    at_top, in_the_middle = top.observe(X), watching.observe(TAG)
    tree.run()
    exposer.publish(X, b"1", (1,))
    tree.run()
    assert at_top.data(X) == in_the_middle.data(X) == [b"1"]
    wire, below = tree.wire_of(middle), tree.wire_of(bottom)
    wire.cut()
    below.cut()
    tree.advance(0.9)
    assert at_top.data(X) == [b"1"]
    assert at_top.age(X) == pytest.approx(0.9, abs=0.01)
    assert exposer.sinks == {}
    tree.connect(bottom, middle)
    tree.connect(middle, top)
    tree.run()
    assert list(exposer.sinks) == [X]
    exposer.publish(X, b"2", (2,))
    tree.run()
    assert at_top.data(X) == [b"1", b"2"]
    assert at_top.is_fresh(X)
    assert in_the_middle.data(X) == [b"2"]  # the object had ended there: it is a new stream


def test_contracts_of_objects_travel_up_summed_and_those_that_follow_from_tags_do_not() -> None:
    tree = Tree()
    root = tree.node("root")
    inner = tree.node("inner", root)
    a, b = tree.node("a", inner), tree.node("b", inner)
    a.expose(X, 3)
    b.expose(X, 4)
    b.observe(TAG)
    a.expose(TAG, 2)
    tree.run()
    above = [
        (action.verb, str(action.descriptor), action.capacity)
        for item in told(tree, inner, Way.UP)
        if isinstance(item, SendContracts)
        for action in item.actions
    ]
    assert above == [
        (Verb.EXPOSE, '["t"]:"x"', 7),
        (Verb.OBSERVE, '"t"', 0),
        (Verb.EXPOSE, '"t"', 2),
    ]
    root.observe(Y)
    tree.run()
    assert not [item for item in told(tree, inner, Way.UP) if isinstance(item, SendContracts)]


@pytest.mark.promise("slow-reader", "monotonic")
def test_a_slow_link_carries_the_newest_state_only_and_delays_nobody() -> None:
    tree = Tree()
    slow, fast, exposing = tree.leaves(Shape.SR, "slow", "fast", "exposing")
    lagging, prompt, exposer = slow.observe(X), fast.observe(X), exposing.expose(X)
    tree.run()
    wire = tree.wire_of(slow)
    wire.slow.add(Way.DOWN)
    told(tree, slow, Way.DOWN)
    for number in range(50):
        exposer.publish(X, b"%d" % number)
        tree.run()
        assert prompt.data(X)[-1] == b"%d" % number
    assert lagging.states(X) == []
    wire.slow.clear()
    tree.run()
    assert lagging.data(X) == [b"49"]
    assert len(told(tree, slow, Way.DOWN)) == 1


@pytest.mark.promise("monotonic")
def test_flapping_leaves_nothing_behind_and_both_sides_agree() -> None:
    tree = Tree()
    a, b = tree.leaves(Shape.SR, "a", "b")
    exposer = b.expose(X)
    exposer.offer(b"1")
    tree.run()
    wire = tree.wire_of(a)
    for number in range(300):
        observer = a.observe(X)
        if number % 3:
            tree.run()
        else:
            wire.pull(Way.UP, 1)
        observer.close()
    observer = a.observe(X)
    tree.run()
    assert observer.data(X) == [b"1"]
    assert len(exposer.sinks) == 1
    for node in tree.nodes:
        assert len(node.machine.world.objects) == 1
    links = [link for node in tree.nodes for link in node.machine.world.links.values()]
    assert sorted(len(link.inlets) for link in links) == [0, 0, 1, 1]


def test_after_a_cut_everything_is_announced_again_and_an_equal_state_is_no_news() -> None:
    tree = Tree()
    a, b, c = tree.leaves(Shape.SR, "a", "b", "c")
    observer, exposer = a.observe(X), b.expose(X)
    c.observe(X)
    tree.run()
    exposer.publish(X, b"1")
    tree.run()
    wire = tree.wire_of(a)
    wire.cut()
    tree.run()
    assert not observer.is_fresh(X)
    tree.connect(a, wire.upper)
    tree.run()
    assert observer.data(X) == [b"1"]
    assert observer.is_fresh(X)
    assert a.stale == []
    kinds = [type(item) for item in told(tree, a, Way.DOWN)]
    assert kinds == [OpenChannel, SendState]
    exposer.set_synchronized(X, 1.0)
    tree.run()
    assert [type(item) for item in told(tree, a, Way.DOWN)] == [SendSynchronized]
