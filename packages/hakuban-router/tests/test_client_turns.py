"""`hakuban expose` beside its router in one process: when it speaks, what it waits for, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

import hakuban
import hakuban.sync
from hakuban_router import _client
from hakuban_router._client_arguments import parse
from hakuban_router._signals import INTERRUPTED, Signals, record_signals
from support.unread import full_pipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    Start = Callable[..., AbstractAsyncContextManager[tuple["Client", hakuban.LocalNode]]]

OBJECT = ("weather", "here")
NOBODY = "nobody observes this object here, or somebody else was chosen to produce it"
FOR_EVER = 3_600.0
FILLING = b"x" * 4_095 + b"\n"  # a page, as pipes have them
TOO_LARGE = "x" * 16_700_000

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals and pipes"),
    pytest.mark.leaks("circle", reason="the process of a command ends with its tasks"),
]


@pytest.fixture
def anyio_backend() -> object:
    """Give the loop that the command runs on."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="module")
def recorded() -> Signals:
    """Record signals once: the thread that does it lives as long as the process."""
    with handlers_put_back():
        return record_signals(INTERRUPTED)


@pytest.fixture
def signals(recorded: Signals) -> Iterator[Signals]:
    with handlers_put_back():
        yield recorded
    recorded._event = None  # of a loop that has ended


@contextmanager
def handlers_put_back() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)


class Lines:
    """A pipe in the place of a standard file, and the lines that are written there."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        self.file = os.fdopen(writer, "w", buffering=1)
        self._data = b""

    async def next(self) -> str:
        while b"\n" not in self._data:
            await anyio.wait_readable(self._reader)
            self._data += os.read(self._reader, 65536)
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()

    async def read(self) -> Any:
        return json.loads(await self.next())

    def fill(self) -> int:
        """Fill the pipe, so that whoever writes there waits for a reader; give the lines of that."""
        writer, lines = self.file.fileno(), 0
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, FILLING)
                lines += 1
        os.set_blocking(writer, True)
        return lines

    def rest(self) -> list[str]:
        """Close the pipe, and give what is left in it."""
        self.file.close()
        while data := os.read(self._reader, 65536):
            self._data += data
        os.close(self._reader)
        return self._data.decode().splitlines()


class Client:
    """The command, in a task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reader, self._input = os.pipe()
        self._stdin = os.fdopen(reader)
        self.out, self.err = Lines(), Lines()
        monkeypatch.setattr("sys.stdin", self._stdin)
        monkeypatch.setattr("sys.stdout", self.out.file)
        monkeypatch.setattr("sys.stderr", self.err.file)
        self.code: int | None = None
        self._ended = anyio.Event()

    async def run(self, signals: Signals, words: tuple[str, ...]) -> None:
        output = _client._Output()  # as `run` does, which makes a loop of its own
        self.code = await _client._probe(parse(words), output, signals)
        self._ended.set()

    async def write(self, text: str) -> None:
        await anyio.to_thread.run_sync(os.write, self._input, text.encode())

    async def end_input(self) -> None:
        """Close the input, and let the command do all that it can do then."""
        os.close(self._input)
        self._input = -1
        for thread in threading.enumerate():
            if thread.name == "stdin":
                await anyio.to_thread.run_sync(thread.join)
        await anyio.wait_all_tasks_blocked()

    async def wait(self) -> int | None:
        await self._ended.wait()
        return self.code

    async def close(self) -> list[str]:
        """Give the lines of the standard error that nobody has read."""
        if self._input >= 0:
            await self.end_input()
        self._stdin.close()
        self.out.rest()
        return self.err.rest()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, signals: Signals) -> Start:
    """Start `hakuban expose` in a block, with a node to which it connects; its complaints have to be read there.

    It is never impatient, unless a test has it so.
    """
    for name in ("PATIENCE", "NOTICE"):
        monkeypatch.setattr(_client, name, FOR_EVER)

    @asynccontextmanager
    async def started(*options: str) -> AsyncIterator[tuple[Client, hakuban.LocalNode]]:
        client = Client(monkeypatch)
        with anyio.fail_after(30), hakuban.LocalNode() as node:
            async with node.listen("memory://") as listener, anyio.create_task_group() as group:
                words = ("expose", listener.url, *OBJECT, *options)
                group.start_soon(client.run, signals, words)
                yield client, node
                group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert await client.close() == []

    return started


def observed(node: hakuban.LocalNode) -> hakuban.ObjectObserve[Any]:
    return node.object([OBJECT[0]], OBJECT[1]).observe()


async def see(states: hakuban.ObjectObserve[Any], value: object) -> None:
    """Wait until a value is seen."""
    async for state in states:
        if state.data == value:
            return


async def produce_for_somebody_who_goes(client: Client, node: hakuban.LocalNode) -> None:
    """Have a first value taken, and the assignment end."""
    with observed(node) as states:
        assert await client.out.read() == {"assigned": True}
        await client.write("1\n")
        assert (await states.wait_state()).data == 1
    assert await client.out.read() == {"assigned": False}


# ---- the last value ------------------------------------------------------------------------------


async def test_the_last_value_waits_for_whoever_takes_it(start: Start) -> None:
    async with start() as (client, node):
        await client.write("1\n")
        await client.end_input()
        assert client.code is None
        with observed(node) as states:
            assert (await states.wait_state()).data == 1
            assert await client.wait() == 0


