"""The standard error at its edges: when exactly it is full, what it forgets, whom it wakes, and what it is asked."""

from __future__ import annotations

import io
import os
import queue
import select
import signal
import sys
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from hakuban_router._stderr import (
    LINES,
    LONGEST_REST,
    MOST_CHARACTERS,
    OVERHEAD,
    PAUSE,
    ROOM,
    StandardError,
    standard_error_by_thread,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Gate(io.StringIO):
    """A file that takes each text only when it is let through.

    :ivar begun: the texts that somebody has begun to write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._let = threading.Semaphore(0)
        self._open = False

    @override
    def write(self, s: str, /) -> int:
        self.begun.put(s)
        if not self._open:
            self._let.acquire()
        return super().write(s)

    def let_one(self) -> None:
        self._let.release()

    def open(self) -> None:
        self._open = True
        self._let.release()


@contextmanager
def gated() -> Iterator[tuple[Gate, StandardError]]:
    """Write to a gate, at which a first line waits already."""
    gate = Gate()
    error = StandardError(gate)
    error.write("first\n")
    assert gate.begun.get(timeout=20) == "first\n"
    try:
        yield gate, error
    finally:
        gate.open()
        error.end()


def line_that_takes(room: int) -> str:
    return "x" * (room - OVERHEAD - 1) + "\n"


def written(gate: Gate, error: StandardError) -> list[str]:
    gate.open()
    error.drain(20)
    return gate.getvalue().splitlines()


# ---- how much waits ------------------------------------------------------------------------------


def test_a_line_that_comes_when_just_all_room_is_taken_is_dropped() -> None:
    with gated() as (gate, error):
        error.write(line_that_takes(MOST_CHARACTERS))
        error.write("late\n")
        assert written(gate, error)[2:] == ["1 lines were dropped: the standard error was not read"]


def test_a_line_that_comes_when_one_character_is_free_is_kept() -> None:
    with gated() as (gate, error):
        error.write(line_that_takes(MOST_CHARACTERS - 1))
        error.write("just in time\n")
        assert written(gate, error)[2:] == ["just in time"]


def test_once_a_line_was_dropped_all_are_until_what_waits_has_been_written() -> None:
    with gated() as (gate, error):
        for _ in range(2):
            error.write(line_that_takes(MOST_CHARACTERS // 2))
        error.write("dropped\n")
        gate.let_one()
        assert gate.begun.get(timeout=20).startswith("x")
        error.write("dropped, although there is room\n")
        *_, notice = written(gate, error)
        assert notice == "2 lines were dropped: the standard error was not read"
        error.write("kept\n")
        assert written(gate, error)[-1] == "kept"


def test_a_beginning_is_kept_for_its_end_up_to_the_longest() -> None:
    with gated() as (gate, error):
        gate.open()
        error.write("x" * LONGEST_REST)
        error.write("\n")
        assert gate.begun.get(timeout=20) == "x" * LONGEST_REST + "\n"


def test_a_longer_beginning_is_written_without_its_end() -> None:
    with gated() as (gate, error):
        gate.open()
        error.write("x" * (LONGEST_REST + 1))
        assert gate.begun.get(timeout=20) == "x" * (LONGEST_REST + 1)


def test_a_beginning_that_was_flushed_is_not_written_again_with_its_end() -> None:
    with gated() as (gate, error):
        error.write("beginning")
        error.flush()
        error.write(" and end\n")
        assert written(gate, error) == ["first", "beginning and end"]


# ---- whoever waits -------------------------------------------------------------------------------


def test_who_waits_for_room_goes_on_while_just_that_room_is_taken() -> None:
    with gated() as (_gate, error):
        error.write(line_that_takes(ROOM))
        patient = threading.Thread(target=error.write_all, args=(["more"],), daemon=True)
        patient.start()
        patient.join(10)
        assert not patient.is_alive()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a thread named "patient" waits for a condition: whoever then takes its lock comes after that."""
    begun = threading.Event()
    wait = threading.Condition.wait

    def noted_wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "patient":
            begun.set()
        return wait(self, timeout)

    monkeypatch.setattr(threading.Condition, "wait", noted_wait)
    return begun


def start_patient(error: StandardError) -> threading.Thread:
    patient = threading.Thread(
        target=error.write_all, args=(["patient"],), name="patient", daemon=True
    )
    patient.start()
    return patient


def test_the_end_keeps_nobody_waiting_for_room(waiting: threading.Event) -> None:
    with gated() as (_gate, error):
        error.write(line_that_takes(ROOM + 1))
        patient = start_patient(error)
        assert waiting.wait(20)
        error.end()
        patient.join(10)
        assert not patient.is_alive()


def test_the_end_of_the_program_keeps_nobody_waiting_for_room(
    waiting: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban_router._stderr.PATIENCE", 0.0)
    gate = Gate()
    monkeypatch.setattr(sys, "stderr", gate)
    with standard_error_by_thread():
        assert isinstance(sys.stderr, StandardError)
        sys.stderr.write("first\n")
        assert gate.begun.get(timeout=20) == "first\n"
        sys.stderr.write(line_that_takes(ROOM + 1))
        patient = start_patient(sys.stderr)
        assert waiting.wait(20)
    patient.join(10)
    assert not patient.is_alive()
    gate.open()


def test_a_line_after_the_end_is_not_written() -> None:
    with gated() as (gate, error):
        error.end()
        error.write("late\n")
        assert not any("late" in line for line in written(gate, error))


def test_many_lines_are_written_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("hakuban_router._stderr.sleep", pauses.append)
    error = StandardError(None)
    error.write_all(f"line {number}" for number in range(5 * LINES))
    assert pauses == [PAUSE] * 5


def test_draining_waits_for_a_line_that_is_being_written() -> None:
    with gated() as (_gate, error):
        start = monotonic()
        error.drain(0.05)
        assert monotonic() - start >= 0.05


def test_draining_waits_for_nothing_where_nothing_was_written_and_the_thread_has_yet_to_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: None)
    error = StandardError(io.StringIO())
    start = monotonic()
    error.drain(10)
    assert monotonic() - start < 9


# ---- the file behind -----------------------------------------------------------------------------


def test_a_file_that_keeps_what_it_gets_is_flushed() -> None:
    behind = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    error = StandardError(behind)
    error.write("a line\n")
    error.drain(20)
    assert isinstance(behind.buffer, io.BytesIO)
    assert behind.buffer.getvalue() == b"a line\n"


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: queue.SimpleQueue[None] = queue.SimpleQueue()
    wait = select.select

    def noted_select(*files: Any) -> Any:
        waits.put(None)
        return wait(*files)

    monkeypatch.setattr(select, "select", noted_select)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader) as lines, os.fdopen(writer, "w") as behind:
        error = StandardError(behind)
        error.write("x" * 1_000_000 + "\n")
        waits.get(timeout=20)
        assert lines.readline() == "x" * 1_000_000 + "\n"
        error.drain(20)


