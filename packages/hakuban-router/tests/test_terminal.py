"""What `hakuban` prints to a terminal: nothing that a state or a name says is obeyed there. In a pipe all is as it came."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

import pytest

import hakuban
import hakuban.sync
from hakuban_router._stdio import read_lines, write_out
from support.unseen import UNSEEN, check_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.processes import RouterProcess

    StartRouter = Callable[..., RouterProcess]

tty = pytest.importorskip("tty")

JSON, MESSAGE_PACK = hakuban.JSON, hakuban.MESSAGE_PACK
LINES = "one\n\ttwo"  # what a terminal may be told


class OnTerminal:
    """A `hakuban` whose output and errors are a terminal that changes nothing itself."""

    def __init__(self, *arguments: str) -> None:
        self._terminal, theirs = os.openpty()
        tty.setraw(theirs)
        command = [sys.executable, "-m", "hakuban_router.client", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs
        )
        os.close(theirs)

    def read_line(self) -> str:
        line = b""
        while not line.endswith(b"\n") and (one := self._read(1)):
            line += one
        return line.decode()

    def read_all(self) -> str:
        text = b""
        while some := self._read(4096):
            text += some
        return text.decode()

    def _read(self, size: int) -> bytes:
        try:
            return os.read(self._terminal, size)
        except OSError:  # the program has gone
            return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


def in_pipe(*arguments: str) -> bytes:
    command = [sys.executable, "-m", "hakuban_router.client", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=20).stdout


@contextmanager
def exposed(url: str, serializer: hakuban.Serializer, values: dict[str, object]) -> Iterator[None]:
    """Have objects with one tag each, and a value."""
    node = hakuban.LocalNode()
    with node, hakuban.sync.connect(node, url), ExitStack() as contracts:
        for name, value in values.items():
            builder = node.object(["tag"], name)
            exposing = contracts.enter_context(builder.expose(serializer=serializer))
            exposing.set_object_data(value)
        yield


@pytest.mark.parametrize("serializer", [JSON, MESSAGE_PACK], ids=["JSON", "MessagePack"])
def test_states_are_the_same_json_with_escapes(
    start_router: StartRouter, serializer: hakuban.Serializer
) -> None:
    router = start_router()
    value = {text: [name, text] for name, text in UNSEEN.items()} | {"Poznań": "\U0001f600"}
    request = ("observe", router.url, "tag", "x", "--count", "1")
    with exposed(router.url, serializer, {"x": value}):
        with OnTerminal(*request) as terminal:
            shown = terminal.read_all()
        piped = in_pipe(*request)
    check_seen(shown)
    assert shown.count("\n") == 1
    assert "Poznań" in shown
    assert "\\u202e" in shown
    assert json.loads(shown)["data"] == json.loads(piped)["data"] == value
    assert "\u202e".encode() in piped  # which is for programs


def test_names_are_too(start_router: StartRouter) -> None:
    router = start_router()
    request = ("observe", router.url, "tag", "--tag", "--count", str(len(UNSEEN)))
    with (
        exposed(router.url, JSON, dict.fromkeys(UNSEEN.values(), 1)),
        OnTerminal(*request) as terminal,
    ):
        shown = terminal.read_all()
    check_seen(shown)
    names = [json.loads(line)["descriptor"]["json"] for line in shown.splitlines()]
    assert sorted(names) == sorted(UNSEEN.values())


def test_what_is_to_be_produced_is_too(start_router: StartRouter) -> None:
    router = start_router()
    node = hakuban.LocalNode()
    with node, hakuban.sync.connect(node, router.url), ExitStack() as contracts:
        for text in UNSEEN.values():
            contracts.enter_context(node.object(["tag"], text).observe())
        with OnTerminal("expose", router.url, "tag", "--tag") as terminal:
            shown = "".join(terminal.read_line() for _ in UNSEEN)
    check_seen(shown)
    names = [json.loads(line)["descriptor"]["json"] for line in shown.splitlines()]
    assert sorted(names) == sorted(UNSEEN.values())


def test_raw_states_are_text_on_a_terminal_and_bytes_in_a_pipe(start_router: StartRouter) -> None:
    router = start_router()
    raw = f"{LINES} Poznań {''.join(UNSEEN.values())}".encode() + b"\xff\x9b"
    request = ("observe", router.url, "tag", "x", "--raw", "--count", "1")
    with exposed(router.url, hakuban.RAW, {"x": raw}):
        with OnTerminal(*request) as terminal:
            shown = terminal.read_all()
        assert in_pipe(*request) == raw + b"\n"
    check_seen(shown)
    assert shown.startswith("one\n\\ttwo Poznań \\u202e\\u2066")
    assert shown.endswith("\\xff\\x9b\n")


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_each_is_escaped_for_terminals_alone(
    terminal: bool,
    text: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    line = f'"a{text}b"\n'
    assert write_out(line.encode())
    written = capfdbinary.readouterr().out.decode()
    assert (written == line) is not terminal
    assert json.loads(written, strict=False) == f"a{text}b"
    if terminal:
        check_seen(written)


def test_refusals_are_too() -> None:
    request = ("observe", "ws://\u202ehost\u2066:1/\x9b2J#\x1b", "a", "\u2028")
    with OnTerminal(*request) as terminal:
        shown = terminal.read_all()
    check_seen(shown)
    assert shown.startswith("hakuban: ")


# ---- standard files that are no terminals --------------------------------------------------------


def test_what_is_written_comes_after_what_was_printed_and_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "output").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        print("first")
        assert write_out(b"second\n")
        assert (tmp_path / "output").read_text() == "first\nsecond\n"


def test_an_output_that_was_closed_by_whoever_started_us_is_read_by_nobody_and_not_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert write_out(b"whatever\n")


def test_when_the_reader_has_gone_all_else_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert not write_out(b"whatever\n")
        print("more", flush=True)


OCCUPYING = """
import os, sys
from hakuban_router._stdio import occupy_closed

def next_descriptor():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor

occupy_closed()
before = next_descriptor()
occupy_closed()
sys.exit(0 if before == next_descriptor() > 2 else 7)
"""


@pytest.mark.parametrize("redirection", ["", "2>&-", "<&- >&- 2>&-"])
def test_standard_files_that_were_closed_are_occupied_and_no_others(redirection: str) -> None:
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, OCCUPYING]
    assert subprocess.run(command, timeout=20, check=False).returncode == 0


def test_an_input_that_cannot_be_read_is_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[bytes] = []
    ended = threading.Event()
    with (tmp_path / "written").open("w") as written:
        monkeypatch.setattr(sys, "stdin", written)
        read_lines(lines.append, ended.set)
        assert ended.wait(10)
    assert lines == []


def test_an_input_that_goes_on_does_not_hold_up_the_end() -> None:
    code = "from hakuban_router._stdio import read_lines; read_lines(print)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as program:
        try:
            assert program.wait(20) == 0
        finally:
            program.kill()
