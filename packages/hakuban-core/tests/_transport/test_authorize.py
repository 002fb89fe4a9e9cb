"""A function that authorises peers, given to `listen`: what is no clear yes is a no."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban import LocalNode
from hakuban.transport import ConnectionRequest, Identity, TransportOptions, identify
from support.tracing import collector_off
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse(_request: ConnectionRequest) -> Identity | None:
    raise hakuban.RefusedError("not today", retry=False)


def fail(_request: ConnectionRequest) -> Identity | None:
    raise ZeroDivisionError


def refuse_strangely(_request: ConnectionRequest) -> Identity | None:
    raise hakuban.RefusedError("not today", retry=False, code=70_000)


async def test_a_peer_with_an_identity_is_let_in() -> None:
    ann = Identity("ann")
    async with LocalNode().listen("memory://", authorize=lambda _request: ann) as listener:
        async with LocalNode().connect(listener.url):
            with anyio.fail_after(10):
                await until(lambda: listener.peers)
            assert [peer.identity for peer in listener.peers] == [ann]


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: None,
        lambda _: False,
        lambda _: True,
        lambda _: "ann",
        refuse,
        refuse_strangely,
        fail,
    ],
    ids=["None", "False", "True", "text", "refusal", "refusal_without_a_code", "exception"],
)
async def test_what_is_no_clear_yes_is_a_no(
    answer: Callable[[ConnectionRequest], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with LocalNode().listen("memory://", authorize=answer) as listener:
        node = LocalNode()
        with caplog.at_level(logging.ERROR):
            async with node.connect(listener.url, wait=False) as connection:
                statuses = aiter(connection.statuses())
                while (status := await anext(statuses)).attempts < 3:
                    assert not status.up
        assert isinstance(connection.last_error, hakuban.RefusedError)
        assert listener.peers == ()
    assert len(caplog.records) <= 1, "a function that fails is told once, and not for each peer"


async def ask_slowly(_request: ConnectionRequest) -> Identity | None:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    "wrong",
    [ask_slowly, lambda: None, lambda _a, _b: None, 5, "ann"],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_cannot_answer_at_once_is_refused_by_the_call(wrong: Any) -> None:
    with pytest.raises(TypeError, match="authorize"):
        LocalNode().listen("memory://", authorize=wrong)


REQUEST = ConnectionRequest(url="memory://x")
WORKER = "hakuban authorises"


async def test_where_nobody_authorises_there_is_no_thread_and_no_turn_of_the_loop() -> None:
    with pytest.raises(StopIteration) as caught:
        identify(TransportOptions(), REQUEST).send(None)
    assert caught.value.value is None


async def test_a_function_that_a_transport_is_given_is_judged_as_plugins_are() -> None:
    with pytest.raises(hakuban.RefusedError, match="not authorised"):
        await identify(TransportOptions(authorize=lambda _: None), REQUEST)


async def test_it_is_asked_in_a_thread_of_its_own() -> None:
    def who(_request: ConnectionRequest) -> Identity:
        return Identity(threading.current_thread().name)

    identity = await identify(TransportOptions(authorize=who), REQUEST)
    assert identity == Identity(WORKER)


async def test_a_refusal_is_freed_without_the_collector() -> None:
    class Told(hakuban.RefusedError):
        pass

    told: list[weakref.ref[Told]] = []

    def refuse_once(_request: ConnectionRequest) -> Identity:
        refusal = Told("not today", retry=False)
        told.append(weakref.ref(refusal))
        try:
            raise refusal
        finally:
            del refusal

    gc.collect()
    with collector_off():
        try:
            await identify(TransportOptions(authorize=refuse_once), REQUEST)
        except Told:
            pass
        with anyio.fail_after(10):
            await until(lambda: told[0]() is None)  # the thread has ended, too


async def test_a_thread_that_cannot_be_had_refuses_that_peer_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    options = TransportOptions(authorize=lambda _: Identity("ann"), handshake_timeout=0.1)
    await until(lambda: WORKER not in {thread.name for thread in threading.enumerate()})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(hakuban.RefusedError, match="too many peers wait") as caught:
            await identify(options, REQUEST)
    assert caught.value.retry
    assert await identify(TransportOptions(authorize=options.authorize), REQUEST) == Identity("ann")


def test_what_is_told_to_an_authoriser_shows_no_secret() -> None:
    request = ConnectionRequest(
        url="ws://127.0.0.1:1", path="/?token=sesame", headers={"authorization": "sesame"}
    )
    options = TransportOptions(headers={"Authorization": "sesame"})
    assert "sesame" not in f"{request} {options}"
