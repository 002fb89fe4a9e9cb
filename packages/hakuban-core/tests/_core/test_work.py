"""Steps that would be about very much are cut in pieces: what is counted is work, and not objects.

The machine says itself how much a step may do; here that is checked from outside, by the lines of Python that it passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._contents import Content
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind, ContractAction, StateReceived, Verb
from support.machines import FORMAT
from support.peer import Above, Below, announced, opened, sent
from support.tree import Tree
from support.work import LINES, count_work

if TYPE_CHECKING:
    from support.machines import Node
    from support.work import CountedMachine

TAG = TagDescriptor("t")
SINK = ChannelKind.SINK


@pytest.fixture
def node() -> Node:
    return Tree(checked=False).node("node", rebalance=0.1)


def in_pieces(node: Node, work: CountedMachine, *, least: int = 3) -> None:
    """Finish, and check that it was work for several steps, none of which was a long one."""
    node.settle()
    work.take_effects()
    if work.blind:
        return
    assert work.total > least * LINES, f"{work.total} lines in all: this does not try anything"
    assert work.most <= LINES, f"{work.most} lines in one step"


def observing(node: Node, thing: ObjectDescriptor, number: int) -> list[Below]:
    """Give so many peers that observe an object."""
    peers = [Below(node) for _ in range(number)]
    for peer in peers:
        peer.observe(thing)
    node.settle()
    return peers


@pytest.mark.promise("no-stall")
def test_objects_of_many_tags_that_many_observe(node: Node) -> None:
    tags = [TagDescriptor(number) for number in range(300)]
    for _ in range(6):
        peer = Below(node)
        peer.send_all([ContractAction(Verb.OBSERVE, tag) for tag in tags])
    source = Below(node)
    names = [ObjectDescriptor([*range(300)], number) for number in range(80)]
    work = count_work(node)
    source.send_all([ContractAction(Verb.EXPOSE, name, 1) for name in names])
    in_pieces(node, work)


def test_one_object_of_many_tags_that_very_many_observe(node: Node) -> None:
    for _ in range(120):
        peer = Below(node)
        peer.send_all([ContractAction(Verb.OBSERVE, TagDescriptor(n)) for n in range(200)])
    work = count_work(node)
    exposer = node.expose(ObjectDescriptor([*range(200)], "it"))
    node.settle()
    assert exposer.sinks
    exposer.close()
    in_pieces(node, work, least=2)


def test_one_object_that_very_many_contracts_of_this_process_see_by_its_tags(node: Node) -> None:
    for number in range(60):
        for _ in range(60):
            node.observe(TagDescriptor(number))
    work = count_work(node)
    exposer = node.expose(ObjectDescriptor([*range(60)], "it"))
    node.settle()
    assert sum(len(item.streams) for item in node.observers.values()) == 3_600
    exposer.close()
    in_pieces(node, work)


def test_an_object_of_very_many_peers(node: Node) -> None:
    thing = ObjectDescriptor([], "it")
    peers = observing(node, thing, 3_000)
    work = count_work(node)
    exposer = node.expose(thing)
    exposer.publish(thing, b"1")
    exposer.publish(thing, b"2")
    node.settle()
    assert [sent(peer.receive()) for peer in peers] == [[b"2"]] * len(peers)
    exposer.close()
    node.settle()
    again = node.expose(thing)
    again.publish(thing, b"3")
    node.settle()
    assert [sent(peer.receive()) for peer in peers] == [[b"3"]] * len(peers)
    in_pieces(node, work)


def test_who_looks_last_at_an_object_is_told_too_although_it_changes_all_the_time(
    node: Node,
) -> None:
    thing = ObjectDescriptor([], "it")
    peers = observing(node, thing, 2_500)
    exposer = node.expose(thing)
    exposer.publish(thing, b"first")
    node.settle()
    for peer in peers:
        peer.receive()
    heard = dict.fromkeys(range(len(peers)), b"")
    for number in range(12):
        exposer.publish(thing, b"%d" % number)
        for index, peer in enumerate(peers):
            heard[index] = [heard[index], *sent(peer.receive())][-1]
    assert b"" not in heard.values()
    node.settle()
    for index, peer in enumerate(peers):
        heard[index] = [heard[index], *sent(peer.receive())][-1]
    assert set(heard.values()) == {b"11"}


def test_very_many_peers_of_one_object_that_are_lost_at_the_same_time(node: Node) -> None:
    thing = ObjectDescriptor([], "it")
    peers = observing(node, thing, 3_000)
    work = count_work(node)
    for peer in peers:
        peer.leave()
    in_pieces(node, work, least=1)
    assert not node.machine.world.objects


def test_states_for_many_peers_that_come_in_one_go(node: Node) -> None:
    things = [ObjectDescriptor([], number) for number in range(45)]
    source = Below(node)
    for thing in things:
        source.expose(thing)
    for _ in range(800):
        Below(node).send_all([ContractAction(Verb.OBSERVE, thing) for thing in things])
    channels = opened(source.receive(), SINK)
    assert len(channels) == len(things)
    states = [StateReceived(one, Content(b"x", FORMAT, (1,)), 0) for one in channels]
    work = count_work(node)
    source.send_all([*states])
    in_pieces(node, work, least=1)


def test_a_tag_of_many_objects_whose_peers_do_not_rest(node: Node) -> None:
    for number in range(2_000):
        node.observe(ObjectDescriptor(["t"], number))
    peers = [Below(node) for _ in range(3)]
    for peer in peers:
        peer.expose(TAG)
    node.settle()
    work = count_work(node)
    for capacity in range(1, 12):
        for peer in peers:
            peer.set_capacity(TAG, capacity)
    in_pieces(node, work)


def test_many_objects_that_may_move_to_a_lighter_peer(node: Node) -> None:
    first, second = Below(node), Below(node)
    first.expose(TAG)
    for number in range(2_000):
        node.observe(ObjectDescriptor(["t"], number))
    node.settle()
    second.expose(TAG)
    node.settle()
    work = count_work(node)
    tree = node.world
    assert isinstance(tree, Tree)
    for _ in range(40):
        tree.advance(0.1)
    in_pieces(node, work, least=1)
    links = node.machine.snapshot(tree.now).downstream_connections
    assert abs(links[0]["load"] - links[1]["load"]) <= 1


def test_states_that_have_to_be_sent_before_many_tags_are_withdrawn(node: Node) -> None:
    tags = [TagDescriptor(number) for number in range(100)]
    above = Above(node)
    contracts = [node.expose(tag) for tag in tags]
    node.settle()
    above.receive()
    things = [
        ObjectDescriptor([number % 100, (number + 1) % 100], number) for number in range(2_000)
    ]
    channels = [above.demand(thing) for thing in things]
    node.settle()
    work = count_work(node)
    for thing in things:
        exposer = next(contract for contract in contracts if thing in contract.sinks)
        exposer.publish(thing, b"last")
    for contract in contracts:
        contract.close()
    node.settle()
    heard = above.receive_all()
    assert len(sent(heard)) == len(channels)
    assert len(announced(heard)) == len(tags)
    in_pieces(node, work, least=2)


def test_many_contracts_that_are_announced_to_a_new_node_above(node: Node) -> None:
    for number in range(8_000):
        node.observe(ObjectDescriptor(["t"], number))
    above = Above(node)
    above.leave()
    node.settle()
    work = count_work(node)
    above = Above(node)
    heard = above.receive_all()
    assert len(announced(heard)) == 8_000
    in_pieces(node, work)


def test_a_link_with_nothing_to_say_of_many_channels_that_were_opened_and_closed(
    node: Node,
) -> None:
    peer, exposers = Below(node), []
    for number in range(4_000):
        thing = ObjectDescriptor(["t"], number)
        exposers.append(node.expose(thing))
        peer.expose(thing, 0)
        peer.observe(thing)
    for number in range(4_000):
        peer.unobserve(ObjectDescriptor(["t"], number))
    node.settle()
    work = count_work(node)
    assert peer.receive_all() == []
    in_pieces(node, work, least=1)


def test_a_picture_of_many_objects(node: Node) -> None:
    for number in range(4_000):
        node.observe(ObjectDescriptor(["t"], number))
    node.settle()
    work = count_work(node)
    picture = node.machine.picture()
    go_on = work.counted(picture.go_on)
    while (snapshot := node.call(lambda _: go_on(node.world.now))) is None:
        pass
    assert len(snapshot.objects) == 4_000
    in_pieces(node, work, least=1)


def test_what_was_too_large_is_tried_again_in_pieces(node: Node) -> None:
    exposer = Below(node)
    things = [ObjectDescriptor(["t"], number) for number in range(2_500)]
    for thing in things:
        exposer.expose(thing)
    node.settle()
    node.call(lambda machine: machine.not_sent(exposer.link, things, things))
    node.settle()
    work = count_work(node)
    while node.call(lambda machine: machine.room_has_grown(exposer.link)):
        pass
    in_pieces(node, work)


def test_a_large_link_above_comes_and_goes(node: Node) -> None:
    above = Above(node)
    for number in range(3_000):
        above.feed(ObjectDescriptor(["t"], number))
    node.settle()
    work = count_work(node)
    above.leave()
    in_pieces(node, work)
    assert not node.machine.world.objects
