"""Circles: a node that would be above itself. The one of them whose id is the smallest opens the circle."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from hakuban._core.events import LinkUp
from hakuban._descriptors import ObjectDescriptor
from hakuban._exceptions import CircleError
from hakuban._session_events import Note, NoteReceived, PeerNamed, SendNote
from support.tree import Tree, Way

if TYPE_CHECKING:
    from support.machines import Node

THING = ObjectDescriptor([], "thing")


@pytest.fixture
def tree() -> Tree:
    return Tree(notes=True)


def circles(*nodes: Node) -> list[tuple[str, ...]]:
    """Give the ways round that nodes have found, and have ended their links upwards for."""
    faults = [fault for node in nodes for fault in node.faults.values()]
    assert all(isinstance(fault, CircleError) for fault in faults)
    return [fault.path for fault in faults if isinstance(fault, CircleError)]


def test_a_node_connected_to_itself_ends_that_link_before_it_is_up(tree: Tree) -> None:
    lab = tree.node("lab")
    wire = tree.connect(lab, lab)
    tree.run()
    assert circles(lab) == [("lab", "lab")]
    assert not tree.wires
    assert wire.ids[Way.UP] not in lab.peers, "it was never up"


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_two_nodes_above_each_other_are_parted_by_the_smaller_id(
    tree: Tree, order: tuple[int, ...]
) -> None:
    nodes = [tree.node("a"), tree.node("b")]
    for at in order:
        tree.connect(nodes[at], nodes[1 - at])
        tree.run()
    assert circles(*nodes) == [("a", "b", "a")]
    assert [wire.lower.name for wire in tree.wires] == ["b"]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_three_nodes_in_a_circle_are_parted_in_any_order(
    tree: Tree, order: tuple[int, ...], *, at_once: bool
) -> None:
    nodes = [tree.node("a"), tree.node("b"), tree.node("c")]
    for at in order:
        tree.connect(nodes[at], nodes[(at + 1) % 3])
        if not at_once:
            tree.run()
    tree.run()
    assert circles(*nodes) == [("a", "b", "c", "a")]
    assert sorted(wire.lower.name for wire in tree.wires) == ["b", "c"]


def test_who_hangs_below_a_circle_is_in_none(tree: Tree) -> None:
    a, b = tree.node("m"), tree.node("n")
    leaf = tree.node("a leaf, whose id is the smallest", a)
    tree.run()
    tree.connect(a, b)
    tree.connect(b, a)
    tree.run()
    assert circles(a, b, leaf) == [("m", "n", "m")]
    assert tree.wire_of(leaf).up


def test_all_else_is_served_while_there_is_a_circle(tree: Tree) -> None:
    a, b = tree.node("a"), tree.node("b")
    exposing, observing = tree.node("exposing", a), tree.node("observing", b)
    observer = observing.observe(THING)
    exposing.expose(THING).offer(b"1")
    tree.connect(a, b)
    tree.run()
    assert observer.data(THING) == [b"1"]
    tree.connect(b, a)
    tree.run()
    assert circles(a, b) == [("a", "b", "a")]
    assert observer.is_fresh(THING), "the link from b to a serves it now"


def test_a_tree_knows_who_is_above_and_forgets_it(tree: Tree) -> None:
    root = tree.node("root")
    hall = tree.node("hall", root)
    lab = tree.node("lab", hall)
    tree.run()
    assert lab.machine.world.above == (("hall", "hall"), ("root", "root"))
    tree.wire_of(hall).cut()
    tree.run()
    assert hall.machine.world.above == ()
    assert [id for id, _ in lab.machine.world.above] == ["hall"]


def test_a_careful_node_announces_nothing_before_it_knows_who_is_above(tree: Tree) -> None:
    lab = tree.node("lab")
    lab.expose(THING)
    link = lab.machine.new_link()
    lab.handle(LinkUp(link, True, "lab", careful=True))
    assert lab.pull(link) is None
    lab.receive(link, NoteReceived(Note(node="hall", name="hall", above=())))
    assert isinstance(lab.pull(link), SendNote)
    assert lab.pull(link) is None
    lab.receive(link, PeerNamed("hall"))
    assert lab.pull(link) is not None


def test_a_circle_that_came_with_too_many_or_too_long_names_is_cut_where_it_is_told(
    tree: Tree,
) -> None:
    lab = tree.node("lab", tree.node("hall"))
    tree.run()
    above = tuple((f"id {number}", "n" * 1000) for number in range(1000))
    tree.wire_of(lab).send(Way.DOWN, NoteReceived(Note(above=above)))
    tree.run()
    told = lab.machine.world.above
    assert len(told) == 64
    assert max(len(name) for _, name in told) == 80
