"""The scene of each story."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from support.tellings import columns, scene_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.scenes import Scene


@pytest.fixture(params=columns("memory", "ws", "zmq"))
def scene(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    """Give a scene; when its story has been told, nobody may have logged an error."""
    yield scene_of(request.param)
    records = caplog.get_records("call")
    assert not [record.getMessage() for record in records if record.levelno >= logging.ERROR]
