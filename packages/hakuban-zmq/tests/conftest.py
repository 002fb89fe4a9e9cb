from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Give an empty directory for the certificates of an allow-list."""
    made = tmp_path / "allowed"
    made.mkdir()
    return made
