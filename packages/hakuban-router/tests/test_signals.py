"""How the router ends, and what it shows on request."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

import hakuban
import hakuban.sync
from hakuban_router._signals import usr2_sets
from hakuban_router._wakeup_event import WakeupEvent
from support.processes import Program, RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StartRouter = Callable[..., RouterProcess]

fcntl = pytest.importorskip("fcntl")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
LOOPS = ("asyncio", "uvloop", "trio")
PROMISED = 1.0  # seconds from the signal to the end of the process


def end(router: Program, signum: int = signal.SIGTERM) -> float:
    """Send a signal, check that the router ends cleanly, and give the seconds that took."""
    start = time.monotonic()
    router.process.send_signal(signum)
    assert router.process.wait(10) == 0
    return time.monotonic() - start


# ---- ending --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("signum", ENDING, ids=lambda signum: signum.name)
def test_each_ending_signal_ends_it_cleanly_within_a_second(
    start_router: StartRouter, signum: signal.Signals, loop: str
) -> None:
    router = start_router("--loop", loop)
    assert end(router, signum) < PROMISED
    router.wait()
    assert router.err.seen[-1].endswith(f"{signum.name}, leaving")


@pytest.mark.parametrize("loop", LOOPS)
def test_peers_are_told_and_fifty_of_them_do_not_hold_it_up(
    start_router: StartRouter, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = start_router("--loop", loop, "--monitor-tag", "monitor")
    with ExitStack() as nodes:
        connections = []
        for index in range(50):
            node = nodes.enter_context(hakuban.LocalNode(f"node {index}"))
            connections.append(nodes.enter_context(hakuban.sync.connect(node, router.url)))
            nodes.enter_context(node.object(["monitor"], "exchange").observe())
            nodes.enter_context(node.object(["tag"], index % 10).observe())
            nodes.enter_context(node.tag("tag").expose())
        assert end(router) < PROMISED
        for connection in connections:
            # A failed attempt comes after the line about the lost link.
            assert any(status.attempts for status in connection.statuses())
    lost = [line for line in caplog.messages if line.startswith("lost the link")]
    assert len(lost) == 50
    assert all("1001" in line for line in lost)


def test_a_router_above_that_has_frozen_does_not_hold_it_up(start_router: StartRouter) -> None:
    above = start_router()
    below = start_router("--connect", above.url, "--monitor-tag", "monitor")
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, below.url),
        node.object(["monitor"], "websocket-connector").observe() as connector,
    ):
        for state in connector:
            if state.data["upstream_connection"]:
                break
        above.process.send_signal(signal.SIGSTOP)
        try:
            assert end(below) < PROMISED
        finally:
            above.process.send_signal(signal.SIGCONT)


def test_a_signal_during_the_start_ends_it_cleanly(programs: list[Program]) -> None:
    # An import hook sends the signal while the router is importing its libraries.
    code = (
        "import os, runpy, signal, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'anyio': os.kill(os.getpid(), getattr(signal, sys.argv[1]))\n"
        "sys.meta_path.insert(0, Hook())\n"
        "runpy.run_module('hakuban_router', run_name='__main__', alter_sys=True)\n"
    )
    for signum in ENDING:
        command = [sys.executable, "-c", code.replace("sys.argv[1]", repr(signum.name))]
        programs.append(Program([*command, "--bind", "ws://127.0.0.1:0"]))
        assert programs[-1].wait(20) == 0
        assert not any("listening" in line for line in programs[-1].err.seen)


STUCK = """
import time
import anyio, anyio.to_thread
from hakuban.transport import hookimpl

class Stuck:
    def connect(self, url, options):
        raise NotImplementedError

    async def serve(self, url, options, handler, *, task_status):
        task_status.started(url)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(time.sleep, 30)

@hookimpl
def hakuban_transport(scheme):
    return Stuck()
