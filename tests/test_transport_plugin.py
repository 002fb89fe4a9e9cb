"""The transport of `examples/transport-plugin`, as a stranger would write one, and what breaks it."""

from __future__ import annotations

import ast
import importlib
import itertools
import socket
import sys
import tomllib
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

import hakuban
from hakuban._testing import rules_process
from hakuban._testing.conformance import _apply_together
from hakuban._testing.environment import Environment
from hakuban._testing.rules_process import PROCESS_RULES
from hakuban.testing import TransportContractError, check_transport
from hakuban.transport import (
    ConnectionRequest,
    Identity,
    TransportOptions,
    register_plugin,
    unregister_plugin,
)
from support.addresses import resolve_in_turn, resolve_to
from support.broken_tcp import EXAMPLE as MODULE
from support.broken_tcp import Broken, Deaf, Trusting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from anyio.abc import TaskStatus

    from hakuban.transport import MessageStream

EXAMPLE = Path(__file__).parents[1] / "examples/transport-plugin"
SOURCE = EXAMPLE / f"{MODULE}.py"
URL = "tcp://127.0.0.1:0"
MOST_LINES = 30


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the example by its path: it is installed nowhere."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module(MODULE)


@pytest.fixture
def registered(plugin: Any) -> Generator[None]:
    register_plugin(plugin)
    yield
    unregister_plugin(plugin)


def test_a_transport_takes_thirty_lines() -> None:
    lines = [line for line in SOURCE.read_text().splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_a_transport_needs_nothing_but_public_names() -> None:
    tree = ast.parse(SOURCE.read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]
    ours = {name for name in names if name.startswith("hakuban.")}
    assert {name.rpartition(".")[0] for name in ours} == {"hakuban.transport"}
    assert {name.rpartition(".")[2] for name in ours} <= set(hakuban.transport.__all__)


@pytest.mark.thorough
@pytest.mark.long
@pytest.mark.promise("plugins", "everywhere")
async def test_a_transport_of_thirty_lines_keeps_the_contract(plugin: Any) -> None:
    await check_transport(plugin.TcpTransport(), URL)


class UnixTransport:
    """The example over sockets that are files, which another listener may take."""

    def __init__(self, plugin: Any) -> None:
        self.stream = plugin.TcpStream

    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        async with await anyio.connect_unix(url.removeprefix("unix://")) as socket:
            yield self.stream(socket, options)

    async def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> None:
        listener = await anyio.create_unix_listener(url.removeprefix("unix://"))
        async with anyio.create_task_group() as handlers, listener:
            task_status.started(url)
            await listener.serve(lambda socket: handler(self.stream(socket, options)), handlers)


NO_UNIX_SOCKETS = pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")


def check_on_trio(transport: UnixTransport, url: str | Callable[[], str]) -> None:
    """Check it on trio alone: anyio's streams over such sockets log errors when they are cancelled on asyncio."""
    anyio.run(partial(check_transport, transport, url, process=False), backend="trio")


@NO_UNIX_SOCKETS
def test_a_path_that_the_checker_would_bind_twice_is_told_so(plugin: Any, tmp_path: Path) -> None:
    with pytest.raises(TransportContractError, match="several listeners at the same time") as told:
        check_on_trio(UnixTransport(plugin), f"unix://{tmp_path}/socket")
    assert "both say" in told.value.finding
    assert "a function that gives a new one at each call" in told.value.advice


@NO_UNIX_SOCKETS
@pytest.mark.thorough
def test_a_transport_over_paths_keeps_the_contract(plugin: Any, tmp_path: Path) -> None:
    numbers = itertools.count()
    check_on_trio(UnixTransport(plugin), lambda: f"unix://{tmp_path}/{next(numbers)}")


@pytest.mark.usefixtures("registered")
async def test_nodes_share_an_object_over_the_transport_of_thirty_lines() -> None:
    with (
        anyio.fail_after(10),
        hakuban.LocalNode("here") as here,
        hakuban.LocalNode("there") as there,
    ):
        async with here.listen(URL) as listener, there.connect(listener.url):
            with (
                there.object(["t"], "x").expose() as contract,
                here.object(["t"], "x").observe() as seen,
            ):
                contract.set_object_data([1, 2])
                state = await seen.wait_state()
    assert state.data == [1, 2]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("tcp://127.0.0.1", "port is missing"),
        ("tcp://:3001", "host or port is missing"),
        ("tcp://127.0.0.1:x", "port is no number"),
        ("tcp://127.0.0.1:99999", "port is no number"),
    ],
)
async def test_a_url_that_can_never_work_is_told_to_whoever_wrote_it(url: str, hint: str) -> None:
    with hakuban.LocalNode() as node:
        for call in (
            lambda: node.connect(url),
            lambda: node.connect(url, wait=False),
            lambda: node.listen(url),
        ):
            with pytest.raises(hakuban.InvalidURLError, match=hint):
                call()


