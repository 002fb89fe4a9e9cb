"""Unfinished messages of all links of a listener."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hakuban.transport import PeerViolationError, ReassemblyLimit

MIB = 1024 * 1024


class Link:
    """Knows why it was ended."""

    def __init__(self) -> None:
        self.end: PeerViolationError | None = None

    def give_up(self, violation: PeerViolationError) -> None:
        self.end = violation


def test_the_largest_unfinished_message_goes_first() -> None:
    limit = ReassemblyLimit(MIB)
    links = [Link() for _ in range(5)]
    for size, link in enumerate(links, 10):
        limit.hold(link, size * MIB)
    assert [link.end for link in links] == [None] * 5
    limit.hold(links[0], 15 * MIB)
    assert [link.end is not None for link in links] == [True, False, False, False, False]
    assert links[0].end is not None
    assert links[0].end.code == 1013
    assert limit.held == (11 + 12 + 13 + 14) * MIB


def test_messages_that_are_finished_count_no_more() -> None:
    limit = ReassemblyLimit(MIB)
    links = [Link() for _ in range(100)]
    for link in links:
        limit.hold(link, 50 * MIB)
        limit.hold(link, 0)
    assert [link for link in links if link.end] == []
    assert limit.held == 0


def test_four_of_the_largest_messages_fit_always() -> None:
    limit = ReassemblyLimit(100 * MIB)
    links = [Link() for _ in range(4)]
    for link in links:
        limit.hold(link, 100 * MIB)
    assert [link for link in links if link.end] == []
    last = Link()
    limit.hold(last, MIB)
    assert [link for link in links if link.end] == links[:1]
    assert last.end is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30 * MIB)), max_size=60))
def test_what_is_held_is_the_sum_and_never_too_much(steps: list[tuple[int, int]]) -> None:
    limit = ReassemblyLimit(MIB)
    links = [Link() for _ in range(10)]
    sizes: dict[int, int] = {}
    for number, size in steps:
        if links[number].end is not None:
            continue
        sizes[number] = size if size >= 64 * 1024 else 0
        limit.hold(links[number], size)
        alive = {key: size for key, size in sizes.items() if links[key].end is None}
        assert limit.held == sum(alive.values())
        assert limit.held <= limit.most
