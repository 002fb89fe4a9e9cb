"""Objects that a node gets to know, and forgets: reported where somebody has asked for it."""

from __future__ import annotations

import pytest

from hakuban import ObjectDescriptor
from hakuban._core import Machine
from hakuban._core.effects import ObjectForgotten, ObjectKnown

WARSAW = ObjectDescriptor(["weather"], "Warsaw")


@pytest.mark.parametrize("watched", [False, True])
def test_what_a_node_knows_is_reported_to_who_wants_to_know(*, watched: bool) -> None:
    machine = Machine()
    machine.world.watched = watched
    contracts = [machine.observe_object(WARSAW, 1.0), machine.expose_object(WARSAW, 1, 1.0)]
    for contract in contracts:
        machine.close_contract(contract, 1.0)
    about = [
        effect
        for effect in machine.take_effects()
        if isinstance(effect, (ObjectKnown, ObjectForgotten))
    ]
    assert about == ([ObjectKnown(WARSAW), ObjectForgotten(WARSAW)] if watched else [])
