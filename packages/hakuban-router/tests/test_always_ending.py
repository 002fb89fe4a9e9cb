"""Signals always end the router and its client: whatever stands still, is full, or has not begun yet."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hakuban
import hakuban.sync
from support.processes import Program, RouterProcess
from support.unread import full_pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StartRouter = Callable[..., RouterProcess]
    InstallPlugin = Callable[[str, str], None]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
LOOPS = ("asyncio", "uvloop", "trio")
BOUND = 2.0  # seconds from the signal to the end of the process
ROUTER = [sys.executable, "-m", "hakuban_router", "-b", "ws://127.0.0.1:0"]


def seconds_to_end(process: subprocess.Popen[str] | subprocess.Popen[bytes], signum: int) -> float:
    start = time.monotonic()
    process.send_signal(signum)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return time.monotonic() - start


@pytest.fixture(scope="module", autouse=True)
def programs_hang_up() -> Iterator[None]:
    """Undo what `nohup` did, which programs inherit: before the router's first line SIGHUP would be ignored."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


# ---- before it listens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("SIGINT", "SIGHUP"))],
)
def test_a_signal_ends_it_in_whatever_part_of_the_start(name: str) -> None:
    signum = signal.Signals[name]
    for milliseconds in range(0, 800, 100):
        with subprocess.Popen(ROUTER, stderr=subprocess.PIPE) as router:
            time.sleep(milliseconds / 1000)  # what that hits is not for the test to say
            assert seconds_to_end(router, signum) < BOUND
            # before the first line of the router it is the system's, or Python's, to end it
            assert router.returncode in ({0, -signum, 1} if name == "SIGINT" else {0, -signum})


@pytest.mark.parametrize("name", ENDING)
def test_a_certificate_that_cannot_be_read_to_its_end_does_not_hold_it_up(
    tmp_path: Path, name: str
) -> None:
    pipe = tmp_path / "certificate"
    os.mkfifo(pipe)
    command = [*ROUTER[:-1], "wss://127.0.0.1:0", "--tls-cert", str(pipe)]
    with Program(command) as router:
        with pipe.open("w"):  # opened when the router opens it, and nothing is written
            wait_until_it_rests(router.pid)
            assert seconds_to_end(router.process, signal.Signals[name]) < BOUND
        assert router.wait() == 0
        assert "leaving took longer" in router.err.seen[-1]


@pytest.mark.parametrize("command", [["--show-config"], ["--transports"]], ids=lambda it: it[0])
def test_an_output_that_nobody_reads_does_not_hold_it_up(command: list[str]) -> None:
    with (
        full_pipe() as writer,
        subprocess.Popen([*ROUTER, *command], stdout=writer, stderr=subprocess.PIPE) as router,
    ):
        wait_until_it_rests(router.pid)
        assert seconds_to_end(router, signal.SIGTERM) < BOUND
        assert router.returncode == 0


def wait_until_it_rests(pid: int) -> None:
    """Wait until a process stands still, as one does in a write that nobody reads, or a read where nobody writes."""
    try:
        while (before := _cpu_time(pid)) < 5 or _rested(pid) != before:
            pass
    except FileNotFoundError:
        pytest.skip("the system does not tell how much a process has computed")


def _rested(pid: int) -> int:
    time.sleep(0.3)
    return _cpu_time(pid)


def _cpu_time(pid: int) -> int:
    """Give the CPU time of a process, in units of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# ---- while something stands still ----------------------------------------------------------------


STUCK_LOOP = """
import threading
import time
from hakuban.transport import hookimpl

class Stuck:
    def connect(self, url, options):
        raise NotImplementedError

    async def serve(self, url, options, handler, *, task_status):
        task_status.started(url)
        print("stuck", flush=True)
        WAIT

@hookimpl
def hakuban_transport(scheme):
    return Stuck()
"""

WAITS = {
    "sleeps": "time.sleep(60)",
    "waits for a lock": "threading.Event().wait()",
    "computes": "while True: pass",
}


@pytest.mark.long
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_stands_still_does_not_hold_it_up(
    programs: list[Program], install_plugin: InstallPlugin, loop: str, wait: str
) -> None:
    code = STUCK_LOOP.replace("WAIT", wait)
    install_plugin("[hakuban.transports]\nstuck = plugin_for_tests\n", code)
    router = Program([*ROUTER[:-1], "stuck://", "--loop", loop])
    programs.append(router)
    router.out.wait(re.compile("stuck"))
    assert seconds_to_end(router.process, signal.SIGTERM) < BOUND
    assert router.wait() == 0
    assert "leaving took longer" in router.err.seen[-1]


HANDLER = """
import logging
import threading
from hakuban.transport import hookimpl

