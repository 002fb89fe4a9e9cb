"""The log and the node: whatever filters and handlers of the program do, nobody else notices."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import sys
import threading
from typing import Any

import anyio
import pytest
from typing_extensions import override

import hakuban
from hakuban import LocalNode
from hakuban._engine.log_box import MOST_LINES
from hakuban._engine.poll_results import PENDING
from hakuban._logger import get_logger
from hakuban._loops.wakeups import ThreadWaiter
from support.logs import fail, filtered, handled
from support.waiting import until

DOOR = "door"
DROPPED = "a line of the log of hakuban was dropped"


broken = pytest.mark.parametrize("broken", [filtered, handled], ids=["filter", "handler"])


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is the first one that has a fault."""
    monkeypatch.setattr("hakuban._logger.printed", {})


class Threads:
    """A node with an observer in a thread of its own; whoever goes back with a version has a line logged."""

    def __init__(self) -> None:
        self.node = LocalNode("log")
        self.exposer = self.node.object(DOOR).expose()
        self.watcher = self.node.object(DOOR).observe()
        self.exposer.set_object_state([2**60], "first")
        self.seen: list[Any] = []
        self.reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        for state in self.watcher:
            self.seen.append(state.data)
            if state.data == "last":
                return

    def step_back(self) -> None:
        """Publish what is ignored and logged, once for each assignment."""
        self.exposer.close()
        self.exposer = self.node.object(DOOR).expose()
        assert not self.exposer.set_object_state([1], "old")


# ---- what raises ----------------------------------------------------------------------------------------------------


