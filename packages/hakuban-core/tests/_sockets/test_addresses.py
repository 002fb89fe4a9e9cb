from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from hakuban._sockets import connecting
from hakuban.sockets import address_text, bind_sockets, find_host, prepare_socket
from support.addresses import needs_ipv6, resolve_to
from support.ports import free_port

if TYPE_CHECKING:
    from hakuban._sockets.addresses import Address


async def open_socket(name: str, port: int) -> socket.socket:
    """Connect to the first address of a host that takes the connection."""
    sock, _ = await (await find_host(name, port)).connect()
    return sock


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(
    ("address", "text"),
    [(("127.0.0.1", 80), "127.0.0.1:80"), (("::1", 3001, 0, 0), "[::1]:3001")],
)
def test_addresses_are_written_for_people(
    address: tuple[str, int] | tuple[str, int, int, int], text: str
) -> None:
    assert address_text(address) == text


async def test_of_two_addresses_that_answer_at_once_one_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = await bind_sockets("127.0.0.1", 0), await bind_sockets("127.0.0.1", 0)
    addresses = [(socket.AF_INET, sock.getsockname()) for sock in (*first, *second)]
    made: list[socket.socket] = []
    both = anyio.Event()
    connect_socket = connecting.connect_socket

    async def together(family: int, address: Address) -> socket.socket:
        sock = await connect_socket(family, address)
        made.append(sock)
        if len(made) < 2:
            await both.wait()
        both.set()
        return sock

    monkeypatch.setattr(connecting, "connect_socket", together)
    with anyio.fail_after(5):
        winner, _ = await connecting.Host("lab", 1, addresses).connect()
    assert len(made) == 2
    (loser,) = [sock for sock in made if sock is not winner]
    assert loser.fileno() == -1, "the other connection stays open for nobody"
    close([winner, *first, *second])


async def test_a_port_of_zero_is_chosen_and_can_be_connected_to() -> None:
    listening = await bind_sockets("127.0.0.1", 0)
    port = listening[0].getsockname()[1]
    connected = await open_socket("127.0.0.1", port)
    with connected:
        assert connected.getpeername() == ("127.0.0.1", port)
        assert not connected.getblocking()
    close(listening)


@needs_ipv6
async def test_a_name_is_bound_on_all_its_addresses_with_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "::1")
    listening = await bind_sockets("both", 0)
    assert [sock.getsockname()[0] for sock in listening] == ["127.0.0.1", "::1"]
    assert len({sock.getsockname()[1] for sock in listening}) == 1
    close(listening)


async def test_an_address_that_this_machine_lacks_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "192.0.2.1", "127.0.0.1")
    listening = await bind_sockets("both", 0)
    assert [sock.getsockname()[0] for sock in listening] == ["127.0.0.1"]
    close(listening)


async def test_a_port_in_use_on_one_address_is_an_error_and_leaves_nothing_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.2", port)):
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
        with pytest.raises(OSError, match=f"127.0.0.2:{port}"):
            await bind_sockets("both", port)
        monkeypatch.undo()
        close(await bind_sockets("127.0.0.1", port))


@needs_ipv6
async def test_the_ipv6_wildcard_leaves_ipv4_to_others() -> None:
    port = free_port()
    first = await bind_sockets("::", port)
    second = await bind_sockets("0.0.0.0", port)
    close(first + second)


async def test_a_port_in_use_is_an_error_that_names_the_address() -> None:
    listening = await bind_sockets("127.0.0.1", 0)
    port = listening[0].getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1:{port}") as caught:
        await bind_sockets("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE
    close(listening)


async def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match=r"192.0.2.1:0") as caught:
        await bind_sockets("192.0.2.1", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


async def test_a_port_can_be_bound_again_right_after_its_connections_ended() -> None:
    port = free_port()
    listening = await bind_sockets("127.0.0.1", port)
    with await open_socket("127.0.0.1", port):
        await anyio.wait_readable(listening[0])
        listening[0].accept()[0].close()  # the side that closes first keeps the port in TIME_WAIT
    close(listening)
    close(await bind_sockets("127.0.0.1", port))


async def test_nobody_listening_is_an_error_that_names_the_address() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
        await open_socket("127.0.0.1", port)


async def test_the_address_of_a_name_that_answers_is_taken_and_all_are_named_when_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    listening = await bind_sockets("127.0.0.1", port)
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    with await open_socket("both", port) as connected:
        assert connected.getpeername()[0] == "127.0.0.1"
    close(listening)
    with pytest.raises(OSError, match=f"both port {port}") as caught:
        await open_socket("both", port)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert f"127.0.0.2:{port}" in str(caught.value)


async def test_an_unknown_name_is_an_oserror() -> None:
    with pytest.raises(OSError, match=r"no address for the name name\.invalid"):
        await open_socket("name.invalid", 1)
    with pytest.raises(OSError, match=r"no address for the name name\.invalid"):
        await bind_sockets("name.invalid", 0)


async def test_an_address_that_does_not_answer_delays_the_next_by_a_quarter_second_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    listening = await bind_sockets("127.0.0.1", port)
    silent = socket.create_server(("127.0.0.2", port), backlog=0)
    filling = []
    for _ in range(4):  # its queue is full from here on: connecting hangs
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.2", port))
        filling.append(sock)

    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    with anyio.fail_after(5):
        connected = await open_socket("both", port)
    with connected:
        assert connected.getpeername()[0] == "127.0.0.1"
    close([*listening, *filling, silent])


async def test_connecting_can_be_cancelled() -> None:
    silent = socket.create_server(("127.0.0.1", 0), backlog=0)
    filling = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(silent.getsockname())
        filling.append(sock)
    with anyio.move_on_after(0.05) as scope:
        await open_socket(*silent.getsockname())
    assert scope.cancelled_caught
    close([*filling, silent])


@pytest.mark.skipif(sys.platform != "linux", reason="the option is read back as on Linux")
async def test_small_messages_are_not_delayed_and_little_waits_in_the_kernel() -> None:
    listening = await bind_sockets("127.0.0.1", 0)
    with await open_socket(*listening[0].getsockname()) as sock:
        prepare_socket(sock, nodelay=False)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        prepare_socket(sock, nodelay=True)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, 25) == 16 * 1024
    close(listening)
