"""Every asynchronous test runs on asyncio, on uvloop and on trio; HAKUBAN_BACKENDS=trio,asyncio narrows that."""

from __future__ import annotations

import importlib.util
import os

import pytest

_BACKENDS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
_WANTED = os.environ.get("HAKUBAN_BACKENDS", "asyncio,uvloop,trio").split(",")


@pytest.fixture(
    params=[
        pytest.param(_BACKENDS[name], id=name)
        for name in _WANTED
        if name == "asyncio" or importlib.util.find_spec(name)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Give the backend of an asynchronous test: its name and options."""
    return request.param
