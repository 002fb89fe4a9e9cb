"""Pages of a report at their edges, and when which page is written."""

from __future__ import annotations

import io
import sys
import threading
import time
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from typing_extensions import override

import hakuban
from hakuban_router._monitor import Monitor
from hakuban_router._report import LINKS, LONGEST, START, Page, draw_page
from hakuban_router._reports import write_reports
from hakuban_router._stderr import StandardError
from hakuban_router._wakeup_event import WakeupEvent
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LINES_OF_OBJECT = 3
LINES_BEFORE = 3  # an empty one, and two headings


def pictures_of(count: int) -> dict[str, Any]:
    """Give pictures of a node with so many objects, and a tag for each."""
    with hakuban.LocalNode() as node, ExitStack() as contracts:
        for number in range(count):
            contracts.enter_context(node.object([f"tag {number}"], number).observe())
            contracts.enter_context(node.tag(f"tag {number}").observe())
        return Monitor(node, None).pictures()


def pages_of(pictures: dict[str, Any]) -> list[Page]:
    pages = [draw_page(pictures, START)]
    while (place := pages[-1].next) is not None:
        pages.append(draw_page(pictures, place))
    return pages


def headings_of(page: Page) -> list[str]:
    return [line for line in page.lines if line.startswith(("objects: ", "tags: "))]


# ---- edges ---------------------------------------------------------------------------------------


def test_each_page_says_which_part_of_a_list_it_shows_and_nothing_where_that_is_all_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hakuban_router._report.LINES", LINES_BEFORE + 2 * LINES_OF_OBJECT)
    pages = pages_of(pictures_of(3))
    assert [headings_of(page) for page in pages] == [
        ["objects: 3, here 1 to 2", "tags: 3"],
        ["objects: 3, here 3 to 3", "tags: 3, here 1 to 1"],
        ["objects: 3", "tags: 3, here 2 to 3"],
    ]
    assert headings_of(draw_page(pictures_of(1), START)) == ["objects: 1", "tags: 1"]


def test_a_page_is_full_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = pictures_of(3)
    monkeypatch.setattr("hakuban_router._report.LINES", LINES_BEFORE + LINES_OF_OBJECT)
    assert "here 1 to 1" in draw_page(pictures, START).lines[2]
    monkeypatch.setattr("hakuban_router._report.LINES", LINES_BEFORE + LINES_OF_OBJECT + 1)
    assert "here 1 to 2" in draw_page(pictures, START).lines[2]


