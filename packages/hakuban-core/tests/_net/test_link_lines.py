"""What the log and `last_error` say of links: one line for one fact, never without a reason, fit for a terminal."""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager, suppress
from time import time_ns
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import pytest
from anyio.lowlevel import checkpoint
from typing_extensions import override

import hakuban
from hakuban import LocalNode
from hakuban._session_events import Note
from hakuban.testing import MemoryTransport, cut_links
from support.memory_links import Wrapping, raw_peer
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hakuban.transport import MessageStream, TransportOptions


class Failing(MemoryTransport):
    """The memory transport, which cannot be entered a few times."""

    def __init__(self, error: Exception, times: int = 1) -> None:
        self.error = error
        self.times = times

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        await checkpoint()
        if self.times > 0:
            self.times -= 1
            raise self.error
        async with super().connect(url, options) as stream:
            yield stream


class Wrapped:
    """A stream around another one: what a plugin's author writes, with a fault in one place."""

    def __init__(self, stream: MessageStream, error: Exception, fault: str) -> None:
        self.stream = stream
        self.error = error
        self.fault = fault

    def fail_at(self, place: str) -> None:
        if place == self.fault:
            raise self.error

    async def send(self, messages: Any, /) -> None:
        self.fail_at("send")
        await self.stream.send(messages)

    async def receive(self, /) -> Any:
        self.fail_at("receive")
        if self.fault == "peer_is_ours":
            await anyio.sleep_forever()  # who has said so itself is not asked about any more
        return await self.stream.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self.stream.aclose(code, reason)

    @property
    def remote_address(self) -> object:
        self.fail_at("remote_address")
        return getattr(self.stream, "remote_address", None)

    @property
    def peer_is_ours(self) -> bool:  # first asked by the task that watches the silence
        self.fail_at("peer_is_ours")
        return True


class Faulty(Wrapping):
    """A transport whose first streams have a bug, on the connecting or the accepting side."""

    def __init__(self, error: Exception, fault: str, times: int = 1) -> None:
        self.error = error
        self.fault = fault
        self.times = times
        self.made = 0

    @override
    def wrap(self, stream: Any) -> Any:
        self.made += 1
        return Wrapped(stream, self.error, self.fault if self.made <= self.times else "")

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
        async with super().connect(url, options) as wrapped, anyio.create_task_group() as group:
            if wrapped.fault == "background":
                group.start_soon(self.work)
            yield wrapped

    async def work(self) -> NoReturn:
        await checkpoint()
        raise self.error


class Mute(Exception):
    """Somebody else's exception, which says nothing."""

    @override
    def __str__(self) -> str:
        return ""


class Broken(Exception):
    """Somebody else's exception, which cannot even say nothing."""

    @override
    def __str__(self) -> str:
        raise ZeroDivisionError


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hakuban")


# ---- a reason is never empty ----------------------------------------------------------------------------------------

SILENT = [
    (TimeoutError(), "no answer within 7.5 s"),
    (ExceptionGroup("tasks", [TimeoutError()]), "no answer within 7.5 s"),
    (anyio.BrokenResourceError(), "the connection broke"),
    (anyio.EndOfStream(), "the other side closed the link"),
    (anyio.ClosedResourceError(), "this side closed the link"),
    (ConnectionRefusedError(), "nobody listens there"),
    (OSError(), "OSError"),
    (
        ExceptionGroup("tasks", [ConnectionResetError(), OSError("no route")]),
        "the other side, or the network, reset the connection; no route",
    ),
    (Mute(), "Mute"),
    (Broken(), "Broken"),
    (KeyError("x"), "KeyError: 'x'"),
    (hakuban.InvalidURLError("memory://x?token=sesame", "no port"), "no port"),
]


@pytest.mark.parametrize(("error", "words"), SILENT, ids=lambda value: repr(value)[:30])
async def test_a_reason_is_never_empty(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        LocalNode("lab").listen("memory://") as listener,
        LocalNode("oven").connect(
            listener.url, transport=Failing(error), wait=False, handshake_timeout=7.5
        ) as connection,
    ):
        statuses = aiter(connection.statuses())
        with anyio.fail_after(10):
            failed = await anext(statuses)
            while failed.error is None:
                failed = await anext(statuses)
            await connection.wait_up()
    assert caplog.messages[0] == (
        f"cannot connect to {listener.url}: {words}; trying again until it works"
    )
    assert failed.error is connection.last_error
    assert str(failed.error)
    assert isinstance(failed.error, OSError) or not isinstance(error, OSError)
    assert failed.error.__notes__ == [f"link: {listener.url}"]


