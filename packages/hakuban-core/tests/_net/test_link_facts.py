"""What is known and said of links, fact by fact: the lines of an outage, the peer's clock, summaries, blocks not entered."""

from __future__ import annotations

import gc
import logging
from contextlib import AsyncExitStack
from time import monotonic
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from typing_extensions import override

from hakuban import CircleError, LocalNode
from hakuban._net.link_context import LinkBlock
from hakuban._net.link_log import Outage, link_down
from hakuban._net.link_peer import LinkPeer
from hakuban._net.summaries import MOST_LINKS
from hakuban._session_events import Note
from hakuban._transport import keep_alive
from hakuban.testing import MemoryTransport
from hakuban.transport import TransportOptions
from support.memory_links import Altered, Peer, raw_peer
from support.waiting import until


class Named:
    """A link, as far as the log is concerned."""

    def __init__(self, remote: object | None) -> None:
        self.remote = remote

    @override
    def __str__(self) -> str:
        return "the link"


UP: Any = Named("somebody")
COMING_UP: Any = Named(None)


def test_attempts_in_an_outage_are_not_logged_and_lost_links_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage("x://there")
    for link in (None, None, COMING_UP, UP):
        outage.failed(link, OSError("no route"))
    assert caplog.messages == [
        "cannot connect to x://there: no route; trying again until it works",
        "link down: the link: no route",
    ]


def test_what_somebody_has_to_mend_is_logged_once_in_each_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("x://there")
    for _ in range(2):
        for _ in range(2):
            outage.failed(None, OSError("no route"))
            outage.failed(None, ZeroDivisionError("a bug"))
        outage.over()
    assert [(record.levelname, record.exc_info is None) for record in caplog.records] == [
        ("WARNING", True),
        ("ERROR", False),
    ] * 2


def test_an_outage_is_over_once() -> None:
    outage = Outage("x://there")
    assert outage.recovered(again=False) == ""
    for again in ("up", "up again"):
        outage.failed(None, OSError("no route"))
        assert f"; the link to x://there is {again} after " in outage.recovered(again=again != "up")
        assert outage.recovered(again=True) == ""
        outage.over()


def test_a_link_that_a_bug_has_ended_is_an_error_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link_down(UP, ZeroDivisionError("a bug"))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info


# ---- the peer --------------------------------------------------------------------------------------------------------


def peer(node: str = "", **stream: object) -> LinkPeer:
    some_stream: Any = SimpleNamespace(**stream)
    session: Any = SimpleNamespace(peer_node=node, max_taken=None)
    return LinkPeer(some_stream, session)


@pytest.mark.parametrize(
    ("stated", "clock"),
    [(0, 0), (1, 1), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (1.5, None), ("1", None)],
)
def test_a_stated_clock_is_one_of_64_bits_or_none(stated: object, clock: int | None) -> None:
    assert peer(peer_clock=stated).stated_clock == clock


@pytest.mark.parametrize(
    ("node", "says", "ours"),
    [
        ("", None, None),
        ("", True, True),
        ("", False, False),
        ("a1", None, True),
        ("a1", False, True),
    ],
)
def test_who_has_the_id_of_a_node_is_ours_whatever_its_stream_says(
    node: str, says: bool | None, ours: bool | None
) -> None:
    assert peer(node, peer_is_ours=says).ours is ours


def test_who_was_heard_a_moment_ago_is_not_overdue() -> None:
    somebody = peer()
    assert not somebody.overdue(3600.0)
    somebody.last_message = monotonic() - 2 * 3600.0
    assert somebody.overdue(3600.0)


async def test_who_turns_out_to_be_ours_is_silent_after_the_time_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keep_alive, "OUR_TIMEOUT", 0.1)
    monkeypatch.setattr(keep_alive, "OTHER_TIMEOUT", 3600.0)
    router, transport = LocalNode(), Altered(peer_is_ours=None)
    async with (
        router.listen("memory://", transport=transport, keep_alive=0.03) as listener,
        MemoryTransport().connect(listener.url, TransportOptions()) as stream,
    ):
        await anyio.wait_all_tasks_blocked()  # until the link is watched, as one of a stranger
        peer = Peer(stream)
        await stream.send(peer.session.opening(Note(node="a1")))
        assert await peer.end() == (1001, "nothing received for 0.1 s")


async def test_who_is_told_of_a_circle_gets_an_error_and_nothing_that_keeps_the_link() -> None:
    node = LocalNode()  # what keeps it is a leak, which fails any test
    async with node.listen("memory://") as listener:
        with pytest.raises(CircleError):
            async with node.connect(listener.url):
                pass


# ---- summaries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 1])
async def test_a_node_shows_so_many_links_and_counts_the_others(more: int) -> None:
    node = LocalNode("top")
    async with node.listen("memory://") as listener, AsyncExitStack() as peers:
        for _ in range(MOST_LINKS + more):
            await peers.enter_async_context(raw_peer(listener.url))
        await until(lambda: len(listener.peers) == MOST_LINKS + more)
        lines = str(node).splitlines()
        assert len(lines) == 1 + MOST_LINKS + more
        assert lines[-1].startswith("  and 1 more" if more else "  below: ")


# ---- blocks ----------------------------------------------------------------------------------------------------------


async def test_a_block_that_was_not_entered_cannot_be_left() -> None:
    block = LocalNode().listen("memory://")
    with pytest.raises(RuntimeError, match="the block was not entered: write `async with"):
        await block.__aexit__(None, None, None)


def test_a_block_whose_making_was_interrupted_is_nothing() -> None:
    LinkBlock.__new__(LinkBlock)
    gc.collect()  # a finalizer that raises fails the test
