"""What people read when a link does not come about: the likely mistake, and the next step."""

from __future__ import annotations

import datetime as dt
import errno
import logging
import re
import socket
import ssl
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme
from typing_extensions import override

from hakuban import LocalNode
from hakuban.transport import MessageStream, RefusedError, TransportOptions
from hakuban_ws import WebSocketTransport
from hakuban_ws._tls_errors import describe_tls_error
from support.ports import free_port
from support.websocket import (
    CLOSE,
    FIN,
    UPGRADE,
    RawPeer,
    port_of,
    raw_client,
    raw_connection,
    raw_listener,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.streams.memory import MemoryObjectReceiveStream

    Spoil = Callable[[ssl.SSLContext, ssl.SSLContext], None]

CRYPTIC = ("_ssl.c", "ALERT", "[SSL", "Errno -")


class Said(logging.Handler):
    """Hands on the log of the listeners."""

    def __init__(self) -> None:
        super().__init__()
        self.send, self.lines = anyio.create_memory_object_stream[logging.LogRecord](100)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.send.send_nowait(record)


@asynccontextmanager
async def listeners_log() -> AsyncIterator[MemoryObjectReceiveStream[logging.LogRecord]]:
    """Give what listeners say, from DEBUG on."""
    logger, handler = logging.getLogger("hakuban.ws"), Said()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with handler.send, handler.lines:
            yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def next_of(lines: MemoryObjectReceiveStream[logging.LogRecord]) -> logging.LogRecord:
    with anyio.fail_after(5):
        return await lines.receive()


async def fail(stream: MessageStream) -> None:
    await stream.aclose()
    pytest.fail("nobody should have got here")


async def reach(url: str, **options: Any) -> None:
    async with WebSocketTransport().connect(url, TransportOptions(**options)):
        pytest.fail("this should not have been a link")


async def words(url: str, **options: Any) -> str:
    """Fail to connect, and give the words for it: never none, never cryptic ones."""
    with pytest.raises((OSError, RefusedError)) as caught:
        await reach(url, **options)
    text = str(caught.value)
    assert text
    assert text.isprintable()
    assert not [cryptic for cryptic in CRYPTIC if cryptic in text]
    return text


# -- TLS

authority = trustme.CA()
stranger = trustme.CA()
ours = authority.issue_cert("localhost", "127.0.0.1")
PAST = (dt.datetime(2019, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
FUTURE = (dt.datetime(2099, 1, 1, tzinfo=dt.UTC), dt.datetime(2099, 2, 1, tzinfo=dt.UTC))


def certified(period: tuple[dt.datetime, dt.datetime]) -> trustme.LeafCert:
    before, after = period
    return authority.issue_cert("localhost", "127.0.0.1", not_before=before, not_after=after)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Give a context for each side, without certificate and authority."""
    return (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(ssl.Purpose.SERVER_AUTH),
    )


def good(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    ours.configure_cert(listening)
    authority.configure_trust(connecting)


def demanding(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    good(listening, connecting)
    authority.configure_trust(listening)
    listening.verify_mode = ssl.CERT_REQUIRED


def demanding_in_1_2(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    demanding(listening, connecting)
    listening.maximum_version = ssl.TLSVersion.TLSv1_2


def demanding_another(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    demanding(listening, connecting)
    stranger.issue_cert("robot").configure_cert(connecting)


def demanding_a_newer(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    demanding(listening, connecting)
    certified(PAST).configure_cert(connecting)


def of_strangers(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    stranger.issue_cert("localhost", "127.0.0.1").configure_cert(listening)
    authority.configure_trust(connecting)


def of_another_host(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    authority.issue_cert("elsewhere.example").configure_cert(listening)
    authority.configure_trust(connecting)


def expired(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    certified(PAST).configure_cert(listening)
    authority.configure_trust(connecting)


def not_yet_valid(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    certified(FUTURE).configure_cert(listening)
    authority.configure_trust(connecting)


def without_a_certificate(_: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    authority.configure_trust(connecting)


def of_other_versions(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    good(listening, connecting)
    listening.minimum_version = ssl.TLSVersion.TLSv1_3
    connecting.maximum_version = ssl.TLSVersion.TLSv1_2


def of_other_ciphers(listening: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    good(listening, connecting)
    for context, size in ((listening, "128"), (connecting, "256")):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"AES{size}")


@pytest.mark.parametrize(
    ("spoil", "connecting_says", "listening_says"),
    [
        (demanding, "wants a client certificate.*ssl=", "gave no certificate"),
        (demanding_in_1_2, "client certificate.*ssl=", "gave no certificate"),
        (
            demanding_another,
            "authority of our certificate",
            "peer's certificate does not verify.*tls-client-ca",
        ),
        (demanding_a_newer, "our certificate has expired", "has expired.*clock"),
        (
            of_strangers,
            "the certificate does not verify.*cafile",
            "authority of this listener's certificate",
        ),
        (of_another_host, "does not verify.*a name that is in it", "certificate.*the name"),
        (expired, "has expired.*clock", "this listener's certificate has expired"),
        (not_yet_valid, "not yet valid.*clock", "does not accept"),
        (without_a_certificate, "no cipher in common", "load_cert_chain"),
        (of_other_versions, "no version of TLS in common.*maximum_version", "version of TLS"),
        (of_other_ciphers, "no cipher in common", "no cipher in common"),
    ],
)
async def test_both_sides_say_what_is_wrong_with_tls(
    spoil: Spoil, connecting_says: str, listening_says: str
) -> None:
    listening, connecting = contexts()
    spoil(listening, connecting)
    async with (
        listeners_log() as lines,
        serving(fail, "wss://127.0.0.1:0", ssl=listening) as url,
    ):
        text = await words(url, ssl=connecting)
        record = await next_of(lines)
    said = record.getMessage()
    assert_matches(connecting_says, text)
    assert_matches(listening_says, said)
    assert record.levelno == logging.INFO
    assert not [cryptic for cryptic in CRYPTIC if cryptic in said]


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


async def test_tls_to_a_plain_listener_names_the_other_scheme() -> None:
    _, connecting = contexts()
    async with (
        listeners_log() as lines,
        serving(fail) as url,
    ):
        text = await words(url.replace("ws:", "wss:"), ssl=connecting)
        said = (await next_of(lines)).getMessage()
    assert_matches("does not speak TLS.*ws://", text)
    assert_matches("wss://", said)


@pytest.mark.parametrize(
    "request_",
    [
        UPGRADE + b"\r\n",
        b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_what_is_no_tls_on_a_tls_port_is_said_in_words(request_: bytes) -> None:
    listening, connecting = contexts()
    good(listening, connecting)
    async with (
        listeners_log() as lines,
        serving(fail, "wss://127.0.0.1:0", ssl=listening) as url,
        await raw_connection(url) as peer,
    ):
        await peer.send(request_)
        await peer.rest()
        said = (await next_of(lines)).getMessage()
    assert_matches("connect with wss://", said)
    assert not [cryptic for cryptic in CRYPTIC if cryptic in said]


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
async def test_who_leaves_in_the_tls_handshake_is_said_to_have_left(sent: bytes) -> None:
    listening, connecting = contexts()
    good(listening, connecting)
    async with (
        listeners_log() as lines,
        serving(fail, "wss://127.0.0.1:0", ssl=listening) as url,
    ):
        async with await raw_connection(url) as peer:
            if sent:
                await peer.send(sent)
        said = (await next_of(lines)).getMessage()
    assert_matches("the connection ended in the TLS handshake", said)


async def test_ws_to_a_tls_listener_names_the_other_scheme() -> None:
    listening, connecting = contexts()
    good(listening, connecting)
    async with serving(fail, "wss://127.0.0.1:0", ssl=listening) as url:
        assert_matches("wss://", await words(url.replace("wss:", "ws:")))


@pytest.mark.parametrize("listening", [True, False])
def test_what_openssl_has_no_name_for_is_a_sentence_too(*, listening: bool) -> None:
    for reason in (None, "", "SOMETHING_NEW"):
        error = ssl.SSLError(1, "something new (_ssl.c:1)")
        error.reason = reason  # type: ignore[assignment]  # None, where OpenSSL knows no name
        text = describe_tls_error(error, listening=listening)
        assert text
        assert "openssl s_client" in text
        assert "_ssl.c" not in text


# -- HTTP


def answering(response: bytes) -> Callable[[RawPeer], Awaitable[None]]:
    async def talk(peer: RawPeer) -> None:
        await peer.head()
        await peer.send(response)

    return talk


@pytest.mark.parametrize(
    ("response", "says", "retry"),
    [
        (b"200 OK\r\n\r\n<html>\n", "another server", False),
        (b"200 OK\r\n\r\nhakuban ok\n", "proxy", False),
        (b"204 No Content\r\n\r\n", "another server", False),
        (b"301 Moved\r\nLocation: wss://b/c?token=x\r\n\r\n", r"wss://b/c\?\.\.\.", False),
        (b"307 Moved\r\n\r\n", "connect to where it leads", False),
        (b"400 Bad\r\n\r\n", "wss://", False),
        (b"401 Unauthorized\r\n\r\nwho?\n", "who?.*Authorization", False),
        (b"403 Forbidden\r\n\r\nnot on a Sunday\n", "not on a Sunday.*not let in", False),
        (b"404 Not Found\r\n\r\n", "path", True),
        (b"405 No\r\n\r\n", "host, port and path", False),
        (b"407 Proxy\r\n\r\n", "proxy", False),
        (b"408 Timeout\r\n\r\n", "later", True),
        (b"425 Too Early\r\n\r\n", "later", True),
        (b"426 Upgrade\r\n\r\n", "another version", False),
        (b"429 Too Many\r\n\r\n", "later", True),
        (b"451 Law\r\n\r\n", "host, port and path", False),
        (b"500 Oops\r\n\r\n", "its log", True),
        (b"502 Bad Gateway\r\n\r\n", "its log", True),
        (b"503 Full\r\n\r\n", "later", True),
        (b"599 What\r\n\r\n", "its log", True),
    ],
)
async def test_an_answer_in_http_becomes_a_sentence(
    response: bytes, says: str, *, retry: bool
) -> None:
    async with raw_listener(answering(b"HTTP/1.1 " + response)) as url:
        with pytest.raises(RefusedError) as caught:
            await reach(url)
        assert caught.value.retry is retry
        text = await words(url)
    assert_matches(f"HTTP {response[:3].decode()}.*{says}", text)
    assert "token" not in text
    assert "<" not in text


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS on one side only.*wss://"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "another protocol"),
        (b"HTTP/1.1 101 \x1b[2J\r\n\r\n", "no WebSocket there"),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: \x1b[2J" + b"x" * 5000 + b"\r\n\r\n",
            "no WebSocket there",
        ),
    ],
)
async def test_what_is_no_answer_in_http_becomes_a_sentence(response: bytes, says: str) -> None:
    async with raw_listener(answering(response)) as url:
        text = await words(url)
    assert_matches(says, text)
    assert len(text) < 500


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("rude", [False, True], ids=["end", "reset"])
async def test_a_connection_that_ends_too_early_is_a_question(*, secure: bool, rude: bool) -> None:
    async def talk(peer: RawPeer) -> None:
        await peer.exactly(5)
        if rude:
            await peer.reset()

    async with raw_listener(talk) as url:
        where = f"127.0.0.1:{port_of(url)}"
        text = await words(url.replace("ws:", "wss:") if secure else url)
    assert_matches(where, text)
    assert_matches("ended the connection.*is it a wss:// listener", text)


# -- nobody


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_silence_is_named_with_the_time_that_was_given(*, secure: bool) -> None:
    async def talk(peer: RawPeer) -> None:
        await peer.rest()

    async with raw_listener(talk) as url:
        with pytest.raises(TimeoutError) as caught:
            await reach(url.replace("ws:", "wss:") if secure else url, handshake_timeout=0.25)
    text = str(caught.value)
    assert_matches(rf"127\.0\.0\.1:{port_of(url)}: no answer within 0\.25 s", text)


async def test_a_node_that_waits_says_so_in_its_log(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(peer: RawPeer) -> None:
        heard.set()
        await peer.rest()

    heard = anyio.Event()
    async with raw_listener(talk) as url:
        node = LocalNode()
        async with node.connect(url, wait=False, handshake_timeout=0.2) as connection:
            with anyio.fail_after(5):
                await heard.wait()
                heard = anyio.Event()
                await heard.wait()  # the next attempt
            assert "no answer within 0.2 s" in str(connection.last_error or caplog.text)
    assert "no answer within 0.2 s" in caplog.text
    assert ": ;" not in caplog.text


async def test_a_name_that_nobody_knows_is_named() -> None:
    text = await words("ws://name.invalid:3001")
    assert_matches("name.invalid.*spelled", text)


async def test_nobody_there_is_named_with_the_address() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}") as caught:
        await reach(f"ws://127.0.0.1:{port}")
    assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("sent", [b"", UPGRADE[:20]])
async def test_a_listener_says_who_kept_it_waiting_for_how_long(sent: bytes) -> None:
    async with (
        listeners_log() as lines,
        serving(fail, handshake_timeout=0.25) as url,
        await raw_connection(url) as peer,
    ):
        if sent:
            await peer.send(sent)
        await peer.rest()
        said = (await next_of(lines)).getMessage()
    assert_matches(r"127\.0\.0\.1:\d+.*within 0\.25 s", said)


# -- health checks, and who else asks


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD / HTTP/1.0\r\n\r\n",
    ],
)
async def test_health_checks_are_answered_alike_and_stay_out_of_the_log(request_: bytes) -> None:
    async with (
        listeners_log() as lines,
        serving(fail) as url,
        await raw_connection(url) as peer,
    ):
        await peer.send(request_)
        head, _, body = (await peer.rest()).partition(b"\r\n\r\n")
        record = await next_of(lines)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 11" in head
    assert body == (b"" if request_.startswith(b"HEAD") else b"hakuban ok\n")
    assert (b"\r\nAllow: " in head) is request_.startswith(b"OPTIONS")
    assert record.levelno == logging.DEBUG


@pytest.mark.parametrize(("sent", "level"), [(b"", logging.DEBUG), (b"GET / HT", logging.INFO)])
async def test_who_connects_and_leaves_without_a_word_is_a_health_check_too(
    sent: bytes, level: int
) -> None:
    async with listeners_log() as lines, serving(fail) as url:
        async with await raw_connection(url) as peer:
            await peer.send(sent)
        record = await next_of(lines)
    assert record.levelno == level


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /x?token=hunter2 HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        (b"\x1b]0;hunter2\x07\r\n", "400"),
        (UPGRADE + b"Origin: http://\x1b[2J?token=hunter2\r\n\r\n", "40"),
        (UPGRADE.replace(b"?a=1", b"?token=hunter2") + b"Origin: http://evil\r\n\r\n", "403"),
    ],
)
async def test_others_are_one_line_without_what_they_wrote(request_: bytes, status: str) -> None:
    async with (
        listeners_log() as lines,
        serving(fail) as url,
        await raw_connection(url) as peer,
    ):
        await peer.send(request_)
        await peer.rest()
        record = await next_of(lines)
    said = record.getMessage()
    assert record.levelno == logging.INFO
    assert status in said
    assert said.isprintable()
    assert "hunter2" not in said


@pytest.mark.parametrize("rude", [False, True], ids=["close", "reset"])
async def test_a_link_that_has_ended_says_how_to_its_reader_and_to_its_writer(
    *, rude: bool
) -> None:
    async with raw_client() as (stream, peer):
        if rude:
            await peer.reset()
        else:
            await peer.frame(FIN | CLOSE, b"\x03\xe8")
        with anyio.fail_after(5):
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)) as read:
                await stream.receive()
            with pytest.raises(anyio.BrokenResourceError) as written:
                await stream.send([b"x"])
    assert_matches("reset" if rude else "^$", str(read.value).lower())
    assert_matches("reset" if rude else "the other side has closed", str(written.value).lower())


async def test_who_does_not_take_the_connection_is_named_with_the_time() -> None:
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full from here on
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        where = f"127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=rf"{where}: no answer within 0\.25 s.*firewall"):
            await reach(f"ws://{where}", handshake_timeout=0.25)