async def test_a_link_that_broke_without_a_word_has_a_reason_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        LocalNode("lab").listen("memory://") as listener,
        LocalNode("oven").connect(listener.url) as connection,
    ):
        await until(lambda: listener.peers)
        cut_links(listener.url)
        await until(lambda: not connection.up)
        error = connection.last_error
        assert isinstance(error, hakuban.LinkError)
        assert (str(error), error.url) == ("the connection broke", listener.url)
        with anyio.fail_after(10):
            await connection.wait_up()
    assert [line.split(": ")[-1] for line in lines(caplog, logging.WARNING)] == [
        "the connection broke; trying again until it works"
    ]


async def test_the_cause_speaks_for_an_error_without_a_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = anyio.BrokenResourceError()
    error.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    async with (
        LocalNode().listen("memory://") as listener,
        LocalNode().connect(listener.url, transport=Faulty(error, "receive")) as connection,
    ):
        assert "Connection reset by peer" in str(connection.last_error)
    assert "Connection reset by peer" in lines(caplog, logging.WARNING)[0]


async def test_errors_say_where_and_keep_secrets(caplog: pytest.LogCaptureFixture) -> None:
    transport = Failing(hakuban.RefusedError("no such path", retry=False), times=99)
    url = "memory://ali:sesame@cave?token=sesame#name=ali"
    with pytest.raises(hakuban.RefusedError) as caught:
        async with LocalNode().connect(url, transport=transport):
            pass
    assert caught.value.url == "memory://...@cave?..."
    assert caught.value.__notes__ == ["link: memory://...@cave?..."]
    transport = Failing(TimeoutError(), times=99)
    async with LocalNode().connect(url, transport=transport, wait=False) as connection:
        await until(lambda: connection.last_error is not None)
        shown = f"{connection} {connection!r} {connection.last_error!r} {caplog.text}"
    assert "cave" in shown
    assert "sesame" not in shown


# ---- coming and going -----------------------------------------------------------------------------------------------


async def test_a_link_that_comes_and_goes_is_one_line_each_on_both_sides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with LocalNode("lab").listen("memory://") as listener:
        async with LocalNode("oven").connect(listener.url) as connection:
            await until(lambda: listener.peers)
            address = listener.peers[0].address
            assert connection.up
        await until(lambda: not listener.peers)
    assert sorted(caplog.messages) == sorted(
        [
            f"link up: lab at {listener.url} (memory)",
            f"link up: oven at {address} (memory)",
            f"link down: lab at {listener.url} (memory): closed by this side",
            f"link down: oven at {address} (memory): the other side closed the link (1000)",
        ]
    )
    assert {record.levelno for record in caplog.records} == {logging.INFO}


@pytest.mark.long
async def test_an_outage_is_told_once_and_so_is_its_end_with_its_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = "memory://coming-and-going"
    oven = LocalNode("oven")
    async with oven.connect(url, wait=False) as connection:
        await until(lambda: connection.last_error)
        async with LocalNode("lab").listen(url):
            await connection.wait_up()
            await anyio.sleep(1.1)  # a link has to last for a second to end an outage
        await until(lambda: not connection.up)
        statuses = aiter(connection.statuses())
        while (await anext(statuses)).attempts < 3:
            pass
        async with LocalNode("lab").listen(url):
            await connection.wait_up()
            cut_links(url)
            await until(lambda: not connection.up)
            await connection.wait_up()
    of_oven = [line for line in caplog.messages if "oven" not in line]
    up = f"link up: lab at {url} (memory)"
    closing = "the other side closed the link (1001): the listener is closing"
    patterns = [
        f"cannot connect to {url}: .*nobody listens.*; trying again until it works",
        f"{up}; the link to {url} is up after 0.[0-9] s",
        f"lost the link to lab at {url} (memory): {closing}; trying again until it works",
        f"{up}; the link to {url} is up again after 0.[0-9] s",
        f"link down: lab at {url} (memory): the connection broke",  # of the same outage: it was no good link
        up,
        f"link down: lab at {url} (memory): {closing}",
    ]
    assert len(of_oven) == len(patterns), of_oven
    for line, pattern in zip(of_oven, patterns, strict=True):
        escaped = re.escape(pattern).replace(r"\.\*", ".*").replace(r"\[0\-9\]", "[0-9]")
        assert re.fullmatch(escaped, line), (line, pattern)


async def test_a_cancelled_block_says_that_its_link_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with LocalNode("lab").listen("memory://") as listener:
        with anyio.CancelScope() as scope:
            async with LocalNode("oven").connect(listener.url):
                scope.cancel()
                await anyio.sleep_forever()
        await until(lambda: not listener.peers)
    assert f"link down: lab at {listener.url} (memory): closed by this side" in caplog.messages


