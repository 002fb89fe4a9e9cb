"""What users do with what they install: in environments of their own, without this repository."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from support.processes import Program
from support.wheels import ROOT, Installation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LISTENING = re.compile(r"listening on (\S+)")

# Two nodes with a link over the transport of the URL.
TWO_NODES = """
import sys
import anyio
import hakuban

async def main():
    above, below = hakuban.LocalNode(), hakuban.LocalNode()
    async with above.listen(sys.argv[1]) as listener, below.connect(listener.url):
        with below.object("greeting").expose() as exposed, above.object("greeting").observe() as seen:
            exposed.set_object_data("hello")
            with anyio.fail_after(10):
                async for state in seen:
                    print(state.data)
                    return

anyio.run(main)
"""
LINKS = [
    pytest.param(["hakuban-core"], "memory://", id="core"),
    pytest.param(["hakuban-core", "hakuban-ws"], "ws://127.0.0.1:0", id="core+ws"),
    *[
        pytest.param(["hakuban-core", "hakuban-zmq"], url, id=f"core+zmq, {url.split('://')[0]}")
        for url in ("zmq+tcp://127.0.0.1:0", "zmq+inproc://here")
    ],
]
ROUTERS = [
    pytest.param(["hakuban-router"], "ws://127.0.0.1:0", id="router"),
    *[
        pytest.param(["hakuban-router", "hakuban-zmq"], url, id=f"router+zmq, {url[:3]}")
        for url in ("ws://127.0.0.1:0", "zmq+tcp://127.0.0.1:0")
    ],
]


@pytest.mark.parametrize(("packages", "url"), LINKS)
def test_two_nodes_link(
    installed: Callable[..., Installation], packages: list[str], url: str
) -> None:
    assert installed(*packages).evaluate(TWO_NODES, url) == "hello"


@pytest.mark.parametrize(("packages", "url"), ROUTERS)
def test_the_commands_reach_each_other_through_the_router(
    installed: Callable[..., Installation], packages: list[str], url: str
) -> None:
    environment = installed(*packages)
    with Program([environment.program("hakuban-router"), "--bind", url]) as router:
        at = router.err.wait(LISTENING)[1]
        program = environment.program("hakuban")
        with (
            Program([program, "expose", at, "weather", '{"city": "Poznań"}']) as exposer,
            Program([program, "observe", "--count", "1", at, "weather", '{"city": "Poznań"}']) as o,
        ):
            exposer.write('{"celsius": 21.5}\n')
            assert json.loads(o.out.next() or "")["data"] == {"celsius": 21.5}
            assert o.wait() == 0
        assert router.stop() == 0


def test_the_programs_of_the_readme_run(
    installed: Callable[..., Installation], tmp_path: Path
) -> None:
    environment = installed("hakuban-router")
    python, readme = str(environment.python), (ROOT / "README.md").read_text()
    programs = dict(
        re.findall(r'^```python title="(\w+)\.py"\n(.*?)^```$', readme, re.MULTILINE | re.DOTALL)
    )
    with Program([environment.program("hakuban-router"), "--bind", "ws://127.0.0.1:0"]) as router:
        url = router.err.wait(LISTENING)[1].rstrip("/")
        for name, code in programs.items():
            (tmp_path / f"{name}.py").write_text(code.replace("ws://127.0.0.1:3001", url))
        with Program([python, str(tmp_path / "exposer.py")]):
            for name in ("observer", "observer_thread"):
                with Program([python, str(tmp_path / f"{name}.py")]) as observer:
                    observer.out.wait(re.compile("'city': 'Poznań', 'celsius'"))
        assert router.stop() == 0


def test_commands_say_their_version(installed: Callable[..., Installation]) -> None:
    environment = installed("hakuban-router")
    version = environment.evaluate("import hakuban; print(hakuban.__version__)")
    for command in ("hakuban-router", "hakuban"):
        with Program([environment.program(command), "--version"]) as program:
            assert version in (program.out.next() or "")
            assert program.wait() == 0


def test_importing_the_library_loads_no_event_loop_and_no_tls(
    installed: Callable[..., Installation],
) -> None:
    code = "import sys, json, hakuban, hakuban.transport; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(installed("hakuban-router").evaluate(code)))
    unwanted = {"asyncio", "trio", "uvloop", "ssl", "socket", "hakuban_ws", "wsproto"}
    assert not loaded & unwanted


@pytest.mark.parametrize(
    ("package", "brings", "schemes"),
    [
        ("hakuban-core", {"hakuban-core"}, ["memory"]),
        ("hakuban-ws", {"hakuban-core", "hakuban-ws"}, ["memory", "ws", "wss"]),
        (
            "hakuban-router",
            {"hakuban-core", "hakuban-ws", "hakuban-router"},
            ["memory", "ws", "wss"],
        ),
        (
            "hakuban-zmq",
            {"hakuban-core", "hakuban-zmq"},
            ["memory", "zmq+inproc", "zmq+ipc", "zmq+tcp"],
        ),
    ],
)
def test_a_package_brings_what_it_needs_and_its_schemes_are_found(
    installed: Callable[..., Installation], package: str, brings: set[str], schemes: list[str]
) -> None:
    code = (
        "import json, importlib.metadata as m;"
        "print(json.dumps([sorted(d.name for d in m.distributions()),"
        " sorted(e.name for e in m.entry_points(group='hakuban.transports'))]))"
    )
    distributions, found = json.loads(installed(package).evaluate(code))
    assert found == schemes
    assert {name for name in distributions if name.startswith("hakuban")} == brings
    assert "trio" not in distributions
