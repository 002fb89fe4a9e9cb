"""The list of those let in: what is read of a directory, when, and by whom."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
import zmq
import zmq.auth
from zmq.utils import z85

from hakuban_zmq import write_keys
from hakuban_zmq._allow_list import AllowList
from hakuban_zmq._certificates import Unusable, read_public_key
from hakuban_zmq._refusals import Refusals
from support.logs import lines_with
from support.processes import Program
from support.tracing import CallCounter
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

KIB = 1024
STRANGER = z85.encode(bytes(range(32)))


def certificate(key: bytes) -> str:
    return f'curve\n    public-key = "{key.decode()}"\n'


def allow(directory: Path, name: str) -> bytes:
    """Put a certificate into a directory, and give its key."""
    key, _ = zmq.curve_keypair()
    (directory / name).write_text(certificate(key))
    return key


def replace(path: Path, text: str) -> None:
    """Put a file in the place of another one, that is as old as one likes."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.utime(new, (1, 1))
    new.replace(path)


def take_away(directory: Path) -> Path:
    return directory.rename(directory.with_name("elsewhere"))


class Audit:
    """What the interpreter tells of calls of the system: it takes a hook, and never gives it back."""

    def __init__(self) -> None:
        self._told: Callable[[str, str], object] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._told is not None and event in ("open", "os.scandir"):
            self._told(event, str(arguments[0]))

    @contextmanager
    def tells(self, told: Callable[[str, str], object]) -> Iterator[None]:
        self._told = told
        try:
            yield
        finally:
            self._told = None


AUDIT = Audit()


