"""When a report is written, and which page of it."""

from __future__ import annotations

import math
import sys
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

import hakuban

from ._report import START, Page, draw_page
from ._stderr import StandardError

if TYPE_CHECKING:
    from ._monitor import Monitor
    from ._report import Place
    from ._wakeup_event import WakeupEvent


PERIOD: Final = 1.0  # seconds between two pages
CONTINUED: Final = 60.0  # seconds for which whoever asks gets the page after the last one
GO_ON: Final = (
    f"-- page {{}}; SIGUSR2, or a line on the standard input, within {CONTINUED:g} s shows page {{}};"
    " the objects of --monitor-tag hold all"
)


async def write_reports(monitor: Monitor, asked: WakeupEvent) -> None:
    """Write a page to the standard error for each request, one at a time, until cancelled.

    Who asks while a picture is being taken is answered by it; who asks later gets the next page.
    """
    place, until = START, -math.inf
    while True:
        await asked.wait()
        began = monotonic()
        page = await _page(monitor, place if began < until else START)
        asked.clear()
        # abandoned at the end of the program; until then it waits for who reads
        await anyio.to_thread.run_sync(_write, page, abandon_on_cancel=True)
        place, until = page.next or START, monotonic() + CONTINUED
        await anyio.sleep(max(0.0, began + PERIOD - monotonic()))


async def _page(monitor: Monitor, place: Place) -> Page:
    try:
        return await monitor.look(partial(draw_page, place=place))
    except hakuban.NodeBrokenError as error:
        return Page([f"{error}: {error.__cause__!r}"], None)


def _write(page: Page) -> None:
    stderr = (
        sys.stderr
    )  # which may be another one when a page that nobody has read for long goes on
    if isinstance(stderr, StandardError):
        stderr.write_all(page.lines)
        if page.next is not None:
            number = page.next.page
            stderr.write_all([GO_ON.format(number - 1, number)])
