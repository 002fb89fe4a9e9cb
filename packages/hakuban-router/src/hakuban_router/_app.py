"""A router: a node that listens, perhaps connects, shows itself, and leaves in order."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

import hakuban
from hakuban.transport import redacted

from ._exit_codes import FORESEEN, Failure, failure, unforeseen
from ._link_options import with_defaults
from ._log import logger
from ._memory import give_memory_back
from ._monitor import Monitor
from ._reports import write_reports
from ._sd_notify import notify
from ._signals import usr2_sets
from ._stdio import ignore_terminal_stop, read_lines
from ._wakeup_event import WakeupEvent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskGroup, TaskStatus

    from ._cli import Config
    from ._signals import Signals


async def run(
    config: Config,
    listening_tls: ssl.SSLContext | None,
    connecting_tls: ssl.SSLContext | None,
    signals: Signals,
) -> Failure | None:
    """Run the router until a signal ends it.

    :param signals: they may have come before this already.
    """
    if signals.first is not None:
        return None
    try:
        router = _Router(config, listening_tls, connecting_tls)
    except ValueError as error:  # a name that no peer accepts, for example
        return Failure(2, str(error))
    with WakeupEvent() as asked, usr2_sets(asked):
        ignore_terminal_stop()
        read_lines(lambda _line: asked.set())
        return await router.run(signals, asked)


class _Router:
    def __init__(
        self,
        config: Config,
        listening_tls: ssl.SSLContext | None,
        connecting_tls: ssl.SSLContext | None,
    ) -> None:
        self.node = hakuban.LocalNode(
            config.name,
            rebalance=config.rebalance_threshold,
            max_clock_lead=config.max_clock_lead,
        )
        self.monitor = Monitor(
            self.node, None if config.connect is None else redacted(config.connect)
        )
        if config.monitor_tag is not None:
            hakuban.TagDescriptor(config.monitor_tag)  # raises if it cannot be one
        self._config = config
        self._listening_tls = listening_tls
        self._connecting_tls = connecting_tls
        self._end = anyio.Event()
        self._problem: Failure | None = None  # of a link that was up

    async def run(self, signals: Signals, asked: WakeupEvent) -> Failure | None:
        """Do all that a router does, until the end.

        :param asked: set by whoever wants a report.
        """
        async with anyio.create_task_group() as group:
            await group.start(signals.watch, self._leave)
            await group.start(self.monitor.publish, self._config.monitor_tag)
            group.start_soon(write_reports, self.monitor, asked)
            group.start_soon(give_memory_back)
            problem = await self._serve()
            group.cancel_scope.cancel()
        return problem

    def _leave(self, _signum: int) -> int:
        self._end.set()
        return 0

    async def _serve(self) -> Failure | None:
        """Listen and connect until the end."""
        # A task for each link: they are left all at the same time, since each may take a while.
        async with anyio.create_task_group() as links:
            self._problem = await self._start(links) or self._problem
            if self._problem is None:
                gc.freeze()
                # Neither what lives nor a link that has ended is a cycle, and a full collection looks at all of
                # it: 0.6 s with 100,000 contracts. So there are few, and still some: for what others leave behind.
                gc.set_threshold(10_000, 10, 20)
                gc.enable()
                notify("READY=1")
                await self._end.wait()
                notify("STOPPING=1")
            self._end.set()
        return self._problem

    async def _start(self, links: TaskGroup) -> Failure | None:
        problem: Failure | None = None
        for url in self._config.bind:
            problem = problem or await links.start(self._listen, url)
        if self._config.connect is not None:
            problem = problem or await links.start(self._connect, self._config.connect)
        return problem

    async def _listen(  # noqa: ASYNC128  # `_reported` calls it
        self, url: str, *, task_status: TaskStatus[Failure | None]
    ) -> None:
        with self._reported(url, "cannot listen on", "listens no more", task_status) as up:
            async with self.node.listen(
                with_defaults(url, self._config),
                ssl=self._listening_tls if url.lower().startswith("wss:") else None,
                allow_origins=self._config.allow_origin,
                max_connections=self._config.max_connections,
            ) as listener:
                bound = redacted(listener.url)
                self.monitor.listening.append(bound)
                logger.info("listening on %s", bound)
                up()
                await self._end.wait()

    async def _connect(  # noqa: ASYNC128  # `_reported` calls it
        self, url: str, *, task_status: TaskStatus[Failure | None]
    ) -> None:
        with self._reported(url, "cannot connect to", "is tried no more", task_status) as up:
            async with self.node.connect(
                with_defaults(url, self._config), wait=False, ssl=self._connecting_tls
            ):
                up()
                await self._end.wait()

    @contextmanager
    def _reported(
        self, url: str, cannot: str, no_more: str, task_status: TaskStatus[Failure | None]
    ) -> Iterator[Callable[[], None]]:
        """Report the fate of a link: that it is up, by the function given, or why it cannot be; an end later ends all."""
        started = False

        def up() -> None:
            nonlocal started
            started = True
            task_status.started(None)

        try:
            yield up
        except Exception as error:
            if started:
                self._fail(f"{redacted(url)} {no_more}", error)
            elif isinstance(error, FORESEEN):
                # Handed over, since raised it would come out of the group of all links.
                task_status.started(failure(f"{cannot} {redacted(url)}", error))
            else:
                raise

    def _fail(self, what: str, error: Exception) -> None:
        """End the router, since one of its links has ended for good: whoever started it can start it again."""
        logger.error("%s", what, exc_info=error)
        self._problem = self._problem or unforeseen(what, error)
        self._end.set()