class Barrier:
    """Stops looks at a directory where they begin, in their thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._open = threading.Event()
        self.waiting = 0

    def stop(self, event: str, path: str) -> None:
        if event == "os.scandir" and path == self._directory:
            self.waiting += 1
            self._open.wait()

    @contextmanager
    def up(self) -> Iterator[None]:
        with AUDIT.tells(self.stop):
            try:
                yield
            finally:
                self.open()

    def open(self) -> None:
        self._open.set()


@asynccontextmanager
async def watching(directory: Path) -> AsyncIterator[AllowList]:
    """Watch over a list; give it when it has been read."""
    allowed = AllowList(directory)
    allowed.read()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(allowed.watch)
        await anyio.wait_all_tasks_blocked()
        yield allowed
        tasks.cancel_scope.cancel()


# ---- files ----------------------------------------------------------------------------------------------------------


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def a_link_through_a_file(path: Path) -> None:
    path.symlink_to("good.key/file")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_large_file(path: Path) -> None:
    path.write_text(certificate(STRANGER) + "#" * 64 * KIB)


def a_binary_file(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


def an_empty_file(path: Path) -> None:
    path.touch()


def a_damaged_key(path: Path) -> None:
    path.write_text(certificate(STRANGER[:-1]))


ODD = (
    a_fifo, a_socket, a_device, a_loop, a_link_to_nothing, a_link_through_a_file, a_folder, a_large_file,
    a_binary_file, an_empty_file, a_damaged_key,
)  # fmt: skip


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_certificate_lets_nobody_in_keeps_nobody_out_and_is_told_once(
    directory: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    good = allow(directory, "good.key")
    make(directory / "odd.key")
    allowed = AllowList(directory)
    for _ in range(3):
        allowed.read()
        assert allowed.known == {good}
    assert len(lines_with(caplog, "odd.key lets nobody in")) == 1
    other = allow(directory, "new")
    if (directory / "odd.key").is_dir():
        (directory / "odd.key").rmdir()
    (directory / "new").replace(directory / "odd.key")
    allowed.read()
    assert allowed.known == {good, other}
    (directory / "odd.key").unlink()
    make(directory / "odd.key")
    allowed.read()
    assert allowed.known == {good}
    assert len(lines_with(caplog, "lets nobody in")) == 2


def test_a_writer_finds_nobody_at_the_other_end_of_a_fifo(directory: Path) -> None:
    fifo = directory / "fifo.key"
    os.mkfifo(fifo)
    touched: list[tuple[str, str]] = []
    with AUDIT.tells(lambda event, path: touched.append((event, path))):
        AllowList(directory).read()
        assert touched == [("os.scandir", str(directory))]
        with pytest.raises(Unusable, match="is no file"):  # it has just taken the place of a file
            read_public_key(str(fifo))
        assert touched[1:] == [("open", str(fifo))]


def test_a_file_is_as_large_as_it_is_when_it_is_read(directory: Path) -> None:
    text = certificate(STRANGER)
    (directory / "full.key").write_text(text + "#" * (64 * KIB - len(text)))
    allowed = AllowList(directory)
    allowed.read()
    assert allowed.known == {STRANGER}


def test_hidden_files_and_those_of_other_names_are_not_looked_at(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".hidden.key", "who.key_secret", "who.key~", "README"):
        allow(directory, name)
    allowed = AllowList(directory)
    allowed.read()
    assert not allowed.known
    assert not caplog.messages


def test_of_many_broken_files_ten_are_named_and_the_others_counted(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        (directory / f"{number}.key").touch()
    AllowList(directory).read()
    assert len(lines_with(caplog, "lets nobody in")) == 10
    assert len(lines_with(caplog, "30 more files")) == 1


KEY = STRANGER.decode()
OTHER = z85.encode(bytes(range(32, 64))).decode()


@pytest.mark.parametrize(
    "text",
    [
        f'public-key = "{KEY}"',
        f"public-key={KEY}",
        f"  public-key\t=\t'{KEY}'  \r\n",
        f'# public-key = "{OTHER}"\npublic-key = "{KEY}"\n',
        f'public-key = "{OTHER}"\npublic-key = "{KEY}"\n',
        f'public-key = "{KEY}"\nsecret-key = "{OTHER}"\npublic-key = "{OTHER}"\n',
        f'secret-key = "{OTHER}"\npublic-key = "{KEY}"\npublic-key = "{OTHER}"\n',
    ],
)
def test_the_same_key_is_found_as_by_zeromq(tmp_path: Path, text: str) -> None:
    (tmp_path / "who.key").write_text(text)
    key, stamp = read_public_key(str(tmp_path / "who.key"))
    assert key == zmq.auth.load_certificate(tmp_path / "who.key")[0] == KEY.encode()
    assert stamp.size == len(text)


def test_what_the_keygen_writes_is_let_in(directory: Path) -> None:
    public, _ = write_keys(directory, "who")
    allowed = AllowList(directory)
    allowed.read()
    assert zmq.auth.load_certificate(public)[0] in allowed


def test_no_directory_is_an_error_of_the_listener(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "file", "loop", "file/below"):
        with pytest.raises(Unusable, match="is no directory") as caught:
            AllowList(tmp_path / name).read()
        assert caught.value.path == str(tmp_path / name)


def test_only_what_has_changed_or_is_new_is_read_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def note(event: str, path: str) -> None:
        if event == "open" and path.endswith(".key"):
            opened.append(path.rpartition("/")[2])

    for name in ("a.key", "b.key", "c.key"):
        allow(directory, name)
    allowed = AllowList(directory)
    with AUDIT.tells(note):
        allowed.read()
        allowed.read()  # within the tick of a coarse clock they might have changed since
        assert sorted(opened) == ["a.key", "a.key", "b.key", "b.key", "c.key", "c.key"]
        monkeypatch.setattr("hakuban_zmq._allow_list._SETTLED", -(10**12))  # it is later now
        allowed.read()
        opened.clear()
        allowed.read()
        assert not opened
        key, _ = zmq.curve_keypair()
        replace(directory / "b.key", certificate(key))
        allowed.read()
        assert key in allowed
        assert opened == ["b.key"]


# ---- directories that cannot be read --------------------------------------------------------------------------------


def test_an_outage_lets_nobody_in_forgets_nobody_and_is_told_once(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key = allow(directory, "who.key")
    allowed = AllowList(directory)
    allowed.read()
    for outage in (1, 2):
        elsewhere = take_away(directory)
        for make in (lambda _: None, an_empty_file, a_loop):
            make(directory)
            allowed.read()
            assert key not in allowed
            assert allowed.known == {key}
            assert allowed.looks == outage
            directory.unlink(missing_ok=True)
        elsewhere.rename(directory)
        allowed.read()
        assert key in allowed
        assert len(lines_with(caplog, "nobody is let in")) == outage
        assert len(lines_with(caplog, "can be read again")) == outage


@pytest.mark.parametrize("free", [0, 1], ids=["the directory", "a file"])
def test_a_process_without_a_descriptor_takes_nobody_off_the_list(
    directory: Path, free: int
) -> None:
    key = allow(directory, "who.key")
    allowed = AllowList(directory)
    allowed.read()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(directory, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, before[1]))
    try:
        allowed.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert allowed.known == {key}
    assert allowed.looks == 1
    assert key not in allowed
    allowed.read()
    assert key in allowed


# ---- while a listener serves ----------------------------------------------------------------------------------------


async def test_who_is_known_is_let_in_without_a_look(directory: Path) -> None:
    key = allow(directory, "who.key")
    async with watching(directory) as allowed:
        assert await allowed.admits(key)
        assert allowed.looks == 1


async def test_whose_certificate_was_just_added_is_let_in_at_the_first_attempt(
    directory: Path,
) -> None:
    async with watching(directory) as allowed:
        for name in ("one.key", "two.key"):
            with anyio.fail_after(5):
                assert await allowed.admits(allow(directory, name))


async def test_a_change_is_noticed_without_anybody_asking(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban_zmq._allow_list._PERIOD", 0.5)
    async with watching(directory) as allowed:
        key = allow(directory, "who.key")
        await until(lambda: key in allowed)
        (directory / "who.key").unlink()
        await until(lambda: key not in allowed)


async def test_a_crowd_of_strangers_shares_one_look(directory: Path) -> None:
    answers: list[bool] = []
    async with watching(directory) as allowed:

        async def ask() -> None:
            answers.append(await allowed.admits(STRANGER))

        async with anyio.create_task_group() as crowd:
            for _ in range(1_000):
                crowd.start_soon(ask)
        assert answers == [False] * 1_000
        assert allowed.looks == 2


async def test_who_asks_during_a_look_waits_for_the_next_one(directory: Path) -> None:
    barrier, looks = Barrier(directory), 0

    async def ask() -> None:
        nonlocal looks
        await allowed.admits(STRANGER)
        looks = allowed.looks

    async with watching(directory) as allowed, anyio.create_task_group() as asking:
        with barrier.up():
            allowed.hurry()
            await until(lambda: barrier.waiting)
            asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
    assert looks == 3


@pytest.mark.long
async def test_a_look_that_does_not_return_is_the_only_one_and_lets_nobody_in(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hakuban_zmq._allow_list._LATE", 0.2)
    key, barrier = allow(directory, "who.key"), Barrier(directory)
    async with watching(directory) as allowed:
        with barrier.up(), anyio.fail_after(10):
            await until(lambda: barrier.waiting)
            assert await allowed.admits(key)
            assert not await allowed.admits(STRANGER)  # when it is late
            for _ in range(3):
                assert not await allowed.admits(key)
            assert lines_with(caplog, "nobody is let in") == [
                f"nobody is let in: {directory} does not answer"
            ]
            assert (barrier.waiting, allowed.looks) == (1, 1)
            assert allowed.known == {key}
            barrier.open()
            await until(lambda: key in allowed)
            assert await allowed.admits(allow(directory, "new.key"))  # which waits for a look again


async def test_the_end_of_a_listener_lets_nobody_wait(directory: Path) -> None:
    allowed = AllowList(directory)
    allowed.read()
    assert not await allowed.admits(STRANGER)  # nobody looks yet
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await allowed.admits(STRANGER))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as asking, anyio.create_task_group() as tasks:
            tasks.start_soon(allowed.watch)
            await anyio.wait_all_tasks_blocked()
            asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert answers == [False]


@pytest.mark.long
async def test_an_outage_is_told_once_and_its_end_is_noticed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = allow(directory, "who.key")
    monkeypatch.setattr("hakuban_zmq._allow_list._PERIOD", 0.5)
    async with watching(directory) as allowed:
        elsewhere = take_away(directory)
        await until(lambda: key not in allowed)
        for _ in range(3):
            assert not await allowed.admits(key)
        assert allowed.known == {key}
        assert len(lines_with(caplog, "nobody is let in")) == 1
        elsewhere.rename(directory)
        with anyio.fail_after(5):
            assert await allowed.admits(key)


@pytest.mark.long
async def test_a_look_at_5000_keys_is_no_more_work_for_the_loop_than_one_at_5(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban_zmq._allow_list._SHARE", 0)  # else there are long pauses
    text, loop, counts = certificate(STRANGER), threading.get_ident(), []
    threads: set[int] = set()
    for size in (5, 5_000):
        for number in range(size):
            (directory / f"{number}.key").write_text(text)
        async with watching(directory) as allowed:
            counter = CallCounter()
            with AUDIT.tells(lambda *_: threads.add(threading.get_ident())), counter.counted():
                for _ in range(2):
                    assert not await allowed.admits(OTHER.encode())
            assert allowed.looks == 3
        counts.append(counter.count)
    assert threads
    assert loop not in threads
    assert counts[1] < 2 * counts[0]


STUCK = """
import sys, threading, anyio, logging
from pathlib import Path
from hakuban_zmq import _allow_list