@pytest.mark.usefixtures("registered")
async def test_port_0_is_for_listening_only() -> None:
    with hakuban.LocalNode() as node:
        with pytest.raises(hakuban.InvalidURLError, match="port 0 is for listening only"):
            node.connect(URL, wait=False)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_strangers_are_let_in_only_where_the_user_said_so(address: str) -> None:
    def anybody(_: ConnectionRequest) -> Identity:
        raise AssertionError("this transport asks nobody")

    with hakuban.LocalNode() as node:
        for unguarded in (
            node.listen(f"tcp://{address}"),
            node.listen(f"tcp://{address}", authorize=anybody),
        ):
            with pytest.raises(hakuban.InsecureListenerError, match="other machines can reach"):
                await unguarded.__aenter__()
        async with node.listen(f"tcp://{address}", insecure=True):
            pass
        for here in ("tcp://localhost:0", "tcp://[::1]:0"):
            async with node.listen(here):
                pass


@pytest.mark.usefixtures("registered")
async def test_a_name_counts_by_what_was_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with hakuban.LocalNode() as node:
        resolve_to(monkeypatch, "0.0.0.0")
        with pytest.raises(hakuban.InsecureListenerError, match=r"can reach 0\.0\.0\.0, and"):
            await node.listen("tcp://localhost:0").__aenter__()
        # who looks twice may be told something else
        resolve_in_turn(monkeypatch, ["127.0.0.1"], ["0.0.0.0"])
        with suppress(hakuban.InsecureListenerError):
            async with node.listen("tcp://localhost:0") as listener:
                port = int(listener.url.rpartition(":")[2])
                with socket.socket() as stranger:
                    assert stranger.connect_ex(("127.0.0.2", port))


def test_the_entry_point_names_the_scheme_that_the_hook_serves(plugin: Any) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    ((scheme, module),) = project["entry-points"]["hakuban.transports"].items()
    assert module == plugin.__name__
    assert plugin.hakuban_transport(scheme=scheme) is not None
    assert plugin.hakuban_transport(scheme="ws") is None


# ---- another process ------------------------------------------------------------------------------------------------


class FailsThere(Broken):
    """Can be pickled, and not be made again."""

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class WithALock(Broken):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(Deaf)
        self.on_error = lambda: None


def finding_of(transport: Broken, rule: str) -> str:
    env = Environment(transport, lambda: URL, TransportOptions(), TransportOptions())
    with pytest.raises(TransportContractError) as caught:
        anyio.run(_apply_together, PROCESS_RULES, env)
    assert rule in caught.value.rule, caught.value
    return caught.value.finding


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not give broken transports as much time as a busy machine may need."""
    monkeypatch.setattr(rules_process, "PATIENCE", 3.0)


@pytest.mark.thorough
@pytest.mark.usefixtures("plugin", "_impatient")
@pytest.mark.parametrize(
    ("kind", "rule", "finding"),
    [
        (Trusting, "is killed, the link ends", "notices that the other process was killed"),
        (Deaf, "says nothing for options.timeout", "that the other process says nothing any more"),
    ],
)
def test_a_transport_that_does_not_miss_the_other_process_is_found(
    kind: type[Deaf], rule: str, finding: str
) -> None:
    assert finding in finding_of(Broken(kind), rule)


@pytest.mark.usefixtures("plugin")
def test_a_transport_that_cannot_be_taken_to_another_process_is_told_so() -> None:
    assert "pickle" in finding_of(WithALock(), "nodes of two processes")
    finding = finding_of(FailsThere(Deaf), "nodes of two processes")
    assert finding.startswith("another process failed: ValueError")
