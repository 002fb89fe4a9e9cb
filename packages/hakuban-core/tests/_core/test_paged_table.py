"""Tables by ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._core.paged_table import PagedTable
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._session_events import ChannelKind
from support.peer import Above
from support.tree import Tree

if TYPE_CHECKING:
    from support.machines import Node


@pytest.fixture
def node() -> Node:
    return Tree(checked=False).node("node", rebalance=0.1)


@given(st.integers(0, 300), st.lists(st.integers(1, 600), max_size=200))
def test_a_table_is_a_dict_of_ids_that_are_new(start: int, ids: list[int]) -> None:
    table: PagedTable[str] = PagedTable(start)
    kept: dict[int, str] = {}
    for number in ids:
        if number in kept:
            assert table.pop(number) == kept.pop(number)
        else:
            table.add(number, str(number))
            kept[number] = str(number)
        assert len(table) == len(kept)
        assert (number in table) == (number in kept)
    assert dict(table.items()) == kept
    assert sorted(table.values()) == sorted(kept.values())
    assert [table.get(number) for number in ids] == [kept.get(number) for number in ids]
    assert table.pop(601) is None


@pytest.mark.promise("no-stall")
@pytest.mark.parametrize("own", [0, 20])
def test_the_objects_of_many_tags_are_next_to_each_other(node: Node, own: int) -> None:
    """Ids that are far apart would take a page each, in each of the tags: its tables would all grow with each object."""
    shared = [TagDescriptor(number) for number in range(50)]
    for tag in shared:
        node.observe(tag)
    above = Above(node)
    for number in range(300):
        tags = [*range(50), *(f"{number}/{extra}" for extra in range(own))]
        above.open(ChannelKind.STREAM, ObjectDescriptor(tags, number))
    node.settle()
    for tag in shared:
        table = node.machine.world.tags[tag].objects
        assert len(table) == 300
        assert len(table._pages) <= 4