async def test_the_last_value_waits_although_one_before_it_was_taken(start: Start) -> None:
    async with start() as (client, node):
        await produce_for_somebody_who_goes(client, node)
        await client.write("2\n")
        await client.end_input()
        assert client.code is None
        with observed(node) as states:
            await see(states, 2)
            assert await client.wait() == 0


async def test_a_last_value_that_nobody_takes_is_no_news_to_who_was_taken_from_before(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "PATIENCE", 0.0)
    async with start() as (client, node):
        await produce_for_somebody_who_goes(client, node)
        await client.write("2\n")
        await client.end_input()
        assert await client.wait() == 0


# ---- the notice ----------------------------------------------------------------------------------


async def test_what_a_notice_has_told_is_not_told_again_at_the_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "NOTICE", 0.0)
    monkeypatch.setattr(_client, "PATIENCE", 0.0)
    async with start() as (client, _):
        await client.write("1\n")
        told = f"hakuban: nobody has taken a line for 0 s: {NOBODY}; waiting"
        assert await client.err.next() == told
        await client.end_input()
        assert await client.wait() == 0


async def test_a_notice_is_about_lines_that_were_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "NOTICE", 0.0)
    async with start() as (client, node):
        await anyio.wait_all_tasks_blocked()
        with observed(node) as states:
            assert await client.out.read() == {"assigned": True}
            await client.write("1\n")
            assert (await states.wait_state()).data == 1


async def test_who_has_come_and_gone_before_the_first_line_does_not_keep_a_notice_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "NOTICE", 0.0)
    async with start() as (client, node):
        with observed(node):
            assert await client.out.read() == {"assigned": True}
        assert await client.out.read() == {"assigned": False}
        await client.write("1\n")
        assert (await client.err.next()).endswith(f"{NOBODY}; waiting")


async def test_at_the_end_of_the_input_the_end_has_the_only_word(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "NOTICE", 0.0)
    monkeypatch.setattr(_client, "PATIENCE", 0.1)
    async with start("--count", "1") as (client, _):
        await client.write("1\n")
        assert await client.err.next() == f"hakuban: nobody took a line of the input: {NOBODY}"
        assert await client.wait() == 0


async def test_a_line_that_is_too_large_is_reported_once_whoever_comes_and_goes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it said that nobody takes a line: somebody would have."""
    monkeypatch.setattr(_client, "NOTICE", 0.0)
    async with start("--raw") as (client, node):
        with observed(node):
            assert await client.out.read() == {"assigned": True}
            await client.write(f"{TOO_LARGE}\n")
            line = await client.err.next()
            assert line.startswith("hakuban: bad input line 1: a state of 16700000 bytes")
        assert await client.out.read() == {"assigned": False}
        with observed(node):
            assert await client.out.read() == {"assigned": True}
        await client.end_input()
        assert await client.wait() == 1


# ---- the output ----------------------------------------------------------------------------------


async def test_a_line_for_somebody_who_has_gone_meanwhile_is_kept_for_the_next_one(
    start: Start,
) -> None:
    """The command has not noticed: its output is not read, and it still tells of the assignment."""
    async with start() as (client, node):
        lines = client.out.fill()
        await client.write("1\n")
        with observed(node) as states:
            assert (await states.wait_state()).data == 1
        await anyio.wait_all_tasks_blocked()
        await client.write("2\n")
        await client.end_input()
        assert client.code is None
        with observed(node) as states:
            await see(states, 2)
            assert await client.wait() == 0
        for _ in range(lines):
            await client.out.next()
        assert await client.out.read() == {"assigned": True}


# ---- the end -------------------------------------------------------------------------------------


def test_once_all_is_written_the_command_ends_as_programs_do(
    signals: Signals, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """And an interrupt that comes then is late: it changes nothing."""
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.listen(node, "ws://127.0.0.1:0") as listener,
        node.object([OBJECT[0]], OBJECT[1]).expose(serializer=hakuban.RAW) as exposing,
    ):
        exposing.set_object_data(b"sunny")
        request = parse(["observe", listener.url, *OBJECT, "--raw", "--count", "1"])
        assert _client.run(request, signals) == 0
    assert capfdbinary.readouterr().out == b"sunny\n"
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_command_that_has_nothing_to_write_does_so_too(
    signals: Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _client.run(parse(["observe", "nonsense", *OBJECT]), signals) == 2
    assert capsys.readouterr().err.startswith("hakuban: ")


PATIENT = """
import sys
from hakuban_router import _client, client
_client.PATIENCE = 3_600.0
sys.exit(client.main())
"""


def test_what_was_wrong_is_said_although_nobody_reads_the_output() -> None:
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.listen(node, "ws://127.0.0.1:0") as listener,
        observed(node) as states,
        full_pipe() as output,
    ):
        errors = Lines()
        errors.fill()
        command = [sys.executable, "-c", PATIENT, "expose", listener.url, *OBJECT]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=errors.file
        ) as process:
            try:
                assert process.stdin is not None
                process.stdin.write(b"1\n")
                process.stdin.flush()
                assert states.wait_state_sync(20).data == 1
                process.stdin.write(b"{nonsense\n")
                process.stdin.close()
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)  # for the reader of that
                assert "bad input line 2: not JSON" in errors.rest()[-1]
                assert process.wait(20) == 1
            finally:
                process.kill()
