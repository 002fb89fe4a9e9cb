"""The monitor objects: which there are, when they are published, and what they say."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

import hakuban
import hakuban.sync
from hakuban_router._monitor import Monitor
from hakuban_router._report import START, draw_page
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.processes import RouterProcess

    StartRouter = Callable[..., RouterProcess]

OBJECT = {
    "id", "descriptor", "should_exist", "data_needed", "assigned_exposer", "object_observe_contract_count",
    "object_expose_contract_count", "tag_observe_contract_count", "tag_expose_contract_count", "upstream_link",
    "downstream_links", "cumulative_object_exposer_capacity", "data_state",
}  # fmt: skip
OBJECT_LINK = {
    "downstream_connection_id", "object_observer", "object_exposer", "object_exposer_capacity", "tag_observer_count",
    "tag_exposer_count", "stream", "sink",
}  # fmt: skip
STATE = {"version", "format", "size", "synchronized_ms_ago"}
TAG = {
    "id", "descriptor", "objects", "tag_observe_contract_count", "tag_expose_contract_count", "upstream_link",
    "downstream_links", "cumulative_tag_exposer_capacity",
}  # fmt: skip
TAG_LINK = {"downstream_connection_id", "tag_observer", "tag_exposer", "tag_exposer_capacity"}
DOWNSTREAM = {
    "downstream_connection_id",
    "remote_address",
    "local_name",
    "remote_name",
    "load",
    "load_limit",
}
UPSTREAM = {"upstream_connection_id", "local_address", "local_name", "remote_name"}


def monitored(url: str, name: str, fulfils: Callable[[Any], bool]) -> Any:
    """Give the first picture of a monitor object that fulfils a condition."""
    node = hakuban.LocalNode("watcher")
    with (
        node,
        hakuban.sync.connect(node, url),
        node.object(["monitor"], name).observe() as pictures,
    ):
        for state in pictures:
            if fulfils(state.data):
                return state.data
    raise AssertionError("unreachable")


# ---- through a router ----------------------------------------------------------------------------


def test_the_exchange_has_two_objects_and_one_tag_of_its_own(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag=monitor", bind="ws://127.0.0.1:0#,name=router")
    exchange = monitored(router.url, "exchange", lambda _: True)
    assert set(exchange) == {"objects", "tags", "upstream_connection"}
    names = [item["descriptor"] for item in exchange["objects"]]
    assert sorted(names, key=str) == [
        {"tags": ["monitor"], "json": "exchange"},
        {"tags": ["monitor"], "json": "websocket-listener"},
    ]
    assert [item["descriptor"] for item in exchange["tags"]] == ["monitor"]
    assert exchange["upstream_connection"] is False


def test_every_record_has_the_crates_fields(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag=monitor")
    node = hakuban.LocalNode()
    with node, hakuban.sync.connect(node, router.url), node.tag("monitor").observe():
        exchange = monitored(
            router.url,
            "exchange",
            lambda it: (
                any(o["data_state"] for o in it["objects"])
                and any(tag["downstream_links"] for tag in it["tags"])
            ),
        )
    for item in exchange["objects"]:
        assert set(item) == OBJECT
        assert all(set(link) == OBJECT_LINK for link in item["downstream_links"])
        assert item["data_state"] is None or set(item["data_state"]) == STATE
    for item in exchange["tags"]:
        assert set(item) == TAG
        assert [set(link) for link in item["downstream_links"]] == [TAG_LINK]


def test_an_object_that_nobody_needs_any_more_is_gone(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag=monitor")
    node = hakuban.LocalNode()
    with node, hakuban.sync.connect(node, router.url):
        with node.object(["tag"], "object").observe(), node.tag("tag").expose():
            monitored(router.url, "exchange", lambda it: len(it["objects"]) == 3)
        exchange = monitored(router.url, "exchange", lambda it: len(it["objects"]) == 2)
    assert len(exchange["tags"]) == 1


def test_the_listener_lists_its_peers(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag=monitor", "--name", "lab")
    listener = monitored(router.url, "websocket-listener", lambda _: True)
    assert set(listener) == {"url", "downstream_connections"}
    assert listener["url"].rstrip("/") == router.url
    (peer,) = listener["downstream_connections"]
    assert set(peer) == DOWNSTREAM
    assert (peer["local_name"], peer["remote_name"]) == ("lab", "watcher")
    assert (peer["load"], peer["load_limit"]) == (0, None)
    assert peer["remote_address"].startswith("127.0.0.1:")


def test_several_binds_are_one_object_with_all_their_urls(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag=monitor", "--bind", "ws://127.0.0.1:0/second")
    listener = monitored(router.url, "websocket-listener", lambda it: len(it.get("urls", ())) == 2)
    assert listener["url"] == listener["urls"][0]
    assert listener["url"].rstrip("/") == router.url
    assert listener["urls"][1].endswith("/second")


def test_the_connector_is_shown_where_there_is_one(start_router: StartRouter) -> None:
    above = start_router("--name", "above")
    below = start_router("--name", "below", "--monitor-tag=monitor", "--connect", above.url)
    connector = monitored(
        below.url,
        "websocket-connector",
        # the name of the router above comes a moment after the link
        lambda it: it["upstream_connection"] and it["upstream_connection"]["remote_name"],
    )
    assert connector["url"] == above.url
    link = connector["upstream_connection"]
    assert set(link) == UPSTREAM
    assert (link["local_name"], link["remote_name"]) == ("below", "above")
    exchange = monitored(below.url, "exchange", lambda it: it["upstream_connection"])
    assert len(exchange["objects"]) == 3


def test_the_connector_is_shown_while_the_router_above_is_away(start_router: StartRouter) -> None:
    below = start_router("--monitor-tag=monitor", "--connect", "ws://127.0.0.1:9#name=x")
    connector = monitored(below.url, "websocket-connector", lambda _: True)
    assert connector == {"url": "ws://127.0.0.1:9", "upstream_connection": None}


def test_without_a_connector_nobody_produces_one(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag=monitor")
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, router.url),
        node.object(["monitor"], "websocket-connector").observe(),
    ):
        exchange = monitored(router.url, "exchange", lambda it: len(it["objects"]) == 3)
    exposers = {
        item["descriptor"]["json"]: item["assigned_exposer"] for item in exchange["objects"]
    }
    assert exposers["websocket-connector"] is None
    assert exposers["exchange"] is not None


@pytest.mark.thorough
def test_objects_flow_through_a_router_that_shows_thousands_of_them(
    start_router: StartRouter,
) -> None:
    many = 3_000
    router = start_router("--monitor-tag=monitor", "--connect", start_router().url)
    exposer, observer = hakuban.LocalNode("exposer"), hakuban.LocalNode("observer")
    with (
        exposer,
        observer,
        hakuban.sync.connect(exposer, router.url),
        hakuban.sync.connect(observer, router.url),
        ExitStack() as contracts,
    ):
        for number in range(many):
            contracts.enter_context(exposer.object(["many"], number).expose())
        ping = contracts.enter_context(exposer.object([], "ping").expose())
        pinged = contracts.enter_context(observer.object([], "ping").observe())
        monitored = {
            name: contracts.enter_context(observer.object(["monitor"], name).observe())
            for name in ("exchange", "websocket-listener", "websocket-connector")
        }
        versions: dict[str, set[hakuban.Version | None]] = {name: set() for name in monitored}
        trips = 0
        while min(map(len, versions.values())) < 4:
            ping.set_object_data(trips)
            for state in pinged:
                if state.data == trips:
                    break
            trips += 1
            for name, contract in monitored.items():
                if contract.object_state() is not None:
                    versions[name].add(contract.object_version())
        assert trips > 20
        state = monitored["exchange"].wait_state_sync(10)
        assert state.format == ("JSON",)
        numbers = [item["descriptor"]["json"] for item in state.data["objects"]]
        assert {number for number in numbers if isinstance(number, int)} == set(range(many))
        assert set(state.data["objects"][0]) == OBJECT


# ---- one node ------------------------------------------------------------------------------------


@pytest.mark.long
async def test_pictures_are_published_every_second_and_only_while_somebody_looks() -> None:
    node = hakuban.LocalNode()
    monitor = Monitor(node, None)
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            assert {item["assigned_exposer"] for item in node.snapshot().objects} == {None}
            with node.object(["monitor"], "exchange").observe() as pictures:
                versions = []
                async for state in pictures:
                    versions.append(state.version)
                    if len(versions) == 3:
                        break
            assert {item["assigned_exposer"] for item in node.snapshot().objects} == {None}
            group.cancel_scope.cancel()
        assert node.snapshot().objects == []
    published = [seconds + nanoseconds / 1e9 for _, seconds, nanoseconds in versions]
    gaps = [later - sooner for sooner, later in pairwise(published)]
    assert all(0.9 < gap < 1.9 for gap in gaps), gaps


class CountingNode(hakuban.LocalNode):
    """Counts the pictures that are taken of it."""

    taken = 0

    @override
    def snapshot(self) -> hakuban.NodeSnapshot:
        self.taken += 1
        return super().snapshot()


async def test_one_picture_is_taken_for_all_who_look_and_none_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.2)
    node = CountingNode()
    monitor = Monitor(node, "ws://above")
    with node, anyio.fail_after(20), ExitStack() as looking:
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            observed = [
                looking.enter_context(node.object(["monitor"], name).observe())
                for name in ("exchange", "websocket-listener", "websocket-connector")
            ]
            await read_pictures(observed, 1)
            before = node.taken
            await read_pictures(observed, 5)
            assert 4 <= node.taken - before < 10  # five for all of them, and not five for each
            looking.close()
            await until(lambda: not monitor.observed)
            before = node.taken
            await anyio.sleep(0.5)
            assert node.taken <= before + 1  # one that was on its way
            group.cancel_scope.cancel()


async def test_whoever_comes_in_the_middle_of_a_period_does_not_wait_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 3_600.0)
    node = hakuban.LocalNode()
    monitor = Monitor(node, None)
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            with node.object(["monitor"], "exchange").observe() as exchange:
                await read_pictures([exchange], 1)
                with node.object(["monitor"], "websocket-listener").observe() as listener:
                    await read_pictures([listener], 1)
            group.cancel_scope.cancel()


async def test_long_pictures_are_followed_by_long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowNode(CountingNode):
        @override
        def snapshot(self) -> hakuban.NodeSnapshot:
            time.sleep(0.05)  # in a thread
            return super().snapshot()

    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.01)
    node = SlowNode()
    monitor = Monitor(node, None)
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            start = anyio.current_time()
            with node.object(["monitor"], "websocket-listener").observe() as listener:
                await read_pictures([listener], 3)
            group.cancel_scope.cancel()
        assert anyio.current_time() - start >= 2 * 10 * 0.05


async def test_a_picture_that_cannot_be_made_is_told_and_the_router_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenNode(CountingNode):
        @override
        def snapshot(self) -> hakuban.NodeSnapshot:
            if self.taken == 0:
                self.taken += 1
                raise ZeroDivisionError("a fault of ours")
            return super().snapshot()

    node = BrokenNode()
    monitor = Monitor(node, None)
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            with node.object(["monitor"], "exchange").observe() as exchange:
                await read_pictures([exchange], 1)
            group.cancel_scope.cancel()
    assert "ZeroDivisionError: a fault of ours" in caplog.text


async def read_pictures(contracts: Sequence[hakuban.ObjectObserve[Any]], count: int) -> None:
    """Wait until each contract has seen so many further pictures."""
    async with anyio.create_task_group() as readers:
        for contract in contracts:
            readers.start_soon(_read, contract, contract.object_version(), count)


async def _read(
    contract: hakuban.ObjectObserve[Any], first: hakuban.Version | None, count: int
) -> None:
    seen = {first}
    async for state in contract:
        seen.add(state.version)
        if len(seen) == count + 1:
            return


async def test_a_picture_that_is_too_large_is_left_out_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = hakuban.LocalNode(max_state=100)
    monitor = Monitor(node, "ws://above")
    with node, anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            with (
                node.object(["monitor"], "exchange").observe() as exchange,
                node.object(["monitor"], "websocket-connector").observe() as connector,
            ):
                versions = set()
                async for state in connector:
                    versions.add(state.version)
                    if len(versions) == 2:
                        break  # a second later: the other one would have been tried again
                assert exchange.object_state() is None
            group.cancel_scope.cancel()
    assert sum("exchange is not published" in line for line in caplog.messages) == 1


# ---- for people ----------------------------------------------------------------------------------


def test_the_report_tells_what_the_pictures_hold(start_router: StartRouter) -> None:
    above = start_router("--name", "above")
    router = start_router("--monitor-tag=monitor", "--name", "below", "--connect", above.url)
    monitored(router.url, "websocket-connector", lambda it: it["upstream_connection"] is not None)
    exposer, observer = hakuban.LocalNode("exposer"), hakuban.LocalNode("observer")
    with (
        exposer,
        observer,
        hakuban.sync.connect(exposer, router.url + "#load-limit=7"),
        hakuban.sync.connect(observer, router.url),
        exposer.tag("tag").expose(capacity=2) as exposing,
        observer.object(["tag"], {"a": "ł"}).observe() as observing,
        observer.tag("tag").observe(),
    ):
        next(iter(exposing)).set("value")
        observing.wait_state_sync(10)
        # whoever comes may be shown a picture that is nearly a second old
        pictures = {
            name: monitored(router.url, name, fulfils)
            for name, fulfils in (
                ("exchange", lambda it: any(map(is_tagged_and_set, it["objects"]))),
                ("websocket-listener", lambda it: any(map(has_load, it["downstream_connections"]))),
                ("websocket-connector", lambda _: True),
            )
        }
    text = "\n".join(draw_page(pictures, START).lines)
    for expected in (
        "== exchange, connected to a router above: yes",
        "objects: 4",
        '["tag"]:{"a": "ł"}',
        "exposer: DownstreamConnection ",
        'format ["JSON"], 7 bytes, synchronized',
        "observes: yes (tags: 1), exposes: no (tags: 0, capacity 0), stream: yes, sink: no",
        "exposes: no (tags: 1, capacity 0), stream: no, sink: yes",
        "tags: 2",
        "observes: no, exposes: yes (capacity 2)",
        '"exposer", load: 0.5, limit: 7',
        '"observer", load: 0, limit: none',
        f"== websocket-connector {above.url}, connected: yes",
        '"below" to "above"',
    ):
        assert expected in text, text


def is_tagged_and_set(item: Any) -> bool:
    return item["descriptor"]["tags"] == ["tag"] and item["data_state"] is not None


def has_load(link: Any) -> bool:
    return bool(link["load"])


def test_the_report_says_how_old_a_state_is() -> None:
    node = hakuban.LocalNode()
    with node, node.object("x").observe(), node.object("x").expose() as exposing:
        exposing.set_object_data(1)
        exposing.set_synchronized(2.5)
        text = "\n".join(draw_page(Monitor(node, None).pictures(), START).lines)
    match = [line for line in text.splitlines() if line.endswith(" s old")]
    assert len(match) == 1
    assert math.isclose(float(match[0].split()[-3]), 2.5, abs_tol=1)


def test_the_report_lets_no_peer_talk_to_the_terminal() -> None:
    node = hakuban.LocalNode()
    with node, node.object(["\x1b[2J"], "\x9b\n").observe():
        text = "\n".join(draw_page(Monitor(node, None).pictures(), START).lines)
    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 126 < ord(c) < 160)]
