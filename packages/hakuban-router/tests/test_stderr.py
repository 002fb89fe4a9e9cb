"""The standard error: slow readers, none, and those that have gone, are no reason to stand still."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

import hakuban
import hakuban.sync
from hakuban.transport import printable
from hakuban_router._stderr import StandardError, standard_error_by_thread, write_out_errors
from support.ports import free_port
from support.processes import Lines, Program
from support.unread import full_pipe, unread_router
from support.unseen import UNSEEN, check_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.processes import RouterProcess

pytest.importorskip("fcntl")

MANY = 2_000  # lines: more than the pipe and the router keep
ENOUGH = 1_200  # lines: more than the pipe takes, and less than both together
BOUND = 2.0  # seconds in which a router ends; the promise is one


NOTICE = re.compile(r"WARNING hakuban.router: (\d+) lines of the log were dropped: ")


# ---- a router ------------------------------------------------------------------------------------


def test_a_router_whose_log_nobody_reads_goes_on_and_says_later_what_was_dropped() -> None:
    with unread_router("--log-level", "debug") as router:
        router.check_health(MANY)
        router.carry_an_object()
        lines = Lines(router.pipe)
        dropped = int(lines.wait(NOTICE)[1])
        assert dropped > 0
        # what was kept came before that, and all is accounted for
        answered = [line for line in lines.seen if "answered 200" in line]
        assert len(answered) + dropped >= MANY
        router.check_health(1)
        lines.wait(re.compile("answered 200"))
        assert router.end()[0] == 0
        lines.join()
        assert lines.seen[-1].endswith("SIGTERM, leaving")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda it: it.name)
def test_a_router_whose_log_nobody_reads_ends_all_the_same(signum: int) -> None:
    with unread_router("--log-level", "debug") as router:
        router.check_health(ENOUGH)
        code, seconds = router.end(signum)
        assert code == 0
        assert seconds < BOUND


def test_what_was_logged_before_the_end_is_written_if_somebody_reads_it() -> None:
    with unread_router("--log-level", "debug") as router:
        router.check_health(ENOUGH)
        router.process.send_signal(signal.SIGTERM)
        lines = Lines(router.pipe)
        assert router.process.wait(20) == 0
        lines.join()
        assert sum("answered 200" in line for line in lines.seen) == ENOUGH
        assert lines.seen[-1].endswith("SIGTERM, leaving")


def test_a_picture_of_the_router_waits_until_it_is_read() -> None:
    with unread_router("--log-level", "debug") as router:
        router.check_health(MANY)
        router.process.send_signal(signal.SIGUSR2)
        router.carry_an_object()
        lines = Lines(router.pipe)
        lines.wait(NOTICE)
        lines.wait(re.compile("== exchange, connected to a router above: no"))
        lines.wait(re.compile("== websocket-listener"))
        assert router.end()[0] == 0
        lines.join()


def test_a_picture_that_nobody_reads_does_not_hold_up_the_end() -> None:
    with unread_router("--log-level", "debug") as router:
        router.check_health(MANY)
        router.process.send_signal(signal.SIGUSR2)
        router.carry_an_object()
        code, seconds = router.end()
        assert code == 0
        assert seconds < BOUND


@pytest.mark.parametrize(
    ("options", "code"),
    [(("--nonsense",), 2), (("-b", "ws://192.0.2.1:1", "--insecure"), 1)],
    ids=["wrong arguments", "cannot listen"],
)
def test_a_failure_that_nobody_reads_is_a_failure(options: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "hakuban_router", *options]
    with full_pipe() as writer, subprocess.Popen(command, stderr=writer) as router:
        assert router.wait(20) == code


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_any_standard_error_will_do(redirection: str) -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    command = f"exec {sys.executable} -m hakuban_router -b {url} --log-level debug {redirection}"
    with subprocess.Popen(["bash", "-c", command]) as router:
        node = hakuban.LocalNode()
        with node, hakuban.sync.connect(node, url, wait=False) as connection:
            for status in connection.statuses():
                if status.up:
                    break
        router.terminate()
        assert router.wait(10) == 0


# ---- the command for the shell -------------------------------------------------------------------


def test_a_line_of_the_input_is_published_although_nobody_reads_what_was_wrong_before(
    start_router: Callable[..., RouterProcess],
) -> None:
    url = start_router().url
    command = [sys.executable, "-m", "hakuban_router.client", "expose", url, "tag", "door"]
    node = hakuban.LocalNode()
    with (
        full_pipe() as writer,
        node,
        hakuban.sync.connect(node, url),
        node.object(["tag"], "door").observe() as watcher,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=writer
        ) as expose,
    ):
        assert expose.stdin is not None
        expose.stdin.write(b"{ no JSON\n" * MANY + b'"open"\n')
        expose.stdin.flush()
        assert watcher.wait_state_sync(20).data == "open"
        expose.stdin.close()
        assert expose.wait(10) == 1  # a bad line


# ---- the file ------------------------------------------------------------------------------------


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Put a file into the place of the standard error, and a thread before it."""
    before = sys.stderr
    with path.open("w", encoding="utf-8") as file:
        sys.stderr = file
        try:
            with standard_error_by_thread():
                yield
        finally:
            sys.stderr = before


