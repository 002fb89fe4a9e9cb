"""The writing half of a link: a task that sends what the machine has for the peer, while there is something to send."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import anyio
from typing_extensions import override

from .._engine.entries import LinkEntry
from .._loops.latch import Latch
from .._loops.time_slice import TimeSlice
from .._loops.tracebacks import contained
from .._loops.wakeups import AutoResetEvent
from .close_codes import STREAM_ERRORS, Guard
from .message_sizes import Skips

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .._engine.engine import Engine
    from .._remote import Traffic
    from .._transport.interface import MessageStream
    from .._wire import Session
    from .link_peer import LinkPeer
    from .message_sizes import SizeCap


BATCH: Final = 64 * 1024  # bytes after which a batch is sent
GRACE: Final = 0.05  # seconds that reader and writer leave to each other when one has failed


class WrittenLink(LinkEntry, Protocol):
    """A link, as its writer knows it.

    :ivar peer: the other side.
    """

    peer: LinkPeer

    def fail(self, reason: Exception) -> None:
        """End the link."""
        ...


class Writers:
    """Runs the tasks of writers, which begin from wherever somebody had something to send.

    :param tasks: where they run; outlives the links.
    """

    __slots__ = ("_called", "_due", "_tasks")

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._due: dict[LinkWriter, None] = {}
        self._called = AutoResetEvent()

    def start_soon(self, writer: LinkWriter) -> None:
        """Have a writer run, from anywhere on the loop: outside its tasks none can be started."""
        self._due[writer] = None
        self._called.set()

    def forget(self, writer: LinkWriter) -> None:
        """Run it no more; it may not have begun, and will not where these are cancelled."""
        self._due.pop(writer, None)

    async def run(self) -> None:
        """Start them, until cancelled."""
        while True:
            await self._called.wait()
            while self._due:
                writer = next(iter(self._due))
                del self._due[writer]
                self.start(writer)

    def start(self, writer: LinkWriter) -> None:
        """Have a writer run; from a task."""
        scope = anyio.CancelScope()
        self._tasks.start_soon(contained, scope, partial(writer.run, scope))


class LinkWriter(AutoResetEvent):
    """Sends on a link, and is woken when there is something to send, from any thread.

    Its task ends when there was nothing for a while, and begins anew when there is something: a task of anyio, and what
    it waits with, take 6 KiB, a quarter of what an idle link would take.

    :param writers: have its task run.
    :param most: bytes of the largest message that this side takes.
    :ivar ready: whether the machine has something to send. Set under the lock.
    :ivar cap: what is known of the largest message that the peer takes.
    :ivar introduced: set when the first messages were sent, or could not be.
    :ivar dry: set when all was sent and nothing will come, as `flush` has asked, and at the end of the link.
    :ivar largest_sent: bytes of the largest message that was sent.
    :ivar last_sent: the monotonic time at which something was last sent.
    """

    __slots__ = (
        "_applied_cap", "_ended", "_engine", "_finishing", "_idle", "_keep_alive_due", "_link", "_most", "_running",
        "_scope", "_session", "_skips", "_stream", "_traffic", "_writers", "cap", "dry", "introduced", "largest_sent",
        "last_sent", "ready",
    )  # fmt: skip

    def __init__(
        self,
        writers: Writers,
        engine: Engine,
        stream: MessageStream,
        session: Session,
        *,
        traffic: Traffic,
        most: int,
    ) -> None:
        super().__init__()
        self._writers = writers
        self._engine = engine
        self._stream = stream
        self._session = session
        self._traffic = traffic
        self._most = most
        self._skips = Skips(engine, traffic)
        self._link: WrittenLink | None = None  # while there is one to write for
        self._running = False  # or about to
        self._scope: anyio.CancelScope | None = None  # of the task
        self._ended = Latch()
        self._idle = 0  # how often it was found with nothing to do
        self._keep_alive_due = self._finishing = False
        self._applied_cap: int | None = None
        self.ready: bool = False
        self.cap: SizeCap | None = None
        self.introduced: Latch = Latch()
        self.dry: Latch = Latch()
        self.largest_sent: int = 0
        self.last_sent: float = monotonic()

    def send_keep_alive(self) -> None:
        """Send a message without content, soon."""
        self._keep_alive_due = True
        self.set()

    async def flush(self) -> None:
        """Return when all that there is to send was sent, or the link has ended."""
        self._finishing = True
        self.set()
        await self.dry.wait()

    # ---- its task ---------------------------------------------------------------------------------------------------

    def start(self, link: WrittenLink) -> None:
        """Introduce this side, and send from now on.

        :param link: is notified of a failure, and ends.
        """
        self._link = link
        self._running = True
        self._writers.start(self)

    async def stop(self) -> None:
        """Send nothing from now on."""
        self._link = None  # each holds the other
        self._writers.forget(self)
        self.dry.set()
        if self._scope is not None:
            self._scope.cancel()
            await self._ended.wait()

    def rest(self) -> None:
        """End the task, if it had nothing to do since this was last called."""
        if self._waiter is None:
            return
        self._idle += 1
        if self._idle > 1:
            self._waiter.fire()

    @override
    def _set(self) -> None:
        super()._set()
        if not self._running and self._link is not None:
            self._running = True
            self._writers.start_soon(self)

    async def run(self, scope: anyio.CancelScope) -> None:
        """Send until there was nothing to send for a while; called by `Writers`.

        :param scope: in which it is called; ends it.
        """
        link, self._idle = self._link, 0
        try:
            if link is not None:  # else it has ended already
                self._scope, self._ended = scope, Latch()
                await self._write_with_grace(link)
        finally:
            self._running, self._scope = False, None
            self._ended.set()

    async def _write_with_grace(self, link: WrittenLink) -> None:
        with Guard(link.fail):
            try:
                await self._write(link)
            except STREAM_ERRORS as error:
                self.introduced.set()  # as far as it can be
                failure = error
            else:
                return
            # perhaps the other side sent the reason before it went: if the reader receives that, it ends the link first
            try:
                await anyio.sleep(GRACE)
                raise failure
            finally:
                del failure  # it holds this frame

    async def _write(self, link: WrittenLink) -> None:
        time_slice = TimeSlice()
        if not self.introduced.is_set:
            await self._send(self._introduction(link))
            self.introduced.set()
        while True:
            if self.ready or self._keep_alive_due:
                self._idle = 0
                time_slice.begin()
                batch = await self._collect(link, time_slice)
                time_slice.end()
                if time_slice.used_up:
                    await time_slice.yield_to_loop()
                if batch:
                    await self._send(batch)
                del batch  # there may be no other for long
            elif self._finishing:
                self.dry.set()
                return
            elif self._idle > 1:
                return
            else:
                await self.wait()
                time_slice.renew()

    async def _send(self, batch: list[bytes]) -> None:
        self.largest_sent = max(self.largest_sent, *map(len, batch))
        await self._stream.send(batch)
        self.last_sent = monotonic()
        self._traffic.messages_out += len(batch)
        self._traffic.bytes_out += sum(map(len, batch))

    # ---- what it sends ----------------------------------------------------------------------------------------------

    def _introduction(self, link: WrittenLink) -> list[bytes]:
        """Return what is sent first: with a note, unless the peer is known to be no node of this project."""
        if link.peer.ours is False:
            return self._session.opening()
        return self._session.opening(self._engine.first_note(link, self._most))

    async def _collect(self, link: WrittenLink, time_slice: TimeSlice) -> list[bytes]:
        """Return the next messages: about as many as fit into a batch, and into a turn."""
        batch: list[bytes] = []
        if self._keep_alive_due:
            self._keep_alive_due = False
            batch.append(self._session.keep_alive())
        self.ready = False
        if self.cap is not None:
            self._obey(self.cap, link)
        self._skips.retry_oversized(link, self._session)
        while True:
            instructions, more = self._engine.pull(link)
            for instruction in instructions:
                for _ in self._session.prepare(instruction):
                    if time_slice.expired():
                        await time_slice.yield_to_loop()
                batch += self._session.encode(instruction)
            if not more:
                break
            if sum(map(len, batch)) >= BATCH or time_slice.expired():
                self.ready = True  # the machine will not report that again
                break
        if self._session.skipped or self._session.oversized:
            self._skips.report(link, self._session)
        return batch

    def _obey(self, cap: SizeCap, link: WrittenLink) -> None:
        most = cap.most(monotonic())
        if most != self._applied_cap:
            self._applied_cap = most
            self._session.cap(most)
            self._engine.set_size_cap(link, most)