"""


@pytest.fixture
def stuck_router(
    start_router: StartRouter, install_plugin: Callable[[str, str], None]
) -> RouterProcess:
    """A router that cannot leave, since a transport blocks a thread."""
    install_plugin("[hakuban.transports]\nstuck = plugin_for_tests\n", STUCK)
    return start_router(bind="stuck://")


def test_what_blocks_a_thread_cannot_hold_it_up(stuck_router: RouterProcess) -> None:
    assert end(stuck_router) < PROMISED + 0.2  # the clock of the promise runs inside the process
    stuck_router.wait()
    assert "leaving took longer" in stuck_router.err.seen[-1]


def test_a_second_interrupt_ends_it_at_once(stuck_router: RouterProcess) -> None:
    stuck_router.process.send_signal(signal.SIGINT)
    stuck_router.err.wait(re.compile("SIGINT, leaving"))
    assert stuck_router.stop(signal.SIGINT) == -signal.SIGINT
    assert not any("took longer" in line for line in stuck_router.err.seen)


def test_a_hangup_after_a_termination_changes_nothing(stuck_router: RouterProcess) -> None:
    stuck_router.process.send_signal(signal.SIGTERM)
    stuck_router.err.wait(re.compile("SIGTERM, leaving"))
    assert end(stuck_router, signal.SIGHUP) < PROMISED


# ---- a process with these signals alone ----------------------------------------------------------

ALONE = """
import logging, os, signal, sys, threading, time
import anyio
from hakuban_router import _signals

_signals.PATIENCE = 0.01
signals = _signals.record_signals()

def strike_and_block():  # one call into the system, from which no handler of Python's is called
    os.system(
        "kill -TERM $PPID; for _ in $(seq 100); do sleep 0.1; kill -0 $PPID 2>&- || exit; done"
    )
"""


def run_alone(code: str) -> int:
    """Run code in a process that records signals; give its exit code."""
    command = [sys.executable, "-W", "error", "-c", ALONE + code]
    return subprocess.run(command, timeout=40, check=False).returncode


def test_a_wish_for_a_report_before_there_are_any_kills_nobody() -> None:
    assert run_alone("signal.raise_signal(signal.SIGUSR2)\nsys.exit(7)") == 7


@pytest.mark.parametrize(
    "before",
    ["", "with signals.beside_a_loop(): pass\n"],
    ids=["from the start", "after a loop"],
)
def test_a_signal_is_seen_by_what_no_handler_interrupts(before: str) -> None:
    assert run_alone(f"{before}strike_and_block()\nsys.exit(7)") == 0


def test_a_signal_is_seen_while_a_loop_stands_still() -> None:
    code = """
async def main():
    async with anyio.create_task_group() as group:
        await group.start(signals.watch, lambda _signum: 0)
        strike_and_block()
        os._exit(7)

with signals.beside_a_loop():
    anyio.run(main)
"""
    assert run_alone(code) == 0


def test_a_signal_is_seen_while_a_loop_is_starting() -> None:
    code = """
with signals.beside_a_loop():
    signal.raise_signal(signal.SIGTERM)
    time.sleep(10)
    sys.exit(7)
"""
    assert run_alone(code) == 0


def test_a_second_interrupt_is_the_systems() -> None:
    first = "_signals.PATIENCE = 60.0\nsignal.raise_signal(signal.SIGINT)\n"
    assert run_alone(f"{first}signal.raise_signal(signal.SIGINT)\nsys.exit(7)") == -signal.SIGINT
    # and by a process that ends, whose lines coverage sees
    assert run_alone(f"{first}sys.exit(signal.getsignal(signal.SIGINT) or 7)") == 7


def test_no_loop_warns_of_who_else_is_woken_by_signals() -> None:
    pytest.importorskip("trio")
    code = """
with signals.beside_a_loop():
    anyio.run(anyio.sleep, 0, backend="trio")
sys.exit(7)
"""
    assert run_alone(code) == 7


def test_a_log_that_blocks_does_not_hold_up_who_leaves_a_moment_too_late() -> None:
    code = """
_signals.LOG_SECONDS = 10.0
logging_begun = threading.Event()

def block(_record):
    logging_begun.set()
    time.sleep(60)

