"""Whatever happens to a tree of nodes, what the design promises holds; and this would be noticed if it did not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hakuban._core import agenda, machine, note_exchange, settle, world
from support.any_tree import AnyTree, explore

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[4]
FEW_AND_MANY = [100, pytest.param(400, marks=pytest.mark.thorough)]


def run_module() -> ModuleType:
    """Import the program that breaks the machine: `tests/mutants/run.py`."""
    path = ROOT / "tests/mutants/run.py"
    spec = importlib.util.spec_from_file_location("mutants_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mutants = run_module()


def explored(examples: int, steps: int) -> None:
    before = AnyTree.delivered
    explore(examples, steps)
    delivered = AnyTree.delivered - before
    print(f"{examples} histories of {steps} steps: {delivered} states delivered")
    assert delivered > examples, "hardly anybody has seen anything: this proves nothing"


@pytest.mark.timeout(600)  # to shrink what it finds takes longer than to find it
@pytest.mark.promise("latest", "monotonic", "whole", "one-exposer", "on-demand", "stale-visible")
@pytest.mark.parametrize("examples", FEW_AND_MANY)
def test_in_any_history_the_promises_hold(examples: int) -> None:
    explored(examples, 50)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("examples", FEW_AND_MANY)
@pytest.mark.parametrize("room", [50, pytest.param(300, marks=pytest.mark.thorough)])
def test_in_any_history_the_promises_hold_where_steps_have_little_room(
    room: int, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (world, machine):
        monkeypatch.setattr(module, "STEP", room)
    pieces = ("_FORGOTTEN", "_LOOKS_AT_ONCE", "_PIECE", "_SLICE", "_WALKED_AT_ONCE")
    for module in (agenda, note_exchange, settle, world):
        for name in (*pieces, "SETTLED_AT_ONCE", "NOTIFIED_AT_ONCE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 1)
    explored(examples // 2, 50)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_in_many_long_histories_the_promises_hold() -> None:
    explored(5_000, 100)


@pytest.mark.thorough
@pytest.mark.parametrize("patch", mutants.mutants(), ids=lambda patch: patch.stem)
def test_a_broken_machine_is_noticed(patch: Path, tmp_path: Path) -> None:
    mutants.apply(patch, tmp_path)
    assert mutants.is_caught(tmp_path, seed=0)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_broken_machines_are_noticed_with_any_seed() -> None:
    assert mutants.try_all(seeds=5) == 0
