"""What a listener claims: it takes nobody's address, and gives all back, also when it gets but a part of what it wants."""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from typing_extensions import override

from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._address_claims import claim_address
from hakuban_zmq._urls import parse_url
from support.addresses import resolve_to
from support.zeromq import accepting, linked, serve_alone

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="it is so on Linux alone")

ABSTRACT = f"zmq+ipc://@hakuban-claiming-{os.getpid()}"  # a machine has no two of one name
PATH = "zmq+ipc:///s"
NAME = "zmq+inproc://claiming"
PORT = "zmq+tcp://127.0.0.1:0"


async def not_bound(url: str) -> OSError:
    """Fail to listen; give the error, which holds the frames of all that has failed, and so what they have not closed."""
    with anyio.fail_after(5), pytest.raises(OSError) as caught:  # noqa: PT011 # the caller looks at it
        await serve_alone(ZeroMQTransport(), url)
    return caught.value


@pytest.fixture
def folders() -> Iterator[Path]:
    """Give the folder in which the folders of names are made; its path is short, as those of sockets have to be."""
    with tempfile.TemporaryDirectory(prefix="t-") as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", made)
        yield Path(made)


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


# ---- addresses of others --------------------------------------------------------------------------------------------


@contextmanager
def somebody_busy(address: str) -> Iterator[socket.socket]:
    """Listen, and have so many knock and wait that nobody else can."""
    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as waiting:
        listening.bind(address)
        listening.listen(0)
        while True:
            knocking = waiting.enter_context(socket.socket(socket.AF_UNIX))
            knocking.setblocking(False)
            if knocking.connect_ex(address):
                break
        # who waits until it has time would wait for ever
        late = threading.Timer(20, listening.close)
        late.start()
        try:
            yield listening
        finally:
            late.cancel()
            late.join()


@needs_linux
@pytest.mark.parametrize("kind", ["a path", "an abstract name"])
async def test_who_is_too_busy_to_answer_listens_nevertheless(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "s")
    address, url = (
        (path, f"zmq+ipc://{path}")
        if kind == "a path"
        else ("\0" + ABSTRACT.partition("@")[2], ABSTRACT)
    )
    with somebody_busy(address) as listening:
        assert "is in use; stop who listens there" in str(await not_bound(url))
        listening.accept()[0].close()
        with socket.socket(socket.AF_UNIX) as late:  # it is still to be found there
            late.connect(address)


# ---- the mode of a path ---------------------------------------------------------------------------------------------


@pytest.fixture
def no_mask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@needs_linux
@pytest.mark.usefixtures("no_mask")
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666], ids=oct)
async def test_a_path_is_made_with_its_mode_which_nobody_sets_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    # by then, in a folder of several users, it might be the path of something else
    changed: list[int] = []
    monkeypatch.setattr("pathlib.Path.chmod", lambda _, mode: changed.append(mode))
    async with accepting(f"zmq+ipc://{tmp_path}/s", ZeroMQTransport(ipc_mode=mode)):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    assert not changed


# ---- a part of what was wanted --------------------------------------------------------------------------------------


async def test_a_host_with_an_address_that_is_taken_leaves_the_others_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "127.0.0.3", "127.0.0.2")
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        error = await not_bound(f"zmq+tcp://lab:{port}")
        assert f"127.0.0.2:{port}: Address already in use" in str(error)
        socket.create_server(("127.0.0.3", port)).close()


async def test_a_name_without_room_for_its_path_leaves_no_folder(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folders / ("deep" * 30)  # more than a socket's address can hold
    deep.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(deep))
        error = await not_bound(NAME)
        assert NAME in str(error)
        assert not left_in(deep)
    async with linked(NAME) as (one, two):  # and the name is free
        await one.send([b"x"])
        assert list(await two.receive()) == [b"x"]
        assert len(left_in(folders)) == 2
    assert left_in(folders) == [deep]


class Interruption(BaseException):
    """Ctrl-C, that comes where a socket was just about to be bound."""


@pytest.mark.parametrize("url", [PORT, NAME, PATH], ids=["ports", "a name", "a path"])
async def test_who_is_interrupted_while_it_claims_keeps_nothing(
    folders: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    bound: list[socket.socket] = []

    class Socket(socket.socket):
        @override
        def bind(self, address: object, /) -> None:
            bound.append(self)
            if url == PORT and len(bound) == 1:
                super().bind(address)  # type: ignore[arg-type]
                return
            raise Interruption

    if url == PATH:
        url = f"zmq+ipc://{folders}/s"
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(socket, "socket", Socket)
    endpoint = parse_url(url, listening=True)
    with pytest.raises(Interruption):
        claim_address(endpoint, await endpoint.resolve(), 0o600)
    monkeypatch.undo()
    assert bound
    assert [sock.fileno() for sock in bound] == [-1] * len(bound)
    assert not left_in(folders)


# ---- what is given back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ports", "a name", "a path", "an abstract name"])
async def test_an_address_that_is_given_back_is_gone_before_anybody_has_served_there(
    folders: Path, kind: str
) -> None:
    if kind == "an abstract name" and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    urls = {"ports": PORT, "a name": NAME, "an abstract name": ABSTRACT}
    endpoint = parse_url(urls.get(kind, f"zmq+ipc://{folders}/s"), listening=True)
    for _ in range(2):
        claim = claim_address(endpoint, await endpoint.resolve(), 0o600)
        endpoint = claim.endpoint  # with its port
        address = claim.sockets[0].getsockname()
        with socket.socket(claim.sockets[0].family) as early:
            early.connect(address)
        claim.release()
        assert all(sock.fileno() == -1 for sock in claim.sockets)
        assert not left_in(folders)
        with socket.socket(early.family) as late, pytest.raises(OSError):  # noqa: PT011 # any
            late.connect(address)


async def test_a_listener_that_is_stopped_before_it_serves_gives_all_back(folders: Path) -> None:
    for url in (NAME, f"zmq+ipc://{folders}/s"):
        for _ in range(2):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await serve_alone(ZeroMQTransport(), url)
            assert not left_in(folders)