def test_a_page_is_full_with_its_last_character(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = pictures_of(3)
    begin = draw_page(pictures, START).lines[: LINES_BEFORE + LINES_OF_OBJECT]
    characters = len("".join(begin))
    monkeypatch.setattr("hakuban_router._report.CHARACTERS", characters)
    assert "here 1 to 1" in draw_page(pictures, START).lines[2]
    monkeypatch.setattr("hakuban_router._report.CHARACTERS", characters + 1)
    assert "here 1 to 2" in draw_page(pictures, START).lines[2]


@pytest.mark.parametrize("surplus", [0, 1])
def test_so_many_objects_of_a_tag_are_shown_and_the_others_counted(surplus: int) -> None:
    with hakuban.LocalNode() as node, ExitStack() as contracts:
        for number in range(LINKS + surplus):
            contracts.enter_context(node.object(["tag"], number).observe())
        contracts.enter_context(node.tag("tag").observe())
        pictures = Monitor(node, None).pictures()
    (line,) = [line for line in draw_page(pictures, START).lines if '"tag", objects: ' in line]
    shown = line.partition("objects: [")[2].partition("]")[0].split(", ")
    assert sum(id.isdigit() for id in shown) == LINKS
    assert ("... and 1 more" in shown) == bool(surplus)
    assert len(shown) == LINKS + surplus


@pytest.mark.parametrize("surplus", [0, 1])
def test_so_many_links_of_an_object_are_shown_and_the_others_counted(surplus: int) -> None:
    pictures = pictures_of(1)
    link = {
        "downstream_connection_id": 1, "object_observer": True, "object_exposer": False,
        "object_exposer_capacity": 0, "tag_observer_count": 0, "tag_exposer_count": 0, "stream": True, "sink": False,
    }  # fmt: skip
    pictures["exchange"]["objects"][0]["downstream_links"] = [link] * (LINKS + surplus)
    lines = draw_page(pictures, START).lines
    assert sum("downstream 1:" in line for line in lines) == LINKS
    assert [line for line in lines if " more" in line] == ["      ... and 1 more"] * surplus


@pytest.mark.parametrize("surplus", [0, 1])
def test_a_name_is_shown_whole_up_to_the_longest(surplus: int) -> None:
    name = "x" * (LONGEST - len('""') + surplus)
    with hakuban.LocalNode() as node, node.object(["tag"], name).observe():
        lines = draw_page(Monitor(node, None).pictures(), START).lines
    ends = [":" + f'"{name}"'[:LONGEST], f"... ({LONGEST + 1} characters)" if surplus else ""]
    assert lines[LINES_BEFORE].endswith("".join(ends))


# ---- who asks ------------------------------------------------------------------------------------


class HeldNode(hakuban.LocalNode):
    """Notes when pictures of it were begun, which end when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []
        self.ready = threading.Event()
        self.ready.set()

    @override
    def snapshot(self) -> hakuban.NodeSnapshot:
        self.begun.append(time.monotonic())
        self.ready.wait(10)
        return super().snapshot()


class Reader(io.StringIO):
    """A file that is read when it may; after ten seconds in any case.

    :ivar begun: set when there is something to read.
    :ivar late: whether somebody had to wait for so long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.reading = threading.Event(), threading.Event()
        self.reading.set()
        self.late = False
        self._written = threading.Condition()

    @override
    def write(self, s: str, /) -> int:
        self.begun.set()
        self.late = not self.reading.wait(10)
        with self._written:
            self._written.notify_all()
            return super().write(s)

    async def shows(self, text: str, times: int = 1) -> None:
        """Wait until a text was written so often."""

        def wait() -> bool:
            with self._written:
                return self._written.wait_for(lambda: self.getvalue().count(text) == times, 20)

        assert await anyio.to_thread.run_sync(wait)


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Whoever reads the standard error."""
    reader = Reader()
    yield reader
    reader.reading.set()


@asynccontextmanager
async def reported(node: hakuban.LocalNode, reader: Reader) -> AsyncIterator[WakeupEvent]:
    """Have reports on a node written whenever the event is set."""
    monitor = Monitor(node, None)
    with pytest.MonkeyPatch.context() as patch, WakeupEvent() as asked, anyio.fail_after(20):
        patch.setattr(sys, "stderr", StandardError(reader))  # now: pytest changes it before tests
        async with anyio.create_task_group() as group:
            await group.start(monitor.publish, None)
            group.start_soon(write_reports, monitor, asked)
            yield asked
            group.cancel_scope.cancel()


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldNode]:
    """A node of three objects, of which a page shows two; without pauses between pages."""
    monkeypatch.setattr("hakuban_router._report.LINES", LINES_BEFORE + 2 * LINES_OF_OBJECT)
    monkeypatch.setattr("hakuban_router._monitor.PERIOD", 0.0)
    monkeypatch.setattr("hakuban_router._monitor.REST", 0.0)
    monkeypatch.setattr("hakuban_router._reports.PERIOD", 0.0)
    with HeldNode() as node, ExitStack() as contracts:
        for number in range(3):
            contracts.enter_context(node.object([], number).observe())
        yield node


async def test_whoever_asks_again_gets_the_next_page_and_is_told_so(
    reader: Reader, paged: HeldNode
) -> None:
    async with reported(paged, reader) as asked:
        asked.set()
        await reader.shows("-- page 1; SIGUSR2")
        assert "shows page 2;" in reader.getvalue()
        asked.set()
        await reader.shows("objects: 3, here 3 to 3")
    assert reader.getvalue().count("objects: 3, here 1 to 2") == 1


async def test_whoever_asks_again_when_the_time_for_that_is_over_gets_the_first_page(
    reader: Reader, paged: HeldNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban_router._reports.CONTINUED", 0.0)
    monkeypatch.setattr("hakuban_router._reports.monotonic", lambda: 0.0)  # just over
    async with reported(paged, reader) as asked:
        asked.set()
        await reader.shows("-- page 1;")
        asked.set()
        await reader.shows("-- page 1;", times=2)
    assert reader.getvalue().count("objects: 3, here 1 to 2") == 2


async def test_whoever_asks_while_a_picture_is_taken_is_answered_by_it(
    reader: Reader, paged: HeldNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban_router._reports.PERIOD", 3_600.0)
    paged.ready.clear()
    async with reported(paged, reader) as asked:
        asked.set()
        await until(lambda: paged.begun)
        asked.set()
        paged.ready.set()
        await reader.shows("-- page 1;")
        assert not asked.clear()


async def test_a_period_is_between_two_pages_whoever_asks(
    reader: Reader, paged: HeldNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = 0.2
    monkeypatch.setattr("hakuban_router._reports.PERIOD", period)
    async with reported(paged, reader) as asked:
        start = time.monotonic()
        asked.set()
        await reader.shows("-- page 1;")
        asked.set()
        await reader.shows("here 3 to 3")
    assert paged.begun[1] - start > 0.9 * period


async def test_a_page_that_nobody_reads_does_not_hold_up_the_end(reader: Reader) -> None:
    node = HeldNode()
    reader.reading.clear()
    with node, ExitStack() as contracts:
        for number in range(400):
            contracts.enter_context(node.object([], [number, "x" * 100]).observe())
        async with reported(node, reader) as asked:
            asked.set()
            await until(reader.begun.is_set)
    assert not reader.late
    assert reader.getvalue() == ""


async def test_a_broken_node_is_reported_as_such(reader: Reader) -> None:
    class BrokenNode(HeldNode):
        @override
        def snapshot(self) -> hakuban.NodeSnapshot:
            raise hakuban.NodeBrokenError from ZeroDivisionError("a fault of ours")

    with BrokenNode() as node:
        async with reported(node, reader) as asked:
            asked.set()
            await reader.shows("ZeroDivisionError('a fault of ours')")
    assert "this node is broken" in reader.getvalue()
