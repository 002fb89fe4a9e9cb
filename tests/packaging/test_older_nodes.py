"""Nodes from before there were notes, installed from wheels of their commit, beside those of this work tree.

In a clone that has not got the commit (`git clone --depth`), or no git at all, this is NOT RUN.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING, Literal

import pytest

from hakuban import ObjectDescriptor
from support.ours import OurNode
from support.ports import free_port
from support.processes import Program, RouterProcess
from support.wheels import PACKAGES, ROOT, Installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(120)]

OLDER = "ff5cbe551acfd851cd905653d0d44f68d8d1db06"
"""The last commit without notes."""

LEAF = """
import json, logging, sys
import anyio, hakuban

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

async def watch(name, contract):
    async for state in contract:
        print(json.dumps([name, state.data, state.synchronized]), flush=True)

async def main(url):
    exposed = {}
    with hakuban.LocalNode("older leaf") as node:
        async with node.connect(url) as connection, anyio.create_task_group() as tasks:
            print("connected to", connection.remote_name, flush=True)
            async for line in anyio.wrap_file(sys.stdin):
                verb, name, data = json.loads(line)
                thing = node.object(["t"], name)
                if verb == "observe":
                    tasks.start_soon(watch, name, thing.observe())
                elif verb == "expose":
                    exposed[name] = thing.expose()
                    exposed[name].set_object_data(data)
                elif verb == "set":
                    exposed[name].set_object_data(data)
                elif verb == "unexpose":
                    exposed.pop(name).close()
            tasks.cancel_scope.cancel()

anyio.run(main, sys.argv[1])
"""


@pytest.fixture(scope="module")
def older(build: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Give an environment with all packages as they were."""
    folder = tmp_path_factory.mktemp("older")
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", OLDER, "packages"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"NOT RUN: the commit before the notes is not in this clone: {error}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    for package in PACKAGES:
        build("--wheel", "--out-dir", folder / "wheels", folder / "packages" / package.name)
    found = Installation(folder / "environment", folder / "wheels", *[p.name for p in PACKAGES])
    assert found.evaluate("import hakuban; print(hasattr(hakuban, 'CircleError'))") == "False"
    return found


class OlderLeaf(Program):
    """A leaf from before the notes; it does what it is told, and prints what it sees."""

    def __init__(self, older: Installation, program: Path, url: str) -> None:
        program.write_text(LEAF)
        super().__init__([str(older.python), str(program), url])

    def tell(self, verb: str, thing: ObjectDescriptor, data: object = None) -> None:
        """Have something done."""
        self.write(json.dumps([verb, thing.json, data]) + "\n")

    def wait_state(self, thing: ObjectDescriptor, data: object) -> None:
        """Wait until a current state is seen."""
        self.out.wait(re.compile(re.escape(json.dumps([thing.json, data, True]))))


def older_router(older: Installation, url: str) -> Program:
    """Start a router from before the notes, and wait until it listens."""
    router = Program([str(older.python), "-m", "hakuban_router", "--bind", url])
    router.err.wait(re.compile(r"listening on (\S+)"))
    return router


def named(name: str) -> ObjectDescriptor:
    return ObjectDescriptor(["t"], name)


def complaints(*programs: Program) -> list[str]:
    """Give the lines of a log that nobody should have to read."""
    lines = [line for program in programs for line in program.err.seen]
    return [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Traceback", line)]


@pytest.mark.parametrize("scheme", ["ws", "zmq+tcp"])
@pytest.mark.parametrize("above", ["an older router", "a new router"])
def test_older_and_new_leaves_serve_each_other_below_either_router(
    older: Installation,
    above: Literal["an older router", "a new router"],
    scheme: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    bind = f"{scheme}://127.0.0.1:{free_port()}"
    router = older_router(older, bind) if above == "an older router" else RouterProcess(bind=bind)
    with router, OlderLeaf(older, tmp_path / "leaf.py", bind) as old, OurNode("new leaf") as new:
        new.connect(bind)
        states_flow_both_ways(old, new)
        production_is_handed_over_and_back(old, new)
        new.disconnect()
        assert old.process.stdin is not None
        old.process.stdin.close()
        assert old.wait() == 0, old.err.seen
        assert router.stop() in (0, 143), router.err.seen
    assert complaints(old, router) == []
    assert any("link up: new leaf" in line for line in router.err.seen), "it does log"
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


def states_flow_both_ways(old: OlderLeaf, new: OurNode) -> None:
    """Have each leaf see two states of the other one, the second of them as a difference."""
    of_old, of_new = named("of the older one"), named("of the new one")
    new.observe(of_old)
    old.tell("observe", of_new)
    long = "long " * 2_000
    old.tell("expose", of_old, long)
    new.expose(of_new)
    new.publish(of_new, json.dumps(long).encode())
    for suffix in ("", "and longer"):
        if suffix:
            old.tell("set", of_old, long + suffix)
            new.publish(of_new, json.dumps(long + suffix).encode())
        new.wait_state(of_old, json.dumps(long + suffix).encode())
        old.wait_state(of_new, long + suffix)


def production_is_handed_over_and_back(old: OlderLeaf, new: OurNode) -> None:
    """Have both leaves able to produce an object, and each lose it to the other; both watch it."""
    thing = named("of both")
    new.observe(thing)
    old.tell("observe", thing)
    old.tell("expose", thing, "old 1")
    new.wait_state(thing, b'"old 1"')
    for number in (1, 2):
        new.publish(thing, b'"new %d"' % number)
        new.expose(thing)
        old.tell("unexpose", thing)
        old.wait_state(thing, f"new {number}")
        new.wait_state(thing, b'"new %d"' % number)
        old.tell("expose", thing, f"old {number + 1}")
        new.unexpose(thing)
        new.wait_state(thing, b'"old %d"' % (number + 1))
        old.wait_state(thing, f"old {number + 1}")
