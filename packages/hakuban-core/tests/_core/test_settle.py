"""What follows from facts: whether an object exists, whether it has to be produced, who sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._core.new_state import Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind
from support.peer import Above, Below, closed, opened, sent

if TYPE_CHECKING:
    from support.machines import Node

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], "thing")
OTHER = ObjectDescriptor(["t"], "other")
TWICE = ObjectDescriptor(["t", "u"], "twice")
SINK, STREAM = ChannelKind.SINK, ChannelKind.STREAM


def stage(node: Node, facts: str) -> None:
    """Make facts out of words: who does what, in order."""
    peers: dict[str, Below] = {}
    for fact in facts.split(", "):
        who, does, what, *rest = fact.split()
        target = TAG if what == "tag" else THING
        capacity = int(rest[0]) if rest else 1
        if who == "node":
            node.observe(target) if does == "observes" else node.expose(target, capacity)
        elif who == "above":
            above = Above(node)
            above.feed(THING) if does == "feeds" else above.demand(THING)
        elif does == "observes":
            peers.setdefault(who, Below(node)).observe(target)
        else:
            peers.setdefault(who, Below(node)).expose(target, capacity)


@pytest.mark.parametrize(
    ("facts", "exists", "needed"),
    [
        ("node observes thing", True, True),
        ("node exposes thing", True, False),
        ("node exposes thing 0", True, False),
        ("node exposes thing, node observes tag", True, True),
        ("node observes tag, node exposes tag", False, False),
        ("above feeds thing", True, True),
        ("above demands thing", True, True),
        ("a observes thing", True, True),
        ("a exposes thing", True, False),
        ("a observes tag, b exposes tag", False, False),
        ("a exposes thing, b observes tag", True, True),
        ("a observes thing, a exposes thing", True, False),
        ("a observes thing, a exposes tag", True, False),
        ("a observes tag, a exposes thing", True, False),
        ("a observes thing, a exposes thing 0", True, True),
        ("a observes thing, a exposes thing, b observes thing", True, True),
        ("a observes thing, a exposes thing, b observes tag, b exposes tag", True, True),
        ("a observes thing, a exposes thing, b exposes thing", True, False),
        ("a observes thing, a exposes thing, node observes tag", True, True),
    ],
)
def test_an_object_exists_and_is_needed_as_the_table_says(
    node: Node, facts: str, *, exists: bool, needed: bool
) -> None:
    stage(node, facts)
    picture = node.picture(THING)
    assert (picture is not None) is exists
    if picture is not None:
        assert picture["should_exist"] is True
        assert picture["data_needed"] is needed
        assert (picture["assigned_exposer"] is not None) <= needed


def test_nothing_is_kept_of_an_object_that_only_tags_are_interested_in(node: Node) -> None:
    observer, exposer, maker = Below(node), Below(node), Below(node)
    observer.observe(TAG)
    exposer.expose(TAG)
    maker.observe(THING)
    observer.receive()
    exposer.receive()
    maker.unobserve(THING)
    observer.receive()
    assert node.picture(THING) is not None  # its channel to the exposer is still open
    exposer.receive()
    assert node.picture(THING) is None
    assert node.machine.snapshot(node.world.now).tags[0]["objects"] == []


def test_an_observe_contract_has_a_stream_before_there_is_any_state(node: Node) -> None:
    observer = node.observe(THING)
    assert list(observer.streams) == [THING]
    assert observer.state(THING) is None


def test_a_tag_observer_has_a_stream_of_each_object_for_as_long_as_it_exists(node: Node) -> None:
    observer = node.observe(TAG)
    assert observer.streams == {}
    first, second = node.expose(THING), node.observe(OTHER)
    assert list(observer.streams) == [THING, OTHER]
    first.close()
    assert list(observer.streams) == [OTHER]
    second.close()
    assert observer.streams == {}


def test_an_object_with_two_matching_tags_is_one_stream_of_each_contract(node: Node) -> None:
    by_t, by_u = node.observe(TAG), node.observe(TagDescriptor("u"))
    exposer = node.expose(TWICE)
    exposer.publish(TWICE, b"1")
    assert by_t.data(TWICE) == by_u.data(TWICE) == [b"1"]
    by_t.close()
    exposer.publish(TWICE, b"2")
    assert by_u.data(TWICE) == [b"1", b"2"]


def test_a_peer_with_two_matching_tags_gets_one_channel_until_it_wants_neither(node: Node) -> None:
    peer, source = Below(node), node.expose(TWICE)
    for tag in (TAG, TagDescriptor("u")):
        peer.observe(tag)
    source.publish(TWICE, b"1")
    heard = peer.receive()
    assert len(opened(heard, STREAM)) == 1
    assert sent(heard) == [b"1"]
    peer.unobserve(TAG)
    assert peer.receive() == []
    peer.unobserve(TagDescriptor("u"))
    assert closed(peer.receive()) == opened(heard, STREAM)


def test_a_tag_contract_works_for_objects_that_come_later_and_that_were_there_before(
    node: Node,
) -> None:
    before = node.observe(THING)
    exposer = node.expose(TAG)
    later = node.observe(OTHER)
    assert sorted(exposer.sinks, key=str) == sorted([THING, OTHER], key=str)
    before.close()
    later.close()
    assert exposer.sinks == {}


def test_closing_a_contract_twice_does_no_harm(node: Node) -> None:
    observer = node.observe(THING)
    observer.close()
    observer.close()
    assert node.picture(THING) is None


def test_the_state_is_dropped_when_nobody_needs_it_and_nobody_vouches_for_it(node: Node) -> None:
    observer, exposer = node.observe(THING), node.expose(THING)
    exposer.publish(THING, b"1", (1,))
    observer.close()
    observer = node.observe(THING)
    assert observer.state(THING) is None
    assert exposer.publish(THING, b"again", (1,)) is Outcome.ACCEPTED
    assert observer.data(THING) == [b"again"]


def test_a_state_is_kept_while_it_is_needed_though_nobody_produces_it(node: Node) -> None:
    observer, exposer = node.observe(THING), node.expose(THING)
    exposer.publish(THING, b"1")
    exposer.close()
    assert observer.data(THING) == [b"1"]
    assert not observer.is_fresh(THING)
    late = node.observe(THING)
    assert late.data(THING) == [b"1"]
    assert not late.is_fresh(THING)


def test_a_peer_that_can_produce_gets_no_stale_stream_and_any_other_observer_does(
    node: Node,
) -> None:
    source, watcher, able = Below(node), Below(node), Below(node)
    watcher.observe(THING)
    able.observe(THING)
    source.expose(THING)
    source.publish(opened(source.receive(), SINK)[0], b"1", (1,))
    assert opened(watcher.receive(), STREAM)
    assert opened(able.receive(), STREAM)
    able.limit((0.0, 0))
    able.expose(THING)
    source.leave()
    assert closed(watcher.receive()) == []  # it is told the age, on the channel that it has
    assert closed(able.receive())
    able.set_capacity(THING, 0)
    assert sent(able.receive()) == [b"1"]  # it is no exposer any more


def test_the_stale_stream_ends_the_moment_its_reader_can_produce(node: Node) -> None:
    source, watcher = Below(node), Below(node, (0.0, 0))
    watcher.observe(THING)
    node.observe(THING)
    source.expose(THING)
    source.publish(opened(source.receive(), SINK)[0], b"1", (1,))
    channels = opened(watcher.receive(), STREAM)
    source.leave()
    watcher.expose(THING)
    assert closed(watcher.receive()) == channels


def test_a_stale_stream_opens_for_who_comes_when_nobody_produces(node: Node) -> None:
    source, first, late = Below(node), Below(node), Below(node)
    first.observe(THING)
    source.expose(THING)
    source.publish(opened(source.receive(), SINK)[0], b"1", (1,))
    source.leave()
    late.observe(THING)
    heard = late.receive()
    assert opened(heard, STREAM)
    assert sent(heard) == [b"1"]


def test_no_stream_opens_while_nobody_produces_and_nothing_is_held(node: Node) -> None:
    peer = Below(node)
    peer.observe(THING)
    assert peer.receive() == []


def test_a_producer_gets_a_sink_and_never_a_stream_of_its_own_data(node: Node) -> None:
    both, other = Below(node), Below(node)
    both.observe(THING)
    both.expose(THING)
    assert both.receive() == []  # alone it serves itself
    other.observe(THING)
    heard = both.receive()
    assert opened(heard, SINK)
    assert not opened(heard, STREAM)
    assert opened(other.receive(), STREAM)
    other.leave()
    assert closed(both.receive()) == opened(heard, SINK)
