"""What our own transports have in common: signs of life, and a limit of connections."""

from __future__ import annotations

import heapq
import math
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

from .._logger import logger
from .._loops.tracebacks import contained
from .._open_files import open_files_limit

if TYPE_CHECKING:
    from collections.abc import Coroutine

_MAX_CONNECTIONS = 10_000
_SPARE_DESCRIPTORS = 64


# Deadlines are rounded up to this many seconds, so that many are met in one go.
_SLOT = 0.025
# Seconds after which a link is looked at in any case; a deadline may be inf.
_LONGEST = 3600.0
# Seconds until a link whose check has failed is looked at again.
_AFTER_A_FAULT = 0.1
# Links looked at before the loop gets its turn: about 1 ms of pings.
_SLICE = 50


class Monitored(Protocol):
    """A link that is watched by `Heartbeats`."""

    def check(self, now: float, /) -> float | None:
        """Do what is due.

        Called on the loop of `Heartbeats.run`, at the latest an hour after the last time; must not raise. If it does,
        that is logged, once for the class, and it is called again soon.

        :param now: the time, as `time.monotonic()` returns it.
        :returns: when to check again, or None for never.
        """
        ...


class Heartbeats:
    """Calls `check` of each watched link when that is due, up to 25 ms late: for transports that detect silence.

    One for all links of a listener, as one timer for each is dear with 10,000 of them. A link costs one entry in a list
    for each check, however much it sends and receives in between. Links are held weakly. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[weakref.ref[Monitored]]] = {}
        self._order: list[int] = []  # heap of the keys of _slots
        self._wake = anyio.Event()
        self._faulty: set[type[Monitored]] = set()  # classes whose fault was logged

    def watch(self, link: Monitored, due: float) -> None:
        """Check a link at a time, and from then on when it wants. Never waits.

        :param due: as `time.monotonic()` returns it; `math.inf` is fine.
        """
        slot = math.ceil(min(due, time.monotonic() + _LONGEST) / _SLOT)
        links = self._slots.get(slot)
        if links is None:
            links = self._slots[slot] = []
            if not self._order or slot < self._order[0]:
                self._wake.set()
            heapq.heappush(self._order, slot)
        links.append(weakref.ref(link))

    def run(self) -> Coroutine[Any, Any, None]:
        """Watch until cancelled. To be run by one task, whose cancellation loses nothing."""
        return contained(anyio.CancelScope(), self._run)

    async def _run(self) -> None:
        while True:
            self._wake = anyio.Event()
            if not self._order:
                await self._wake.wait()
                continue
            delay = self._order[0] * _SLOT - time.monotonic()
            if delay > 0:
                with anyio.move_on_after(delay):
                    await self._wake.wait()
                continue
            await self._check(self._slots.pop(heapq.heappop(self._order)))

    async def _check(self, links: list[weakref.ref[Monitored]]) -> None:
        links.reverse()
        try:
            while links:
                self._check_one(links[-1]())
                links.pop()
                if links and len(links) % _SLICE == 0:
                    await checkpoint()
        finally:  # cancelled, or interrupted in the middle of a check: the rest is due still
            for reference in links:
                link = reference()
                if link is not None:
                    self.watch(link, time.monotonic())

    def _check_one(self, link: Monitored | None) -> None:
        if link is None:
            return
        try:
            due = link.check(time.monotonic())
        except Exception:  # noqa: BLE001  # logged, and tried again
            # a transport's code; one link's fault ends neither the listener nor the watching of others
            if type(link) not in self._faulty:
                self._faulty.add(type(link))
                logger.exception(
                    "the check of a %s failed; such are tried again", type(link).__name__
                )
            due = time.monotonic() + _AFTER_A_FAULT
        if due is not None:
            self.watch(link, due)


def default_max_connections() -> int:
    """Return the most connections of a listener without its own limit: 10,000, or what the one on open files leaves."""
    limit = open_files_limit()
    if limit is None:
        return _MAX_CONNECTIONS
    return max(1, min(_MAX_CONNECTIONS, limit - _SPARE_DESCRIPTORS))
