"""The version clock: it never goes back, and a tree goes by one. The wall clocks of the nodes are scripted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hakuban._core.clock import RESTATE, Clock, base_of, default_version
from hakuban._descriptors import ObjectDescriptor
from hakuban._session_events import Note, NoteReceived, SendNote
from support.tree import EPOCH, Tree, Way

if TYPE_CHECKING:
    from support.machines import Node, Observer

THING = ObjectDescriptor(["thing"], {"id": 1})
OTHER = ObjectDescriptor(["thing"], {"id": 2})
SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
IN_1976 = 200_000_000 * SECOND - EPOCH  # what a machine without a battery is ahead


@pytest.fixture
def tree() -> Tree:
    return Tree(notes=True)


@pytest.fixture
def root(tree: Tree) -> Node:
    return tree.node("root")


class Watcher:
    """An observer that wants each state within a second of its being set, and whose versions never go back."""

    def __init__(self, tree: Tree, node: Node, thing: ObjectDescriptor = THING) -> None:
        self._tree = tree
        self._thing = thing
        self._count = 0
        self._observer: Observer = node.observe(thing)
        tree.run()

    def sees_what(self, leaf: Node) -> None:
        """Have a leaf set a state, and see it."""
        (exposer,) = (item for item in leaf.exposers.values() if item.target is self._thing)
        self._count += 1
        data = b"%s %d" % (leaf.name.encode(), self._count)
        exposer.offer(data)
        self._tree.advance(1.0)
        state = self._observer.state(self._thing)
        assert state is not None
        assert (state.data, state.synchronized) == (data, True)

    def data(self) -> bytes | None:
        state = self._observer.state(self._thing)
        return None if state is None else state.data


def below(tree: Tree, above: Node, name: str, ahead: int = 0) -> Node:
    """Start a leaf whose wall clock is ahead, and have it expose the thing."""
    leaf = tree.node(name)
    leaf.ahead = ahead
    tree.connect(leaf, above)
    leaf.expose(THING)
    tree.run()
    return leaf


def cut(tree: Tree, leaf: Node) -> None:
    tree.wire_of(leaf).cut()
    tree.run()


def clocks(tree: Tree, *nodes: Node) -> list[float]:
    """Give what the clocks of nodes show, as seconds ahead of the true time."""
    shown = [node.machine.read_clock(tree.now, node.wall) - tree.wall for node in nodes]
    return [round(ahead / SECOND, 2) for ahead in shown]


# ---- the five cases -------------------------------------------------------------------------------------------------


def test_an_exposer_an_hour_slow_is_seen_before_and_after_its_correction_and_its_restart(
    tree: Tree, root: Node
) -> None:
    watcher = Watcher(tree, root)
    slow = below(tree, root, "slow", -HOUR)
    watcher.sees_what(slow)
    slow.ahead = 0
    watcher.sees_what(slow)
    cut(tree, slow)
    watcher.sees_what(below(tree, root, "slow, again"))


@pytest.mark.parametrize("first", [IN_1976, 0])
def test_an_exposer_that_booted_in_1976_is_no_worse_than_others(
    tree: Tree, root: Node, first: int
) -> None:
    watcher = Watcher(tree, root)
    one = below(tree, root, "one", first)
    watcher.sees_what(one)
    cut(tree, one)
    watcher.sees_what(below(tree, root, "two", IN_1976 - first))


def test_a_router_an_hour_fast_at_its_start_is_followed_by_the_next_exposer_after_its_correction(
    tree: Tree, root: Node
) -> None:
    root.ahead = HOUR
    watcher = Watcher(tree, root)
    first = below(tree, root, "first")
    watcher.sees_what(first)
    root.ahead = 0
    watcher.sees_what(first)
    cut(tree, first)
    watcher.sees_what(below(tree, root, "second"))


def test_that_router_restarted_goes_by_the_clock_of_the_nodes_below(tree: Tree, root: Node) -> None:
    root.ahead = HOUR
    hall = tree.node("hall")
    tree.connect(hall, root)
    watcher = Watcher(tree, hall)
    first = below(tree, root, "first")
    watcher.sees_what(first)
    cut(tree, first)
    cut(tree, hall)
    again = tree.node("root, again")
    for node in (hall, first):
        tree.connect(node, again)
    watcher.sees_what(first)
    cut(tree, first)
    watcher.sees_what(below(tree, again, "second"))


def test_a_router_that_boots_in_1976_above_living_leaves_holds_nobody_up(
    tree: Tree, root: Node
) -> None:
    leaf = below(tree, root, "leaf")
    hall = tree.node("hall")
    tree.connect(hall, root)
    watcher = Watcher(tree, hall)
    watcher.sees_what(leaf)
    for node in (leaf, hall):
        cut(tree, node)
    again = tree.node("root, again")
    again.ahead = IN_1976
    for node in (leaf, hall):
        tree.connect(node, again)
    watcher.sees_what(leaf)
    cut(tree, leaf)
    newcomer = below(tree, again, "newcomer")
    watcher.sees_what(newcomer)
    again.ahead = 0  # it has heard of the time
    tree.advance(2.0)
    assert clocks(tree, again) == pytest.approx([0.0], abs=0.01)
    watcher.sees_what(newcomer)
    cut(tree, newcomer)
    watcher.sees_what(below(tree, again, "the last", -HOUR))


# ---- who is believed ------------------------------------------------------------------------------------------------


def test_a_leaf_two_days_ahead_is_one_error_and_hides_nobody(tree: Tree, root: Node) -> None:
    watcher = Watcher(tree, root)
    honest = below(tree, root, "honest")
    watcher.sees_what(honest)
    cut(tree, honest)
    liar = below(tree, root, "liar", 2 * DAY)
    watcher.sees_what(liar)
    assert clocks(tree, root) == [0.0]
    for _ in range(2):
        cut(tree, liar)
        tree.connect(liar, root)
        tree.run()
    assert [round(doubt.lead / 86400, 3) for doubt in root.doubted] == [2.0]
    cut(tree, liar)
    watcher.sees_what(below(tree, root, "honest, too"))
    other = Watcher(tree, root, OTHER)
    leaf = tree.node("of another thing", root)
    leaf.expose(OTHER)
    other.sees_what(leaf)


def test_who_takes_over_by_a_tag_is_told_too(tree: Tree, root: Node) -> None:
    watcher = Watcher(tree, root)
    liar = below(tree, root, "liar", 2 * DAY)
    watcher.sees_what(liar)
    cut(tree, liar)
    leaf = tree.node("leaf", root)
    exposer = leaf.expose(THING.tags[0])
    tree.run()
    exposer.publish(THING, b"by tag")
    tree.run()
    assert watcher.data() == b"by tag"


def test_whoever_takes_over_two_hops_below_a_liar_is_told_what_to_exceed(
    tree: Tree, root: Node
) -> None:
    hall = tree.node("hall", root)
    watcher = Watcher(tree, root)
    liar = below(tree, root, "liar", 2 * DAY)
    watcher.sees_what(liar)
    honest = below(tree, hall, "honest")
    cut(tree, liar)
    watcher.sees_what(honest)


def test_who_takes_over_above_is_told_what_is_held_below(tree: Tree, root: Node) -> None:
    hall = tree.node("hall", root)
    watcher = Watcher(tree, hall)
    liar = below(tree, hall, "liar", 2 * DAY)
    watcher.sees_what(liar)
    cut(tree, liar)
    watcher.sees_what(below(tree, root, "honest"))


def test_who_takes_over_below_a_router_that_met_no_liar_is_told_what_observers_hold(
    tree: Tree, root: Node
) -> None:
    hall = tree.node("hall", root)
    watcher = Watcher(tree, hall)
    liar = below(tree, root, "liar", 2 * DAY)
    watcher.sees_what(liar)
    cut(tree, liar)
    cut(tree, hall)
    again = tree.node("root, again")
    tree.connect(hall, again)
    inner = tree.node("inner", again)
    watcher.sees_what(below(tree, inner, "honest"))


@pytest.mark.parametrize("version", [(7,), (1, 2, 3), (0, 1, 2, 3, 4)])
def test_nodes_below_have_no_other_versions_exceeded_than_default_ones(
    tree: Tree, root: Node, version: tuple[int, ...]
) -> None:
    observing = tree.node("observing", root)
    watcher = Watcher(tree, observing)
    honest = below(tree, root, "honest")
    watcher.sees_what(honest)
    note = Note(held=((('"thing"',), '{"id":1}', version),))
    tree.wire_of(observing).send(Way.UP, NoteReceived(note))
    watcher.sees_what(honest)
    (record,) = root.machine.world.objects.values()
    assert record.held.seen[1] >= EPOCH // SECOND


def test_a_version_that_no_larger_one_follows_is_exceeded_all_the_same(
    tree: Tree, root: Node
) -> None:
    observing = tree.node("observing", root)
    watcher = Watcher(tree, root)
    honest = below(tree, root, "honest")
    for length in (3, 4):
        largest = (0, *[2**63 - 1] * (length - 1))
        note = Note(held=((('"thing"',), '{"id":1}', largest),))
        tree.wire_of(observing).send(Way.UP, NoteReceived(note))
        watcher.sees_what(honest)
        watcher.sees_what(honest)


def test_an_exposer_that_is_at_work_already_hears_what_is_held_above(
    tree: Tree, root: Node
) -> None:
    watcher = Watcher(tree, root)
    liar = below(tree, root, "liar", 2 * DAY)
    watcher.sees_what(liar)
    hall = tree.node("hall")
    near = Watcher(tree, hall)
    honest = below(tree, hall, "honest")
    near.sees_what(honest)
    cut(tree, liar)
    tree.connect(hall, root)
    tree.run()
    watcher.sees_what(honest)


def test_a_clock_beyond_belief_is_followed_once_the_wall_clock_says_so(
    tree: Tree, root: Node
) -> None:
    root.ahead = -3 * DAY
    leaf = below(tree, root, "leaf")
    assert clocks(tree, root, leaf) == [-3 * 86400.0, 0.0]
    assert len(root.doubted) == 1
    root.ahead = -DAY // 2
    tree.advance(2.0)
    assert clocks(tree, root) == pytest.approx([0.0], abs=0.01)


def test_nobody_goes_by_the_clock_of_a_node_that_has_left(tree: Tree, root: Node) -> None:
    liar = below(tree, root, "liar", 2 * DAY)
    assert len(root.doubted) == 1
    cut(tree, liar)
    root.ahead = DAY + HOUR  # by which the other clock could be believed
    tree.advance(2.0)
    assert clocks(tree, root) == pytest.approx([86400.0 + 3600.0], abs=0.01)


def test_of_several_beyond_belief_those_are_followed_that_are_not_any_more(
    tree: Tree, root: Node
) -> None:
    root.ahead = -3 * DAY
    below(tree, root, "right")
    below(tree, root, "liar", 2 * DAY)
    root.ahead = 0
    tree.advance(2.0)
    assert clocks(tree, root) == pytest.approx([0.0], abs=0.01)
    root.ahead = DAY + HOUR
    tree.advance(2.0)
    assert clocks(tree, root) == pytest.approx([2 * 86400.0], abs=0.01)


def test_a_root_follows_its_wall_clock_forward_and_never_back_and_tells(
    tree: Tree, root: Node
) -> None:
    leaf = below(tree, root, "leaf")
    root.ahead = HOUR
    tree.advance(2.0)
    assert clocks(tree, root, leaf) == pytest.approx([3600.0, 3600.0], abs=0.01)
    root.ahead = -HOUR
    tree.advance(2.0)
    assert clocks(tree, root, leaf) == pytest.approx([3600.0, 3600.0], abs=0.01)


def test_a_leaf_goes_by_the_clock_above_and_not_by_its_own(tree: Tree, root: Node) -> None:
    leaf = below(tree, root, "leaf")
    leaf.ahead = HOUR
    exposer = next(iter(leaf.exposers.values()))
    root.observe(THING)
    tree.run()
    exposer.offer(b"1")
    tree.advance(2.0)
    assert clocks(tree, root, leaf) == [0.0, 0.0]


def test_a_jump_is_told_up_and_down_at_once_and_a_small_step_is_not(tree: Tree, root: Node) -> None:
    hall = tree.node("hall", root)
    nodes = [root, hall, tree.node("a", hall), tree.node("b", root)]
    tree.run()
    fast = below(tree, hall, "fast", HOUR)
    tree.run()
    assert clocks(tree, *nodes, fast) == pytest.approx([3600.0] * 5, abs=0.01)
    wire = tree.wire_of(nodes[2])
    wire.told[Way.DOWN].clear()
    below(tree, hall, "hardly ahead", HOUR + SECOND // 200)
    assert not any(isinstance(told, SendNote) for told in wire.told[Way.DOWN])


def test_what_was_set_a_moment_before_a_jump_is_seen_too(tree: Tree, root: Node) -> None:
    leaf = below(tree, root, "leaf")
    observer = root.observe(THING)
    tree.run()
    exposer = next(iter(leaf.exposers.values()))
    exposer.offer(b"a moment before")
    tree.run()
    before = observer.state(THING)
    assert before is not None
    root.ahead = HOUR
    tree.advance(2.0)
    after = observer.state(THING)
    assert after is not None
    assert (after.data, after.synchronized) == (b"a moment before", True)
    assert after.version[1] - before.version[1] >= 3600


def test_a_jump_gives_no_new_version_to_what_has_one_of_its_own_or_is_not_held(
    tree: Tree, root: Node
) -> None:
    leaf = below(tree, root, "leaf")
    observer = root.observe(THING)
    tree.run()
    exposer = next(iter(leaf.exposers.values()))
    exposer.offer(b"1", version=(7,))
    idle = leaf.expose(OTHER)
    root.observe(OTHER)
    tree.run()
    assert idle.sinks
    root.ahead = HOUR
    tree.advance(2.0)
    state = observer.state(THING)
    assert state is not None
    assert state.version == (7,)


def test_a_stale_state_keeps_its_age_in_a_jump(tree: Tree, root: Node) -> None:
    leaf = below(tree, root, "leaf")
    observer = root.observe(THING)
    tree.run()
    exposer = next(iter(leaf.exposers.values()))
    exposer.offer(b"1", age=5.0)
    tree.run()
    root.ahead = HOUR
    tree.advance(2.0)
    assert observer.age(THING) == pytest.approx(7.0, abs=0.1)


def test_clocks_are_told_again_each_ten_minutes(tree: Tree, root: Node) -> None:
    leaf = below(tree, root, "leaf")
    wire = tree.wire_of(leaf)
    for way in Way:
        wire.told[way].clear()
    tree.advance(RESTATE - 10)
    assert wire.told[Way.DOWN] == wire.told[Way.UP] == []
    tree.advance(20)
    for way in Way:
        (told,) = wire.told[way]
        assert isinstance(told, SendNote)
        assert told.note == Note(clock=told.note.clock)


def test_nobody_looks_at_the_wall_clock_where_nobody_wants_to_know(tree: Tree, root: Node) -> None:
    assert root.machine.next_deadline() is None
    leaf = below(tree, root, "leaf")
    assert root.machine.next_deadline() is not None
    cut(tree, leaf)
    tree.advance(2.0)
    assert root.machine.next_deadline() is None


def test_a_node_whose_neighbour_above_ends_goes_by_its_own_wall_clock_again(
    tree: Tree, root: Node
) -> None:
    leaf = below(tree, root, "leaf")
    leaf.ahead = HOUR
    assert clocks(tree, leaf) == [0.0]
    cut(tree, leaf)
    assert clocks(tree, leaf) == [3600.0]


def test_the_largest_clock_that_fits_is_told_as_that(tree: Tree, root: Node) -> None:
    leaf = below(tree, root, "leaf")
    wire = tree.wire_of(leaf)
    wire.send(Way.DOWN, NoteReceived(Note(clock=2**63 - 1)))
    tree.advance(1.0)
    stranger = tree.node("stranger", leaf)
    tree.run()
    note = leaf.machine.first_note(tree.wire_of(stranger).ids[Way.DOWN], 1, tree.now)
    assert note is not None
    assert note.clock == 2**63 - 1


def test_only_so_many_liars_are_reported() -> None:
    clock = Clock(0)
    clock.see_wall(0, 0.0, root=True)
    for node in range(200):
        reported = clock.follow_below(node, f"node {node}", 1, 0.0) == 1
        assert reported is (node < 100)
    assert clock.follow_below(0, "node 0", 2, 0.0) is None


def test_clocks_that_run_apart_are_no_jump(tree: Tree, root: Node) -> None:
    leaf = below(tree, root, "leaf")
    observer = root.observe(THING)
    tree.run()
    next(iter(leaf.exposers.values())).offer(b"1")
    tree.run()
    before = observer.state(THING)
    for _ in range(6):
        tree.advance(RESTATE)
        root.ahead += SECOND // 33  # 30 ms in ten minutes, as crystals do
    assert observer.state(THING) == before
    root.ahead += SECOND // 5
    tree.advance(2.0)
    assert observer.state(THING) != before


def test_a_peer_that_has_the_clock_jump_all_the_time_has_little_published(
    tree: Tree, root: Node
) -> None:
    leaf = below(tree, root, "leaf")
    observer = root.observe(THING)
    tree.run()
    next(iter(leaf.exposers.values())).offer(b"1")
    restless = tree.node("restless", root)
    tree.run()
    wire, seen = tree.wire_of(restless), len(observer.states(THING))
    for number in range(1, 601):
        note = Note(clock=tree.wall + number * SECOND)
        wire.send(Way.UP, NoteReceived(note))
        tree.advance(0.1)
    assert len(observer.states(THING)) - seen <= 8, "after 0, 1, 3, 7, 15, 31 s, and so on"
    tree.advance(60.0)
    assert clocks(tree, root, leaf) == pytest.approx([600.0, 600.0], abs=0.01)
    state = observer.state(THING)
    assert state is not None
    assert state.version[1] >= tree.wall // SECOND + 500, "the last jump is told in the end"


def test_times_of_clocks_are_unix_nanoseconds() -> None:
    assert base_of(5 * SECOND, 2.0) == 3 * SECOND
    assert default_version(1_700_000_000_123_456_789) == (0, 1_700_000_000, 123_456_789)
