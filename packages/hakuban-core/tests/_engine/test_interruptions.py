"""What may interrupt a node at any line: KeyboardInterrupt, signal handlers, finalizers, fork."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

import hakuban
from hakuban import LocalNode, NodeBrokenError, NodeForkedError, ObjectDescriptor
from hakuban._core.invariants import check
from support.interrupter import Interrupter
from support.tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

WEATHER = ObjectDescriptor(["weather"], 1)
SOURCES = str(Path(hakuban.__file__).parent)


class Scene:
    """A node with an observer whose thread waits, and something to do to it."""

    def __init__(self) -> None:
        self.node = LocalNode()
        self.watcher = self.node.object(WEATHER).observe()
        self.exposer = self.node.object(WEATHER).expose()
        self.exposer.set_object_data(0)
        self.sink = next(iter(self.exposer))
        self.states = iter(self.watcher)
        next(self.states)
        self.doomed = self.node.object("doomed").observe()

    def set(self) -> None:
        self.exposer.set_object_data(1)

    def publish(self) -> None:
        self.sink.set(1)

    def observe(self) -> None:
        self.node.tag("weather").observe().close()

    def expose(self) -> None:
        with self.node.object("new").expose(capacity=3) as contract:
            contract.capacity = 4

    def close(self) -> None:
        self.doomed.close()

    def close_node(self) -> None:
        self.node.close()

    def wait(self) -> None:
        with pytest.raises((TimeoutError, anyio.ClosedResourceError)):
            self.doomed.wait_state_sync(timeout=0)

    def loop(self) -> None:
        self.exposer.set_object_data(1)
        next(self.states)


ACTIONS = ["set", "publish", "observe", "expose", "close", "close_node", "wait", "loop"]


def some_thorough(actions: Sequence[str]) -> list[Any]:
    """Return actions as parameters, of which those that have the most lines are tried in the thorough run."""
    return [
        pytest.param(
            action, marks=[pytest.mark.thorough] * (action in ("observe", "expose", "close_node"))
        )
        for action in actions
    ]


def verdict(scene: Scene) -> str:
    """Look at an interrupted node from another thread, which must not hang."""

    def look() -> str:
        try:
            scene.node.snapshot()
            if scene.node.closed:
                return "whole" if scene.doomed.closed else "closed by half"
            scene.node.object("probe").observe().close()
            scene.exposer.set_object_data(2)
            assert scene.watcher.object_data() == 2
        except NodeBrokenError as error:
            return "broken" if error.__cause__ is not None else "broken for no reason"
        check(scene.node._engine._machine)
        return "whole"

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(look).result(timeout=10)


def strike_everywhere(action: str, *, opcodes: bool) -> dict[str, int]:
    verdicts = {"whole": 0, "broken": 0}
    at = 0
    while True:
        scene = Scene()
        watching = threading.Thread(target=lambda scene=scene: drain(scene), daemon=True)
        watching.start()
        interrupter = Interrupter(at, opcodes=opcodes)
        with warnings.catch_warnings(), ThreadPoolExecutor(1) as pool:
            # a contract may be lost in the middle of its making
            warnings.simplefilter("ignore", ResourceWarning)
            pool.submit(interrupter.run, getattr(scene, action)).result(timeout=10)
            gc.collect(0)
        verdicts[verdict(scene)] += 1
        scene.node.close()
        watching.join(timeout=10)
        assert not watching.is_alive(), f"a waiter was forgotten: {interrupter.place}"
        for contract in (scene.watcher, scene.exposer, scene.doomed):
            contract.close()
        if not interrupter.struck:
            return verdicts
        at += 1


def drain(scene: Scene) -> None:
    try:
        for _ in scene.watcher:
            pass
    except NodeBrokenError:
        pass


# a KeyboardInterrupt within a finalizer goes nowhere
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("action", some_thorough(ACTIONS))
def test_a_keyboard_interrupt_at_any_line_leaves_a_node_whole_or_broken(action: str) -> None:
    verdicts = strike_everywhere(action, opcodes=False)
    assert verdicts["whole"] > 0
    assert verdicts["broken"] > 0 or action == "wait"


@pytest.mark.nightly
# a KeyboardInterrupt within a finalizer goes nowhere
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_keyboard_interrupt_at_any_bytecode_leaves_a_node_whole_or_broken(action: str) -> None:
    strike_everywhere(action, opcodes=True)


def test_the_exception_that_broke_a_node_is_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    node = LocalNode()
    with node.object(WEATHER).observe() as watcher:
        monkeypatch.setattr(type(node._engine._machine), "publish", fail)
        with node.object(WEATHER).expose() as contract:
            sink = next(iter(contract))
            with pytest.raises(ZeroDivisionError):
                sink.set(1)
            for _ in range(2):
                with pytest.raises(NodeBrokenError) as caught:
                    sink.set(2)
                assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(NodeBrokenError):
            node.object(WEATHER).observe()
        with pytest.raises(NodeBrokenError):
            watcher.wait_state_sync(timeout=5)
        sink.close()
        node.close()


def fail(*_: object) -> object:
    raise ZeroDivisionError


# ---- coming back in the middle --------------------------------------------------------------------------------------


class Intruder:
    """Calls a function at the n-th line that this package executes, as a signal handler or finalizer would."""

    def __init__(self, at: int, intrude: Callable[[], None]) -> None:
        self._left = at
        self._intrude = intrude
        self.done = False

    def run(self, function: Callable[[], object]) -> None:
        with traced(self._trace):
            function()

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if self.done or not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "line":
            self._left -= 1
            if self._left < 0:
                self.done = True
                self._intrude()
        return self._trace


def intrude_everywhere(
    action: str, intrude: Callable[[Scene], None], verify: Callable[[Scene], bool]
) -> int:
    at = 0
    while True:
        scene = Scene()
        intruder = Intruder(at, lambda scene=scene: intrude(scene))  # type: ignore[misc]  # a default binds it
        with ThreadPoolExecutor(1) as pool:
            pool.submit(intruder.run, getattr(scene, action)).result(timeout=10)
        assert not scene.node._engine._deferred
        assert not scene.node._engine._outbox.calls
        check(scene.node._engine._machine)
        assert not intruder.done or verify(scene)
        scene.node.close()
        if not intruder.done:
            return at
        at += 1


@pytest.mark.parametrize(
    "action", some_thorough(["set", "publish", "observe", "expose", "close", "wait"])
)
def test_a_signal_handler_may_set_at_any_line(action: str) -> None:
    def was_set(scene: Scene) -> bool:
        return scene.watcher.object_data() in ("intruder", 1)

    steps = intrude_everywhere(action, lambda scene: scene.sink.set("intruder"), was_set)
    assert steps > 50
    steps = intrude_everywhere(
        action, lambda scene: scene.exposer.set_object_data("intruder"), was_set
    )
    assert steps > 50


@pytest.mark.parametrize("action", some_thorough(["set", "observe", "expose", "close", "wait"]))
def test_a_finalizer_may_close_at_any_line(action: str) -> None:
    steps = intrude_everywhere(
        action, lambda scene: scene.doomed.close(), lambda scene: scene.doomed.closed
    )
    assert steps > 50


def test_a_stream_may_be_closed_at_any_line_of_waiting_for_it() -> None:
    at = 0
    while True:
        node = LocalNode()
        with node.object(WEATHER).expose(), node.tag("weather").observe() as watchers:
            stream = next(iter(watchers))
            intruder = Intruder(at, stream.close)
            with ThreadPoolExecutor(1) as pool:
                loop = pool.submit(intruder.run, functools.partial(list, stream))
                deadline = time.monotonic() + 10
                while not loop.done() and (intruder.done or not node._engine._parking.places):
                    assert time.monotonic() < deadline, f"a waiter was forgotten: {at}"
                    time.sleep(0.0001)
                struck = intruder.done
                stream.close()
                loop.result(timeout=10)
            assert stream.closed
        if not struck:
            break
        at += 1
    assert at > 20


def test_a_contract_collected_in_the_middle_of_an_operation_is_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at = 0
    while True:
        scene = Scene()
        forgotten = [scene.node.object("forgotten").observe()]
        intruder = Intruder(at, forgotten.clear)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            intruder.run(scene.set)
        if not intruder.done:
            break
        names = [item["descriptor"]["json"] for item in scene.node.snapshot().objects]
        assert "forgotten" not in names
        scene.node.close()
        at += 1
    forgotten[0].close()
    scene.node.close()
    assert at > 50
    assert "never closed" in caplog.text  # where no warning can be given


def test_what_needs_an_answer_is_refused_in_the_middle_of_an_operation() -> None:
    node = LocalNode()
    refusals: list[RuntimeError] = []

    def ask() -> None:
        for question in (
            node.snapshot,
            node.object("other").observe,
            lambda: contract.set_object_state([1], 1),
            contract.wait_assigned_sync,
        ):
            with pytest.raises(RuntimeError, match="leave the rest to a thread or task") as caught:
                question()
            refusals.append(caught.value)

    with node.object(WEATHER).expose() as contract:
        node._engine.call(lambda _machine, _now: ask())
    assert len(refusals) == 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer that signals")
def test_a_storm_of_signals_that_set_harms_nothing() -> None:
    node = LocalNode()
    signals = 0

    def handler(_number: int, _frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        contract.set_object_data(["signal", signals])

    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline or signals < 50:
                contract.set_object_data(["main", signals])
                watcher.object_data()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        contract.set_object_data("end")
        assert watcher.object_data() == "end"
        check(node._engine._machine)


def test_a_log_handler_may_use_the_node_that_logs() -> None:
    node = LocalNode()

    class Handler(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            contract.set_object_data(record.getMessage())

    handler = Handler()
    logging.getLogger("hakuban").addHandler(handler)
    try:
        with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
            contract.set_object_state([2**60], "new")
            contract.set_object_state([1], "old")
            assert "was ignored" in str(watcher.object_data())
    finally:
        logging.getLogger("hakuban").removeHandler(handler)


# ---- fork -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_node_does_not_survive_fork() -> None:
    node = LocalNode()
    contract = node.object(WEATHER).expose()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        def operation(_machine: object, _now: float) -> None:
            entered.set()
            leave.wait(10)

        node._engine.call(operation)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)  # the lock is held while the process forks
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if refuses_in_the_child(node, contract) else 2
        finally:
            os._exit(code)
    leave.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    contract.set_object_data(1)
    contract.close()


def refuses_in_the_child(node: LocalNode, contract: hakuban.ObjectExpose[Any]) -> bool:
    signal.alarm(10)
    refused = 0
    for use in (
        node.snapshot,
        node.object(WEATHER).observe,
        lambda: contract.set_object_data(1),
        lambda: contract.wait_assigned_sync(timeout=1),
        lambda: next(iter(contract)),
    ):
        try:
            use()
        except NodeForkedError:
            refused += 1
    with contract, node:  # leaving blocks of the parent is quiet
        pass
    fresh = LocalNode()
    with fresh.object(WEATHER).observe() as watcher, fresh.object(WEATHER).expose() as exposer:
        exposer.set_object_data(1)
        return refused == 5 and watcher.object_data() == 1
