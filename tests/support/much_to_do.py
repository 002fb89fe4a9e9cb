"""Nodes whose objects wait to be settled: work that others have left, which somebody has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hakuban import LocalNode
    from hakuban._core.machine import Machine

__all__ = ["MANY", "leave_much_to_do", "nothing_is_due"]

MANY = 600
"""Objects that take some steps to be settled."""


def leave_much_to_do(node: LocalNode) -> None:
    """Have all objects of the one tag wait to be settled, as a thread or peer does that goes on to other things."""

    def observe(machine: Machine, now: float) -> None:
        (tag,) = machine.world.tags
        machine.close_contract(machine.observe_tag(tag, now), now)

    node._engine.call(observe)
    assert node._engine.deadline == 0.0


def nothing_is_due(node: LocalNode) -> bool:
    """Tell whether nothing is due now; something may be later."""
    return node._engine.deadline != 0.0
