"""What a link could not carry for its size: nobody counts on it, and it is tried again when there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind, SendState, Verb
from support.peer import Above, Below, announced, closed, opened, sent

if TYPE_CHECKING:
    from support.machines import Node
    from support.tree import Tree

TAG = TagDescriptor("t")
THING = ObjectDescriptor(["t"], {"id": 1})
SINK, STREAM = ChannelKind.SINK, ChannelKind.STREAM


def test_a_contract_that_was_not_said_is_not_taken_back_and_said_when_there_is_room(
    node: Node,
) -> None:
    above = Above(node)
    for target in (THING, TAG):
        exposer = node.expose(target)
        assert announced(above.receive()) == [(Verb.EXPOSE, str(target), 1)]
        node.machine.not_sent(above.link, (), [target])
        exposer.set_capacity(2)
        assert announced(above.receive()) == []
        exposer.close()
        assert announced(above.receive()) == []
        exposer = node.expose(target)
        assert announced(above.receive()) == []
        node.call(lambda machine: machine.room_has_grown(above.link))
        assert announced(above.receive()) == [(Verb.EXPOSE, str(target), 1)]
        exposer.close()
        assert announced(above.receive()) == [(Verb.UNEXPOSE, str(target), 0)]


def test_who_cannot_be_asked_is_passed_over_until_there_is_room(tree: Tree, node: Node) -> None:
    node.observe(THING)
    deaf, other = Below(node), Below(node)
    deaf.expose(TAG)
    assert opened(deaf.receive(), SINK)
    other.expose(TAG)
    node.machine.not_sent(deaf.link, (), [THING, TAG, ObjectDescriptor([], "gone by now")])
    tree.run()
    assert opened(other.receive(), SINK)
    assert len(closed(deaf.receive())) == 1
    other.leave()
    tree.run()
    assert not opened(deaf.receive(), SINK)
    node.call(lambda machine: machine.room_has_grown(deaf.link))
    tree.run()
    assert opened(deaf.receive(), SINK)


def test_a_stream_that_was_not_opened_is_opened_when_there_is_room(tree: Tree, node: Node) -> None:
    watcher = Below(node)
    watcher.observe(THING)
    node.expose(THING).offer(b"1")
    (first,) = opened(watcher.receive(), STREAM)
    node.machine.not_sent(watcher.link, (), [THING])
    tree.run()
    node.call(lambda machine: machine.room_has_grown(watcher.link))
    tree.run()
    heard = watcher.receive()
    assert closed(heard) == [first]
    assert opened(heard, STREAM) != [first]
    assert sent(heard) == [b"1"]


def test_a_state_that_was_skipped_is_sent_when_there_is_room(node: Node) -> None:
    watcher = Below(node)
    watcher.observe(THING)
    gone = Below(node)
    exposer = node.expose(THING)
    exposer.offer(b"1")
    assert sent(watcher.receive()) == [b"1"]
    node.machine.not_sent(watcher.link, [THING], ())
    node.call(lambda machine: machine.room_has_grown(watcher.link))
    assert sent(watcher.receive()) == [b"1"]
    node.call(lambda machine: machine.room_has_grown(watcher.link))
    assert watcher.receive() == [], "once"
    node.machine.not_sent(gone.link, [THING], ())  # its stream is closed by now
    node.call(lambda machine: machine.room_has_grown(gone.link))
    assert gone.receive() == []


def test_a_state_that_the_node_above_did_not_get_is_sent_when_there_is_room(node: Node) -> None:
    above = Above(node)
    exposer = node.expose(THING)
    above.receive()
    above.open(SINK, THING)
    exposer.offer(b"1")
    assert [type(said) for said in above.receive()] == [SendState]
    node.machine.not_sent(above.link, [THING], ())
    node.call(lambda machine: machine.room_has_grown(above.link))
    assert sent(above.receive()) == [b"1"]
    above.leave()
    node.machine.room_has_grown(above.link)  # it has ended
