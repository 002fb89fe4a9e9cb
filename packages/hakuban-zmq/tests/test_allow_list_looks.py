"""Looks at the list of those let in: when the next one is made, which of them fail, and what is believed of a file."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
import zmq
from zmq.utils import z85

from hakuban_zmq import _allow_list
from hakuban_zmq._allow_list import AllowList
from hakuban_zmq._certificates import Unusable, read_public_key
from hakuban_zmq._refusals import Refusals
from support.logs import lines_with
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hakuban_zmq._certificates import Stamp

STRANGER = z85.encode(bytes(range(32)))
LONG = 10_000.0  # seconds: no test lasts so long
AT_ONCE, NEVER = -(10**18), 10**18  # nanoseconds, after which a file is settled


def allow(directory: Path, name: str) -> bytes:
    """Put a certificate into a directory, and give its key."""
    key, _ = zmq.curve_keypair()
    (directory / name).write_text(f'curve\n    public-key = "{key.decode()}"\n')
    return key


def when_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], object]) -> None:
    """Let something happen before each file is opened, where the look is made."""

    def read(path: str) -> tuple[bytes, Stamp]:
        happens(Path(path))
        return read_public_key(path)

    monkeypatch.setattr(_allow_list, "read_public_key", read)


@asynccontextmanager
async def watching(allowed: AllowList) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(allowed.watch)
        await at_rest()
        yield
        tasks.cancel_scope.cancel()


async def at_rest() -> None:
    """Wait until nothing goes on without something new; whoever looks again and again never rests."""
    with anyio.fail_after(10):
        await anyio.wait_all_tasks_blocked()


# ---- what is believed of a file -------------------------------------------------------------------------------------


def test_a_file_without_a_key_is_read_again_while_it_is_new(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    when_read(monkeypatch, lambda path: read.append(path.name))
    (directory / "empty.key").touch()
    allowed = AllowList(directory)
    monkeypatch.setattr(_allow_list, "_SETTLED", NEVER)
    for times in (1, 2, 3):  # it might have got a key within the tick of a coarse clock
        allowed.read()
        assert len(read) == times
    monkeypatch.setattr(_allow_list, "_SETTLED", AT_ONCE)
    allowed.read()
    read.clear()
    allowed.read()
    assert not read


def test_a_file_that_could_not_be_read_is_tried_again_however_old_it_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_allow_list, "_SETTLED", AT_ONCE)
    key = allow(directory, "who.key")
    allowed = AllowList(directory)
    when_read(monkeypatch, fail)
    for _ in range(2):
        allowed.read()
        assert key not in allowed
    when_read(monkeypatch, lambda _: None)
    allowed.read()
    assert key in allowed
    assert len(lines_with(caplog, "who.key lets nobody in: it cannot be read: ")) == 1


def test_a_file_that_goes_while_its_directory_is_looked_at_is_no_fault(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allow(directory, "gone.key")
    when_read(monkeypatch, Path.unlink)
    allowed = AllowList(directory)
    allowed.read()
    assert (allowed.known, allowed.looks) == (frozenset(), 1)
    assert not caplog.messages


def test_of_a_link_to_nothing_it_is_said_that_it_is_one(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "who.key").symlink_to("nothing")
    AllowList(directory).read()
    assert caplog.messages == [f"{directory}/who.key lets nobody in: it is a link to nothing"]


@pytest.mark.parametrize(("broken", "more"), [(9, []), (10, []), (11, ["1 more files"])])
def test_files_are_counted_when_there_are_more_than_are_named(
    directory: Path, caplog: pytest.LogCaptureFixture, broken: int, more: list[str]
) -> None:
    for number in range(broken):
        (directory / f"{number}.key").touch()
    AllowList(directory).read()
    assert len(lines_with(caplog, "lets nobody in")) == min(broken, 10)
    assert [text[:12] for text in lines_with(caplog, "more files")] == more


def test_a_file_that_grows_too_large_while_it_is_read_is_no_certificate(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    grows = directory / "grows.key"
    key = allow(directory, grows.name)
    grows.write_text(grows.read_text().ljust(64 * 1024, "#"))  # as large as it may be
    real = os.read

    def read(descriptor: int, most: int) -> bytes:
        text = real(descriptor, most)
        with grows.open("a") as file:
            file.write("#")
        return text

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        allowed = AllowList(directory)
        allowed.read()
        assert key not in allowed
    assert len(lines_with(caplog, "it has more than 65536 bytes")) == 1


# ---- what cannot be looked at ---------------------------------------------------------------------------------------


def test_a_directory_that_nobody_may_ask_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_: Path) -> bool:  # as it is for other users than root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.raises(Unusable, match="is no directory"):
        AllowList(tmp_path / ("long" * 100)).read()  # too long for a name
    monkeypatch.setattr("pathlib.Path.is_dir", forbidden)
    with pytest.raises(Unusable, match="is no directory"):
        AllowList(tmp_path).read()


def test_a_fault_of_ours_is_told_with_where_it_was_and_one_of_the_system_without(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Path) -> None:
        raise LookupError("a fault of ours")

    key = allow(directory, "who.key")
    allowed = AllowList(directory)
    allowed.read()
    elsewhere = directory.rename(directory.with_name("elsewhere"))
    allowed.read()
    elsewhere.rename(directory)
    allowed.read()
    assert key in allowed
    allow(directory, "new.key")
    when_read(monkeypatch, fail)
    allowed.read()
    assert key not in allowed
    system, ours = caplog.records
    assert "No such file or directory" in system.getMessage()
    assert system.exc_info is None
    assert ours.getMessage() == "nobody is let in: a fault of ours"
    assert (ours.exc_info or [None])[0] is LookupError


# ---- when there is a look -------------------------------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Give what sets the pauses: after a look, and when nobody hurries. Looks are made by the loop itself, and count as no work."""

    def look(look: _allow_list._Look, returned: anyio.Event) -> None:
        look.run()
        returned.set()

    def pause(hurried: float, period: float) -> None:
        monkeypatch.setattr(_allow_list, "_HURRIED", hurried)
        monkeypatch.setattr(_allow_list, "_PERIOD", period)

    monkeypatch.setattr(_allow_list, "_run_in_daemon", look)
    monkeypatch.setattr(_allow_list, "_SHARE", 0)
    return pause


