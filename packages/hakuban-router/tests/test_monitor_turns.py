"""The monitor between two pictures: whom it lets have turns, what it lets go, and whom it keeps waiting."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import tracemalloc
import weakref
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

import hakuban
from hakuban_router._monitor import Monitor
from support.waiting import Turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MANY = 200
EXCHANGE, LISTENER = "exchange", "websocket-listener"


class Thing(dict[str, Any]):
    """An object of a picture of which one can know whether it still exists."""


class PosedNode(hakuban.LocalNode):
    """Pictures of it show what a test puts there.

    :ivar begun: set when the first one is begun.
    :ivar ready: no picture is finished before this is set; for ten seconds.
    :ivar waited: whether a picture was finished.
    """

    def __init__(self, objects: Callable[[], list[Any]] = list) -> None:
        super().__init__()
        self.begun, self.ready, self.waited = (threading.Event() for _ in range(3))
        self.ready.set()
        self._objects = objects

    @override
    def snapshot(self) -> hakuban.NodeSnapshot:
        self.begun.set()
        self.ready.wait(10)
        self.waited.set()
        return dataclasses.replace(super().snapshot(), objects=self._objects())


@asynccontextmanager
async def published(node: hakuban.LocalNode) -> AsyncIterator[Monitor]:
    """Have pictures of a node published."""
    monitor = Monitor(node, None)
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            yield monitor
            group.cancel_scope.cancel()


def observe(node: hakuban.LocalNode, name: str) -> hakuban.ObjectObserve[Any]:
    return node.object(["monitor"], name).observe()


# ---- what is shown -------------------------------------------------------------------------------


def test_one_url_stands_alone_and_several_are_listed_too() -> None:
    with hakuban.LocalNode() as node:
        monitor = Monitor(node, None)
        monitor.listening = ["ws://a"]
        assert monitor.pictures()[LISTENER] == {"url": "ws://a", "downstream_connections": []}
        monitor.listening = ["ws://a", "ws://b"]
        assert monitor.pictures()[LISTENER] == {
            "url": "ws://a", "urls": ["ws://a", "ws://b"], "downstream_connections": [],
        }  # fmt: skip


async def test_a_picture_lists_objects_in_the_order_of_the_node_and_names_as_they_are() -> None:
    node = hakuban.LocalNode()
    async with published(node):
        with ExitStack() as contracts:
            for name in ("łódź", "a", "z", "b"):
                contracts.enter_context(node.object(["tag"], name).observe())
            exchange = contracts.enter_context(
                node.object(["monitor"], EXCHANGE).observe(serializer=hakuban.RAW)
            )
            picture = (await exchange.wait_state()).data
            names = [item["descriptor"] for item in node.snapshot().objects]
    assert "łódź".encode() in picture
    assert [item["descriptor"] for item in json.loads(picture)["objects"]] == names


async def test_a_number_that_json_does_not_know_is_reported_and_not_published(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = PosedNode(lambda: [{"load": math.nan}])
    async with published(node):
        with observe(node, EXCHANGE) as exchange:
            await until(lambda: caplog.records or exchange.object_version())
            assert exchange.object_version() is None
    assert "not JSON compliant" in caplog.text


# ---- turns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [EXCHANGE, LISTENER], ids=["encoded", "thrown away"])
async def test_others_have_a_turn_whenever_a_slice_of_time_is_over(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.05)
    monkeypatch.setattr("hakuban_router._monitor.SLICE", 0.0)
    monkeypatch.setattr("hakuban_router._monitor.monotonic", lambda: 0.0)
    turns = Turns()
    gone: list[int] = []
    alive: list[weakref.ref[Thing]] = []

    def make_things() -> list[Thing]:
        things = [Thing() for _ in range(MANY)]
        alive.extend(weakref.ref(thing, lambda _: gone.append(turns.taken)) for thing in things)
        return things

    node = PosedNode(make_things)
    async with published(node), anyio.create_task_group() as group:
        group.start_soon(turns.run)
        with observe(node, name) as pictures:
            await pictures.wait_state()
        await until(lambda: len(gone) >= MANY)
        group.cancel_scope.cancel()
    # on trio two turns of one task may follow each other
    assert len(set(gone[:MANY])) > MANY // 4


async def test_who_waits_for_a_picture_before_there_are_any_gets_the_first() -> None:
    node = hakuban.LocalNode()
    monitor = Monitor(node, None)
    seen = []

    async def look() -> None:
        seen.append(await monitor.look(len))

    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await anyio.wait_all_tasks_blocked()
            await group.start(monitor.publish, None)
            await until(lambda: seen)
            group.cancel_scope.cancel()
    assert seen == [2]


async def test_after_a_picture_that_failed_nothing_takes_turns() -> None:
    def fail(_pictures: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    async with published(hakuban.LocalNode()) as monitor:
        with pytest.raises(ZeroDivisionError):
            await monitor.look(fail)
        with anyio.fail_after(10):
            await anyio.wait_all_tasks_blocked()


async def test_a_picture_that_takes_long_does_not_hold_up_the_end() -> None:
    node = PosedNode()
    node.ready.clear()
    try:
        async with published(node):
            with observe(node, EXCHANGE):
                await until(node.begun.is_set)
        assert not node.waited.is_set()
    finally:
        node.ready.set()
    await until(node.waited.is_set)


# ---- who looks -----------------------------------------------------------------------------------


async def test_who_comes_later_has_nothing_published_again_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 3_600.0)
    node = hakuban.LocalNode()
    async with published(node):
        with observe(node, EXCHANGE) as exchange, observe(node, LISTENER) as listener:
            await exchange.wait_state()
            await listener.wait_state()
            await anyio.wait_all_tasks_blocked()
            before = exchange.object_version()
            listener.close()
            await anyio.wait_all_tasks_blocked()
            with observe(node, LISTENER) as another:
                await another.wait_state()
            assert exchange.object_version() == before


async def test_who_leaves_just_before_a_picture_takes_it_from_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 3_600.0)

    class Leaving(dict[str, Any]):
        @override
        def items(self) -> Any:  # while it is encoded
            exchange.close()
            return super().items()

    node = PosedNode(lambda: [Leaving(id=1)])
    node.ready.clear()
    async with published(node) as monitor:
        exchange = observe(node, EXCHANGE)
        await until(lambda: list(monitor.observed) == [EXCHANGE])
        with observe(node, LISTENER) as listener:
            await until(lambda: len(monitor.observed) == 2)
            node.ready.set()
            await listener.wait_state()
    assert exchange.closed
    assert not caplog.records


# ---- what is let go ------------------------------------------------------------------------------


async def test_what_nobody_asked_for_is_let_go_after_a_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.05)
    seen: list[weakref.ref[Thing]] = []

    def make_things() -> list[Thing]:
        things = [Thing() for _ in range(MANY)]
        seen.extend(map(weakref.ref, things))
        return things

    node = PosedNode(make_things)
    async with published(node):
        with observe(node, LISTENER) as listener:
            await listener.wait_state()
        await until(lambda: not any(thing() is not None for thing in seen))
    assert len(seen) >= MANY


async def test_what_was_published_is_let_go_after_a_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.05)
    large = 4_000_000
    node = PosedNode(lambda: [{"text": "x" * large}])

    async def look() -> int:
        with node.object(["monitor"], EXCHANGE).observe(serializer=hakuban.RAW) as exchange:
            return len((await exchange.wait_state()).data)

    async with published(node):
        tracemalloc.start()
        try:
            assert await look() > large
            await until(lambda: tracemalloc.get_traced_memory()[0] < large // 2, 5)
        finally:
            tracemalloc.stop()