class Stuck(logging.Handler):
    def emit(self, record):
        if "leaving" in record.getMessage():
            threading.Event().wait()

logging.getLogger("hakuban").addHandler(Stuck())

@hookimpl
def hakuban_transport(scheme):
    return None
"""


def test_a_handler_of_the_log_that_blocks_does_not_hold_it_up(
    start_router: StartRouter, install_plugin: InstallPlugin
) -> None:
    install_plugin("[hakuban.transports]\nstuck = plugin_for_tests\n", HANDLER)
    router = start_router()
    assert seconds_to_end(router.process, signal.SIGTERM) < BOUND
    assert router.wait() == 0


AUTHORISING = """
import threading
from hakuban.transport import hookimpl

@hookimpl
def hakuban_authorize(request):
    while True:
        print("asked", "x" * 60_000, flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ENDING)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_authorising_plugin_that_hangs_in_the_output_does_not_hold_it_up(
    install_plugin: InstallPlugin, loop: str, name: str
) -> None:
    install_plugin("[hakuban.plugins]\ntests = plugin_for_tests\n", AUTHORISING)
    command = [*ROUTER, "--loop", loop]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as router:
        assert router.stdout is not None
        assert router.stderr is not None
        lines = iter(router.stderr.readline, "")
        url = next(match[1] for line in lines if (match := re.search(r"listening on (\S+)", line)))
        with hakuban.LocalNode() as node, hakuban.sync.connect(node, url, wait=False):
            assert router.stdout.read(5) == "asked"  # and no more: it is full, and nobody reads
            assert seconds_to_end(router, signal.Signals[name]) < BOUND
        assert router.returncode == 0


def test_a_second_signal_of_whatever_kind_ends_it_too(
    programs: list[Program], install_plugin: InstallPlugin
) -> None:
    code = STUCK_LOOP.replace("WAIT", WAITS["sleeps"])
    install_plugin("[hakuban.transports]\nstuck = plugin_for_tests\n", code)
    for name in ("SIGTERM", "SIGHUP"):  # a second interrupt is another matter
        router = Program([*ROUTER[:-1], "stuck://"])
        programs.append(router)
        router.out.wait(re.compile("stuck"))
        router.process.send_signal(signal.SIGTERM)
        assert seconds_to_end(router.process, signal.Signals[name]) < BOUND
        assert router.wait() == 0


# ---- while it shows itself -----------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
def test_a_hundred_wishes_for_a_report_do_not_hold_it_up(loop: str, *, read: bool) -> None:
    with subprocess.Popen([*ROUTER, "--loop", loop], stderr=subprocess.PIPE, text=True) as router:
        assert router.stderr is not None
        lines = iter(router.stderr.readline, "")
        url = next(match[1] for line in lines if (match := re.search(r"listening on (\S+)", line)))
        with ExitStack() as stack:
            node = stack.enter_context(hakuban.LocalNode())
            stack.enter_context(hakuban.sync.connect(node, url))
            for number in range(500):
                stack.enter_context(node.object(["many"], [number, "x" * 1000]).observe())
            for _ in range(100):
                router.send_signal(signal.SIGUSR2)
            if read:
                assert any(line.startswith("== exchange") for line in lines)
            assert seconds_to_end(router, signal.SIGTERM) < BOUND
            assert router.returncode == 0


def test_wishes_for_a_report_while_it_is_ending_do_not_kill_it(start_router: StartRouter) -> None:
    router = start_router()
    router.process.send_signal(signal.SIGTERM)
    while router.process.poll() is None:
        router.process.send_signal(signal.SIGUSR2)
    assert router.wait() == 0


# ---- the command for the shell -------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 0)])
def test_a_client_whose_help_nobody_reads_ends_too(name: str, code: int) -> None:
    with (
        full_pipe() as writer,
        subprocess.Popen(
            [sys.executable, "-m", "hakuban_router.client", "--help"], stdout=writer
        ) as client,
    ):
        wait_until_it_rests(client.pid)
        assert seconds_to_end(client, signal.Signals[name]) < BOUND
        assert client.returncode == code
