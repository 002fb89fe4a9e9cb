"""Pictures of a node, with the names and shapes of the crate's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._core.events import LinkUp
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind, PeerNamed
from support.peer import Above, Below, opened

if TYPE_CHECKING:
    from support.machines import Node
    from support.tree import Tree

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], {"id": 1})


def test_an_empty_node_is_an_empty_picture(node: Node) -> None:
    snapshot = node.machine.snapshot(node.world.now)
    assert snapshot.to_json() == {"objects": [], "tags": [], "upstream_connection": False}
    assert snapshot.upstream is None
    assert snapshot.ignored_states == {}


def test_an_object_is_pictured_with_all_that_is_known_of_it(tree: Tree, node: Node) -> None:
    observing, exposing = Below(node), Below(node)
    node.observe(THING)
    observing.observe(TAG)
    exposing.expose(THING, 3)
    exposing.expose(TAG, 2)
    node.observe(TAG)
    node.expose(THING, 0)
    node.expose(TAG, 0)
    (channel,) = opened(exposing.receive(), ChannelKind.SINK)
    observing.receive()
    exposing.publish(channel, b"state", (1, 2), age=1_000_000)
    tree.now += 1.5
    (pictured,) = node.machine.snapshot(tree.now).objects
    age = pictured["data_state"].pop("synchronized_ms_ago")
    assert age == pytest.approx(2_500_000, abs=1_000)  # microseconds, whatever the crate calls it
    assert pictured == {
        "id": pictured["id"],
        "descriptor": {"tags": ["t"], "json": {"id": 1}},
        "should_exist": True,
        "data_needed": True,
        "assigned_exposer": {"DownstreamConnection": exposing.link},
        "object_observe_contract_count": 1,
        "object_expose_contract_count": 1,
        "tag_observe_contract_count": 1,
        "tag_expose_contract_count": 1,
        "upstream_link": None,
        "downstream_links": [
            {
                "downstream_connection_id": observing.link,
                "object_observer": False,
                "object_exposer": False,
                "object_exposer_capacity": 0,
                "tag_observer_count": 1,
                "tag_exposer_count": 0,
                "stream": True,
                "sink": False,
            },
            {
                "downstream_connection_id": exposing.link,
                "object_observer": False,
                "object_exposer": True,
                "object_exposer_capacity": 3,
                "tag_observer_count": 0,
                "tag_exposer_count": 1,
                "stream": False,
                "sink": True,
            },
        ],
        "cumulative_object_exposer_capacity": 3,
        "data_state": {"version": [1, 2], "format": ["JSON"], "size": 5},
    }


def test_who_produces_an_object_is_said_in_the_words_of_the_crate(node: Node) -> None:
    def exposer() -> object:
        picture = node.picture(THING)
        assert picture is not None
        return picture["assigned_exposer"]

    node.observe(THING)
    assert exposer() is None
    below = Below(node)
    below.expose(THING)
    assert exposer() == {"DownstreamConnection": below.link}
    by_tag = node.expose(TAG)
    assert exposer() == {"TagExposeContract": by_tag.contract}
    by_tag.close()
    by_name = node.expose(THING)
    assert exposer() == {"ObjectExposeContract": by_name.contract}
    above = Above(node)
    above.feed(THING)
    assert exposer() == {"UpstreamConnection": above.link}
    picture = node.picture(THING)
    assert picture is not None
    assert picture["upstream_link"] == {
        "sinks_receiving_from_upstream_count": 1,
        "streams_sending_to_upstream_count": 0,
    }


def test_capacities_are_pictured_as_they_change(node: Node) -> None:
    def capacities() -> tuple[int, int]:
        snapshot = node.machine.snapshot(node.world.now)
        (thing,), (tag,) = snapshot.objects, snapshot.tags
        return thing["cumulative_object_exposer_capacity"], tag["cumulative_tag_exposer_capacity"]

    node.observe(THING)
    peer = Below(node)
    for target in (THING, TAG):
        peer.expose(target, 1)
        node.expose(target, 1)
    assert capacities() == (2, 2)
    peer.set_capacity(THING, 2)
    assert capacities() == (3, 2)
    peer.set_capacity(TAG, 4)
    assert capacities() == (3, 5)
    peer.leave()
    assert capacities() == (1, 1)


def test_a_tag_is_pictured_with_its_objects_and_contracts(node: Node) -> None:
    peer, above = Below(node), Above(node)
    node.observe(TAG)
    node.expose(TAG, 1)
    peer.observe(TAG)
    peer.expose(TAG, 2)
    node.observe(THING)
    snapshot = node.machine.snapshot(node.world.now)
    (tag,), (thing,) = snapshot.tags, snapshot.objects
    assert tag == {
        "id": tag["id"],
        "descriptor": "t",
        "objects": [thing["id"]],
        "tag_observe_contract_count": 1,
        "tag_expose_contract_count": 1,
        "upstream_link": {},
        "downstream_links": [
            {
                "downstream_connection_id": peer.link,
                "tag_observer": True,
                "tag_exposer": True,
                "tag_exposer_capacity": 2,
            }
        ],
        "cumulative_tag_exposer_capacity": 3,
    }
    above.leave()
    assert node.machine.snapshot(node.world.now).tags[0]["upstream_link"] is None


def test_states_that_were_not_sent_are_counted_for_each_object(node: Node) -> None:
    node.observe(THING)
    link = Below(node).link
    for skipped in ([THING], [THING, ObjectDescriptor([], "gone by now")]):
        node.machine.not_sent(link, skipped, ())
    node.machine.not_sent(99, [THING], ())  # it has ended
    assert node.machine.snapshot(node.world.now).skipped_states == {THING: 2}


def test_links_are_pictured(tree: Tree, node: Node) -> None:
    machine = node.machine
    below, above = machine.new_link(), machine.new_link()
    assert (below, above) == (0, 1)
    node.handle(LinkUp(below, False, "router", "10.0.0.1:3001", "10.0.0.2:55555"))
    node.handle(LinkUp(above, True, "router", "10.0.0.1:44444", "10.0.0.9:3001"))
    (connection,) = machine.snapshot(tree.now).downstream_connections
    assert connection == {
        "downstream_connection_id": 0,
        "remote_address": "10.0.0.2:55555",
        "local_name": "router",
        "remote_name": None,
        "load": 0.0,
        "load_limit": None,
    }
    machine.set_size_cap(below, 5_000)
    machine.set_size_cap(99, 5_000)  # it has ended
    assert machine.snapshot(tree.now).size_caps == {below: 5_000}
    limited = Below(node, (4.0, 8))
    limited.send(PeerNamed("limited"))
    limited.expose(TAG, 2)
    tree.now += 2.0
    node.observe(THING)
    snapshot = machine.snapshot(tree.now)
    pictured = snapshot.downstream_connections[1]
    assert pictured["remote_name"] == "limited"
    assert pictured["load"] == 0.5
    assert pictured["load_limit"] == pytest.approx(4.0, abs=1e-3)
    assert snapshot.upstream_connection
    assert snapshot.upstream == {
        "upstream_connection_id": 1,
        "local_address": "10.0.0.1:44444",
        "local_name": "router",
        "remote_name": None,
    }
