"""A node with many objects."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from hakuban import LocalNode
from support.much_to_do import MANY

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def node() -> Iterator[LocalNode]:
    """Give a node with many contracts on objects of a tag."""
    node = LocalNode()
    with ExitStack() as contracts:
        for number in range(MANY):
            contracts.enter_context(node.object(["weather"], number).observe())
        yield node
