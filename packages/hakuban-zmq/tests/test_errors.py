"""Each error says where it was and what to do, and carries no text of a stranger's to a terminal as it is."""

from __future__ import annotations

import copy
import logging
import pickle
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban.transport import LinkError, PeerViolationError, RefusedError, TransportOptions
from hakuban_zmq import InsecureListenerError, KeyFileError, ZeroMQTransport, write_keys
from hakuban_zmq._frames import BYE, DATA, MAX_REASON, Refusal, encode_bye, read_hello
from support.waiting import until
from support.zeromq import LOCAL, accepting, end_of, raw_client, raw_listener, serve_alone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from pathlib import Path

RUDE = "\x1b[31mred\r\nERROR all is lost\u202e" + "x" * 5_000


async def error_of(trying: Awaitable[object]) -> Exception:
    with anyio.fail_after(5), pytest.raises((OSError, hakuban.HakubanError)) as caught:
        await trying
    return caught.value


async def connect(url: str, transport: ZeroMQTransport | None = None, **options: Any) -> None:
    async with (transport or ZeroMQTransport()).connect(url, TransportOptions(**options)):
        pass


async def listen(url: str, transport: ZeroMQTransport | None = None) -> None:
    await serve_alone(transport or ZeroMQTransport(), url)


def expect_help(error: Exception, where: str, step: str) -> None:
    """Expect a text that helps, and that all of the error survives."""
    text = str(error)
    assert where in text
    assert step in text
    assert text.isprintable()
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == text
        assert vars(again) == vars(error)


# ---- nobody there, or somebody else ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "step"),
    [
        ("zmq+tcp://127.0.0.1:1", "start a listener there"),
        ("zmq+ipc:///nobody/there", "start a listener there"),
        ("zmq+inproc://nobody", "listen first, in this process"),
        ("zmq+tcp://nobody.invalid:1", "look at its name"),
    ],
)
async def test_who_connects_to_nobody_is_told_so(url: str, step: str) -> None:
    expect_help(await error_of(connect(url)), url, step)


