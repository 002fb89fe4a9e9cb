"""The transport of `examples/tcp_transport`, as a user would write one, keeps the contract on every backend."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import hakuban
from hakuban.testing import check_transport
from hakuban.transport import register_plugin, unregister_plugin

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType

EXAMPLE = Path(__file__).parents[1] / "examples/tcp_transport"


@pytest.fixture
def plugin() -> ModuleType:
    """Import the example by its path: it is installed nowhere."""
    spec = importlib.util.spec_from_file_location("hakuban_tcp", EXAMPLE / "hakuban_tcp.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def registered(plugin: ModuleType) -> Generator[None]:
    register_plugin(plugin)
    yield
    unregister_plugin(plugin)


@pytest.mark.promise("plugins", "everywhere")
async def test_a_transport_of_thirty_lines_keeps_the_contract(plugin: ModuleType) -> None:
    await check_transport(plugin.TcpTransport(), "tcp://127.0.0.1:0")


@pytest.mark.usefixtures("registered")
async def test_nodes_share_an_object_over_the_transport_of_thirty_lines() -> None:
    with (
        anyio.fail_after(10),
        hakuban.LocalNode("here") as here,
        hakuban.LocalNode("there") as there,
    ):
        async with (
            here.listen("tcp://127.0.0.1:0") as listener,
            there.connect(listener.url),
        ):
            with (
                there.object(["t"], "x").expose() as contract,
                here.object(["t"], "x").observe() as seen,
            ):
                contract.set_object_data([1, 2])
                state = await seen.wait_state()
    assert state.data == [1, 2]


def test_the_entry_point_names_the_scheme_that_the_hook_serves(plugin: ModuleType) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    ((scheme, module),) = project["entry-points"]["hakuban.transports"].items()
    assert module == plugin.__name__
    assert plugin.hakuban_transport(scheme=scheme) is not None
    assert plugin.hakuban_transport(scheme="ws") is None
