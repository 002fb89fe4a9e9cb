"""Questions to whoever authorises peers: what they raise, how many there are at a time, and which of them are given up."""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

from hakuban._transport import authorizing as _authorizing
from hakuban._transport.authorizing import NOBODY, THREADS, Authorizer, _Pool
from hakuban.transport import ConnectionRequest, Identity, RefusedError, TransportOptions, identify
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ANN = Identity("ann")
REQUEST = ConnectionRequest(url="memory://x")
WORKER = "hakuban authorises"
PATIENT = 60.0  # seconds for a handshake that nothing here waits for


def failing(error: BaseException) -> Authorizer:
    def fail(_request: ConnectionRequest) -> Identity:
        raise error

    return Authorizer(fail)


def refusal_by(authorizer: Authorizer) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        authorizer(REQUEST)
    return caught.value


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, GeneratorExit])
def test_whatever_a_plugin_raises_refuses_each_peer_for_now_and_is_logged_once(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    broken = failing(error())
    for _ in range(3):
        assert refusal_by(broken).retry
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [error]


def test_ctrl_c_goes_through_where_a_transport_asks_in_the_main_thread_and_nowhere_else() -> None:
    interrupted = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        interrupted(REQUEST)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(refusal_by, interrupted).result().retry


def test_who_is_nobody_need_not_come_again() -> None:
    assert not refusal_by(Authorizer(lambda _: None)).retry


@pytest.mark.parametrize("code", [0, 1, 4_000, 65_535])
def test_a_code_that_fits_into_two_bytes_reaches_the_peer(code: int) -> None:
    given = RefusedError("not today", retry=False, code=code)
    assert refusal_by(failing(given)) is given


@pytest.mark.parametrize("code", [-1, 65_536, 10**30, "1008", 1008.0])
def test_a_code_that_does_not_is_a_fault_of_the_plugin(
    code: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert refusal_by(failing(RefusedError("not today", retry=False, code=code))).retry
    assert "is no close code" in caplog.text


class Gate:
    """Lets in everybody, once it is open.

    :ivar asked: the paths of those about whom it was asked.
    """

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[str] = []

    def __call__(self, request: ConnectionRequest) -> Identity:
        self.asked.append(request.path)
        self.open.wait(PATIENT)
        return ANN


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == WORKER]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()
    for worker in workers():
        worker.join(10)
    assert not workers()


async def ask(authorize: Any, path: str = "", *, handshake_timeout: float = PATIENT) -> Identity:
    options = TransportOptions(authorize=authorize, handshake_timeout=handshake_timeout)
    identity = await identify(options, ConnectionRequest(url="memory://x", path=path))
    assert identity is not None
    return identity


async def test_eight_questions_are_asked_at_a_time_and_the_others_wait_their_turn(
    gate: Gate,
) -> None:
    answers = []

    async def wait() -> None:
        answers.append(await ask(gate))

    async with anyio.create_task_group() as group:
        for _ in range(2 * THREADS):
            group.start_soon(wait)
        await until(lambda: len(gate.asked) == THREADS)
        await anyio.wait_all_tasks_blocked()
        assert len(workers()) == THREADS
        assert all(worker.daemon for worker in workers()), "they would keep the process from ending"
        gate.open.set()
    assert answers == [ANN] * 2 * THREADS


async def test_a_question_that_is_given_up_before_it_was_asked_never_is(gate: Gate) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(THREADS):
            group.start_soon(ask, gate, "early")
        await until(lambda: len(gate.asked) == THREADS)
        with pytest.raises(RefusedError, match="too many peers wait") as caught:
            await ask(gate, "late", handshake_timeout=0.02)
        assert caught.value.retry
        with anyio.move_on_after(0.01):
            await ask(gate, "gone")
        gate.open.set()
    assert await ask(gate, "next") == ANN
    assert gate.asked == ["early"] * THREADS + ["next"]


async def test_peers_that_are_asked_about_for_too_long_come_again_and_that_is_logged_once(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Authorizer(gate)
    reasons = []

    async def wait() -> None:
        with pytest.raises(RefusedError, match="took longer than 1 s") as caught:
            await ask(guard, handshake_timeout=2.0)
        reasons.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
    assert [reason.retry for reason in reasons] == [True] * 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_where_no_thread_was_to_be_had_for_a_while_there_is_no_fewer_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    await until(lambda: not workers())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(THREADS):
            with pytest.raises(RefusedError, match="too many peers wait"):
                await ask(lambda _: ANN, handshake_timeout=0.01)
    assert await ask(lambda _: ANN) == ANN
    await until(lambda: not workers())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_asks_although_all_threads_of_its_parent_are_stuck(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_authorizing, "_pool", _Pool())  # as when a program starts

    async def fill() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(THREADS):
                group.start_soon(ask, gate)
            await until(lambda: len(gate.asked) == THREADS)
            group.cancel_scope.cancel()

    anyio.run(fill)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            answer = partial(ask, lambda _: ANN, handshake_timeout=10.0)
            code = 0 if anyio.run(answer) == ANN else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Exiting(logging.Handler):
    """Ends the program where something is logged: a mistake, which is made all the same."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit


async def test_a_log_that_ends_programs_refuses_a_peer_for_now_and_ends_no_thread() -> None:
    logger, handler = logging.getLogger("hakuban"), Exiting()
    asked: list[ConnectionRequest] = []

    def fail_once(request: ConnectionRequest) -> Identity:
        asked.append(request)
        if len(asked) == 1:
            raise ZeroDivisionError
        return ANN

    logger.addHandler(handler)
    try:
        with pytest.raises(RefusedError, match=NOBODY) as caught:
            await ask(fail_once)
    finally:
        logger.removeHandler(handler)
    assert caught.value.retry
    assert await ask(fail_once) == ANN
    await until(lambda: not workers())