loop = threading.get_ident()
entered = threading.Event()

def stop(event, arguments):
    if event == "os.scandir" and threading.get_ident() != loop:
        entered.set()
        threading.Event().wait()

async def main():
    allowed = _allow_list.AllowList(Path(sys.argv[1]))
    allowed.read()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(allowed.watch)
        while not entered.is_set():
            await anyio.sleep(0)
        tasks.cancel_scope.cancel()
    print("cancelled", flush=True)

sys.addaudithook(stop)
anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_program_ends_though_a_look_does_not_return(directory: Path, backend: str) -> None:
    with Program([sys.executable, "-c", STUCK, str(directory), backend]) as program:
        assert program.out.next() == "cancelled"
        assert program.wait(20) == 0
        assert not program.err.seen


# ---- what is told of strangers --------------------------------------------------------------------------------------


def test_of_many_refusals_ten_a_second_are_told_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = 5.0
    refusals = Refusals(lambda: now)
    for _ in range(100):
        refusals.report("10.0.0.7", KEY)
    assert caplog.messages == [f"10.0.0.7: its key is not allowed: {KEY}"] * 10
    caplog.clear()
    refusals.report_rest()
    assert not caplog.messages
    now = 6.0
    refusals.report_rest()
    refusals.report_rest()
    assert caplog.messages == ["90 more keys were not allowed"]
    caplog.clear()
    for _ in range(11):
        refusals.report("10.0.0.7", KEY)
    assert len(caplog.messages) == 10
    now = 7.0
    refusals.report("10.0.0.8", KEY)
    assert caplog.messages[10:] == [
        "1 more keys were not allowed",
        f"10.0.0.8: its key is not allowed: {KEY}",
    ]