CRASHING = """
import sys
from hakuban_router._stderr import standard_error_by_thread

with standard_error_by_thread():
    error = ValueError("why " + sys.argv[1])
    error.add_note("note " + sys.argv[1])
    raise error from LookupError("cause " + sys.argv[1])
"""


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
def test_the_traceback_that_ends_a_program_does_not_talk_to_the_terminal(text: str) -> None:
    with Program([sys.executable, "-c", CRASHING, text]) as program:
        assert program.wait() == 1
    said = "\n".join(program.err.seen)
    check_seen(said)
    for what in ("why", "note", "cause"):
        assert f"{what} {printable(text)}" in said
    assert said.count("Traceback (most recent call last)") == 1


def test_lines_of_all_threads_come_whole_and_in_order(tmp_path: Path) -> None:
    def write(name: str) -> None:
        for number in range(300):
            sys.stderr.write(f"{name} {number} ł\n")

    with written_to(tmp_path / "stderr"):
        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("the", "end", file=sys.stderr, end="")
    *lines, last = (tmp_path / "stderr").read_text(encoding="utf-8").split("\n")
    assert last == "the end"
    for name in "abcd":
        mine = [line for line in lines if line.startswith(name)]
        assert mine == [f"{name} {number} ł" for number in range(300)]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_handler_may_write_in_the_middle_of_a_line(tmp_path: Path) -> None:
    signals = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        sys.stderr.write(f"signal {signals}\n")

    with written_to(tmp_path / "stderr"):
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            count = 0
            while signals < 50 and count < 100_000:
                count += 1
                sys.stderr.write("main\n")
                if count % 100 == 0:
                    write_out_errors(10)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert [line for line in lines if line != "main"] == [
        f"signal {number + 1}" for number in range(signals)
    ]
    assert lines.count("main") == count


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_writes_by_itself(tmp_path: Path) -> None:
    with written_to(tmp_path / "stderr"):
        sys.stderr.write("parent\n")
        write_out_errors(10)
        child = os.fork()
        if child == 0:
            sys.stderr.write("child\n")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        sys.stderr.write("parent again\n")
    assert (tmp_path / "stderr").read_text().splitlines() == ["parent", "child", "parent again"]


def test_what_waits_for_room_leaves_it_to_those_that_do_not() -> None:
    class Unread(io.StringIO):
        reading = threading.Event()

        @override
        def write(self, s: str, /) -> int:
            self.reading.wait(20)
            return super().write(s)

    unread = Unread()
    error = StandardError(unread)
    taken: list[str] = []

    def patient_lines() -> Iterator[str]:
        for number in range(5_000):
            taken.append(f"patient {number}")
            yield taken[-1]

    patient = threading.Thread(target=error.write_all, args=(patient_lines(),))
    patient.start()
    before = -1
    while len(taken) != before:  # until it waits
        before = len(taken)
        time.sleep(0.1)
    for number in range(1_000):
        error.write(f"log {number}\n")
    unread.reading.set()
    patient.join(20)
    error.drain(20)
    lines = unread.getvalue().splitlines()
    assert [line for line in lines if line.startswith("log")] == [f"log {n}" for n in range(1_000)]
    assert [line for line in lines if line.startswith("patient")] == taken
    assert len(lines) == 6_000


def test_what_could_not_be_written_is_counted_too() -> None:
    class Disk(io.StringIO):
        full = True

        @override
        def write(self, s: str, /) -> int:
            if self.full:
                raise OSError("no space left")
            return super().write(s)

    disk = Disk()
    error = StandardError(disk)
    error.write("lost\nlost\n")
    error.drain(10)
    disk.full = False
    error.write("kept\n")
    error.drain(10)
    assert disk.getvalue().splitlines() == [
        "kept",
        "2 lines were dropped: the standard error was not read",
    ]
