"""The connecting side: one upstream link at a time, made again whenever it is lost."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio

from .._checks import checked_flag, checked_name
from .._engine.poll_results import PENDING, Pending
from .._engine.ticker import LEAVING_TIME, ticking
from .._engine.waiting import wait_for
from .._exceptions import (
    AlreadyConnectedError,
    CircleError,
    LinkError,
    PeerViolationError,
    RefusedError,
)
from .._loops.tasks import background_tasks
from .._loops.tracebacks import contained, forget_frames
from .._text import redacted
from .._transport.options import load_limit_argument
from .._transport.plugins import find_target
from .close_codes import STREAM_ERRORS, ForeignCancellation, is_bug, located, not_entered, single
from .connection import Connection, ConnectionState
from .link import Link
from .link_context import LinkBlock
from .link_log import Outage, link_down
from .link_writer import Writers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .._engine.engine import Engine
    from .._remote import Peer
    from .._transport.interface import Transport
    from .._transport.options import TransportArguments
    from .._transport.plugins import LinkTarget
    from .link_peer import LinkPeer
    from .message_sizes import SizeCap, SizedLink


FIRST_PAUSE: Final = 0.05
LONGEST_AT_FIRST: Final = 0.15  # while nobody answers, as during a restart
LONGEST_PAUSE: Final = 0.75
LONGEST_LATER: Final = 5.0
SOON: Final = 3.0  # seconds of an outage after which pauses may become longer
LATER: Final = 60.0  # and longer still
CIRCLE: Final = 5.0  # seconds after which it is looked whether a circle is still one
GOOD: Final = 1.0  # seconds a link has to last to count as one
FLUSH: Final = 1.0
CLOSE: Final = 1.5  # seconds: more than a link allows itself


class Backoff:
    """How long to wait before the next attempt.

    :param jitter: returns numbers from 0 to 1, so that many nodes do not come back in step.
    """

    __slots__ = ("_began", "_jitter", "_pause")

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._pause = FIRST_PAUSE
        self._began: float | None = None

    def next(self, now: float, *, hopeful: bool = True, answered: bool = False) -> float:
        """An attempt has failed; return seconds to wait.

        :param hopeful: whether trying again may help; else pauses become long at once.
        :param answered: whether somebody was there, who then ended the link.
        """
        if self._began is None:
            self._began = now
        outage = now - self._began
        longest = LONGEST_AT_FIRST
        if not hopeful or outage >= LATER:
            longest = LONGEST_LATER
        elif answered or outage >= SOON:
            longest = LONGEST_PAUSE
        pause = min(self._pause, longest)
        self._pause = min(2 * self._pause, LONGEST_LATER)
        return pause * (0.5 + 0.5 * self._jitter())

    def reset(self) -> None:
        """A link was good for a while: the outage is over."""
        self._pause = FIRST_PAUSE
        self._began = None


def connect(
    engine: Engine,
    url: str,
    *,
    name: str | None,
    default_name: str,
    transport: Transport | None,
    wait: bool,
    load_limit: object,
    arguments: TransportArguments,
) -> LinkBlock[Connection]:
    """See `LocalNode.connect`."""
    target = find_target(url, transport, arguments, listening=False)
    in_url = target.url_options
    name = checked_name(name) or in_url.name or default_name
    points = in_url.load_limit if load_limit is None else load_limit_argument(load_limit)
    patient = not checked_flag("wait", wait)
    return LinkBlock(
        lambda: _connected(engine, target, name, points, patient=patient),
        "async with node.connect(...) as connection",
    )


@asynccontextmanager
async def _connected(
    engine: Engine,
    target: LinkTarget,
    name: str,
    load_limit: Sequence[tuple[float, int]],
    *,
    patient: bool,
) -> AsyncIterator[Connection]:
    engine.expect_open()
    state = ConnectionState(engine, redacted(target.url))
    _claim(engine, state.url)

    async def leave() -> None:
        timer.end_by = monotonic() + LEAVING_TIME
        await connector.leave()

    try:
        async with ticking(engine) as timer, background_tasks(leave) as tasks:
            writers = Writers(tasks)
            connector = _Connector(state, target, name, load_limit, writers, patient=patient)
            tasks.start_soon(contained, anyio.CancelScope(), connector.run)
            if not patient:
                await connector.wait_first()
            yield Connection(state)
    finally:
        state.close()
        engine.upstream_url = None


def _claim(engine: Engine, url: str) -> None:
    def claim() -> str | None:
        if engine.upstream_url is None:
            engine.upstream_url = url
            return None
        return engine.upstream_url

    other = engine.read(claim)
    if other is not None:
        raise AlreadyConnectedError(other)


class _Connector:
    """Keeps the node connected."""

    def __init__(
        self,
        state: ConnectionState,
        target: LinkTarget,
        name: str,
        load_limit: Sequence[tuple[float, int]],
        writers: Writers,
        *,
        patient: bool,
    ) -> None:
        self._state = state
        self._engine = state.engine
        self._transport = target.transport
        self._url = target.url
        self._options = target.options
        self._name = name
        self._load_limit = load_limit
        self._patient = patient  # nothing is fatal: nobody waits for the first link
        self._link: Link | None = None
        self._fatal: Exception | None = None
        self._leaving = False
        self._ended = anyio.Event()
        self._backoff = Backoff()
        self._outage = Outage(state.url)
        self._up_since: float | None = None
        self.careful: bool = False  # whether there was a circle
        self.max_taken: int | None = None
        self.writers: Writers = writers

    async def wait_first(self) -> None:
        """Wait for the first established link; raise what makes waiting useless."""
        await wait_for(self._engine, self._state, self._poll_first)
        if self._fatal is not None:
            raise self._give_up()
        self._state.expect_open(self._state.poll_up())

    def _give_up(self) -> Exception:
        """Return the reason, and keep it nowhere: what is raised gets frames, and in one of them is this."""
        fatal, self._fatal = self._fatal, None
        self._state.forget_error()
        assert fatal is not None
        return fatal

    def _poll_first(self) -> bool | Pending:
        state = self._state
        if state.links or state.closed or self._fatal is not None:
            return True
        return PENDING

    async def leave(self) -> None:
        """Send what there is to send, and end the link; bounded."""
        self._leaving = True
        link = self._link
        if link is None:
            return
        with anyio.move_on_after(FLUSH):
            await link.writer.flush()
        link.leave()
        with anyio.move_on_after(CLOSE):
            await self._ended.wait()

    async def run(self) -> None:
        """Make link after link."""
        error: Exception | None = None
        try:
            while True:
                error = None
                error = await self._attempt()
                if self._leaving or self._over():
                    return
                if error is None:  # it has cancelled what was in its block, and nothing else
                    error = located(LinkError("its transport ended it"), self._state.url)
                link, self._link = self._link, None
                self._judge(link, error)
                if self._fatal is not None:
                    if link is not None:
                        link.reason = None  # as `_give_up`
                    return
                forget_frames(error)
                if link is not None:
                    forget_frames(link.reason)
                if link is None or link.id < 0 or link.reason is not error:  # else it reported it
                    self._engine.update(self._state, partial(self._state.lost, error))
                await anyio.sleep(self._pause(link, error))
        finally:
            if self._link is not None:
                link_down(self._link, self._link.reason if error is None else error)
                forget_frames(self._link.reason)
                self._link = None
            self._state.close()
            self._ended.set()
            del error  # its traceback may hold this frame

    def _pause(self, link: Link | None, error: Exception) -> float:
        """Return the seconds until the next attempt."""
        if self.careful:
            return CIRCLE
        return self._backoff.next(
            monotonic(),
            hopeful=not (isinstance(error, RefusedError) and not error.retry),
            answered=link is not None or not _is_nobody(error),
        )

    def _over(self) -> bool:
        return self._engine.closed or self._engine.cause is not None

    async def _attempt(self) -> Exception | None:
        """Make a link, and return the reason of its end; None if this side wanted it, or the transport gave none."""
        self._up_since = None
        failure: Exception | None = None
        try:
            with ForeignCancellation():
                await self._link_once()
        except Exception as error:  # noqa: BLE001  # a transport's code: `_judge` sorts out what it is
            failure = error
        try:
            return self._ending(failure)
        finally:
            del failure  # it holds this frame

    def _ending(self, failure: Exception | None) -> Exception | None:
        reason = None if self._link is None else self._link.reason
        if failure is None or (reason is not None and not is_bug(failure)):
            return reason  # what went wrong later, while the transport cleaned up, does not matter
        if self._link is None:
            failure = not_entered(failure, self._options.handshake_timeout)
        return located(single(failure), self._state.url)

    async def _link_once(self) -> None:
        async with self._transport.connect(self._url, self._options) as stream:
            self._link = Link(
                self._engine,
                stream,
                self._options,
                url=self._state.url,
                name=self._name,
                traffic=self._state.traffic,
                load_limit=self._load_limit,
                owner=self,
            )
            await self._link.run()

    def established(self, peer: LinkPeer, remote: Peer) -> str:
        """Take note that a link is up. Under the lock."""
        self._state.peer = peer
        beside = ""
        if self._up_since is None:
            self._up_since = monotonic()
            beside = self._outage.recovered(again=self._state.links > 0)
        self._state.established(remote)
        return beside

    def lost(self, _remote: Peer | None, reason: Exception | None) -> None:
        """Take note that a link has ended. Under the lock."""
        self._state.lost(reason)

    def size_cap(self, _: SizedLink) -> SizeCap:
        """Return what was learnt of the size of messages that the other side takes."""
        return self._state.size_cap

    def _judge(self, link: Link | None, error: Exception) -> None:
        """Draw the consequences of a link that was lost, or not made."""
        self.careful = isinstance(error, CircleError)
        if link is not None:
            self.max_taken = link.peer.max_taken
            self._state.size_cap.ended(link, monotonic())
        if self._up_since is not None and monotonic() - self._up_since >= GOOD:
            self._backoff.reset()
            self._outage.over()
        if not (self._patient or self._state.links) and _is_final(error, made=link is not None):
            self._fatal = error
        else:
            self._outage.failed(link, error)


def _is_nobody(error: Exception) -> bool:
    """Return whether nobody was there; else somebody was, and has gone or kept silent."""
    gone = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError)
    return isinstance(error, OSError) and not isinstance(error, gone)


def _is_final(error: Exception, *, made: bool) -> bool:
    """Return whether trying again cannot help.

    :param made: whether there was a stream: what nobody has foreseen there may not come up again.
    """
    if isinstance(error, RefusedError):
        return not error.retry
    if isinstance(error, CircleError):
        return True
    if isinstance(error, PeerViolationError):
        return True  # a peer that was never understood speaks another protocol
    return not (made or isinstance(error, (LinkError, *STREAM_ERRORS)))
