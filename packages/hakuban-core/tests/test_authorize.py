"""A function that authorises peers, given to `listen`: what is no clear yes is a no."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
from hakuban import LocalNode
from hakuban.transport import ConnectionRequest, Identity
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse(_request: ConnectionRequest) -> Identity | None:
    raise hakuban.RefusedError("not today", retry=False)


def fail(_request: ConnectionRequest) -> Identity | None:
    raise ZeroDivisionError


async def test_a_peer_with_an_identity_is_let_in() -> None:
    ann = Identity("ann")
    async with LocalNode().listen("memory://", authorize=lambda _request: ann) as listener:
        async with LocalNode().connect(listener.url):
            with anyio.fail_after(10):
                await until(lambda: listener.peers)
            assert [peer.identity for peer in listener.peers] == [ann]


@pytest.mark.parametrize(
    "answer",
    [lambda _: None, lambda _: False, lambda _: True, lambda _: "ann", refuse, fail],
    ids=["None", "False", "True", "text", "refusal", "exception"],
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


def test_what_is_told_to_an_authoriser_shows_no_secret() -> None:
    request = ConnectionRequest(
        url="ws://127.0.0.1:1", path="/?token=sesame", headers={"authorization": "sesame"}
    )
    options = hakuban.transport.TransportOptions(headers={"Authorization": "sesame"})
    assert "sesame" not in f"{request} {options}"
