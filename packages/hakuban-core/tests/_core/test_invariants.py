"""The check of invariants notices what is wrong: each table that loses or gains an item, each value that is changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from hakuban._core import invariants
from hakuban._core.graph import Downlink, Inlet, Interest, ObjectRecord, TagRecord, Upstream
from hakuban._core.paged_table import PagedTable
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind
from support.peer import Above, Below, opened
from support.tree import Tree

if TYPE_CHECKING:
    from support.machines import Node

TAG = TagDescriptor("t")
U = TagDescriptor("u")
ABSENT = ObjectDescriptor([], "not there")
STRANGER = ObjectRecord(99, ABSENT, [])
THINGS = {
    "HERE": ObjectDescriptor(["t"], "produced here"),
    "BELOW": ObjectDescriptor([], "produced below"),
    "ABOVE": ObjectDescriptor([], "produced above"),
    "UP": ObjectDescriptor([], "wanted above"),
    "IDLE": ObjectDescriptor(["u"], "wanted by nobody"),
}


@pytest.fixture
def node() -> Node:
    """A node with something of everything, that tests break."""
    node = Tree(checked=False).node("node")
    above, exposer, observer = Above(node), Below(node), Below(node)
    here = node.expose(THINGS["HERE"])
    node.observe(TAG)
    here.publish(THINGS["HERE"], b"1")
    for target in (THINGS["BELOW"], TAG):
        exposer.expose(target)
        observer.observe(target)
    observer.receive()
    (channel,) = opened(exposer.receive(), ChannelKind.SINK)
    exposer.publish(channel, b"2", (2,))
    observer.receive()
    node.observe(THINGS["ABOVE"])
    above.publish(above.feed(THINGS["ABOVE"]), b"3", (3,))
    node.expose(THINGS["UP"])
    above.demand(THINGS["UP"])
    node.expose(THINGS["IDLE"])
    above.receive()
    invariants.check(node.machine)
    return node


def find(node: Node, path: str) -> Any:
    """Follow a path from the facts of a node: a word in capitals is an object, a number the so-many-th value or key."""
    found: Any = node.machine.world
    for word in path.split("."):
        if word in THINGS:
            found = found.objects[THINGS[word]]
        elif word.isdigit():
            found = list(found.values())[int(word)] or list(found)[int(word)]
        else:
            found = getattr(found, word)
    return found


def fault(node: Node) -> str:
    """Give what the check has to say."""
    with pytest.raises(AssertionError) as caught:
        invariants.check(node.machine)
    return str(caught.value)


@pytest.mark.parametrize(
    ("table", "claim"),
    [
        ("objects", "known"),
        ("tags", "tags of objects are known"),
        ("links", "known link"),
        ("contracts", "outlive"),
        ("streams", "streams are known"),
        ("sinks", "vouches"),
        ("HERE.interests", "an object knows what a link wants of it"),
        ("HERE.streams", "each contract has one stream"),
        ("HERE.tags", "the object has the tags of its descriptor"),
        ("HERE.exposer.contract.sinks", "contracts know their sinks"),
        ("BELOW.interests", "that can produce the object does"),
        ("ABOVE.upstream_inlets", "who vouches"),
        ("ABOVE.observers", "each contract has one stream"),
        ("UP.upstream_outlets", "data_needed is False"),
        ("UP.exposers", "the exposer is here|that can produce"),
        ("IDLE.exposers", "somebody holds something"),
        ("tags.0.objects", "a tag knows the objects that carry it"),
        ("tags.0.observers", "each contract has one stream"),
        ("tags.0.interests", "interests by tags are counted"),
        ("links.0.inlets", "the link above knows the channels to us"),
        ("links.0.outlets", "the link above knows our channels"),
        ("links.0.announced", "is announced, or will be"),
        ("links.1.interests", "a link knows what it wants"),
        ("links.1.inlets", "a link knows its channels"),
        ("links.1.tags", "a link knows what it wants of a tag"),
    ],
)
def test_a_table_that_has_lost_an_item_is_noticed(node: Node, table: str, claim: str) -> None:
    found = find(node, table)
    if isinstance(found, PagedTable):
        found.pop(next(iter(found.items()))[0])
    else:
        found.pop(next(iter(found)) if isinstance(found, dict) else 0)
    assert re.search(claim, fault(node))


@pytest.mark.parametrize(
    ("value", "wrong", "claim"),
    [
        ("HERE.should_exist", False, "should_exist is True"),
        ("HERE.data_needed", False, "data_needed is True"),
        ("HERE.exposer", None, "who vouches"),
        ("HERE.load", 0.5, "the load of the object is 0.0"),
        ("HERE.held.view", None, "what is vouched for is there"),
        ("HERE.held.seen", (), "the held version was seen"),
        ("HERE.held.synced", (), "as fresh as the sources say"),
        ("HERE.interests.0.tag_capacity", 7, "interests by tags are counted"),
        ("BELOW.load", 0.5, "the load of the object is 1.0"),
        ("BELOW.interests.0.link", Downlink(99), "filed under the link it came from"),
        ("BELOW.interests.0.record", None, "filed under the object it is for"),
        ("BELOW.interests.0.sink_wanted", False, "a sink to link 1: True"),
        ("BELOW.interests.0.inlet.record", None, "a sink channel is for its object"),
        ("BELOW.interests.0.inlet.closing", True, "who vouches for a state has not ended"),
        ("BELOW.interests.1.stream_wanted", False, "a stream to link 2: True"),
        ("BELOW.interests.1.outlet.record", None, "a stream channel is for its object"),
        ("BELOW.interests.1.outlet", None, "channels are open as they have to be"),
        ("ABOVE.exposer", None, "the exposer is above"),
        ("UP.exposer", None, "the exposer is here"),
        ("IDLE.should_exist", False, "should_exist is True"),
        ("IDLE.data_needed", True, "data_needed is False"),
        ("IDLE.exposer", Upstream.UPSTREAM, "what nobody needs nobody produces"),
        ("links.0.inlets.0.record", None, "a channel to us feeds its object"),
        ("links.0.outlets.0.record", None, "a channel of ours is fed by its object"),
        ("links.0.awake", False, None),
        ("links.1.alive", False, "interests come from known links"),
        ("links.1.contracts", 3, "the peer has announced 2 contracts"),
        ("links.1.assigned", 2, "the peer produces 1 objects"),
        ("links.1.load", 1.1, "the load of link 1 is 1.0 and not 1.1"),
        ("links.2.load", 1e-12, "the load of link 2 is 0 and not 1e-12"),
        ("links.1.tags.0.tag", None, "a link knows what it wants of a tag"),
        ("tags.0.descriptor", U, "the object has the tags of its descriptor"),
        ("contracts.0.id", 99, "contracts are filed under their ids"),
        ("contracts.0.target", STRANGER, "contracts are about known objects"),
        ("contracts.1.target", TagRecord(99, U), "contracts are about known tags"),
        ("uplink", None, "there is one link above"),
    ],
)
def test_a_value_that_is_another_one_is_noticed(
    node: Node, value: str, wrong: object, claim: str | None
) -> None:
    owner, _, name = value.rpartition(".")
    setattr(find(node, owner) if owner else node.machine.world, name, wrong)
    if claim is None:
        invariants.check(node.machine)  # it has nothing to say
    else:
        assert claim in fault(node)


@pytest.mark.parametrize(
    ("table", "item", "claim"),
    [
        ("links.0.unannounced", TAG, "who has something to send is awake"),
        ("links.0.announced", ABSENT, "is announced, and somebody wants it"),
        ("links.1.dirty", "BELOW.interests.1.outlet", "outdated channels are the link's own"),
        ("links.1.control", "BELOW.interests.1", "opened and closed for known objects"),
        ("links.1.interests", STRANGER, "an object knows what a link wants of it"),
        ("links.1.inlets", 77, "each channel to us belongs to an object"),
        ("tags.0.objects", "BELOW", "an object knows its tags"),
        ("touched", "IDLE", "is settled in that step"),
        ("backlog", STRANGER, "waits for something, and is known"),
        ("balancer.contested", "BELOW", "the object is contested: False"),
        ("balancer.starved", "BELOW", "the object is starved: False"),
    ],
)
def test_a_table_that_has_an_item_too_many_is_noticed(
    node: Node, table: str, item: object, claim: str
) -> None:
    for link in node.machine.world.links.values():
        link.awake = "unannounced" not in table
    key = find(node, item) if isinstance(item, str) else item
    values = {
        "links.1.interests": Interest(find(node, "links.1"), find(node, "BELOW")),
        "links.1.inlets": Inlet(find(node, "links.1"), 77, find(node, "BELOW")),
    }
    found = find(node, table)
    if isinstance(found, PagedTable):
        assert isinstance(key, ObjectRecord)
        found.add(key.id, key)
    else:
        found[key] = values.get(table)
    assert claim in fault(node)


def test_the_story_of_an_object_tells_all_its_facts(node: Node) -> None:
    tellings = {name: invariants.story(find(node, name)) for name in THINGS}
    assert "exposer sink" in tellings["HERE"]
    assert re.search(r'tag "t": observers \[\d+\], exposers \[\]', tellings["HERE"])
    assert "exposer link 1" in tellings["BELOW"]
    assert "link 2, alive: True, observes: True, exposes: False x 0" in tellings["BELOW"]
    assert "fed by [2], feeding []" in tellings["ABOVE"]
    assert "exposer Upstream.UPSTREAM" in tellings["ABOVE"]
    assert "fed by [], feeding [3]" in tellings["UP"]
    assert "exposer None, load 0.0" in tellings["IDLE"]