@broken
def test_what_raises_is_printed_once_and_nobody_else_notices(
    broken: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Threads()
    with scene.node, broken(fail):
        scene.reader.start()
        for _ in range(3):
            scene.step_back()
        scene.exposer.set_object_state([2**60 + 1], "last")
        scene.reader.join(10)
        assert scene.seen[-1] == "last"
    printed = capsys.readouterr().err
    assert printed.count("ZeroDivisionError: user code") == 1
    assert printed.count(DROPPED) == 1
    assert "in fail" in printed


@broken
def test_a_line_that_cannot_be_made_is_one_of_these_faults(
    broken: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Sealed:
        @override
        def __str__(self) -> str:
            raise LookupError("no words")

    seen: list[str] = []
    with handled(lambda record: seen.append(record.getMessage()), "hakuban.tests"):
        log = get_logger("hakuban.tests")
        log.warning("of %s", Sealed())
        log.warning("too few: %s %s", 1)  # noqa: PLE1206 # as meant
        log.warning("fine: %s", "\x1b")
        with broken(fail, "hakuban.tests"):
            log.error("and %s", "more")
            log.log(logging.INFO, "not asked for")
    assert seen[:1] == ["fine: \\x1b"]
    printed = capsys.readouterr().err
    for fault in ("LookupError: no words", "TypeError: not enough", "ZeroDivisionError: user"):
        assert printed.count(fault) == 1, printed


def test_the_line_that_is_told_is_the_callers() -> None:
    log = get_logger("hakuban.tests")
    places = []
    with handled(lambda record: places.append((record.pathname, record.funcName)), "hakuban.tests"):
        log.warning("a")
        log.log(logging.ERROR, "b")
        try:
            raise ValueError
        except ValueError:
            log.exception("c")
    assert set(places) == {(__file__, "test_the_line_that_is_told_is_the_callers")}
    assert len(places) == 3


@pytest.mark.parametrize("stream", [None, "closed", "failing"])
def test_whatever_the_standard_error_is(
    stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.StringIO):
        @override
        def write(self, s: str, /) -> int:
            raise BrokenPipeError

    error: io.StringIO | None = None if stream is None else Failing()
    if stream == "closed":
        error = io.StringIO()
        error.close()
    monkeypatch.setattr(sys, "stderr", error)
    scene = Threads()
    with scene.node, filtered(fail):
        scene.step_back()
        scene.exposer.set_object_state([2**60 + 1], "last")
        assert scene.watcher.object_data() == "last"


def test_who_wants_no_words_about_faults_of_the_log_gets_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    scene = Threads()
    with scene.node, filtered(fail):
        scene.step_back()
    assert capsys.readouterr().err == ""


@broken
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_is_no_fault_goes_through(broken: Any, raised: type[BaseException]) -> None:
    scene = Threads()
    seen: list[str] = []

    def leave(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        if len(seen) == 1:
            raise raised
        return True

    with scene.node, broken(leave):
        scene.exposer.set_object_state([2**60], "first")
        with pytest.raises(raised):
            scene.step_back()
        assert scene.watcher.object_data() == "first"
        scene.exposer.set_object_state([2**60 + 1], "second")
        assert scene.watcher.object_data() == "second"
        scene.step_back()
        assert len(seen) == 2  # each line once


# ---- what blocks ----------------------------------------------------------------------------------------------------


def test_whoever_waits_is_woken_before_anything_is_logged() -> None:
    node = LocalNode("log")
    waiter = ThreadWaiter()
    heard: list[bool] = []
    with node, handled(lambda _record: heard.append(waiter.wait(10))):
        assert node._engine.park("door", waiter, lambda: PENDING)
        # both in one step, and the line first
        node._engine.update("door", lambda: node._engine.log(logging.WARNING, "a line"))
    assert heard == [True]


@pytest.mark.filterwarnings("ignore:.*was never closed:ResourceWarning")
def test_a_finalizer_in_the_middle_of_waking_logs_after_it() -> None:
    node = LocalNode("log")
    lost = [node.object("lost").expose()]
    waiter = ThreadWaiter()
    heard: list[bool] = []

    class Interrupted:
        """Is collected, so to speak, together with a contract, while it is woken."""

        def wake(self) -> None:
            lost.clear()

    with node, handled(lambda _record: heard.append(waiter.wait(10))):
        for one in (Interrupted(), waiter):
            assert node._engine.park("door", one, lambda: PENDING)
        node._engine.update("door", lambda: None)
    assert heard == [True]


@broken
def test_while_a_handler_blocks_others_are_woken_and_set_and_log(broken: Any) -> None:
    scene = Threads()
    stuck, free = threading.Event(), threading.Event()
    lines: list[str] = []

    def block(record: logging.LogRecord) -> bool:
        stuck.set()
        assert free.wait(20)
        lines.append(record.getMessage())
        return True

    with scene.node:
        scene.exposer.set_object_state([2**60], "first")
        scene.reader.start()
        with broken(block):
            slow = threading.Thread(target=scene.step_back, daemon=True)
            slow.start()
            assert stuck.wait(10)
            scene.exposer.set_object_state([2**60 + 1], "second")
            for number in range(MOST_LINES + 7):
                line = functools.partial(scene.node._engine.log, logging.WARNING, "line %d", number)
                scene.node._engine.update("door", line)
            scene.exposer.set_object_state([2**60 + 2], "last")
            scene.reader.join(10)
            assert scene.seen[-1] == "last"
            assert not lines
            free.set()
            slow.join(10)
            scene.step_back()
    assert "was ignored" in lines.pop()  # and nothing more: what was dropped is said once
    assert "was ignored" in lines[0]
    assert lines[1:-1] == [f"line {number}" for number in range(MOST_LINES)]
    assert lines[-1] == "7 lines of the log were dropped: a handler takes longer than they came"


async def test_a_handler_that_calls_the_node_has_its_own_lines_logged_after_it() -> None:
    scene = Threads()
    window = scene.node.object("window").expose()
    seen = scene.node.object("window").observe()
    window.set_object_state([2], "new")
    assert seen.object_data() == "new"
    lines: list[str] = []

    def call(record: logging.LogRecord) -> None:
        if not lines:
            window.set_object_state([1], "old")
        lines.append(record.getMessage())
        assert scene.node.snapshot().objects

    with scene.node, handled(call):
        scene.exposer.set_object_state([2**60], "first")
        scene.step_back()
    assert ['"window"' in line for line in lines] == [False, True]


# ---- who else writes lines ------------------------------------------------------------------------------------------


@broken
async def test_links_come_and_go_although_nothing_of_that_can_be_logged(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hakuban")
    with broken(fail):
        router, leaf = LocalNode("router"), LocalNode("leaf")
        async with router.listen("memory://") as listener:
            async with leaf.connect(listener.url, wait=False) as connection:
                with (
                    router.object(DOOR).expose() as exposer,
                    leaf.object(DOOR).observe() as watcher,
                ):
                    exposer.set_object_data("open")
                    await until(lambda: watcher.object_state() and watcher.object_data() == "open")
                assert connection.up
            await until(lambda: not router.snapshot().downstream_connections)
            async with leaf.connect(listener.url):  # the listener lives on
                pass


@broken
async def test_a_handler_of_serve_is_run_again_although_its_failure_cannot_be_logged(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._api.serve.FIRST_DELAY", 0.0)
    node = LocalNode()
    runs = 0

    async def produce(sink: hakuban.ObjectStateSink[Any]) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise LookupError("of the user's")
        sink.set("made")

    with (
        broken(fail),
        node,
        node.object(DOOR).expose() as exposer,
        node.object(DOOR).observe() as watcher,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(exposer.serve, produce)
            await until(lambda: watcher.object_state() and watcher.object_data() == "made")
            group.cancel_scope.cancel()
    assert runs == 2


@broken
def test_names_and_options_that_are_doubtful_are_taken_all_the_same(broken: Any) -> None:
    with broken(fail), LocalNode() as node, node.object([["lab" * 3]], 1).observe() as watcher:
        assert watcher.descriptor.tags[0].json == ["lab" * 3]
