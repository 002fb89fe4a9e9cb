"""What a router does beside its links: how it is called, on which loop it runs, and how it fails."""

from __future__ import annotations

import re
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban import LocalNode
from hakuban_router._stderr import standard_error_by_thread
from support.ports import free_port
from support.processes import Program, RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    InstallPlugin = Callable[[str, str], None]
    StartRouter = Callable[..., RouterProcess]


# ---- its start -----------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
async def test_no_socket_takes_the_place_of_a_standard_file_that_is_closed() -> None:
    """The C library under uvloop aborts where one has the number of such a file, and is closed."""
    url = f"ws://127.0.0.1:{free_port()}"
    router = [sys.executable, "-m", "hakuban_router", "--loop", "uvloop", "--bind", url]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *router]
    async with await anyio.open_process(closed, stdin=None, stdout=None, stderr=None) as process:
        async with LocalNode().connect(url):
            process.terminate()
            assert await process.wait() == 0


@pytest.mark.parametrize("module", ["hakuban_router.__main__", "hakuban_router.client"])
def test_arguments_that_a_caller_gives_replace_those_of_the_process(
    programs: list[Program], module: str
) -> None:
    code = f"import sys; from {module} import main; sys.exit(main(['--version']))"
    programs.append(Program([sys.executable, "-c", code, "--nonsense"]))
    assert programs[-1].wait() == 0
    assert re.fullmatch(r"hakuban(-router)? \d+\.\d+\.\d+", programs[-1].out.seen[0])


TELLING = """
import asyncio, sys
import anyio
from hakuban.transport import hookimpl

class Transport:
    def connect(self, url, options):
        raise OSError

    async def serve(self, url, options, handler, *, task_status):
        try:
            loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        except RuntimeError:
            loop = "trio"
        task_status.started(f"telling://{loop}")
        await anyio.sleep_forever()

@hookimpl
def hakuban_transport(scheme):
    return Transport() if scheme == "telling" else None
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_it_runs_on_the_event_loop_that_was_asked_for(
    install_plugin: InstallPlugin, loop: str
) -> None:
    install_plugin("[hakuban.transports]\ntelling = plugin_for_tests\n", TELLING)
    with RouterProcess("--loop", loop, bind="telling://here") as router:
        assert router.url == f"telling://{loop}"
        assert router.stop() == 0


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_it_is_ready_although_the_router_above_is_not_there(
    start_router: Callable[..., RouterProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        router = start_router("--connect", f"ws://127.0.0.1:{free_port()}")
        assert manager.recv(100) == b"READY=1"
        assert router.stop() == 0


# ---- what it does meanwhile ----------------------------------------------------------------------

TRIMMING = """
import ctypes, sys
from types import SimpleNamespace
from hakuban_router import _memory, __main__

def trim(pad):
    print("given back", file=sys.stderr)
    return 1

_memory._PERIOD = 0.01
ctypes.CDLL = lambda name: SimpleNamespace(malloc_trim=trim)
sys.exit(__main__.main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps what is free")
def test_memory_that_is_free_is_given_back_while_it_runs(programs: list[Program]) -> None:
    programs.append(Program([sys.executable, "-c", TRIMMING, "-b", "ws://127.0.0.1:0"]))
    programs[-1].err.wait(re.compile("given back"))
    assert programs[-1].stop() == 0


# ---- how it fails --------------------------------------------------------------------------------

FAILING = """
import asyncio, sys
import anyio
from hakuban.transport import hookimpl

class Transport:
    def connect(self, url, options):
        raise OSError

    async def serve(self, url, options, handler, *, task_status):
        task_status.started("failing://here")
        await anyio.sleep(0.05)
        FAIL
        await anyio.sleep_forever()

@hookimpl
def hakuban_transport(scheme):
    return Transport() if scheme == "failing" else None
"""


@pytest.mark.parametrize(
    ("fail", "what", "why"),
    [
        ("raise OSError('the card is gone')", "failing://here listens no more", "OSError: the card is gone"),
        ("asyncio.get_running_loop().call_soon(sys.exit, 0)", "the router has failed", "SystemExit: 0"),
    ],
    ids=["listener", "callback"],
)  # fmt: skip
def test_what_has_ended_it_is_in_the_log_with_its_traceback_and_in_a_line_for_the_user(
    install_plugin: InstallPlugin, fail: str, what: str, why: str
) -> None:
    install_plugin(
        "[hakuban.transports]\nfailing = plugin_for_tests\n", FAILING.replace("FAIL", fail)
    )
    command = [sys.executable, "-m", "hakuban_router", "-b", "failing://here", "--loop", "asyncio"]
    with Program(command) as router:
        assert router.wait() == 1
    logged = [line for line in router.err.seen if line.endswith(f"ERROR hakuban.router: {what}")]
    assert len(logged) == 1, router.err.seen
    assert any("Traceback" in line for line in router.err.seen)
    assert f"  {why}" in [re.sub(r"^[ |+-]*", "  ", line) for line in router.err.seen]
    assert router.err.seen[-1] == f"hakuban-router: error: {what}: {why}"


# ---- its end -------------------------------------------------------------------------------------


def test_a_signal_lets_it_leave_and_does_not_cut_it_off(start_router: StartRouter) -> None:
    router = start_router("--log-level", "debug")
    assert router.stop() == 0
    assert not any("leaving took longer" in line for line in router.err.seen)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("module", ["hakuban_router.__main__", "hakuban_router.client"])
def test_standard_files_that_are_closed_are_taken_before_anything_else_is_opened(
    programs: list[Program], module: str
) -> None:
    code = (
        f"import os, sys; from {module} import main\n"
        "assert main(['--nonsense']) == 2\n"
        "taken = [os.readlink(f'/proc/self/fd/{number}') for number in (0, 1, 2)]\n"
        "sys.exit(0 if taken == ['/dev/null'] * 3 else 99)"
    )
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    programs.append(Program(closed))
    assert programs[-1].wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_failed_output_leaves_no_descriptor_open(programs: list[Program]) -> None:
    code = (
        "import os, sys; from hakuban_router._stdio import write_out\n"
        "reading, writing = os.pipe(); os.dup2(writing, 1); os.close(reading); os.close(writing)\n"
        "before = os.listdir('/proc/self/fd')\n"
        "assert not write_out(b'x')\n"
        "sys.exit(0 if len(os.listdir('/proc/self/fd')) == len(before) else 99)"
    )
    programs.append(Program([sys.executable, "-c", code]))
    assert programs[-1].wait() == 0


def test_the_standard_error_is_itself_again_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_COLORS", "1")  # which it changes
    before = sys.stderr
    with standard_error_by_thread():
        assert sys.stderr is not before
    assert sys.stderr is before
