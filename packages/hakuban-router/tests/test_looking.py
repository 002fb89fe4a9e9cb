"""What looking at a router costs: one picture a second, whoever looks, and a page of a report at a time."""

from __future__ import annotations

import re
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

import hakuban
import hakuban.sync
from hakuban_router._monitor import Monitor
from hakuban_router._report import START, Page, draw_page
from support.processes import Lines
from support.unread import unread_router
from support.witness import Gap, Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.processes import RouterProcess

    StartRouter = Callable[..., RouterProcess]

NAMES = ("exchange", "websocket-listener", "websocket-connector")
NEXT = re.compile(r"^-- page (\d+); .* shows page (\d+);")


class CountingNode(hakuban.LocalNode):
    """Notes when pictures of it were begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []

    @override
    def snapshot(self) -> hakuban.NodeSnapshot:
        self.begun.append(time.monotonic())
        return super().snapshot()

    def check(self, period: float, over: float) -> None:
        """Check that as many pictures were taken as there are periods in so many seconds, and none in between."""
        assert over / period / 3 <= len(self.begun) <= over / period + 2
        gaps = [later - sooner for sooner, later in zip(self.begun, self.begun[1:], strict=False)]
        # a thread may begin late, and the next one then in time
        assert sum(gap < 0.9 * period for gap in gaps) <= len(gaps) / 4, gaps


# ---- how often -----------------------------------------------------------------------------------


@pytest.mark.long
async def test_who_comes_and_goes_all_the_time_causes_a_picture_a_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.4)
    node = CountingNode()
    monitor = Monitor(node, "ws://above")
    looks = 0
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            end = anyio.current_time() + 2.4
            while anyio.current_time() < end:
                name = NAMES[looks % 3]
                with node.object(["monitor"], name).observe() as contract:
                    await contract.wait_state()
                looks += 1
            group.cancel_scope.cancel()
    node.check(0.4, 2.4)
    assert looks > 5 * len(node.begun)  # most of them were shown the last one at once


@pytest.mark.long
async def test_observers_and_reports_share_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.4)
    node = CountingNode()
    monitor = Monitor(node, "ws://above")
    reports = 0

    async def report() -> None:
        nonlocal reports
        while True:
            assert (await monitor.look(len)) == 3
            reports += 1

    with node, anyio.fail_after(20), ExitStack() as observers:
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            for name in NAMES:
                for _ in range(20):
                    observers.enter_context(node.object(["monitor"], name).observe())
            for _ in range(5):
                group.start_soon(report)
            await anyio.sleep(2.4)
            group.cancel_scope.cancel()
    node.check(0.4, 2.4)
    assert reports >= 5 * (len(node.begun) - 1)


async def test_reports_alone_need_no_monitor_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.2)
    node = CountingNode()
    monitor = Monitor(node, None)
    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, None)
            assert not node.snapshot().objects
            node.begun.clear()
            for _ in range(4):
                await monitor.look(len)
            group.cancel_scope.cancel()
    assert len(node.begun) == 4
    assert node.begun[-1] - node.begun[0] > 0.5


async def test_a_broken_picture_ends_a_look_and_not_the_monitor() -> None:
    node = CountingNode()
    monitor = Monitor(node, None)

    def fail(_pictures: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    with node, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, "monitor")
            with pytest.raises(ZeroDivisionError):
                await monitor.look(fail)
            assert await monitor.look(len) == 2
            group.cancel_scope.cancel()


# ---- pages ---------------------------------------------------------------------------------------


def pages_of(pictures: dict[str, Any]) -> list[Page]:
    pages = [draw_page(pictures, START)]
    while (place := pages[-1].next) is not None:
        pages.append(draw_page(pictures, place))
    return pages


def test_all_pages_together_show_each_thing_once() -> None:
    with hakuban.LocalNode() as node, ExitStack() as contracts:
        for number in range(1_500):
            contracts.enter_context(node.object([f"tag {number}"], number).observe())
            contracts.enter_context(node.tag(f"tag {number}").observe())
        pages = pages_of(Monitor(node, None).pictures())
    assert len(pages) > 3
    assert all(len(page.lines) <= 1_010 for page in pages)
    assert all("objects: 1500" in page.lines[2] for page in pages)
    text = "\n".join(line for page in pages for line in page.lines)
    names = re.findall(r'^  \d+  \["tag (\d+)"\]:(\d+)$', text, re.MULTILINE)
    assert names == [(str(number), str(number)) for number in range(1_500)]
    tags = re.findall(r'^  \d+  "tag (\d+)", objects: \[', text, re.MULTILINE)
    assert tags == [str(number) for number in range(1_500)]
    assert [page.next and page.next.page for page in pages] == [*range(2, len(pages) + 1), None]


def test_a_page_says_where_it_is() -> None:
    with hakuban.LocalNode() as node, ExitStack() as contracts:
        for number in range(600):
            contracts.enter_context(node.object([], number).observe())
        first, second = pages_of(Monitor(node, None).pictures())
    shown = sum(line.startswith("  ") and line[2] != " " for line in first.lines)
    assert first.lines[2] == f"objects: 600, here 1 to {shown}"
    assert second.lines[2] == f"objects: 600, here {shown + 1} to 600"


def test_a_page_is_small_whatever_names_and_links_there_are() -> None:
    with hakuban.LocalNode() as node, ExitStack() as contracts:
        for number in range(200):
            contracts.enter_context(node.object(["one"], [number, "x" * 60_000]).observe())
        pictures = Monitor(node, None).pictures()
        link = {
            "downstream_connection_id": 1, "object_observer": True, "object_exposer": False,
            "object_exposer_capacity": 0, "tag_observer_count": 0, "tag_exposer_count": 0, "stream": True, "sink": False,
        }  # fmt: skip
        pictures["exchange"]["objects"][0]["downstream_links"] = [link] * 10_000
        (page, *_) = pages_of(pictures)
    text = "\n".join(page.lines)
    assert len(text) < 120_000
    assert "... and 9980 more" in text
    assert "... (60" in text


def test_pages_go_on_where_objects_have_gone_meanwhile() -> None:
    with hakuban.LocalNode() as node, ExitStack() as contracts:
        for number in range(600):
            contracts.enter_context(node.object([], number).observe())
        monitor = Monitor(node, None)
        first = draw_page(monitor.pictures(), START)
        contracts.close()
        assert first.next is not None
        second = draw_page(monitor.pictures(), first.next)
    assert second.next is None
    assert second.lines[2] == "objects: 0"


# ---- through a router ----------------------------------------------------------------------------


@contextmanager
def many_objects(url: str, many: int) -> Iterator[None]:
    """Have so many objects on a router."""
    node = hakuban.LocalNode("many")
    with node, hakuban.sync.connect(node, url), ExitStack() as contracts:
        for number in range(many):
            last_exposed = contracts.enter_context(node.object(["many"], number).expose())
        last_exposed.set_object_data(1)
        with (
            hakuban.LocalNode() as other,
            hakuban.sync.connect(other, url),
            other.object(["many"], many - 1).observe() as last,
        ):
            last.wait_state_sync(60)  # then it has all of them
        yield


@contextmanager
def router_of(start_router: StartRouter, many: int) -> Iterator[RouterProcess]:
    """Start a router with so many objects."""
    router = start_router()
    with many_objects(router.url, many):
        yield router


needs_usr2 = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="there is no SIGUSR2")


@needs_usr2
def test_each_wish_for_a_report_shows_the_next_page(start_router: StartRouter) -> None:
    with router_of(start_router, 700) as router:
        seen: list[str] = []
        for page in (1, 2):
            router.process.send_signal(signal.SIGUSR2)
            match = router.err.wait(NEXT)
            assert match.groups() == (str(page), str(page + 1))
        router.write("\n")
        router.err.wait(re.compile("== websocket-listener"))
        seen = re.findall(r'\["many"\]:(\d+)$', "\n".join(router.err.seen), re.MULTILINE)
        assert sorted(map(int, seen)) == list(range(700))
        router.process.send_signal(signal.SIGUSR2)  # after the last one, the first one
        assert router.err.wait(NEXT)[1] == "1"


@needs_usr2
def test_a_hundred_wishes_at_once_are_one_or_two_pages(start_router: StartRouter) -> None:
    with router_of(start_router, 700) as router:
        for _ in range(100):
            router.process.send_signal(signal.SIGUSR2)
        assert router.err.wait(NEXT)[1] == "1"
        time.sleep(2.5)
        pages = sum(line.startswith("== exchange") for line in router.err.seen)
        assert pages <= 2


@needs_usr2
@pytest.mark.thorough
@pytest.mark.timeout(180)
@pytest.mark.parametrize("full", [False, True], ids=["nothing else", "standard error full"])
def test_a_witness_sees_no_gap_whoever_looks(*, full: bool) -> None:
    with (
        unread_router("--monitor-tag=monitor", "--log-level=debug") as router,
        many_objects(router.url, 20_000),
        ExitStack() as stack,
    ):
        if full:
            router.check_health(2_000)
        else:
            Lines(router.pipe)
        witness = stack.enter_context(Witness(router.url))
        nodes = [stack.enter_context(hakuban.LocalNode("looking")) for _ in range(5)]
        for node in nodes:
            stack.enter_context(hakuban.sync.connect(node, router.url))
        steady = stack.enter_context(nodes[0].object(["monitor"], "exchange").observe())
        gaps: list[Gap] = []
        pictures: set[object] = set()
        while len(gaps) < 15 or len(pictures - {None}) <= 2:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                router.process.send_signal(signal.SIGUSR2)
                for node in nodes[1:]:
                    for name in NAMES[:2]:
                        with node.object(["monitor"], name).observe():
                            time.sleep(0.01)
                pictures.add(steady.object_version())
            gaps.append(witness.ask())
        assert len(steady.wait_state_sync(10).data["objects"]) > 20_000
        assert max(gap.of_router for gap in gaps) < 1.0, [*map(str, gaps)]


@needs_usr2
@pytest.mark.thorough
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seconds", [0.2, 0.8, 1.5, 3.0])
def test_a_picture_of_a_hundred_thousand_objects_does_not_hold_up_the_end(seconds: float) -> None:
    with (
        unread_router("--monitor-tag=monitor") as router,
        many_objects(router.url, 100_000),
        hakuban.LocalNode() as node,
        hakuban.sync.connect(node, router.url),
        node.object(["monitor"], "exchange").observe(),
    ):
        router.process.send_signal(signal.SIGUSR2)
        time.sleep(seconds)  # in whichever part of the picture that is
        code, took = router.end()
        assert code == 0
        assert took < 2.0
