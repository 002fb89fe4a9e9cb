"""A stranger's transport, `examples/transport-plugin`: its wheel beside that of the core, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.processes import Program
from support.wheels import ROOT, Installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LISTENS = """
import anyio, hakuban

async def main():
    with hakuban.LocalNode("there") as node:
        async with node.listen("tcp://127.0.0.1:0") as listener:
            print(listener.url, flush=True)
            with node.object(["weather"], "Pozna\u0144").expose() as contract:
                contract.set_object_data({"celsius": 9})
                await anyio.sleep_forever()

anyio.run(main)
"""

CONNECTS = """
import sys, anyio, hakuban

async def main():
    with anyio.fail_after(20), hakuban.LocalNode("here") as node:
        async with node.connect(sys.argv[1]) as connection:
            with node.object(["weather"], "Pozna\u0144").observe() as weather:
                state = await weather.wait_state()
                print(connection.remote_name, state.data, flush=True)

anyio.run(main)
"""

LISTED = """
from hakuban.transport import installed_transports
for one in installed_transports():
    print(one.scheme, one.distribution, one.version, one.error)
"""

# A program and not `-c`: the kit starts further processes of it.
CHECKS = """
import anyio, hakuban_tcp
from hakuban.testing import check_transport
anyio.run(check_transport, hakuban_tcp.TcpTransport(), "tcp://127.0.0.1:0")
print("kept")
"""


@pytest.fixture(scope="module")
def stranger(
    build: Callable[..., str],
    installed: Callable[..., Installation],
    tmp_path_factory: pytest.TempPathFactory,
) -> Installation:
    """Give an environment with the core and the transport of the example."""
    folder = tmp_path_factory.mktemp("stranger")
    build("--wheel", "--out-dir", folder, ROOT / "examples/transport-plugin")
    (wheel,) = folder.glob("*.whl")
    return installed("hakuban-core", str(wheel))


def test_nodes_of_two_processes_talk_through_a_plugin_that_is_installed(
    stranger: Installation, tmp_path: Path
) -> None:
    python = str(stranger.python)
    for name, code in (("listens", LISTENS), ("connects", CONNECTS)):
        (tmp_path / f"{name}.py").write_text(code)
    with Program([python, str(tmp_path / "listens.py")]) as there:
        url = there.out.wait(re.compile("tcp://.*"))[0]
        with Program([python, str(tmp_path / "connects.py"), url]) as here:
            here.out.wait(re.compile("there {'celsius': 9}"))
            assert here.wait() == 0


def test_a_plugin_that_is_installed_is_listed_with_its_version(stranger: Installation) -> None:
    assert "tcp hakuban-tcp-example 0.1.0 None" in stranger.evaluate(LISTED).splitlines()


@pytest.mark.thorough
def test_a_plugin_keeps_the_contract_where_it_is_installed(
    stranger: Installation, tmp_path: Path
) -> None:
    program = tmp_path / "check.py"
    program.write_text(CHECKS)
    assert stranger.run(program) == "kept"