def test_what_goes_nowhere_was_not_dropped() -> None:
    told: list[int] = []

    def notice(count: int) -> str:
        told.append(count)
        return ""

    error = StandardError(None)
    error.notice = notice
    for _ in range(3):
        error.write("nobody wants it\n")
        error.drain(20)
    assert told == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_does_not_wait_for_a_thread_that_was_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: queue.SimpleQueue[None] = queue.SimpleQueue()
    forked = threading.Event()
    holders: list[int] = []
    notify_all = threading.Condition.notify_all

    def held_notify_all(self: threading.Condition) -> None:
        if threading.get_ident() in holders:
            inside.put(None)
            forked.wait(20)
        notify_all(self)

    monkeypatch.setattr(threading.Condition, "notify_all", held_notify_all)
    with (tmp_path / "stderr").open("w") as file:
        error = StandardError(file)
        monkeypatch.setattr(sys, "stderr", error)

        def hold() -> None:
            holders.append(threading.get_ident())
            error.write("parent\n")

        holder = threading.Thread(target=hold)
        holder.start()
        inside.get(timeout=20)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            error.write("child\n")
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        forked.set()
        holder.join(20)
        error.drain(20)
        error.end()
    assert status == 0
    assert (tmp_path / "stderr").read_text().splitlines() == ["child", "parent"]


# ---- what it is asked ----------------------------------------------------------------------------


def test_it_answers_as_the_file_behind(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w", encoding="ascii", errors="replace") as file:
        error = StandardError(file)
        assert error.writable()
        assert error.fileno() == file.fileno()
        assert not error.isatty()
        assert (error.encoding, error.errors) == ("ascii", "replace")
        error.write("Poznań\n")
        error.drain(20)
    assert (tmp_path / "stderr").read_text() == "Pozna?\n"


def test_it_is_a_terminal_where_the_file_behind_is_one() -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert StandardError(terminal).isatty()
    os.close(ours)


def test_without_a_file_behind_it_still_answers() -> None:
    error = StandardError(None)
    assert error.writable()
    assert not error.isatty()
    assert (error.encoding, error.errors) == ("utf-8", "backslashreplace")
    with pytest.raises(io.UnsupportedOperation):
        error.fileno()


def test_tracebacks_are_asked_to_have_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_COLORS", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with standard_error_by_thread():
        assert os.environ["PYTHON_COLORS"] == "0"