logging.getLogger("hakuban.router").addFilter(block)
signal.raise_signal(signal.SIGTERM)
logging_begun.wait(20)
sys.exit(7)
"""
    assert run_alone(code) == 7


def test_usr2_sets_an_event_within_a_block_and_nothing_after_it() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with WakeupEvent() as event:
            with usr2_sets(event):
                signal.raise_signal(signal.SIGUSR2)
                assert event.clear()
            signal.raise_signal(signal.SIGUSR2)
            assert not event.clear()
    finally:
        signal.signal(signal.SIGUSR2, before)


# ---- snapshots -----------------------------------------------------------------------------------


@pytest.fixture
def observed(start_router: StartRouter) -> Iterator[RouterProcess]:
    """A router with one observer of one object."""
    router = start_router("--monitor-tag", "monitor")
    node = hakuban.LocalNode("looking\nat you")
    with (
        node,
        hakuban.sync.connect(node, router.url),
        node.object(["monitor"], "websocket-listener").observe() as listener,
    ):
        listener.wait_state_sync(10)
        yield router


def wait_report(router: Program) -> list[str]:
    """Give the lines of one report, without what the log says in between."""
    lines = []
    while (line := router.err.next()) is not None:
        lines.append(line)
        if line.startswith("== websocket-listener"):
            lines += [router.err.next() or "" for _ in range(int(line.rpartition(" ")[2]))]
            return lines
    raise AssertionError(lines)


def check_report(router: Program) -> None:
    report = "\n".join(wait_report(router))
    assert "== exchange, connected to a router above: no\nobjects: 2\n" in report
    assert '["monitor"]:"websocket-listener"' in report
    assert f"== websocket-listener {getattr(router, 'url', '')}, connections: 1\n" in report
    assert '"looking\\nat you"' in report


def test_usr2_shows_what_the_router_knows(observed: RouterProcess) -> None:
    for _ in range(2):
        observed.process.send_signal(signal.SIGUSR2)
        check_report(observed)
    assert observed.stop() == 0


def test_a_line_on_stdin_does_too(observed: RouterProcess) -> None:
    observed.write("\n")
    check_report(observed)
    observed.write("whatever\n")
    check_report(observed)


def test_the_end_of_stdin_ends_nothing(observed: RouterProcess) -> None:
    observed.write("\n")
    check_report(observed)
    assert observed.process.stdin is not None
    observed.process.stdin.close()
    observed.process.send_signal(signal.SIGUSR2)
    check_report(observed)
    assert end(observed) < PROMISED


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-", "</dev/zero", ">/dev/null >&-"])
def test_any_stdin_will_do(programs: list[Program], redirection: str) -> None:
    command = f"exec {sys.executable} -m hakuban_router -b ws://127.0.0.1:0 {redirection}"
    programs.append(Program(["sh", "-c", command]))
    url = programs[-1].err.wait(re.compile(r"listening on (\S+)"))[1]
    node = hakuban.LocalNode()
    with node, hakuban.sync.connect(node, url) as connection:
        assert connection.up
    assert end(programs[-1]) < PROMISED


def _own_terminal() -> None:
    """Make the standard input the terminal of this session, in the child before exec."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_terminal_in_the_background_does_not_stop_it() -> None:
    ours, theirs = pty.openpty()
    # Job control puts the router into a process group of its own, which is not the terminal's foreground.
    command = (
        f"set -m; {sys.executable} -m hakuban_router -b ws://127.0.0.1:0 & echo pid $!; wait $!"
    )
    shell = subprocess.Popen(
        ["bash", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_own_terminal,  # noqa: PLW1509  # no lock that another thread might hold
    )
    os.close(theirs)
    seen = b""
    while not (match := re.search(rb"pid (\d+)\b.*listening on (\S+)", seen, re.DOTALL)):
        seen += os.read(ours, 1024)
    node = hakuban.LocalNode()
    try:
        with node, hakuban.sync.connect(node, match[2].decode()) as connection:
            assert connection.up
    finally:
        os.kill(int(match[1]), signal.SIGTERM)
        with suppress(ProcessLookupError):  # it may be gone by now
            os.kill(int(match[1]), signal.SIGCONT)  # or it would stay, had it been stopped
        assert shell.wait(10) == 0
        os.close(ours)
