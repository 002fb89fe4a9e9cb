"""Signs of life: each watched link is looked at when it is due."""

from __future__ import annotations

import math
import time
import weakref
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from typing_extensions import override

from hakuban.transport import Heartbeats, default_max_connections
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


class Clockwork:
    """A watched thing that is due every `period` seconds, for some times."""

    def __init__(self, period: float, times: int) -> None:
        self.period = period
        self.left = times
        self.due = time.monotonic() + period
        self.lateness: list[float] = []
        self.done = anyio.Event()

    def check(self, now: float) -> float | None:
        self.lateness.append(now - self.due)
        self.left -= 1
        if not self.left:
            self.done.set()
            return None
        self.due = now + self.period
        return self.due


async def test_checks_come_when_due_and_less_than_100_ms_late() -> None:
    heartbeats = Heartbeats()
    links = [Clockwork(0.02 + 0.013 * i, 4) for i in range(20)]
    gaps = [0.0]

    async def look_at_the_loop() -> None:
        while True:
            began = time.monotonic()
            await anyio.sleep(0.005)
            gaps.append(time.monotonic() - began)

    async with anyio.create_task_group() as group:
        group.start_soon(look_at_the_loop)
        group.start_soon(heartbeats.run)
        for link in links:
            heartbeats.watch(link, link.due)
        with anyio.fail_after(10):
            for link in links:
                await link.done.wait()
        group.cancel_scope.cancel()
    late = [seconds for link in links for seconds in link.lateness]
    assert min(late) >= 0
    assert sorted(late)[len(late) * 9 // 10] < 0.1 + max(gaps), "later than the loop itself"


async def test_one_that_is_due_sooner_than_all_others_is_not_kept_waiting() -> None:
    heartbeats = Heartbeats()
    slow, fast = Clockwork(100, 1), Clockwork(0.01, 1)
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeats.run)
        heartbeats.watch(slow, slow.due)
        await anyio.wait_all_tasks_blocked()
        heartbeats.watch(fast, fast.due)
        with anyio.fail_after(2):
            await fast.done.wait()
        group.cancel_scope.cancel()
    assert slow.left == 1


async def test_links_that_come_when_there_are_none_are_checked_and_so_are_those_after_them() -> (
    None
):
    heartbeats = Heartbeats()
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeats.run)
        for _ in range(2):
            await anyio.wait_all_tasks_blocked()  # it waits for the first one, or for the next
            link = Clockwork(0.01, 1)
            heartbeats.watch(link, link.due)
            with anyio.fail_after(2):
                await link.done.wait()
        group.cancel_scope.cancel()


async def test_links_that_are_gone_are_forgotten_and_never_is_a_deadline_too() -> None:
    heartbeats = Heartbeats()
    gone, kept = Clockwork(0.01, 1), Clockwork(0.02, 1)
    heartbeats.watch(gone, math.inf)
    heartbeats.watch(gone, gone.due)
    heartbeats.watch(kept, kept.due)
    reference = weakref.ref(gone)
    del gone
    assert reference() is None
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeats.run)
        with anyio.fail_after(2):
            await kept.done.wait()
        group.cancel_scope.cancel()


async def test_many_that_are_due_together_leave_the_loop_its_turns() -> None:
    heartbeats = Heartbeats()
    turns_at: list[int] = []
    turns = 0

    class Noting(Clockwork):
        @override
        def check(self, now: float) -> float | None:
            turns_at.append(turns)
            return super().check(now)

    links = [Noting(0.05, 1) for _ in range(1000)]
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeats.run)
        for link in links:
            heartbeats.watch(link, links[0].due)
        with anyio.fail_after(5):
            while not all(link.done.is_set() for link in links):
                await anyio.lowlevel.checkpoint()
                turns += 1
        group.cancel_scope.cancel()
    assert turns_at[-1] - turns_at[0] >= 10


class Checked:
    """A watched thing that is checked once, and does something then."""

    def __init__(self, when_checked: Callable[[], None] = lambda: None) -> None:
        self.checks = 0
        self.when_checked = when_checked

    def check(self, _now: float, /) -> float | None:
        self.checks += 1
        self.when_checked()
        return None


async def run_until(heartbeats: Heartbeats, condition: Callable[[], bool]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeats.run)
        await until(condition)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("cancelled_at", [1, 50, 51, 120, 200])
async def test_who_is_cancelled_in_the_middle_forgets_nobody(cancelled_at: int) -> None:
    heartbeats = Heartbeats()
    scope = anyio.CancelScope()
    links = [Checked() for _ in range(200)]
    links[cancelled_at - 1].when_checked = scope.cancel
    due = time.monotonic()
    for link in links:
        heartbeats.watch(link, due)
    with scope:
        await heartbeats.run()
    await run_until(heartbeats, lambda: all(link.checks for link in links))
    assert [link.checks for link in links] == [1] * 200


def stumble() -> None:
    raise ConnectionResetError("somebody else's transport")


async def test_a_check_that_raises_is_said_and_takes_nobody_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heartbeats = Heartbeats()
    links = [Checked() for _ in range(5)]
    links[2].when_checked = stumble
    due = time.monotonic()
    for link in links:
        heartbeats.watch(link, due)
    await run_until(heartbeats, lambda: all(link.checks for link in links))
    assert "Checked" in caplog.text
    assert "somebody else's transport" in caplog.text


async def test_a_link_whose_check_raised_is_looked_at_again_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heartbeats = Heartbeats()
    link = Checked(stumble)
    heartbeats.watch(link, time.monotonic())
    await run_until(heartbeats, lambda: link.checks == 3)
    assert caplog.text.count("Traceback") == 1


class Interrupted(BaseException):
    """As from a signal."""


async def test_an_interrupt_in_a_check_goes_through_and_nobody_is_forgotten() -> None:
    heartbeats = Heartbeats()

    def interrupt() -> None:
        links[1].when_checked = lambda: None
        raise Interrupted

    links = [Checked() for _ in range(3)]
    links[1].when_checked = interrupt
    due = time.monotonic()
    for link in links:
        heartbeats.watch(link, due)
    with pytest.raises(Interrupted):
        await heartbeats.run()
    await run_until(heartbeats, lambda: links[2].checks == 1)
    assert [link.checks for link in links] == [1, 2, 1]


def test_the_default_limit_of_connections_leaves_room_for_other_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource")

    def limited_to(soft: int) -> Callable[[int], tuple[int, int]]:
        return lambda _: (soft, soft)

    for soft, expected in (
        (1024, 960),
        (50, 1),
        (1_000_000, 10_000),
        (resource.RLIM_INFINITY, 10_000),
    ):
        monkeypatch.setattr(resource, "getrlimit", limited_to(soft))
        assert default_max_connections() == expected