@contextmanager
def silent_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Let everybody connect, and say nothing."""
    with socket.create_server((host, 0)) as server:
        yield f"zmq+tcp://{host}:{server.getsockname()[1]}"


@pytest.mark.parametrize("seconds", [0.2, 0.35])
async def test_a_listener_that_says_nothing_is_told_with_the_time_that_it_had(
    seconds: float,
) -> None:
    with silent_server() as url:
        error = await error_of(connect(url, handshake_timeout=seconds))
    assert isinstance(error, TimeoutError)
    expect_help(error, f"{url}: no answer within {seconds} s", "is it a listener of hakuban")


async def test_a_name_whose_addresses_say_nothing_is_told_with_the_time_of_all() -> None:
    with silent_server("localhost") as url:
        error = await error_of(connect(url, handshake_timeout=0.4))
    assert isinstance(error, TimeoutError)
    assert "no answer within 0." in str(error)


async def test_a_node_that_tries_on_says_what_it_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with silent_server() as url, hakuban.LocalNode() as node:
        async with node.connect(url, wait=False, handshake_timeout=0.2) as connection:
            await until(lambda: connection.last_error is not None)
    assert f"cannot connect to {url}: {url}: no answer within 0.2 s" in caplog.text


async def test_a_stranger_that_answers_something_else_is_told() -> None:
    with raw_listener() as listener:
        async with anyio.create_task_group() as group:

            async def answer() -> None:
                name, data = await listener.parts()
                listener.send(name, bytes([DATA]) + read_hello(data).session)

            group.start_soon(answer)
            error = await error_of(connect(listener.url))
    assert isinstance(error, RefusedError)
    expect_help(error, listener.url, "is no listener of hakuban")


# ---- no ------------------------------------------------------------------------------------------------------------


async def refused_with(reason: str, *, retry: bool = False) -> tuple[str, Exception]:
    """Have a stranger refuse; give where, and what it came to."""
    with raw_listener() as listener:
        async with anyio.create_task_group() as group:

            async def refuse() -> None:
                name, data = await listener.parts()
                listener.send(name, Refusal(reason, retry).encode(read_hello(data).session))

            group.start_soon(refuse)
            error = await error_of(connect(listener.url))
    return listener.url, error


@pytest.mark.parametrize(
    ("retry", "step"), [(True, "try again later"), (False, "ask whoever runs")]
)
async def test_a_refusal_says_who_refused_and_whether_to_try_again(
    *, retry: bool, step: str
) -> None:
    where, error = await refused_with("not today", retry=retry)
    assert isinstance(error, RefusedError)
    assert error.retry is retry
    expect_help(error, f"{where} refused the link: not today", step)
    where, error = await refused_with("", retry=retry)
    expect_help(error, f"{where} refused the link: it gave no reason", step)


async def test_what_a_stranger_says_is_cut_and_has_no_control_characters() -> None:
    where, error = await refused_with(RUDE)
    expect_help(error, where, r"\x1b[31mred\r\nERROR all is lost\u202e")
    assert len(str(error)) < MAX_REASON + 200
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            client.send(encode_bye(client.other, 1000, RUDE))
            assert isinstance(await end_of(stream), anyio.EndOfStream)
            assert stream.close_reason is not None
            assert stream.close_reason.isprintable()
            assert len(stream.close_reason) < MAX_REASON + 200


async def test_a_strangers_goodbye_writes_no_lines_into_the_log_of_a_node(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with hakuban.LocalNode() as node, raw_listener() as listener:
        async with node.connect(listener.url, wait=False) as connection:
            name, hello = await listener.welcome()
            listener.send(name, encode_bye(hello.session, 1000, RUDE))
            await until(lambda: connection.last_error is not None)
            assert str(connection.last_error).isprintable()
    assert any("ERROR all is lost" in line for line in caplog.messages), "its reason is logged"
    assert all(record.getMessage().isprintable() for record in caplog.records)


# ---- rules ----------------------------------------------------------------------------------------------------------


async def test_who_breaks_the_rules_is_named_with_what_to_do() -> None:
    cases: list[tuple[dict[str, Any], int, bytes, int, str]] = [
        ({}, BYE, b"", 1002, "both sides need a hakuban-zmq"),
        ({"max_message": 5}, DATA, b"\0\0\0\x06longer", 1009, "raise max_message"),
    ]
    for options, kind, body, code, step in cases:
        async with accepting(**options) as (url, accepted):
            with raw_client(url) as client:
                await client.enter()
                stream = await accepted.receive()
                client.send_frame(kind, body)
                error = await end_of(stream)
                assert isinstance(error, PeerViolationError)
                assert error.code == code
                expect_help(error, "127.0.0.1:", step)


async def test_a_stream_that_has_ended_says_why() -> None:
    async with accepting() as (url, accepted):
        async with ZeroMQTransport().connect(url, TransportOptions()) as stream:
            await (await accepted.receive()).aclose(1000, "done")
            await end_of(stream)
            with pytest.raises(anyio.BrokenResourceError, match="the other side closed the link"):
                await stream.send([b"x"])
            await stream.aclose()
            for call in (stream.receive, lambda: stream.send([b"x"])):
                with pytest.raises(anyio.ClosedResourceError, match="this side has closed"):
                    await call()


# ---- addresses to listen on -----------------------------------------------------------------------------------------


async def test_who_cannot_listen_is_told_what_to_do(tmp_path: Path) -> None:
    for where in (LOCAL, f"zmq+ipc://{tmp_path}/s", "zmq+inproc://taken"):
        async with accepting(where) as (url, _):
            expect_help(await error_of(listen(url)), url, "take another")
    (tmp_path / "file").write_text("precious")
    for url, step in (
        (f"zmq+ipc://{tmp_path}/file", "take another path"),
        (f"zmq+ipc://{tmp_path}/missing/s", "make the folder first"),
    ):
        expect_help(await error_of(listen(url)), url, step)
    foreign = "zmq+tcp://192.0.2.1:3001"  # nobody's: RFC 5737
    error = await error_of(listen(foreign, ZeroMQTransport(insecure=True)))
    expect_help(error, foreign, "an address that this machine has")


# ---- certificates ---------------------------------------------------------------------------------------------------


async def test_what_is_wrong_with_certificates_is_told_with_what_to_do(tmp_path: Path) -> None:
    public, secret = write_keys(tmp_path, "listener")
    stranger_public, stranger = write_keys(tmp_path, "stranger")
    (tmp_path / "nobody").mkdir()
    (tmp_path / "no equals sign").write_text("public-key\n")
    (tmp_path / "too large").write_text(f'public-key = "{"#" * 40}"\n')
    for name in ("missing", "no equals sign", "too large"):
        path = tmp_path / name
        error = await error_of(listen(LOCAL, ZeroMQTransport(secret_key_file=path)))
        assert isinstance(error, KeyFileError)
        assert error.path == str(path)
        expect_help(error, f"{path}: cannot be read", "hakuban-zmq-keygen makes")
    error = await error_of(listen("zmq+tcp://0.0.0.0:0"))
    assert isinstance(error, InsecureListenerError)
    expect_help(error, "0.0.0.0", "insecure=True")
    listening = ZeroMQTransport(secret_key_file=secret, client_keys=tmp_path / "nobody")
    async with accepting(transport=listening) as (url, _):
        for server, step in (
            (public, "HAKUBAN_ZMQ_CLIENT_KEYS"),
            (stranger_public, "HAKUBAN_ZMQ_SERVER_KEY_FILE"),
        ):
            transport = ZeroMQTransport(secret_key_file=stranger, server_key_file=server)
            expect_help(await error_of(connect(url, transport)), url, step)
        error = await error_of(connect(url, handshake_timeout=1.0))
        assert isinstance(error, (OSError, LinkError))
        expect_help(error, url, "CURVE")
