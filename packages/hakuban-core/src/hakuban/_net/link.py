"""One link, between a transport's stream and the machine: its life, and the task that reads."""

from __future__ import annotations

import logging
import math
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from .._core.events import LinkUp
from .._exceptions import LinkError, PeerViolationError
from .._limits import Limits
from .._logger import logger
from .._loops.time_slice import TimeSlice
from .._loops.tracebacks import contained, forget_cancellation, forget_frames
from .._loops.wakeups import Canceller
from .._remote import Peer
from .._text import printable
from .._wire import Session
from .close_codes import (
    GOING_AWAY,
    LEAVING,
    STREAM_ERRORS,
    Guard,
    close_code_for,
    closed_by_peer,
    located,
)  # fmt: skip
from .link_peer import LinkPeer
from .link_writer import GRACE, LinkWriter
from .silence import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._engine.engine import Engine
    from .._remote import Traffic
    from .._session_events import PeerEvent
    from .._transport.interface import MessageStream, TransportOptions
    from .link_owner import LinkOwner


EVENTS_AT_ONCE: Final = 32  # events passed to the machine in one step; fewer if they take long
PATIENCE: Final = 0.5  # seconds before the close message for a violator that may come back at once
CLOSING: Final = 1.0  # seconds that a close may take
CLOSING_CANCELLED: Final = 0.5


