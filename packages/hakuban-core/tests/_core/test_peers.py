"""What peers may say, and what happens to those that say something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._core import Machine
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._exceptions import PeerViolationError
from hakuban._session_events import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    ContractAction,
    ItemIgnored,
    PeerLimited,
    PeerNamed,
    Verb,
)
from support.machines import Node
from support.peer import Above, Below, Peer, opened

if TYPE_CHECKING:
    from hakuban._session_events import PeerEvent
    from support.machines import Target
    from support.tree import Tree

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], "thing")
TARGETS = pytest.mark.parametrize("target", [THING, TAG], ids=["object", "tag"])


def is_ended(peer: Peer) -> bool:
    """Whether the node has ended the link for a violation, and keeps no fact of it."""
    links = peer.node.machine.world.links
    return isinstance(peer.fault, PeerViolationError) and peer.link not in links


@TARGETS
@pytest.mark.promise("isolation")
def test_a_double_contract_ends_the_link_of_who_announced_it_and_nothing_else(
    node: Node, target: Target
) -> None:
    innocent = Below(node)
    innocent.observe(THING)
    for verb in (Verb.OBSERVE, Verb.EXPOSE):
        peer = Below(node)
        peer.send(ContractAction(verb, target, 1))
        peer.send(ContractAction(verb, target, 1))
        assert is_ended(peer)
        assert f"double {verb.name.lower()}" in str(peer.fault)
    assert innocent.fault is None
    picture = node.picture(THING)
    assert picture is not None
    assert [item["downstream_connection_id"] for item in picture["downstream_links"]] == [
        innocent.link
    ]


@TARGETS
@pytest.mark.parametrize("verb", [Verb.UNOBSERVE, Verb.UNEXPOSE, Verb.SET_CAPACITY])
def test_taking_back_what_was_never_announced_is_ignored(
    node: Node, target: Target, verb: Verb
) -> None:
    peer = Below(node)
    peer.send(ContractAction(verb, target, 1))
    assert peer.fault is None
    assert node.machine.snapshot(node.world.now).objects == []


@TARGETS
@pytest.mark.parametrize(
    ("announced", "taken_back"),
    [
        (Verb.EXPOSE, Verb.UNOBSERVE),
        (Verb.OBSERVE, Verb.UNEXPOSE),
        (Verb.OBSERVE, Verb.SET_CAPACITY),
    ],
)
def test_taking_back_the_other_half_is_a_violation(
    node: Node, target: Target, announced: Verb, taken_back: Verb
) -> None:
    peer = Below(node)
    peer.send(ContractAction(announced, target, 1))
    peer.send(ContractAction(taken_back, target, 1))
    assert is_ended(peer)


def test_a_contract_that_follows_from_a_tag_is_no_contract_of_the_object(node: Node) -> None:
    peer = Below(node)
    node.expose(THING)
    peer.observe(TAG)
    peer.receive()
    peer.unobserve(THING)
    peer.unexpose(THING)
    assert peer.fault is None


def test_contracts_can_be_taken_back_and_announced_again(node: Node) -> None:
    peer = Below(node)
    for _ in range(3):
        peer.observe(THING)
        peer.expose(THING, 2)
        peer.set_capacity(THING, 3)
        peer.observe(TAG)
        peer.expose(TAG, 2)
        peer.set_capacity(TAG, 3)
        peer.unobserve(THING)
        peer.unobserve(TAG)
        peer.unexpose(THING)
        peer.unexpose(TAG)
    assert peer.fault is None
    assert node.machine.snapshot(node.world.now).to_json() == {
        "objects": [],
        "tags": [],
        "upstream_connection": False,
    }


@pytest.mark.parametrize(
    "event",
    [
        ChannelOpened(2, ChannelKind.SINK, THING),
        ChannelClosed(2),
    ],
)
def test_who_is_below_opens_no_channels(node: Node, event: PeerEvent) -> None:
    peer = Below(node)
    peer.send(event)
    assert is_ended(peer)


@pytest.mark.parametrize("event", [ContractAction(Verb.OBSERVE, THING), PeerLimited(((0.0, 1),))])
def test_who_is_above_announces_no_contracts_and_no_limits(node: Node, event: PeerEvent) -> None:
    observer = node.observe(THING)
    peer = Above(node)
    peer.publish(peer.feed(THING), b"1", (1,))
    peer.send(event)
    assert is_ended(peer)
    assert not observer.is_fresh(THING)
    assert node.machine.world.uplink is None


def test_names_are_kept_and_made_known(node: Node) -> None:
    peer = Below(node)
    peer.send(PeerNamed("somebody"))
    assert node.peers == {peer.link: "somebody"}
    connections = node.machine.snapshot(node.world.now).downstream_connections
    assert [item["remote_name"] for item in connections] == ["somebody"]


@pytest.fixture
def limited(tree: Tree) -> Node:
    """A node that takes two contracts from each peer."""
    limited = Node(tree, "limited", Machine(max_contracts=2))
    tree.nodes.append(limited)
    return limited


def test_contracts_over_the_limit_are_ignored_and_the_link_goes_on(limited: Node) -> None:
    peer = Below(limited)
    peer.observe(THING)
    peer.expose(THING)
    for number in range(3):
        peer.observe(ObjectDescriptor([], number))
        peer.observe(TagDescriptor(number))
    assert len(limited.machine.snapshot(0.0).objects) == 1
    assert [(item.link, item.reason) for item in limited.ignored] == [
        (peer.link, "more than 2 contracts")
    ]
    # what was ignored may be taken back, even where the other half was not
    peer.unobserve(ObjectDescriptor([], 1))
    peer.unobserve(THING)
    peer.unobserve(THING)
    peer.set_capacity(ObjectDescriptor([], 1), 5)
    assert peer.fault is None
    peer.observe(TAG)
    assert len(limited.machine.snapshot(0.0).tags) == 1
    assert Below(limited).fault is None


def test_an_item_that_the_session_left_out_is_reported_once_for_each_link(node: Node) -> None:
    peers = [Below(node), Below(node)]
    for peer in peers:
        peer.send(ItemIgnored("a descriptor of 70000 bytes"))
        peer.send(ItemIgnored("a descriptor of 80000 bytes"))
    assert [item.link for item in node.ignored] == [peer.link for peer in peers]
    assert node.ignored[0].reason == "a descriptor of 70000 bytes"


def test_states_on_channels_that_are_not_open_are_thrown_away(node: Node) -> None:
    below, above = Below(node), Above(node)
    observer = node.observe(THING)
    for peer in (below, above):
        peer.publish(7, b"1", (1,))
        peer.set_synchronized(7, 0)
        assert peer.fault is None
    above.close(7)
    assert observer.states(THING) == []


def test_channels_that_nobody_asked_for_are_served(node: Node) -> None:
    above = Above(node)
    up, down = above.demand(THING), above.feed(THING)
    above.publish(down, b"1", (1,))
    picture = node.picture(THING)
    assert picture is not None
    assert picture["upstream_link"] == {
        "sinks_receiving_from_upstream_count": 1,
        "streams_sending_to_upstream_count": 1,
    }
    above.close(up)
    above.close(down)
    assert node.picture(THING) is None


def test_freshness_that_comes_before_any_state_is_nothing(node: Node) -> None:
    observer, above = node.observe(THING), Above(node)
    channel = above.feed(THING)
    above.set_synchronized(channel, 0)
    assert observer.states(THING) == []
    assert above.fault is None


def test_an_age_from_afar_becomes_a_time(node: Node) -> None:
    observer, peer = node.observe(THING), Below(node)
    peer.expose(THING)
    (channel,) = opened(peer.receive(), ChannelKind.SINK)
    peer.publish(channel, b"1", (1,), age=2_000_000)
    assert observer.age(THING) == pytest.approx(2.0, abs=1e-3)
    peer.set_synchronized(channel, 2**64 - 1)
    assert observer.age(THING) == pytest.approx(2.0, abs=1e-3)  # the youngest counts
    peer.publish(channel, b"2", (2,))
    assert observer.is_fresh(THING)
