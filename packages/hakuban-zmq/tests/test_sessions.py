"""Links and their sessions: a new process, a restarted listener, a new connection are always a new link."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from hakuban import LocalNode
from hakuban.transport import (
    MessageStream,
    PeerViolationError,
    RefusedError,
    TransportOptions,
)
from hakuban_zmq import ZeroMQTransport
from hakuban_zmq._frames import (
    BYE,
    BYE_ACK,
    DATA,
    HEADER,
    HELLO,
    PING,
    PONG,
    RESET,
    SESSION,
    VERSION,
    Hello,
    Refusal,
    Welcome,
    chunks,
    encode_bye,
    frame,
    read_answer,
    read_bye,
    read_hello,
)
from support.raw_wires import reset
from support.waiting import until
from support.zeromq import (
    WIDE,
    accepting,
    end_of,
    peer_process,
    raw_client,
    raw_listener,
    serving,
)
from support.zmtp import framed, greet, take_from

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

A, B = b"a" * SESSION, b"b" * SESSION


async def test_both_sides_say_a_session_and_the_listener_says_its_clock() -> None:
    async with accepting(clock=lambda: 1_234_567) as (url, _):
        with raw_client(url) as one, raw_client(url) as two:
            first, second = await one.enter(A), await two.enter(A)
    assert first.clock == second.clock == 1_234_567
    assert first.version == VERSION
    assert first.session != second.session


async def test_the_connecting_side_knows_the_clock_of_the_listener() -> None:
    with raw_listener() as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(listener.welcome)
            async with ZeroMQTransport().connect(listener.url, TransportOptions()) as stream:
                assert stream.peer_clock == 123
                assert stream.peer_is_ours
                assert stream.remote_address == listener.url


async def test_each_attempt_has_a_session_of_its_own() -> None:
    sessions = set()
    with raw_listener() as listener:
        for _ in range(3):
            async with anyio.create_task_group() as group:

                async def welcome() -> None:
                    while True:
                        name, data = await listener.parts()
                        if data[0] == HELLO:
                            sessions.add(data[1:HEADER])
                            listener.send(name, Refusal("no", retry=True).encode(data[1:HEADER]))

                group.start_soon(welcome)
                with pytest.raises(RefusedError):
                    async with ZeroMQTransport().connect(listener.url, TransportOptions()):
                        pass
                group.cancel_scope.cancel()
    assert len(sessions) == 3


@pytest.mark.parametrize("kind", [DATA, PING, 77])
async def test_a_frame_of_an_unknown_session_is_answered_with_a_reset(kind: int) -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            client.send(frame(kind, A, b"xyz"))
            assert await client.frame() == frame(RESET, A)
        with pytest.raises(anyio.WouldBlock):
            accepted.receive_nowait()


@pytest.mark.parametrize("kind", [BYE, BYE_ACK, RESET])
async def test_a_goodbye_of_an_unknown_session_is_not_answered(kind: int) -> None:
    async with accepting() as (url, _):
        with raw_client(url) as client:
            client.send(frame(kind, A, b"xyz"))
            assert await client.until_silent() == []


async def test_a_reset_ends_the_link_of_the_connecting_side_at_once() -> None:
    with raw_listener() as listener:
        async with anyio.create_task_group() as group:

            async def forget() -> None:
                name, hello = await listener.welcome()
                _, data = await listener.parts()
                listener.send(name, frame(RESET, A))  # somebody else's
                listener.send(name, frame(PING, hello.session))
                assert (await listener.parts())[1][0] == PONG
                listener.send(name, frame(RESET, data[1:HEADER]))

            group.start_soon(forget)
            async with ZeroMQTransport().connect(listener.url, TransportOptions()) as stream:
                await stream.send([b"are you still the same?"])
                error = await end_of(stream)
                assert isinstance(error, anyio.BrokenResourceError)
                assert "restarted" in str(error)
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.send([b"x"])


async def test_frames_of_another_session_are_dropped_and_answered_with_a_reset() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter(A)
            stream = await accepted.receive()
            for data in chunks([b"of an earlier link"], B):
                client.send(data)
            assert await client.frame(RESET) == frame(RESET, B)
            for data in chunks([b"of this one"], client.other):
                client.send(data)
            assert list(await stream.receive()) == [b"of this one"]


async def test_a_connection_has_one_link_and_another_hello_is_a_violation() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter(A)
            stream = await accepted.receive()
            client.send(Hello(B, VERSION, WIDE).encode())
            error = await end_of(stream)
            assert isinstance(error, PeerViolationError)
            assert "hello twice" in error.reason


async def test_the_same_identity_from_a_new_connection_is_a_new_link() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url, routing_id=b"the same") as client:
            await client.enter(A)
            old = await accepted.receive()
            session = client.other
        assert isinstance(await end_of(old), anyio.BrokenResourceError)
        with raw_client(url, routing_id=b"the same") as client:
            client.other = session
            client.send_frame(PING)
            assert await client.frame() == frame(RESET, session)
        with raw_client(url, routing_id=b"the same") as client:
            await client.enter(A)
            new = await accepted.receive()
        assert isinstance(await end_of(new), anyio.BrokenResourceError)


async def test_the_end_of_one_connection_is_not_taken_for_the_end_of_its_successor() -> None:
    async with accepting() as (url, accepted), AsyncExitStack() as stack:
        client = stack.enter_context(raw_client(url))
        await client.enter()
        stream = await accepted.receive()
        for number in range(50):
            # the new connection gets the descriptor of the old one, or the one after it
            client.socket.close()
            successor = stack.enter_context(raw_client(url))
            await successor.enter()
            new = await accepted.receive()
            assert isinstance(await end_of(stream), anyio.BrokenResourceError)
            for data in chunks([b"%d" % number], successor.other):
                successor.send(data)
            assert list(await new.receive()) == [b"%d" % number]
            client, stream = successor, new


async def test_the_same_hello_again_changes_nothing() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter(A)
            await accepted.receive()
            client.send(Hello(A, VERSION, WIDE).encode())
            client.send_frame(PING)
            assert (await client.frame())[0] == PONG
            with pytest.raises(anyio.WouldBlock):
                accepted.receive_nowait()


async def test_another_version_is_refused_in_words_and_for_good() -> None:
    async with accepting() as (url, _):
        with raw_client(url) as client:
            client.send(Hello(A, VERSION + 1, WIDE).encode() + b"and what it knows more")
            answer = read_answer(await client.frame(), A)
    assert isinstance(answer, Refusal)
    assert answer.retry is False
    assert f"version {VERSION}" in answer.reason


async def test_who_is_no_listener_of_ours_is_given_up() -> None:
    with raw_listener() as listener:
        async with anyio.create_task_group() as group:

            async def babble() -> None:
                name, data = await listener.parts()
                listener.send(name, b"hello yourself")  # for no session of ours: not heard
                listener.send(name, frame(PONG, data[1:HEADER]))

            group.start_soon(babble)
            with pytest.raises(RefusedError, match="is no listener of hakuban") as caught:
                async with ZeroMQTransport().connect(listener.url, TransportOptions()):
                    pass
            assert caught.value.retry is False


async def test_a_listener_that_says_nothing_is_waited_for_no_longer_than_allowed() -> None:
    options = TransportOptions(handshake_timeout=0.3)
    with raw_listener() as listener, anyio.fail_after(2), pytest.raises(TimeoutError):
        async with ZeroMQTransport().connect(listener.url, options):
            pass


async def test_closing_tells_code_and_reason_and_waits_until_they_are_heard() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            async with anyio.create_task_group() as group:
                group.start_soon(stream.aclose, 4000, "grüße")
                assert read_bye(await client.frame(BYE)) == (4000, "grüße")
                client.send_frame(BYE_ACK)


async def test_who_does_not_say_that_it_heard_is_waited_for_one_second() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            started = time.monotonic()
            await stream.aclose()
            assert 0.9 < time.monotonic() - started < 2


async def test_what_was_sent_before_goodbye_is_received_before_the_end() -> None:
    async with accepting() as (url, accepted):
        with raw_client(url) as client:
            await client.enter()
            stream = await accepted.receive()
            for data in chunks([b"last words"], client.other):
                client.send(data)
            client.send(encode_bye(client.other, 1001, "going away"))
            await client.frame(BYE_ACK)
            assert list(await stream.receive()) == [b"last words"]
            assert isinstance(await end_of(stream), anyio.EndOfStream)
            assert (stream.close_code, stream.close_reason) == (1001, "going away")


# ---- processes ------------------------------------------------------------------------------------------------------


async def test_a_killed_listener_is_noticed_at_once_and_its_successor_is_a_new_link() -> None:
    async with peer_process("listen") as first:
        async with ZeroMQTransport().connect(first.url, TransportOptions()) as stream:
            await stream.send([b"one"])
            assert list(await stream.receive()) == [b"one"]
            first.process.kill()
            killed = time.monotonic()
            assert isinstance(await end_of(stream), anyio.BrokenResourceError)
            assert time.monotonic() - killed < 1
            assert stream.close_code == 1006
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        async with ZeroMQTransport().connect(first.url, TransportOptions()):
            pass
    assert time.monotonic() - started < 0.5
    async with peer_process("listen", first.url) as second:
        assert second.url == first.url
        async with ZeroMQTransport().connect(first.url, TransportOptions()) as stream:
            await stream.send([b"two"])
            assert list(await stream.receive()) == [b"two"]


async def test_a_restarted_router_has_its_nodes_back_within_a_second() -> None:
    node = LocalNode()
    async with peer_process("route") as first, node.connect(first.url) as connection:
        first.kill()
        await until(lambda: not connection.up)
        async with peer_process("route", first.url):
            listening = time.monotonic()
            await until(lambda: connection.up)
            assert time.monotonic() - listening < 1


async def test_a_killed_client_is_noticed_at_once() -> None:
    async with accepting() as (url, accepted), peer_process("connect", url) as client:
        stream = await accepted.receive()
        client.process.kill()
        killed = time.monotonic()
        assert isinstance(await end_of(stream), anyio.BrokenResourceError)
        assert time.monotonic() - killed < 1
        assert stream.close_code == 1006
        async with ZeroMQTransport().connect(url, TransportOptions()):
            await accepted.receive()


@pytest.mark.parametrize("url", ["zmq+tcp://127.0.0.1:0", "zmq+inproc://stops"])
async def test_a_listener_that_is_cancelled_says_so(url: str) -> None:
    scope, streams = anyio.CancelScope(), list[MessageStream]()

    async def serve(*, task_status: TaskStatus[str]) -> None:
        with scope:
            async with serving(hold, url) as bound:
                task_status.started(bound)
                await anyio.sleep_forever()

    async def hold(stream: MessageStream) -> None:
        streams.append(stream)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        bound = await group.start(serve)
        async with ZeroMQTransport().connect(bound, TransportOptions()) as stream:
            await until(lambda: streams)
            scope.cancel()
            assert isinstance(await end_of(stream), anyio.EndOfStream)
            assert (stream.close_code, stream.close_reason) == (1001, "the listener is closed")
            with pytest.raises((RefusedError, OSError)):
                async with ZeroMQTransport().connect(bound, TransportOptions()):
                    pass
    with pytest.raises(ConnectionRefusedError):
        async with ZeroMQTransport().connect(bound, TransportOptions()):
            pass


async def test_a_listener_that_is_gone_right_after_its_answer_is_missed_at_once() -> None:
    def answer_and_go(server: socket.socket) -> None:
        accepted, _ = server.accept()
        with accepted, accepted.makefile("rb") as file:
            hello = read_hello(next(greet(accepted.sendall, file.read, b"ROUTER")))
            welcome = Welcome(VERSION, B, 0, WIDE).encode(hello.session)
            accepted.sendall(framed(welcome))
            reset(accepted)

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"
        for _ in range(30):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, answer_and_go, server)
                try:
                    async with ZeroMQTransport().connect(url, TransportOptions()) as stream:
                        with anyio.fail_after(1):
                            assert isinstance(await end_of(stream), anyio.BrokenResourceError)
                except ConnectionResetError:
                    pass  # nothing was heard of the answer


async def test_what_came_before_the_connection_was_lost_is_received_before_that() -> None:
    words = [b"%d" % number for number in range(450)]  # more than a few turns of the loop take

    def welcome(server: socket.socket) -> tuple[socket.socket, bytes]:
        accepted, _ = server.accept()
        hello = read_hello(next(greet(accepted.sendall, partial(take_from, accepted), b"ROUTER")))
        accepted.sendall(framed(Welcome(VERSION, B, 0, WIDE).encode(hello.session)))
        return accepted, hello.session

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        url = f"zmq+tcp://127.0.0.1:{server.getsockname()[1]}"
        answering = pool.submit(welcome, server)
        async with ZeroMQTransport().connect(url, TransportOptions()) as stream:
            accepted, session = answering.result()
            with accepted:
                # all in one turn of the loop: libzmq has the words and the end before anybody looks
                accepted.sendall(b"".join(framed(*chunks([word], session)) for word in words))
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(65536):
                    pass
            got: list[bytes] = []
            with anyio.fail_after(10):
                while len(got) < len(words):
                    got += await stream.receive()
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
            assert got == words
