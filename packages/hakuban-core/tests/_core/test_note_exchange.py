"""What the machine tells its peers in notes, and takes from theirs. Clocks and circles have tests of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import UNSET

from hakuban._core.effects import Ignored, PeerIgnores
from hakuban._core.events import LinkUp
from hakuban._core.new_state import Outcome
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import (
    ChannelKind,
    CloseChannel,
    ItemIgnored,
    Note,
    NoteIgnored,
    NoteReceived,
    OpenChannel,
    SendNote,
    SendState,
)
from hakuban._wire import Session, notes
from support.peer import Above, Below, Peer, opened
from support.tree import EPOCH, Tree

if TYPE_CHECKING:
    from hakuban._contents import Version
    from hakuban._session_events import Instruction
    from support.machines import Node

THING = ObjectDescriptor(["t"], "thing")
OTHER = ObjectDescriptor(["t"], "other")
TAG = TagDescriptor("t")
FIRST = Note(node="other", name="other", above=(), max_message=1000, version="0")
FAR = (1 << 40,)
"""A version beyond all default ones."""
HELD = (('"t"',), '"thing"', FAR)


def tell(peer: Peer, note: Note) -> None:
    peer.send(NoteReceived(note))


def exchanging(peer: Peer, note: Note = FIRST) -> None:
    """Have a peer send its first note."""
    assert told(peer.receive()) == [], "nothing is told to who has not spoken"
    tell(peer, note)


def told(heard: list[Instruction]) -> list[Note]:
    """Give the notes among what was said."""
    return [item.note for item in heard if isinstance(item, SendNote)]


def ignored(peer: Peer, descriptor: str, reason: str = "too deep") -> None:
    """Have a peer say something that is ignored."""
    peer.send(ItemIgnored(reason, descriptor))


@pytest.fixture(params=[Below, Above])
def peer(request: pytest.FixtureRequest, node: Node) -> Peer:
    """Give a peer on either side."""
    made: Peer = request.param(node)
    return made


# ---- the first note -------------------------------------------------------------------------------------------------


def test_the_first_note_says_who_speaks_who_is_above_what_it_takes_and_the_time(tree: Tree) -> None:
    tree.notes = True
    hall = tree.node("hall", tree.node("root"))
    tree.run()
    link = hall.machine.new_link()
    hall.handle(LinkUp(link, False, "as told to this link", wall=hall.wall))
    note = hall.machine.first_note(link, 12_345, tree.now)
    assert note is not None
    assert note.clock is not UNSET
    assert abs(note.clock - EPOCH - int(tree.now * 1e9)) < 10**8
    assert note == Note(
        node="hall",
        name="as told to this link",
        above=(("root", "root"),),
        max_message=12_345,
        clock=note.clock,
        version="",
    )
    assert hall.machine.first_note(99, 1, tree.now) is None, "that link has ended"


def test_who_is_above_is_told_again_if_it_changed_before_the_peer_has_spoken(tree: Tree) -> None:
    tree.notes = True
    hall = tree.node("hall")
    peer = Below(hall)
    hall.machine.first_note(peer.link, 1000, tree.now)
    assert peer.receive() == []
    tree.connect(hall, tree.node("root"))
    tree.run()
    assert peer.receive() == []
    tell(peer, FIRST)
    assert [note.above for note in told(peer.receive())] == [(("root", "root"),)]
    tell(peer, FIRST)
    assert peer.receive() == []


def test_nothing_is_told_to_who_has_not_spoken(tree: Tree, node: Node, peer: Peer) -> None:
    ignored(peer, "deep")
    tree.advance(2_000)
    assert told(peer.receive()) == []
    tell(peer, Note())
    ignored(peer, "deeper")
    assert [note.ignored for note in told(peer.receive())] == [(("deeper", "too deep"),)]


# ---- ignored --------------------------------------------------------------------------------------------------------


def test_what_is_ignored_is_told_once_for_each_name_and_cut(peer: Peer) -> None:
    exchanging(peer)
    for descriptor in ("a", "b", "a", "c" * 500, "c" * 400, "d"):
        ignored(peer, descriptor, "r" * 300)
    ignored(peer, "", "nobody knows what it was about")
    (note,) = [note for note in told(peer.receive()) if note.ignored]
    assert note.ignored == tuple((name, "r" * 200) for name in ("a", "b", "c" * 200, "d"))
    ignored(peer, "b")
    assert told(peer.receive()) == []


def test_no_more_than_a_hundred_are_told_on_a_link_sixteen_at_once(peer: Peer) -> None:
    exchanging(peer)
    peer.receive()
    for number in range(150):
        ignored(peer, f"name {number}")
    counts = [len(note.ignored or ()) for note in told(peer.receive())]
    assert counts == [16] * 6 + [4]
    assert [type(item) for item in peer.node.ignored] == [Ignored], "here it is reported once"


def test_what_a_peer_ignores_is_reported_cut_and_a_hundred_times_on_a_link(
    peer: Peer, node: Node
) -> None:
    exchanging(peer)
    tell(peer, Note(ignored=(("x" * 300, "y" * 300),)))
    for _ in range(3):
        tell(peer, Note(ignored=tuple((f"{number}", "why") for number in range(60))))
    assert len(node.ignored_there) == 100
    assert node.ignored_there[:2] == [
        PeerIgnores(peer.link, "x" * 200, "y" * 200),
        PeerIgnores(peer.link, "0", "why"),
    ]


def test_that_notes_do_not_decode_is_reported_once_on_a_link(node: Node, peer: Peer) -> None:
    for number in range(3):
        peer.send(NoteIgnored(f"reason {number}"))
    assert node.ignored == [Ignored(peer.link, "reason 0")]
    ignored(peer, "deep")
    assert len(node.ignored) == 2, "that is another matter"


# ---- held -----------------------------------------------------------------------------------------------------------


def hold(node: Node, version: Version) -> None:
    """Have a node hold a state of the thing that nobody produces any more, and that somebody wants."""
    node.observe(THING)
    exposer = Below(node)
    exposer.expose(THING)
    (channel,) = opened(exposer.receive(), ChannelKind.SINK)
    exposer.publish(channel, b"old", version)
    exposer.leave()


def test_who_is_to_produce_hears_right_behind_the_channel_what_to_exceed(node: Node) -> None:
    hold(node, FAR)
    peer = Below(node)
    exchanging(peer)
    peer.receive()
    peer.expose(THING)
    first, second = peer.receive()
    assert isinstance(first, OpenChannel)
    assert first.kind is ChannelKind.SINK
    assert second == SendNote(Note(held=(HELD,)))


def test_it_is_not_told_of_a_stream_nor_where_the_clock_exceeds_it_nor_to_who_is_silent(
    node: Node,
) -> None:
    hold(node, FAR)
    observer, silent = Below(node), Below(node)
    exchanging(observer)
    observer.receive()
    observer.observe(THING)
    assert told(observer.receive()) == []
    silent.expose(THING)
    assert told(silent.receive()) == []
    silent.leave()

    fresh = Below(node)
    exchanging(fresh)
    fresh.receive()
    exposer = node.expose(OTHER)
    exposer.offer(b"now")
    node.observe(OTHER)
    exposer.close()
    fresh.expose(OTHER)
    assert [type(item) for item in fresh.receive()] == [OpenChannel]


def test_of_an_object_with_a_very_long_name_it_is_not_told(node: Node) -> None:
    long = ObjectDescriptor([], "x" * 5_000)
    node.observe(long)
    exposer = node.expose(long)
    exposer.offer(b"old", FAR)
    exposer.close()
    peer = Below(node)
    exchanging(peer)
    peer.receive()
    peer.expose(long)
    assert [type(item) for item in peer.receive()] == [OpenChannel]


def demanded(node: Node, thing: ObjectDescriptor = THING) -> tuple[Above, int]:
    """Have a peer above demand an object; give it, and the channel."""
    above = Above(node)
    channel = above.demand(thing)
    exchanging(above)
    above.receive()
    return above, channel


def versions(heard: list[Instruction]) -> list[Version]:
    return [item.content.version for item in heard if isinstance(item, SendState)]


def test_what_is_produced_here_by_a_default_version_is_published_again_above_what_is_held(
    node: Node,
) -> None:
    exposer = node.expose(THING)
    above, _ = demanded(node)
    exposer.offer(b"data")
    assert len(versions(above.receive())) == 1
    for _ in range(2):
        tell(above, Note(held=(HELD,)))
    (version,) = versions(above.receive())
    assert version > FAR
    tell(above, Note(held=((*HELD[:2], (5,)),)))
    assert above.receive() == [], "that is exceeded already"


def test_what_has_a_version_of_its_own_stays_as_it_is_and_so_does_what_is_not_held(
    node: Node,
) -> None:
    exposer, other = node.expose(THING), node.expose(OTHER)
    above, _ = demanded(node)
    above.demand(OTHER)
    exposer.offer(b"data", (7,))
    above.receive()
    for held in (HELD, (('"t"',), '"other"', FAR), (('"t"',), '"unknown"', FAR), ((), "{", FAR)):
        tell(above, Note(held=(held,)))
    assert above.receive() == []
    other.offer(b"later")
    assert versions(above.receive()) == [(FAR[0] + 1,)]
    observed = node.observe(OTHER).state(OTHER)
    assert observed is not None
    assert observed.version == (FAR[0] + 1,)


def test_the_state_of_a_tag_contract_is_published_again_too(node: Node) -> None:
    exposer = node.expose(TAG)
    above, _ = demanded(node)
    exposer.publish(THING, b"data")
    above.receive()
    tell(above, Note(held=(HELD,)))
    assert versions(above.receive()) == [(FAR[0] + 1,)]
    assert exposer.publish(THING, b"next") is Outcome.ACCEPTED


def test_it_is_passed_on_to_the_node_below_that_produces(node: Node) -> None:
    below, silent = Below(node), Below(node)
    exchanging(below)
    for peer, thing in ((below, THING), (silent, OTHER)):
        peer.expose(thing)
    above, _ = demanded(node)
    above.demand(OTHER)
    for peer in (below, silent):
        (channel,) = opened(peer.receive(), ChannelKind.SINK)
        assert channel == 2
    more = (('"t"',), '"other"', FAR)
    tell(above, Note(held=(HELD, more)))
    assert [note.held for note in told(below.receive())] == [(HELD,)]
    assert silent.receive() == [], "it may be a node of the crate"


def test_several_are_passed_on_one_after_the_other(node: Node) -> None:
    below = Below(node)
    exchanging(below)
    below.expose(TAG)
    above, _ = demanded(node)
    above.demand(OTHER)
    below.receive()
    tell(above, Note(held=(HELD, (('"t"',), '"other"', FAR))))
    assert {note.held for note in told(below.receive())} == {
        (HELD,),
        ((('"t"',), '"other"', FAR),),
    }


def test_from_below_versions_of_the_shape_of_default_ones_are_taken_and_nothing_else(
    node: Node,
) -> None:
    exposer = node.expose(THING)
    above, _ = demanded(node)
    exposer.offer(b"data")
    above.receive()
    below = Below(node)
    for version in (FAR, (), (1, 2, 3), (0, *FAR, 0, 0, 0)):
        tell(below, Note(held=((*HELD[:2], version),), above=(("x", "y"),)))
        assert versions(above.receive()) == []
    assert node.machine.world.above == (("other", "other"),)
    tell(below, Note(held=((*HELD[:2], (0, *FAR)),)))
    assert versions(above.receive()) == [(0, FAR[0] + 1)]


def test_what_is_held_below_is_passed_on_to_where_the_states_come_from(node: Node) -> None:
    node.observe(THING)
    above, below = Above(node), Below(node)
    exchanging(above)
    above.receive()
    held = (*HELD[:2], (0, *FAR))
    tell(below, Note(held=(held,)))
    assert above.receive() == [], "states come from nowhere"
    above.feed(THING)
    higher = (*HELD[:2], (0, *FAR, 1))
    tell(below, Note(held=(higher,)))
    assert above.receive() == [SendNote(Note(held=(higher,)))]


def test_who_sends_a_lower_version_is_told_once_which_to_exceed_and_not_of_a_very_long_name(
    node: Node,
) -> None:
    below, silent = Below(node), Below(node)
    exchanging(below)
    long = ObjectDescriptor(["t"], "x" * 5_000)
    for thing, peer in ((THING, below), (OTHER, silent), (long, below)):
        node.observe(thing)
        before = node.expose(thing)
        before.offer(b"before", (5,))
        before.close()
        peer.expose(thing)
        (channel,) = opened(peer.receive(), ChannelKind.SINK)
        for number in range(3):
            peer.publish(channel, b"after", (number,))
        heard = [note.held for note in told(peer.receive()) if note.held]
        assert heard == ([((*HELD[:2], (5,)),)] if thing is THING else [])


# ---- together -------------------------------------------------------------------------------------------------------


def test_notes_go_before_anything_else_and_say_what_is_so_by_then(tree: Tree) -> None:
    tree.notes = True
    hall = tree.node("hall")
    peer = Below(hall)
    exchanging(peer)
    peer.receive()
    peer.observe(THING)
    hall.expose(THING).offer(b"1")
    wire = tree.connect(hall, tree.node("root"))
    tree.run()
    wire.cut()
    tree.run()
    wire = tree.connect(hall, tree.node("other root"))
    tree.run()
    ignored(peer, "deep")
    first, *others = peer.receive()
    assert isinstance(first, SendNote)
    assert first.note.above == (("other root", "other root"),)
    assert told(others) in ([], [Note(ignored=(("deep", "too deep"),))])
    wire.cut()
    tree.run()
    peer.unobserve(THING)
    first, second = peer.receive()
    assert isinstance(first, SendNote)
    assert isinstance(second, CloseChannel)


@pytest.mark.parametrize("name", ["\x01", "\x7f", "\U0001f600", '"', "\\", "\ud7ff"])
def test_every_note_fits_however_hostile_the_names_are(tree: Tree, name: str) -> None:
    """Each character may take six bytes of JSON."""
    hall = tree.node("hall")
    above = Above(hall)
    peer = Below(hall)
    tell(peer, FIRST)
    chain = tuple((name * 60 + f"{number:04}", name * 5_000) for number in range(100))
    tell(above, Note(node=name * 64, name=name * 5_000, above=chain, clock=2**63 - 1))
    for number in range(100):
        ignored(peer, name * 300 + f"{number}" * 100, name * 300)
        ignored(peer, f"{number}" + name * 300, name * 300)
    written = len(ObjectDescriptor([], name).json_text.encode()) - 2
    thing = ObjectDescriptor([], name * (4_000 // written))
    exposed = Below(hall)
    exposed.expose(thing)
    hall.observe(thing)
    (channel,) = opened(exposed.receive(), ChannelKind.SINK)
    exposed.publish(channel, b"", (2**63 - 1,) * 1_000)
    exposed.leave()
    peer.expose(thing)
    later = told(peer.receive())
    link = hall.machine.new_link()
    hall.handle(LinkUp(link, False, local_name=name * 1024))
    first = hall.machine.first_note(link, 2**63 - 1, tree.now)
    assert first is not None
    session = Session(listening=True, name="")
    said: set[str] = set()
    for note in [first, *later]:
        (message,) = session.encode(SendNote(note))
        keys = {key for key in note.__struct_fields__ if getattr(note, key) is not UNSET}
        assert len(message) <= notes.LARGEST, keys
        said |= keys
    assert said == {*note.__struct_fields__}