async def test_a_listener_that_breaks_the_protocol_is_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    garbage = anyio.Event()

    class Nonsense(MemoryTransport):
        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            async with super().connect(url, options) as stream:
                receive = stream.receive
                heard = 0

                async def receive_or_garbage() -> Any:
                    nonlocal heard
                    heard += 1
                    if heard == 1 or garbage.is_set():
                        return await receive()
                    garbage.set()
                    return [b"\x00\x1b[31mgarbage"]

                stream.receive = receive_or_garbage  # type: ignore[method-assign]  # that is the point
                yield stream

    async with (
        LocalNode("lab").listen("memory://") as listener,
        LocalNode("oven").connect(listener.url, transport=Nonsense()) as connection,
    ):
        await garbage.wait()
        await until(lambda: connection.counters.reconnects == 1)
    [warning] = lines(caplog, logging.WARNING)
    assert re.fullmatch(
        r"lost the link to lab at memory://\d+ \(memory\): the other side broke the protocol: .+;"
        r" trying again until it works",
        warning,
    )


# ---- exceptions of our own ------------------------------------------------------------------------------------------

FAULTS = ["receive", "send", "peer_is_ours", "remote_address", "background"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a bug"),
        AssertionError(),
        ExceptionGroup("tasks", [KeyError("a bug"), OSError("gone")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_bug_is_told_once_with_its_traceback_and_tried_again(
    error: Exception, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = Faulty(error, fault, times=3)
    async with LocalNode("lab").listen("memory://") as listener:
        with anyio.fail_after(10):
            async with LocalNode("oven").connect(listener.url, transport=transport) as connection:
                while transport.made < 4:
                    await connection.wait_up()
                    await checkpoint()
                await connection.wait_up()
                assert repr(connection.last_error) == repr(error)
                assert str(connection.last_error)
    assert transport.made == 4
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert caplog.text.count("Traceback (most recent call last)") >= 1
    assert told.exc_info is not None
    assert re.match(r"(cannot connect to|lost the link to) ", told.getMessage())
    first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    assert type(first).__name__ in told.getMessage()
    assert not lines(caplog, logging.WARNING)


async def test_a_bug_reaches_the_statuses(caplog: pytest.LogCaptureFixture) -> None:
    error = ZeroDivisionError()
    transport = Faulty(error, "send", times=2)
    async with (
        LocalNode("lab").listen("memory://") as listener,
        LocalNode("oven").connect(listener.url, transport=transport, wait=False) as connection,
    ):
        statuses = aiter(connection.statuses())
        with anyio.fail_after(10):
            while (status := await anext(statuses)).error is None:
                pass
            assert status.error is error
            assert str(error) == "ZeroDivisionError"
            while not status.up:
                status = await anext(statuses)
    assert len(lines(caplog, logging.ERROR)) == 1


@pytest.mark.parametrize("fault", FAULTS[:4])
async def test_a_bug_in_a_link_of_a_listener_is_told_once_and_nobody_else_notices(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = LocalNode("router")
    transport = Faulty(ZeroDivisionError("a bug"), fault)
    async with (
        router.listen("memory://") as healthy,
        LocalNode("other").connect(healthy.url) as other,
        router.listen("memory://", transport=transport) as listener,
    ):
        with anyio.fail_after(10):
            async with LocalNode("oven").connect(listener.url, wait=False) as connection:
                await until(lambda: transport.made == 2)
                await connection.wait_up()
        assert other.up
        assert other.counters.reconnects == 0
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.exc_info is not None
    assert error.getMessage().startswith("link down: ")
    assert error.getMessage().endswith("ZeroDivisionError: a bug")


# ---- what peers write -----------------------------------------------------------------------------------------------


async def test_a_name_cannot_write_lines_nor_talk_to_the_terminal(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "lab\n2026-01-01 ERROR all is lost\x1b]0;title\x07\u202egnp"
    router, leaf = LocalNode(evil), LocalNode(evil)
    async with router.listen("memory://") as listener, leaf.connect(listener.url) as connection:
        await until(lambda: listener.peers)
        assert listener.peers[0].name == connection.remote_name == evil
        for shown in (router, leaf, listener, connection, *listener.peers):
            print(shown)
            print(repr(shown))
    text = caplog.text + capsys.readouterr().out
    assert "link up: lab\\n2026-01-01 ERROR all is lost\\x1b]0;title\\x07" in text
    assert "all is lost" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert not re.search("^2026-01-01 ERROR", text, re.MULTILINE)


async def test_a_close_reason_cannot_either(caplog: pytest.LogCaptureFixture) -> None:
    async with LocalNode("lab").listen("memory://") as listener:
        stream_closed = anyio.Event()

        class Rude(MemoryTransport):
            @override
            @asynccontextmanager
            async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
                async with super().connect(url, options) as stream:
                    await stream.aclose(1008, "no\r\n\x1b[2Jyes")
                    stream_closed.set()
                    yield stream

        async with LocalNode("oven").connect(listener.url, transport=Rude(), wait=False):
            await stream_closed.wait()
            await until(lambda: "link down: " in caplog.text)
    line = next(line for line in caplog.messages if line.startswith("link down: "))
    assert line.endswith("the other side closed the link (1008): no\\r\\n\\x1b[2Jyes")


def test_every_record_of_the_core_is_printable(caplog: pytest.LogCaptureFixture) -> None:
    node = LocalNode()
    with node.object(["\x1b[31m"], "\x9b").expose() as contract, suppress(TypeError):
        node._engine.update(
            contract,
            lambda: node._engine.log(logging.INFO, "%s has %d: %r", "\x1b[0m\n", 3, "\x07"),
        )
    logging.getLogger("hakuban").info("no arguments: 100%")
    logging.getLogger("hakuban").info("%(a)s", {"a": 1})
    assert caplog.messages == ["\\x1b[0m\\n has 3: '\\\\x07'", "no arguments: 100%", "1"]


# ---- exceptions that nobody writes, and somebody raises --------------------------------------------------------------


class Sealed(Exception):
    """Somebody else's exception, which takes no text, no note, and is neither true nor equal to anything."""

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("read only")

    @override
    def add_note(self, note: str, /) -> None:
        raise AttributeError("read only")

    @override
    def __str__(self) -> str:
        return ""

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    @override
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]  # that is the point


NOTED: list[tuple[Note, str]] = [
    (
        Note(node="a1", clock=time_ns() + 10**15),
        (
            "memory client # (memory): its clock is # s ahead of the one of this machine; no other node follows it:"
            " set one of them right"
        ),
    ),
    (
        Note(node="a1", ignored=(("a pot", "too deep"),)),
        "memory client # (memory) ignores a pot: too deep; what is ignored does not exist there",
    ),
    (
        Note(node="a1", version="x" * 100_000),
        "memory client # (memory): a note of # bytes (limit 65536); it was ignored",
    ),
]


@pytest.mark.parametrize(("note", "line"), NOTED, ids=["a clock", "what is ignored", "too large"])
async def test_what_a_note_reports_is_told_to_the_user(
    note: Note, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = LocalNode()
    async with router.listen("memory://") as listener, raw_peer(listener.url, note):
        await until(lambda: listener.peers)
        await until(lambda: len(caplog.messages) > 1)
        assert line in [re.sub(r"(client|is|of) \d+", r"\1 #", told) for told in caplog.messages]


@pytest.mark.parametrize("fault", ["enter", "send", "receive", "remote_address"])
async def test_an_exception_that_cannot_be_touched_is_tried_again_too(fault: str) -> None:
    async with LocalNode().listen("memory://") as listener:
        transport = Failing(Sealed()) if fault == "enter" else Faulty(Sealed(), fault)
        async with LocalNode().connect(listener.url, transport=transport, wait=False) as connection:
            with anyio.fail_after(10):
                await connection.wait_up()
            assert "Sealed" in str(connection.last_error)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
@pytest.mark.parametrize("fault", ["enter", "receive", "send"])
async def test_a_cancellation_that_nobody_asked_for_ends_no_connection(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A library under a transport has cancelled a future of its own, and waits for it."""
    import asyncio

    class Cancelling(MemoryTransport):
        made = 0

        @override
        @asynccontextmanager
        async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[Any]:
            self.made += 1
            if self.made == 1 and fault == "enter":
                await self.forgotten()
            async with super().connect(url, options) as stream:
                if self.made == 1:
                    setattr(stream, fault, self.forgotten)
                yield stream

        async def forgotten(self, *_: object) -> NoReturn:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
            raise AssertionError

    async with LocalNode().listen("memory://") as listener:
        async with LocalNode().connect(
            listener.url, transport=Cancelling(), wait=False
        ) as connection:
            with anyio.fail_after(10):
                await until(lambda: connection.last_error)
                await connection.wait_up()
            assert "nobody had asked" in str(connection.last_error)
    assert len(lines(caplog, logging.ERROR)) == 1
