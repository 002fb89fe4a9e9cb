"""What several events of one key leave to be reported, and what several tables are together (scenarios 28)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._changes import Action, MergedKeys, PendingEvents, folded
from hakuban.events import Event

INSERT, CHANGE, REMOVE = Action.INSERT, Action.CHANGE, Action.REMOVE


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        (INSERT, CHANGE, INSERT),
        (INSERT, REMOVE, None),
        (CHANGE, CHANGE, CHANGE),
        (CHANGE, REMOVE, REMOVE),
        (REMOVE, INSERT, CHANGE),
    ],
)
def test_two_events_that_nobody_has_read_leave_one_or_none(
    before: Action, after: Action, left: Action | None
) -> None:
    assert folded(before, after) is left


class Table:
    """A table as whoever reads all events of it knows it: its keys, and how often each has changed."""

    def __init__(self) -> None:
        self.keys: dict[int, int] = {}

    def take(self, event: Event[int]) -> None:
        action, key = event
        assert (key in self.keys) == (action is not INSERT), event
        if action is REMOVE:
            del self.keys[key]
        else:
            self.keys[key] = self.keys.get(key, 0) + 1


# what happens to which of a few keys; None is a reader who takes one event
STEPS = st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=60)


@given(present=st.sets(st.integers(0, 3)), steps=STEPS, turns=st.randoms(use_true_random=False))
def test_whoever_reads_late_knows_the_same_in_the_end(
    present: set[int], steps: list[int | None], turns: st.DrawFn
) -> None:
    keys = {*present}
    pending, read = PendingEvents(present), Table()
    for step in steps:
        if step is None:
            event = pending.pop()
            if event is not None:
                read.take(event)
            continue
        if step not in keys:
            action = INSERT
        else:
            action = turns.choice([CHANGE, REMOVE])  # type: ignore[attr-defined]  # a Random
        keys ^= {step} if action is not CHANGE else set()
        pending.put(action, step)
    waiting = 0
    while pending:
        event = pending.pop()
        if event is not None:
            waiting += 1
            read.take(event)
    assert read.keys.keys() == keys
    assert waiting <= 4, "of each key one event waits at most"


def test_events_wait_in_the_order_of_their_keys_first_events() -> None:
    pending = PendingEvents(["a", "b"])
    pending.put(CHANGE, "b")
    pending.put(INSERT, "c")
    pending.put(CHANGE, "a")
    assert [pending.pop() for _ in range(4)] == [(INSERT, "a"), (INSERT, "b"), (INSERT, "c"), None]
    assert not pending


def test_keys_that_have_come_and_gone_are_skipped_a_few_at_a_time() -> None:
    many = range(1_000)
    pending = PendingEvents([*many, -1])
    for key in many:
        pending.put(REMOVE, key)
    looks = 0
    while (event := pending.pop()) is None:
        assert pending
        looks += 1
    assert event == (INSERT, -1)
    assert looks > 1
    assert not pending


def test_what_is_forgotten_is_not_reported() -> None:
    pending = PendingEvents(["a"])
    pending.put(INSERT, "b")
    pending.clear()
    assert not pending
    assert pending.pop() is None
    pending.put(REMOVE, "a")
    assert pending.pop() == (REMOVE, "a")


def test_a_key_of_two_tables_is_inserted_once_and_removed_with_the_last() -> None:
    merged: MergedKeys[str] = MergedKeys()
    actions = [INSERT, INSERT, CHANGE, REMOVE, REMOVE]
    assert [merged.put(action, "key") for action in actions] == [
        INSERT, CHANGE, CHANGE, CHANGE, REMOVE,
    ]  # fmt: skip
    assert merged.keys() == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=80))
def test_merged_tables_have_the_keys_that_one_of_them_has(steps: list[tuple[int, int]]) -> None:
    merged: MergedKeys[int] = MergedKeys()
    tables: list[set[int]] = [set(), set(), set()]
    read = Table()
    for table, key in steps:
        tables[table] ^= {key}
        action = INSERT if key in tables[table] else REMOVE
        read.take(Event(merged.put(action, key), key))
        assert Counter(merged.keys()) == Counter(tables[0] | tables[1] | tables[2])
        assert read.keys.keys() == tables[0] | tables[1] | tables[2]