async def test_who_hurries_gets_one_look_and_without_anybody_there_is_none_before_its_time(
    directory: Path, pauses: Callable[[float, float], None]
) -> None:
    pauses(0, LONG)
    allowed = AllowList(directory)
    allowed.read()
    async with watching(allowed):
        assert allowed.looks == 1
        for looks in (2, 3):
            assert not await allowed.admits(STRANGER)
            await at_rest()
            assert allowed.looks == looks
        key = allow(directory, "who.key")
        allowed.hurry()
        await at_rest()
        assert allowed.looks == 4
        assert key in allowed


async def test_a_look_is_followed_by_a_pause_however_much_somebody_hurries(
    directory: Path, pauses: Callable[[float, float], None]
) -> None:
    pauses(LONG, 2 * LONG)
    allowed = AllowList(directory)
    allowed.read()
    async with watching(allowed):
        allowed.hurry()
        await at_rest()
        assert allowed.looks == 1


async def test_after_a_look_that_was_much_work_the_pause_is_long(
    directory: Path, pauses: Callable[[float, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses(0, LONG)
    spent = itertools.count(0, LONG)
    allowed = AllowList(directory)
    allowed.read()
    async with watching(allowed):
        monkeypatch.setattr(_allow_list, "_SHARE", 9)
        monkeypatch.setattr(time, "thread_time", lambda: next(spent))
        assert not await allowed.admits(STRANGER)
        allowed.hurry()
        await at_rest()
        assert allowed.looks == 2


async def test_the_rest_of_many_refusals_is_told_though_nobody_else_is_refused(
    directory: Path, pauses: Callable[[float, float], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pauses(0, LONG)
    now = 5.0
    allowed = AllowList(directory)
    allowed.refusals = Refusals(lambda: now)
    for _ in range(12):
        allowed.refusals.report("10.0.0.7", STRANGER.decode())
    async with watching(allowed):
        now = 6.0
        allowed.hurry()
        await at_rest()
        assert lines_with(caplog, "more keys") == ["2 more keys were not allowed"]


# ---- threads --------------------------------------------------------------------------------------------------------


async def test_no_program_waits_at_its_end_for_the_thread_that_looks(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[threading.Thread] = []
    when_read(monkeypatch, lambda _: seen.append(threading.current_thread()))
    key = allow(directory, "who.key")
    allowed = AllowList(directory)
    async with watching(allowed):
        assert await allowed.admits(key)
    (thread,) = seen
    assert thread is not threading.current_thread()
    assert thread.daemon


async def test_without_threads_nobody_is_let_in_until_there_are_some_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_allow_list, "_HURRIED", 0)
    monkeypatch.setattr(_allow_list, "_PERIOD", LONG)
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "hakuban allow-list":
            raise RuntimeError("can't start new thread")
        real(thread)

    key = allow(directory, "who.key")
    allowed = AllowList(directory)
    allowed.read()
    async with watching(allowed):
        with monkeypatch.context() as patch, anyio.fail_after(5):
            patch.setattr(threading.Thread, "start", start)
            assert await allowed.admits(key)
            for _ in range(3):
                assert not await allowed.admits(STRANGER)
            assert key not in allowed
            assert allowed.known == {key}
            assert allowed.looks == 1
        with anyio.fail_after(5):
            assert await allowed.admits(key)
    (text,) = lines_with(caplog, "nobody is let in")
    assert text.endswith("can't start new thread")


async def test_who_asks_before_a_look_that_does_not_return_is_answered_when_it_is_late(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_allow_list, "_LATE", 0.2)
    returns, answers = threading.Event(), list[bool]()
    key = allow(directory, "who.key")
    when_read(monkeypatch, lambda _: returns.wait())
    allowed = AllowList(directory)

    async def ask() -> None:
        answers.append(await allowed.admits(key))

    async with anyio.create_task_group() as asking, watching(allowed):
        try:
            asking.start_soon(ask)
            await until(lambda: answers)
            assert (answers, allowed.looks) == ([False], 0)
        finally:
            returns.set()
        await until(lambda: key in allowed)
    assert lines_with(caplog, "nobody is let in") == [
        f"nobody is let in: {directory} does not answer"
    ]


async def test_a_look_that_gets_on_is_not_late_however_long_it_takes(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {allow(directory, f"{number}.key") for number in range(4)}
    at_file, goes_on = threading.Semaphore(0), threading.Semaphore(0)
    left = len(keys)
    real = anyio.move_on_after

    def read(_: Path) -> None:
        at_file.release()
        goes_on.acquire()

    def while_one_file_is_read(seconds: float) -> anyio.CancelScope:
        nonlocal left
        if seconds != _allow_list._LATE or not left:
            return real(seconds)
        left -= 1
        at_file.acquire()
        goes_on.release()
        if not left:
            return real(LONG)
        at_file.acquire()  # this one has been read, and the next one is reached
        at_file.release()
        return real(0)  # the time is up

    when_read(monkeypatch, read)
    monkeypatch.setattr(_allow_list, "_HURRIED", 0)
    monkeypatch.setattr(anyio, "move_on_after", while_one_file_is_read)
    allowed = AllowList(directory)
    async with watching(allowed):
        allowed.hurry()
        await until(lambda: allowed.looks)
        assert allowed.known == keys
    assert (left, caplog.messages) == (0, [])
