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

from hakuban.transport import Liveness, default_max_connections

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
    liveness = Liveness()
    links = [Clockwork(0.02 + 0.013 * i, 4) for i in range(20)]
    async with anyio.create_task_group() as group:
        group.start_soon(liveness.run)
        for link in links:
            liveness.watch(link, link.due)
        with anyio.fail_after(10):
            for link in links:
                await link.done.wait()
        group.cancel_scope.cancel()
    late = [seconds for link in links for seconds in link.lateness]
    assert min(late) >= 0
    assert sorted(late)[len(late) * 9 // 10] < 0.1


async def test_one_that_is_due_sooner_than_all_others_is_not_kept_waiting() -> None:
    liveness = Liveness()
    slow, fast = Clockwork(100, 1), Clockwork(0.01, 1)
    async with anyio.create_task_group() as group:
        group.start_soon(liveness.run)
        liveness.watch(slow, slow.due)
        await anyio.wait_all_tasks_blocked()
        liveness.watch(fast, fast.due)
        with anyio.fail_after(2):
            await fast.done.wait()
        group.cancel_scope.cancel()
    assert slow.left == 1


async def test_links_that_are_gone_are_forgotten_and_never_is_a_deadline_too() -> None:
    liveness = Liveness()
    gone, kept = Clockwork(0.01, 1), Clockwork(0.02, 1)
    liveness.watch(gone, math.inf)
    liveness.watch(gone, gone.due)
    liveness.watch(kept, kept.due)
    reference = weakref.ref(gone)
    del gone
    assert reference() is None
    async with anyio.create_task_group() as group:
        group.start_soon(liveness.run)
        with anyio.fail_after(2):
            await kept.done.wait()
        group.cancel_scope.cancel()


async def test_many_that_are_due_together_leave_the_loop_its_turns() -> None:
    liveness = Liveness()
    turns_at: list[int] = []
    turns = 0

    class Noting(Clockwork):
        @override
        def check(self, now: float) -> float | None:
            turns_at.append(turns)
            return super().check(now)

    links = [Noting(0.05, 1) for _ in range(1000)]
    async with anyio.create_task_group() as group:
        group.start_soon(liveness.run)
        for link in links:
            liveness.watch(link, links[0].due)
        with anyio.fail_after(5):
            while not all(link.done.is_set() for link in links):
                await anyio.lowlevel.checkpoint()
                turns += 1
        group.cancel_scope.cancel()
    assert turns_at[-1] - turns_at[0] >= 10


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
