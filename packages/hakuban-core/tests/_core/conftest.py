"""One node on a virtual clock, whose invariants are checked after everything that happens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.tree import Tree

if TYPE_CHECKING:
    from support.machines import Node


@pytest.fixture
def tree() -> Tree:
    return Tree()


@pytest.fixture
def node(tree: Tree) -> Node:
    return tree.node("node")
