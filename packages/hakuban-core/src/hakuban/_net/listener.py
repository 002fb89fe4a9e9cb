"""The listening side."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint

from .._changes import Action
from .._checks import checked_name
from .._engine.feeds import Feed, TableEmitter
from .._engine.ticker import LEAVING_TIME, ticking
from .._exceptions import PluginError
from .._loops.tasks import background_tasks
from .._loops.tracebacks import contained, forget_frames
from .._loops.wakeups import was_cancelled
from .._remote import Traffic
from .._text import redacted
from .._transport.authorizing import Authorizer
from .._transport.plugins import authorizer, find_target
from .close_codes import describe
from .connection import Listener
from .link import Link
from .link_context import LinkBlock
from .link_log import link_down
from .link_writer import Writers
from .message_sizes import SizeCaps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskStatus

    from .._engine.engine import Engine
    from .._remote import Peer
    from .._transport.interface import MessageStream, Transport, TransportOptions
    from .._transport.options import TransportArguments
    from .._transport.plugins import LinkTarget
    from .link_peer import LinkPeer
    from .message_sizes import SizeCap, SizedLink


_REST: Final = 1.0  # seconds with nothing to send after which the task that sends ends
_RESTS_PER_TURN: Final = 1_000  # links looked at before the loop gets its turn: well under 1 ms


class _Acceptor:
    """Runs a link for each stream that a transport has accepted.

    :param writers: where links write.
    """

    __slots__ = (
        "_engine", "_feed", "_links", "_name", "_options", "_remotes", "_size_caps", "_url", "careful", "max_taken",
        "writers",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        url: str,
        options: TransportOptions,
        name: str,
        writers: Writers,
        feed: Feed[Peer],
    ) -> None:
        self._engine = engine
        self._url = redacted(url)
        self._links: dict[Link, None] = {}
        self._options = options
        self._name = name
        self._size_caps = SizeCaps()
        self._remotes: dict[int, Peer] = {}
        self._feed = feed
        self.careful: bool = False
        self.max_taken: int | None = None
        self.writers: Writers = writers

    def accept(self, stream: MessageStream) -> Awaitable[None]:
        """Run one link. Raises nothing but cancellation."""
        # no frame of its own, which would stay where the transport has it cancelled
        return contained(anyio.CancelScope(), partial(self._run, stream))

    async def _run(self, stream: MessageStream) -> None:
        link = Link(
            self._engine,
            stream,
            self._options,
            url=self._url,
            name=self._name,
            traffic=Traffic(),
            owner=self,
        )
        self._engine.update(self, lambda: self._links.update({link: None}))
        try:
            await link.run()
        finally:
            self._engine.update(self, lambda: self._links.pop(link))
            self._size_caps.ended(link, monotonic(), self._links)
            link_down(link, link.reason)
            forget_frames(link.reason)

    async def rest_writers(self) -> None:
        """Let the tasks that have nothing to send end, until cancelled."""
        while True:
            await anyio.sleep(_REST)
            await self._rest_idle()

    async def _rest_idle(self) -> None:
        for number, link in enumerate(self.links()):
            link.writer.rest()
            if number % _RESTS_PER_TURN == 0:
                await checkpoint()

    def established(self, _peer: LinkPeer, remote: Peer) -> str:
        """Take note that a link is up, or that its peer has another name. Under the lock."""
        self._report_gone(remote.id)
        self._remotes[remote.id] = remote
        self._feed.put(Action.INSERT, remote)
        return ""

    def lost(self, remote: Peer | None, _reason: Exception | None) -> None:
        """Take note that a link has ended. Under the lock."""
        if remote is not None:
            self._report_gone(remote.id)

    def _report_gone(self, id: int) -> None:
        before = self._remotes.pop(id, None)
        if before is not None:
            self._feed.put(Action.REMOVE, before)

    def peers(self) -> TableEmitter[Peer]:
        """Return the nodes that are connected, as a table whose changes are events."""
        name = f"peers of the listener {self._url}"
        return TableEmitter(self._engine, name, lambda: [*self._remotes.values()], self._feed)

    def size_cap(self, link: SizedLink) -> SizeCap | None:
        """Return what was learnt of the size of messages that a peer takes."""
        return self._size_caps.find(link)

    def links(self) -> list[Link]:
        """Return the links, in the order of their coming."""
        return self._engine.read(lambda: list(self._links))


def listen(
    engine: Engine,
    url: str,
    *,
    name: str | None,
    default_name: str,
    transport: Transport | None,
    arguments: TransportArguments,
) -> LinkBlock[Listener]:
    """See `LocalNode.listen`."""
    target = find_target(url, transport, arguments, listening=True)
    asked = target.options.authorize
    authorize = authorizer() if asked is None else Authorizer(asked)
    options = replace(target.options, authorize=authorize, clock=engine.clock)
    name = checked_name(name) or target.url_options.name or default_name
    return LinkBlock(
        lambda: _listening(engine, target, options, name),
        "async with node.listen(...) as listener",
    )


@asynccontextmanager
async def _listening(
    engine: Engine, target: LinkTarget, options: TransportOptions, name: str
) -> AsyncIterator[Listener]:
    engine.expect_open()
    feed: Feed[Peer] = Feed()
    try:
        async with ticking(engine) as timer, background_tasks() as tasks:
            writers = Writers(tasks)
            acceptor = _Acceptor(engine, target.url, options, name, writers, feed)
            tasks.start_soon(contained, anyio.CancelScope(), writers.run)
            tasks.start_soon(contained, anyio.CancelScope(), acceptor.rest_writers)
            try:
                # an end of it once it listens is a fault of the transport, and cancels the body
                bound = await tasks.start(_serve_only, [partial(_serve, target, options, acceptor)])
                yield Listener(bound, acceptor.links, acceptor.peers)
            finally:
                timer.end_by = monotonic() + LEAVING_TIME
    finally:
        engine.update(feed, feed.end)


class _Started:
    """Records whether a transport has reported that it listens."""

    def __init__(self, task_status: TaskStatus[str]) -> None:
        self._task_status = task_status
        self.called = False

    def started(self, value: Any = None) -> None:
        self.called = True
        self._task_status.started(value)


async def _serve_only(  # noqa: ASYNC128  # the part calls it
    parts: list[Callable[..., Awaitable[None]]], *, task_status: TaskStatus[str]
) -> None:
    """Run the one part of a list, which is taken out: what `start` was given stays, where the task is cancelled."""
    await contained(anyio.CancelScope(), partial(parts.pop(), task_status=task_status))


async def _serve(  # noqa: ASYNC128  # the transport calls it
    target: LinkTarget,
    options: TransportOptions,
    acceptor: _Acceptor,
    *,
    task_status: TaskStatus[str],
) -> None:
    """Run a transport's `serve`, and raise if it ends although nobody has cancelled it, in whatever way.

    Else the body would go on and nobody listen: a task group takes a return, and a CancelledError out of nowhere, for
    an orderly end; and SystemExit would end the program.
    """
    status, cause = _Started(task_status), None
    try:
        await target.transport.serve(target.url, options, acceptor.accept, task_status=status)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: ASYNC103  # raised again if somebody asked for it
        interrupted = isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt)
        if interrupted or not status.called or was_cancelled():
            raise
        cause = error
    if status.called and not was_cancelled():
        reason = (
            "its serve has returned" if cause is None else f"its serve raised {describe(cause)}"
        )
        raise PluginError(f"the transport of {redacted(target.url)}", reason) from cause
