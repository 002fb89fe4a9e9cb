"""What a link is told, and in which order: channels, contracts, states; pulled one by one."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from hakuban._core import invariants
from hakuban._core.events import LinkDown
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import (
    ChannelKind,
    CloseChannel,
    OpenChannel,
    SendContracts,
    SendState,
    SendSynchronized,
    Verb,
)
from support.peer import Above, Below, announced, closed, opened, sent
from support.tree import Tree

if TYPE_CHECKING:
    from hakuban._session_events import Instruction
    from support.machines import Node

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], "thing")
OTHER = ObjectDescriptor([], "other")
SINK, STREAM = ChannelKind.SINK, ChannelKind.STREAM
NAME = '["t"]:"thing"'


# ---- channels --------------------------------------------------------------------------------------------------------


def test_channels_are_numbered_from_two_and_never_again(node: Node) -> None:
    peer = Below(node)
    node.expose(THING)
    numbers = []
    for _ in range(3):
        peer.observe(THING)
        numbers += opened(peer.receive(), STREAM)
        peer.unobserve(THING)
        assert closed(peer.receive()) == numbers[-1:]
    assert numbers == [2, 3, 4]


def test_what_was_opened_and_closed_between_two_pulls_is_never_told(node: Node) -> None:
    peer = Below(node)
    node.expose(THING)
    peer.receive()
    for _ in range(100):
        peer.observe(THING)
        peer.unobserve(THING)
    assert peer.receive() == []


def test_a_stream_that_is_wanted_again_before_its_close_was_pulled_goes_on(node: Node) -> None:
    peer = Below(node)
    source = node.expose(THING)
    node.observe(THING)
    peer.observe(THING)
    source.publish(THING, b"1")
    assert sent(peer.receive()) == [b"1"]
    peer.unobserve(THING)
    peer.observe(THING)
    source.publish(THING, b"2")
    heard = peer.receive()
    assert closed(heard) == opened(heard, STREAM) == []
    assert sent(heard) == [b"2"]


def test_a_stream_of_a_state_that_was_dropped_starts_anew(node: Node) -> None:
    peer = Below(node)
    source = node.expose(THING)
    peer.observe(THING)
    source.publish(THING, b"1")
    (first,) = opened(peer.receive(), STREAM)
    peer.unobserve(THING)
    peer.observe(THING)
    heard = peer.receive()
    assert closed(heard) == [first]
    assert opened(heard, STREAM) == [first + 1]
    assert sent(heard) == []


def test_a_sink_that_is_assigned_again_before_its_close_was_pulled_starts_anew(node: Node) -> None:
    peer = Below(node)
    peer.expose(THING)
    observer = node.observe(THING)
    (first,) = opened(peer.receive(), SINK)
    peer.publish(first, b"1", (1,))
    observer.close()
    observer = node.observe(THING)
    peer.publish(first, b"too late", (2,))
    peer.set_synchronized(first, 0)
    assert observer.states(THING) == []
    heard = peer.receive()
    assert [type(item) for item in heard] == [CloseChannel, OpenChannel]
    assert closed(heard) == [first]
    (second,) = opened(heard, SINK)
    peer.publish(first, b"much too late", (2,))
    peer.publish(second, b"1", (1,))
    assert observer.data(THING) == [b"1"]


def test_a_channel_is_closed_before_the_one_of_the_other_way_opens(tree: Tree, node: Node) -> None:
    peer, rival = Below(node), Below(node)
    peer.observe(THING)
    node.observe(THING)
    rival.expose(THING)
    (stream,) = opened(peer.receive(), STREAM)
    peer.expose(THING)
    rival.leave()
    heard = peer.receive()
    assert [type(item) for item in heard] == [CloseChannel, OpenChannel]
    assert closed(heard) == [stream]
    (sink,) = opened(heard, SINK)
    node.expose(THING)
    heard = peer.receive()
    assert closed(heard) == [sink]
    assert len(opened(heard, STREAM)) == 1


def test_channels_come_before_states(node: Node) -> None:
    peer = Below(node)
    first, second = node.expose(THING), node.expose(OTHER)
    peer.observe(THING)
    first.publish(THING, b"1")
    peer.receive(1)  # the channel of the first thing
    peer.observe(OTHER)
    second.publish(OTHER, b"2")
    assert [type(item) for item in peer.receive()] == [OpenChannel, SendState, SendState]


def silent(tree: Tree, peer: Below, seconds: float) -> None:
    """End the link of a peer that was last heard some seconds ago."""
    tree.now += seconds
    peer.node.handle(LinkDown(peer.link, at=tree.now - seconds))


def ages(heard: list[Instruction]) -> list[float]:
    """Give the ages that were told alone, in seconds."""
    return [item.age / 1e6 for item in heard if isinstance(item, SendSynchronized)]


def test_what_ceases_with_a_silent_exposer_tells_its_age_before_its_channel_is_closed(
    tree: Tree, node: Node
) -> None:
    watcher, exposer = Below(node), Below(node)
    watcher.observe(TAG)
    exposer.expose(THING)
    (stream,) = opened(watcher.receive(), STREAM)
    exposer.publish(opened(exposer.receive(), SINK)[0], b"1", (1,))
    assert sent(watcher.receive()) == [b"1"]
    silent(tree, exposer, 5.0)
    heard = watcher.receive()
    assert [type(item) for item in heard] == [SendSynchronized, CloseChannel]
    assert ages(heard) == [pytest.approx(5.0, abs=0.01)]
    assert closed(heard) == [stream]


def test_who_is_not_shown_what_it_could_produce_is_told_its_age_before_that(
    tree: Tree, node: Node
) -> None:
    node.observe(THING)
    exposer, watcher = Below(node), Below(node, (0.0, 0))  # nothing may be assigned to it
    exposer.expose(THING)
    exposer.publish(opened(exposer.receive(), SINK)[0], b"1", (1,))
    watcher.observe(THING)
    watcher.expose(TAG)
    assert sent(watcher.receive()) == [b"1"]
    silent(tree, exposer, 5.0)
    heard = watcher.receive()
    assert [type(item) for item in heard] == [SendSynchronized, CloseChannel]
    assert ages(heard) == [pytest.approx(5.0, abs=0.01)]


def test_what_ceases_in_good_order_was_current_until_its_channel_is_closed(node: Node) -> None:
    watcher, exposer = Below(node), Below(node)
    watcher.observe(TAG)
    exposer.expose(THING)
    exposer.publish(opened(exposer.receive(), SINK)[0], b"1", (1,))
    assert sent(watcher.receive()) == [b"1"]
    exposer.unexpose(THING)
    assert [type(item) for item in watcher.receive()] == [CloseChannel]


# ---- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("slow-reader")
def test_a_slow_reader_gets_the_newest_state_and_not_those_before(node: Node) -> None:
    slow, fast = Below(node), Below(node)
    source = node.expose(THING)
    for peer in (slow, fast):
        peer.observe(THING)
        peer.receive()
    seen = []
    for number in range(100):
        source.publish(THING, b"%d" % number)
        seen += sent(fast.receive())
    assert seen == [b"%d" % number for number in range(100)]
    assert sent(slow.receive()) == [b"99"]


def test_old_contents_are_not_kept_alive_by_slow_readers(node: Node) -> None:
    slow = Below(node)
    source = node.expose(THING)
    slow.observe(THING)
    source.publish(THING, b"0")
    slow.receive()
    view = node.machine.world.objects[THING].held.view
    assert view is not None
    old = weakref.ref(view.content)
    del view
    for number in range(6):
        source.publish(THING, b"%d" % number)
    gc.collect()
    assert old() is None
    assert sent(slow.receive()) == [b"5"]


def test_outdated_objects_take_turns(node: Node) -> None:
    peer = Below(node)
    sources = [node.expose(thing) for thing in (THING, OTHER)]
    for thing in (THING, OTHER):
        peer.observe(thing)
    peer.receive()
    seen = []
    for _ in range(3):
        for source in sources:
            for thing in source.sinks:
                source.publish(thing, str(thing).encode())
        seen += sent(peer.receive(1))
    assert seen == [str(THING).encode(), str(OTHER).encode(), str(THING).encode()]


def test_freshness_alone_is_told_without_the_data(tree: Tree, node: Node) -> None:
    peer = Below(node)
    source = node.expose(THING)
    peer.observe(THING)
    source.publish(THING, b"1")
    peer.receive()
    source.set_synchronized(THING, 2.0)
    tree.advance(1.0)
    (told,) = peer.receive()
    assert isinstance(told, SendSynchronized)
    assert told.age == pytest.approx(3_000_000, rel=1e-3)
    source.set_synchronized(THING, None)
    (told,) = peer.receive()
    assert isinstance(told, SendSynchronized)
    assert told.age == 0


def test_freshness_that_went_and_came_back_between_two_pulls_is_not_told(node: Node) -> None:
    peer = Below(node)
    source = node.expose(THING)
    peer.observe(THING)
    source.publish(THING, b"1")
    peer.receive()
    source.set_synchronized(THING, 2.0)
    source.set_synchronized(THING, None)
    assert peer.receive() == []


def test_states_reach_the_node_above_on_the_channel_that_it_opens(node: Node) -> None:
    above = Above(node)
    source = node.expose(THING)
    channel = above.demand(THING)
    source.publish(THING, b"1")
    again = above.demand(THING)  # the crate may open a second one before it closes the first
    states = [item for item in above.receive() if isinstance(item, SendState)]
    assert [(item.channel, item.content.data) for item in states] == [
        (channel, b"1"),
        (again, b"1"),
    ]
    above.close(channel)
    source.publish(THING, b"2")
    assert [item.channel for item in above.receive() if isinstance(item, SendState)] == [again]
    above.close(again)
    assert source.sinks == {}


def test_nothing_goes_back_up_to_where_it_came_from(node: Node) -> None:
    above = Above(node)
    node.observe(THING)
    source = node.expose(THING)
    down, up = above.feed(THING), above.demand(THING)
    above.publish(down, b"1", (1,))
    assert sent(above.receive()) == []
    above.close(down)
    assert above.receive() == []
    source.publish(THING, b"2", (2,))
    (state,) = (item for item in above.receive() if isinstance(item, SendState))
    assert (state.channel, state.content.data) == (up, b"2")


def test_a_state_from_above_that_is_vouched_for_here_goes_up(node: Node) -> None:
    above = Above(node)
    node.observe(THING)
    source = node.expose(THING)
    down = above.feed(THING)
    above.publish(down, b"1", (1,))
    above.close(down)
    above.demand(THING)
    source.publish(THING, b"1", (1,))
    (state,) = (item for item in above.receive() if isinstance(item, SendState))
    assert (state.content.data, state.age) == (b"1", 0)


def test_down_there_is_no_such_rule(node: Node) -> None:
    peer = Below(node)
    peer.observe(THING)
    peer.expose(THING)
    node.observe(THING)
    (channel,) = opened(peer.receive(), SINK)
    peer.publish(channel, b"1", (1,))
    rival = Below(node)
    rival.expose(THING)
    peer.unexpose(THING)
    heard = peer.receive()
    assert closed(heard) == [channel]
    assert sent(heard) == [b"1"]


# ---- readiness -------------------------------------------------------------------------------------------------------


def test_a_link_is_said_to_be_ready_once_until_it_has_run_dry(node: Node) -> None:
    peer = Below(node)
    assert peer.receive() == []
    source = node.expose(THING)
    peer.observe(THING)
    machine = node.machine
    for number in range(3):
        source.publish(THING, b"%d" % number)
    assert machine.next_for(peer.link, 200.0) is not None
    assert machine.next_for(peer.link, 200.0) is not None
    assert machine.next_for(peer.link, 200.0) is None
    assert machine.next_for(peer.link, 200.0) is None


def test_a_batch_is_a_few_things_and_says_whether_there_may_be_more(node: Node) -> None:
    peer = Below(node)
    things = [ObjectDescriptor([], number) for number in range(30)]
    for thing in things:
        source = node.expose(thing)
        peer.observe(thing)
        source.publish(thing, b"small")
    machine = node.machine
    first, more = machine.next_batch_for(peer.link, 200.0)
    assert more
    second, more = machine.next_batch_for(peer.link, 200.0)
    assert not more
    assert len(first) == 32
    said = [*first, *second]
    assert len(opened(said, STREAM)) == len(sent(said)) == 30
    assert machine.next_batch_for(peer.link, 200.0) == ([], False)


def test_a_batch_ends_with_a_large_state(node: Node) -> None:
    peer = Below(node)
    things = [ObjectDescriptor([], number) for number in range(4)]
    sources = [node.expose(thing) for thing in things]
    for thing in things:
        peer.observe(thing)
    peer.receive()
    for source, thing in zip(sources, things, strict=True):
        source.publish(thing, bytes(40_000))
    batch, more = node.machine.next_batch_for(peer.link, 200.0)
    assert more
    assert len(batch) == 2


def test_a_link_that_has_ended_has_nothing_to_say(node: Node) -> None:
    peer = Below(node)
    node.expose(THING)
    peer.observe(THING)
    peer.leave()
    peer.leave()
    assert node.machine.next_for(peer.link, 200.0) is None
    assert node.machine.next_for(99, 200.0) is None
    peer.observe(OTHER)  # said before it ended, read after
    assert node.picture(OTHER) is None


# ---- contracts -------------------------------------------------------------------------------------------------------


def test_contracts_are_announced_as_they_change_and_summed_up(node: Node) -> None:
    above = Above(node)
    observers = [node.observe(THING) for _ in range(2)]
    exposers = [node.expose(THING, 3), node.expose(THING, 4)]
    assert announced(above.receive()) == [(Verb.OBSERVE, NAME, 0), (Verb.EXPOSE, NAME, 7)]
    observers[0].close()
    exposers[0].set_capacity(5)
    assert announced(above.receive()) == [(Verb.SET_CAPACITY, NAME, 9)]
    observers[1].close()
    for exposer in exposers:
        exposer.close()
    assert announced(above.receive()) == [(Verb.UNOBSERVE, NAME, 0), (Verb.UNEXPOSE, NAME, 0)]
    assert node.picture(THING) is None


def test_capacities_of_peers_and_of_this_node_are_announced_together_up_to_32_bits(
    node: Node,
) -> None:
    above, peers = Above(node), [Below(node), Below(node)]
    node.expose(THING, 3)
    peers[0].expose(THING, 4)
    assert announced(above.receive()) == [(Verb.EXPOSE, NAME, 7)]
    peers[1].expose(THING, 2**32 - 1)
    assert announced(above.receive()) == [(Verb.SET_CAPACITY, NAME, 2**32 - 1)]
    peers[1].leave()
    assert announced(above.receive()) == [(Verb.SET_CAPACITY, NAME, 7)]


def test_capacity_zero_is_announced_nowhere(node: Node) -> None:
    above, peer = Above(node), Below(node)
    exposer = node.expose(THING, 0)
    peer.expose(THING, 0)
    assert above.receive() == []
    exposer.set_capacity(2)
    assert announced(above.receive()) == [(Verb.EXPOSE, NAME, 2)]
    exposer.set_capacity(0)
    assert announced(above.receive()) == [(Verb.UNEXPOSE, NAME, 0)]


def test_tags_are_announced_once_and_their_objects_not_at_all(node: Node) -> None:
    above, peer = Above(node), Below(node)
    node.observe(TAG)
    peer.observe(TAG)
    node.expose(TAG, 2)
    peer.expose(TAG, 3)
    assert announced(above.receive()) == [(Verb.OBSERVE, '"t"', 0), (Verb.EXPOSE, '"t"', 5)]
    above.feed(THING)
    assert above.receive() == []
    peer.leave()
    assert announced(above.receive()) == [(Verb.SET_CAPACITY, '"t"', 2)]


def test_changes_that_cancel_each_other_are_not_announced(node: Node) -> None:
    above = Above(node)
    above.receive()
    for _ in range(10):
        node.observe(THING).close()
    assert node.machine.next_for(above.link, 200.0) is None
    exposer = node.expose(THING)
    above.receive()
    exposer.close()
    node.expose(THING)
    assert above.receive() == []


def test_all_contracts_are_announced_in_batches_to_a_new_node_above(node: Node) -> None:
    things = [ObjectDescriptor(["t"], f"{number}{'x' * 1000}") for number in range(600)]
    for thing in things:
        node.machine.observe_object(thing, 1.0)
    node.machine.take_effects()
    for _ in range(2):
        above = Above(node)
        node.machine.close_contract(node.machine.observe_tag(TAG, 1.0), 1.0)
        node.machine.take_effects()
        batches = [item.actions for item in above.receive() if isinstance(item, SendContracts)]
        assert [len(batch) > 200 for batch in batches] == [True, True, False]
        assert {action.descriptor for batch in batches for action in batch} == {*things}
        above.leave()


def test_what_was_set_last_is_sent_before_its_exposer_is_withdrawn(node: Node) -> None:
    above = Above(node)
    source = node.expose(THING)
    above.receive()
    above.demand(THING)
    source.publish(THING, b"last")
    node.observe(OTHER)
    source.close()
    said = above.receive()
    assert [type(item) for item in said] == [SendContracts, SendState, SendContracts]
    assert sent(said) == [b"last"]


def test_what_a_tag_exposer_set_last_is_sent_before_it_is_withdrawn(node: Node) -> None:
    above = Above(node)
    source = node.expose(TAG)
    above.receive()
    above.demand(THING)
    source.publish(THING, b"last")
    source.close()
    assert [type(item) for item in above.receive()] == [SendState, SendContracts]


def test_a_withdrawal_does_not_wait_for_states_that_are_not_its_own(node: Node) -> None:
    above = Above(node)
    source, other = node.expose(TAG), node.expose(OTHER)
    above.receive()
    above.demand(OTHER)
    other.publish(OTHER, b"busy")
    source.close()
    assert [type(item) for item in above.receive()] == [SendContracts, SendState]


def test_a_withdrawal_passes_over_channels_that_have_nothing_to_say_or_are_closed() -> None:
    node = Tree(checked=False).node("node")
    above = Above(node)
    node.observe(TAG)
    source = node.expose(TAG)
    above.receive()
    channels = []
    for number in range(2_000):  # the states came from above: they are not echoed
        thing = ObjectDescriptor(["t"], number)
        down = above.feed(thing)
        above.publish(down, b"1", (1,))
        channels.append(above.demand(thing))
        above.close(down)
    own = ObjectDescriptor(["t"], "own")
    channels.append(above.demand(own))
    source.publish(own, b"last")
    source.close()
    assert sent(above.receive(1)) == [b"last"]
    above.close(channels[0])
    assert announced(above.receive()) == [(Verb.UNEXPOSE, '"t"', 0)]
    invariants.check(node.machine)


def test_an_exposer_that_comes_back_while_its_withdrawal_waits_is_not_withdrawn(node: Node) -> None:
    above = Above(node)
    source = node.expose(TAG)
    above.receive()
    for number in range(3):
        thing = ObjectDescriptor(["t"], number)
        above.demand(thing)
        source.publish(thing, b"1")
    source.close()
    above.receive(1)
    node.expose(TAG)
    assert announced(above.receive()) == []


def test_contracts_come_before_states_on_the_way_up(node: Node) -> None:
    above = Above(node)
    source = node.expose(THING)
    above.receive()
    above.demand(THING)
    source.publish(THING, b"1")
    node.observe(OTHER)
    assert [type(item) for item in above.receive()] == [SendContracts, SendState]
