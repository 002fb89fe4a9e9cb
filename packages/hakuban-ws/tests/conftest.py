from __future__ import annotations

import pytest

from support.websocket import Certificates


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates()