class Link:
    """A link from its being up to its end.

    :ivar reading_since: the monotonic time since when it waits for the peer; infinity while it handles what came.
    :ivar peer: the other side.
    :ivar remote: the same for users, once it has sent its name. Set under the lock.
    :ivar writer: its other half.
    :ivar wake: lets the writer look whether there is something to send; from any thread.
    :ivar cancel: ends the link from any thread.
    :ivar upstream: whether this side connected.
    :ivar reason: why it ended; None before, and when it was cancelled.
    """

    __slots__ = (
        "_close_reason", "_engine", "_left", "_name", "_options", "_orderly", "_owner", "_scope", "_session", "_stream",
        "_traffic", "_url", "cancel", "id", "peer", "reading_since", "reason", "remote", "upstream", "wake", "writer",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        stream: MessageStream,
        options: TransportOptions,
        *,
        url: str,
        name: str,
        traffic: Traffic,
        load_limit: Sequence[tuple[float, int]] | None = None,
        owner: LinkOwner,
    ) -> None:
        """Make a link of the current task.

        :param url: where it leads, or where it came to; fit to be shown.
        :param load_limit: of the connecting side; None makes it the listening one.
        """
        self._engine = engine
        self._stream = stream
        self._options = options
        self._url = url
        self._name = name
        self._traffic = traffic
        self._owner = owner
        self.upstream: bool = load_limit is not None
        self._close_reason = LEAVING if self.upstream else GOING_AWAY
        self._session = Session(
            listening=not self.upstream,
            name=name,
            load_limit=load_limit or (),
            limits=Limits(max_message=options.max_message),
            max_taken=owner.max_taken,
        )
        self.writer: LinkWriter = LinkWriter(
            owner.writers, engine, stream, self._session, traffic=traffic, most=options.max_message
        )
        self._scope = anyio.CancelScope()
        self._left = False
        self._orderly = False  # whether the peer has ended it in good order
        self.peer: LinkPeer = LinkPeer(stream, self._session)
        self.wake: Callable[[], None] = self.writer.set
        self.cancel: Callable[[], None] = Canceller(self._scope).wake
        self.id: int = -1
        self.reading_since: float = math.inf
        self.remote: Peer | None = None
        self.reason: Exception | None = None

    async def run(self) -> Exception | None:
        """Read and write until the link ends, and close it. Raises nothing but cancellation.

        :return: why it ended; None when this side has left, or the node was closed.
        """
        try:
            with Guard(self.fail):
                self._enter()
                self.writer.start(self)
                await self._read_and_watch()
        finally:
            if self._engine.cause is not None and not self._left:
                self._end(self._engine.broken())
            self._engine.exit_link(self)
            with anyio.CancelScope(shield=True):
                await self.writer.stop()
            in_order = self._left or self.reason is not None
            with anyio.move_on_after(CLOSING if in_order else CLOSING_CANCELLED, shield=True):
                await self._close()
        return self.reason

    async def _read_and_watch(self) -> None:
        if getattr(self._stream, "detects_silence", False):
            await self._read()
            return
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(contained, scope, self._watch)
            await self._read()
            scope.cancel()

    async def _watch(self) -> None:
        with Guard(self.fail):
            await watch(self, self._options)

    def fail(self, reason: Exception) -> None:
        """End the link. The first reason holds."""
        self._end(reason)
        self._scope.cancel()

    @property
    def largest_sent(self) -> int:
        """Bytes of the largest message that was sent."""
        return self.writer.largest_sent

    def leave(self) -> None:
        """End the link from this side, in good order."""
        self._left = True
        self._scope.cancel()

    def mark_ready(self) -> None:
        """The machine has something to send. Only under the lock."""
        self.writer.ready = True

    def named(self, name: str) -> None:
        """The peer has sent its name. Only under the lock."""
        came = self.remote is None
        self.remote = Peer(self.id, name, self.peer.address, self.upstream, self.peer.identity)
        beside = self._owner.established(self.peer, self.remote)
        if came:
            self.writer.cap = self._owner.size_cap(
                self
            )  # now that a node below may have sent its id
            self._engine.log(logging.INFO, "link up: %s%s", str(self), beside)

    def ended(self) -> None:
        """The facts of the link are void. Only under the lock, and once."""
        self._owner.lost(self.remote, self.reason)

    def _enter(self) -> None:
        self.peer.look()
        self.writer.cap = self._owner.size_cap(self)
        self._engine.enter_link(
            self,
            LinkUp(
                link=-1,
                upstream=self.upstream,
                local_name=self._name,
                local_address=str(getattr(self._stream, "local_address", None) or ""),
                remote_address=self.peer.address,
                clock=self.peer.stated_clock if self.upstream else None,
                wall=time_ns(),
                careful=self._owner.careful,
            ),
        )

    @property
    def vouched_until(self) -> float | None:
        """The monotonic time until which the peer vouched for what it had sent; None for now."""
        ended_here = self.reason is None or isinstance(self.reason, PeerViolationError)
        if self._orderly or (ended_here and not self.peer.overdue(self._options.keep_alive)):
            return None
        return self.peer.last_heard

    def _end(self, reason: Exception) -> None:
        """The link has ended: its facts are void from here on. The first reason holds."""
        if self.reason is None:
            self.reason = located(reason, self._url)
            self._engine.exit_link(self)

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        time_slice = TimeSlice()
        self.reading_since = monotonic()
        with self._scope, Guard(self.fail):
            try:
                while True:
                    messages = await self._stream.receive()
                    self.reading_since = math.inf
                    self.peer.last_message = time_slice.begin()
                    self._traffic.messages_in += len(messages)
                    self._traffic.bytes_in += sum(map(len, messages))
                    await self._take(messages, time_slice)
                    del messages  # the next may be long in coming
                    self.reading_since = time_slice.end()
            except PeerViolationError as error:
                with anyio.move_on_after(GRACE):
                    await self.writer.introduced.wait()  # it states what this side takes
                self._end(error)
                if not self.peer.ours:
                    await self._discard()
            except anyio.get_cancelled_exc_class() as cancelled:
                forget_cancellation(cancelled)  # a frame of anyio's streams may keep it
                raise
            except anyio.EndOfStream as end:
                forget_frames(end)  # the stream keeps it, and it this frame
                self._orderly = True
                self._end(closed_by_peer(self._stream))

    async def _take(self, messages: Sequence[bytes], time_slice: TimeSlice) -> None:
        for message in messages:
            events: list[PeerEvent] = []
            try:
                for event in self._session.receive(message):
                    if event is not None:
                        events.append(event)
                    expired = time_slice.expired()
                    if expired or len(events) == EVENTS_AT_ONCE:
                        self._hand_over(events)
                    if expired:
                        await time_slice.yield_to_loop()
            except LinkError:
                self._hand_over(events)  # what was received before
                raise
            self._hand_over(events)

    def _hand_over(self, events: list[PeerEvent]) -> None:
        """Hand over what was received, once.

        :raises LinkError: the peer has broken a rule.
        """
        if events:
            fault = self._engine.receive(self.id, events)
            events.clear()
            try:
                if fault is not None:
                    raise fault
            finally:
                del fault  # its traceback holds this frame, and a caller of `connect` may get it

    async def _discard(self) -> None:
        """Throw away what comes from a peer that would be back at once, for a while."""
        with anyio.move_on_after(PATIENCE):
            try:
                while True:
                    await self._stream.receive()
                    await checkpoint()
            except (LinkError, *STREAM_ERRORS):
                await anyio.sleep_forever()

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Close the stream, with the code and reason that state why."""
        try:
            if self._engine.cause is not None:
                await self._stream.aclose(1011, "internal error")
            else:
                await self._stream.aclose(*close_code_for(self.reason, self._close_reason))
        except STREAM_ERRORS:
            pass  # it was gone already
        except Exception:  # noqa: BLE001  # a transport's code: no other link may notice
            logger.exception("%s: the link could not be closed in good order", self)

    @override
    def __str__(self) -> str:
        address = self.peer.address or "an unknown address"
        name = f"{self.remote.name} at " if self.remote is not None else ""
        return printable(f"{name}{address} ({self._url.partition(':')[0]})")
