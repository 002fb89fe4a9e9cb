"""What a step has no room for is done in a later one, whatever has happened to it in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._core import settle as settling
from hakuban._core import world
from hakuban._core.events import Tick
from hakuban._core.paged_table import PagedTable
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind
from support.peer import Above, Below, announced, closed, opened, sent
from support.tree import Tree
from support.work import count_work

if TYPE_CHECKING:
    from support.machines import Exposer, Node, Observer

MANY = 600
TAG = TagDescriptor("t")
THINGS = [ObjectDescriptor(["t"], number) for number in range(MANY)]
LONE = ObjectDescriptor([], "lone")


@pytest.fixture
def node() -> Node:
    return Tree(checked=False).node("node")


def leave_no_room(node: Node, units: int = 0) -> None:
    """Let the next step begin as one that has done much already."""
    node.machine.world.left = units


def test_a_step_has_room_again_when_its_effects_were_taken(node: Node) -> None:
    leave_no_room(node)
    assert not node.machine.has_room
    node.machine.take_effects()
    assert node.machine.has_room


def test_an_object_whose_tags_cannot_be_counted_at_once_is_settled_later(node: Node) -> None:
    tags = [TagDescriptor(number) for number in range(5)]
    peers = [Below(node) for _ in range(5)]
    for peer, tag in zip(peers, tags, strict=True):
        peer.observe(tag)
    leave_no_room(node)
    exposer = node.expose(ObjectDescriptor(range(5), "it"))
    assert not exposer.sinks  # who wants it is not known yet
    node.settle()
    assert exposer.sinks
    for peer in peers:
        assert len(opened(peer.receive(), ChannelKind.STREAM)) == 1


def test_a_peer_counts_for_the_tags_that_it_wants_and_for_no_others(node: Node) -> None:
    peer = Below(node)
    for number in range(3):
        peer.expose(TagDescriptor(number), 2)
    node.observe(ObjectDescriptor([0, 1, "another"], "it"))
    node.settle()
    (thing,) = node.machine.world.objects.values()
    assert [interest.production for interest in thing.able] == [4]


def test_a_peer_that_goes_before_its_wish_for_a_tag_was_counted_leaves_nothing(node: Node) -> None:
    for thing in THINGS:
        node.observe(thing)
    peer = Below(node)
    peer.expose(TAG)
    assert node.is_due
    peer.leave()
    node.settle()
    assert [record.interests for record in node.machine.world.objects.values()] == [{}] * MANY


def test_a_wish_for_a_tag_that_is_taken_back_before_it_was_counted_is_none(node: Node) -> None:
    for thing in THINGS:
        node.observe(thing)
    peer = Below(node)
    peer.expose(TAG)
    peer.unexpose(TAG)
    assert node.is_due
    node.settle()
    assert peer.link in node.machine.world.links
    assert [record.interests for record in node.machine.world.objects.values()] == [{}] * MANY


def test_objects_that_go_while_their_tag_changes_are_passed_over(node: Node) -> None:
    observers = [node.observe(thing) for thing in THINGS]
    peer = Below(node)
    peer.expose(TAG)
    for observer in observers[: MANY // 2]:
        observer.close()
        leave_no_room(node)
    node.settle()
    assert len(node.machine.world.objects) == MANY - MANY // 2
    assert len(opened(peer.receive(), ChannelKind.SINK)) == MANY - MANY // 2


def test_very_many_observers_of_this_process_are_all_shown_what_is_new(node: Node) -> None:
    observers = [node.observe(LONE) for _ in range(2_100)]
    exposer = node.expose(LONE)
    exposer.publish(LONE, b"1")
    observers[7].close()
    node.settle()
    assert [item.data(LONE) for item in observers if item is not observers[7]] == [[b"1"]] * 2_099


def test_an_object_may_go_while_its_viewers_are_told(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "NOTIFIED_AT_ONCE", 1)
    large, small = ObjectDescriptor([], "large"), ObjectDescriptor([], "small")
    for _ in range(50):
        node.observe(large)
    contracts: list[Observer | Exposer] = [node.observe(small) for _ in range(3)]
    exposers = {thing: node.expose(thing) for thing in (large, small)}
    for thing, exposer in exposers.items():
        exposer.publish(thing, b"1")
    for contract in (*contracts, exposers[small]):
        contract.close()
    assert small not in node.machine.world.objects
    assert len(node.machine.world.notifying) == 1
    node.settle()
    assert not node.machine.world.notifying


def test_what_is_to_be_published_again_is_one_after_the_other_where_there_is_no_room(
    node: Node,
) -> None:
    exposers = {thing: node.expose(thing) for thing in THINGS[:5]}
    observers = {thing: node.observe(thing) for thing in exposers}
    for thing, exposer in exposers.items():
        exposer.publish(thing, b"1")
    before = {thing: item.states(thing)[-1].version for thing, item in observers.items()}
    node.machine.world.republishing.update(dict.fromkeys(node.machine.world.sinks))
    leave_no_room(node)
    node.handle(Tick())
    after = {thing: item.states(thing)[-1].version for thing, item in observers.items()}
    assert sum(after[thing] > before[thing] for thing in before) == 1
    node.settle()
    assert all(item.states(thing)[-1].version > before[thing] for thing, item in observers.items())


def test_an_object_of_which_something_is_to_be_counted_does_not_move_before(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_PIECE", 1)
    peers = [Below(node) for _ in range(5)]
    for peer in peers:
        peer.expose(TAG)
    node.observe(THINGS[0])
    node.settle()
    record = node.machine.world.objects[THINGS[0]]
    record.rest.recount.update(dict.fromkeys(record.interests))
    node.machine.world.backlog[record] = node.machine.world.rebalancing[record] = None
    leave_no_room(node)
    node.handle(Tick())
    assert record.has_rest
    node.settle()
    assert not record.has_rest


def test_a_picture_passes_over_what_goes_while_it_is_drawn(node: Node) -> None:
    peer = Below(node)
    peer.observe(LONE)
    gone = node.observe(ObjectDescriptor(["gone"], 1))
    node.observe(ObjectDescriptor(["stays"], 1))
    picture = node.machine.picture()
    leave_no_room(node)
    assert picture.go_on(node.world.now) is None
    node.machine.take_effects()
    gone.close()
    peer.leave()
    node.settle()
    snapshot = picture.go_on(node.world.now)
    assert snapshot is not None
    assert [item["descriptor"]["tags"] for item in snapshot.objects] == [["stays"]]
    assert [item["descriptor"] for item in snapshot.tags] == ["stays"]
    assert snapshot.downstream_connections == []


def test_one_state_among_many_objects_is_sent_before_their_tag_is_withdrawn(node: Node) -> None:
    above, contract = Above(node), node.expose(TAG)
    above.receive()
    for number in range(5_000):
        above.demand(ObjectDescriptor(["t"], number))
    node.settle()
    contract.publish(ObjectDescriptor(["t"], 0), b"last")
    contract.close()
    node.settle()
    heard = above.receive_all()
    assert sent(heard) == [b"last"]
    assert len(announced(heard)) == 1


def test_a_peer_that_loses_an_object_before_it_heard_of_it_is_not_asked_for_it(node: Node) -> None:
    peer, observers = Below(node), [Below(node) for _ in range(200)]
    for observer in observers:
        observer.observe(LONE)
    node.settle()
    leave_no_room(node)
    peer.expose(LONE)
    leave_no_room(node)
    node.expose(LONE)  # it is preferred; and the many are told first
    assert peer.receive() == []
    node.settle()
    assert peer.receive() == []


def test_a_wish_by_a_tag_that_is_taken_back_while_an_object_goes_and_comes_is_none(
    node: Node,
) -> None:
    thing = ObjectDescriptor(["t"], "it")
    observer = node.observe(thing)
    peers = [Below(node) for _ in range(200)]
    for peer in peers:
        peer.observe(TAG)
    node.settle()
    leave_no_room(node)
    observer.close()
    record = node.machine.world.objects[thing]
    last = next(reversed(record.rest.unsettled)).link.id
    leave_no_room(node, 100)  # but for passing on that something about the tag has changed
    next(peer for peer in peers if peer.link == last).unobserve(TAG)
    leave_no_room(node)
    node.observe(thing)
    node.settle()
    assert node.machine.world.objects[thing].watching == len(peers) - 1


def test_peers_learn_that_an_object_has_gone_though_it_is_back_before_their_turn_comes(
    node: Node,
) -> None:
    thing = ObjectDescriptor(["t"], "it")
    asker, producer = Below(node), Below(node)
    peers = [Below(node) for _ in range(200)]
    for peer in peers:
        peer.observe(TAG)
    producer.expose(TAG)
    asker.observe(thing)
    node.settle()
    (sink,) = opened(producer.receive(), ChannelKind.SINK)
    producer.publish(sink, b"1", (1,))
    for peer in peers:
        assert sent(peer.receive())
    leave_no_room(node)
    asker.unobserve(thing)  # and tags keep no object alive
    leave_no_room(node)
    asker.observe(thing)
    node.settle()
    for peer in peers:
        heard = peer.receive()
        assert closed(heard)  # what was seen is not current
        assert opened(heard, ChannelKind.STREAM)
        assert not sent(heard)  # and there is nothing new yet


def test_nothing_that_waits_starves_behind_what_never_ends(node: Node) -> None:
    restless = Below(node)
    for thing in THINGS:
        node.observe(thing)
    observers = [node.observe(LONE) for _ in range(1_100)]
    exposer = node.expose(LONE)
    node.settle()
    restless.expose(TAG)
    exposer.publish(LONE, b"1")
    for capacity in range(2, 12):
        restless.set_capacity(TAG, capacity)
        node.handle(Tick())
        assert node.machine.world.backlog
    assert {item.data(LONE)[-1] for item in observers} == {b"1"}


def test_many_objects_that_nobody_may_produce_yet_are_looked_at_in_pieces(node: Node) -> None:
    peers = [Below(node, (1e6, 1_000)) for _ in range(150)]
    for peer in peers:
        peer.expose(TAG)
    work = count_work(node)
    for thing in THINGS[:100]:
        node.observe(thing)
    tree = node.world
    assert isinstance(tree, Tree)
    for _ in range(30):
        tree.now += 0.1
        node.handle(Tick())
    assert work.blind or work.most <= 60_000


def test_pages_are_a_table() -> None:
    pages: PagedTable[str] = PagedTable(77)
    for id in range(1_000):
        pages.add(id, str(id))
    assert pages.get(999) == "999"
    assert 500 in pages
    assert pages.pop(500) == "500"
    assert 500 not in pages
    assert pages.get(500) is None
    assert pages.pop(500) is None
    assert pages.pop(5_000) is None
    assert pages.get(5_000) is None
    assert len(pages) == 999
    assert [*pages.values()] == [item for _, item in pages.items()]
    for id in range(1_000):
        pages.pop(id)
    assert not pages
    assert [*pages.items()] == []
