"""The map of the code shows what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages/hakuban-core/src/hakuban"
MAP = (ROOT / "docs/architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:\w+/)*\w+\.py)`", MAP)))
ROOMS = sorted(path.name for path in CORE.iterdir() if (path / "__init__.py").exists())


def test_files_are_named() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize("name", NAMED)
def test_each_file_that_is_named_exists(name: str) -> None:
    assert (CORE / name).exists() or (ROOT / name).exists()


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_shown(room: str) -> None:
    assert f"{room}/" in MAP
