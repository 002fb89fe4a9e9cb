"""Unix sockets are bound, connected to and used as those of TCP."""

from __future__ import annotations

import errno
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban.sockets import (
    SocketStream,
    address_text,
    bind_socket,
    connect_socket,
    prepare_socket,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakuban.sockets import Address

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX") or sys.platform == "win32", reason="there are no Unix sockets"
)


@pytest.fixture
def path() -> Iterator[str]:
    """A free path, short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="hk") as folder:
        yield str(Path(folder, "s"))


ABSTRACT = pytest.param(
    b"\0hakuban-test-sockets", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux's")
)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("/run/hakuban", "/run/hakuban"),
        (b"\0hakuban", "@hakuban"),
        ("", ""),
        (b"\0two\nlines\xff", r"@two\nlines\udcff"),
    ],
)
def test_paths_and_names_are_written_for_people(address: Address, text: str) -> None:
    assert address_text(address) == text


@pytest.mark.parametrize("place", ["a path", ABSTRACT])
async def test_a_stream_goes_through_a_unix_socket(place: str | bytes, path: str) -> None:
    address: Address = path if place == "a path" else place
    with ExitStack() as open_sockets:
        listening = open_sockets.enter_context(bind_socket(socket.AF_UNIX, address))
        connected = open_sockets.enter_context(await connect_socket(socket.AF_UNIX, address))
        accepted = open_sockets.enter_context(listening.accept()[0])
        for sock in (connected, accepted):
            prepare_socket(sock, nodelay=True)
            assert not sock.getblocking()
        here, there = SocketStream(connected), SocketStream(accepted)
        assert here.addresses() == ("", address_text(address))
        assert there.addresses() == (address_text(address), "")
        sent = bytes(range(256)) * 4_000
        received = b""
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                here.write(sent)
                group.start_soon(here.flush)
                while len(received) < len(sent):
                    there.receive_buffer.fit(len(received))  # small at first, and let grow then
                    received += await there.read()
            assert received == sent
            async with anyio.create_task_group() as group:
                group.start_soon(here.end)
                assert await there.read() == b""
                await there.end()
        here.close()
        there.close()


async def test_a_path_without_a_listener_is_an_error_that_names_it(path: str) -> None:
    with pytest.raises(FileNotFoundError, match=path):
        await connect_socket(socket.AF_UNIX, path)
    with (
        bind_socket(socket.AF_UNIX, path),
        pytest.raises(OSError, match=path) as caught,
    ):
        bind_socket(socket.AF_UNIX, path)
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(ConnectionRefusedError, match=path):
        await connect_socket(socket.AF_UNIX, path)


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse it, or let it wait")
async def test_a_full_queue_is_no_connection(path: str) -> None:
    with ExitStack() as open_sockets:
        listening = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(path)
        listening.listen(0)
        open_sockets.enter_context(await connect_socket(socket.AF_UNIX, path))
        with pytest.raises(BlockingIOError, match=path):
            open_sockets.enter_context(await connect_socket(socket.AF_UNIX, path))
