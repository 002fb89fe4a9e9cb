"""One link: a task that reads and a task that writes, between a transport's stream and the machine."""

from __future__ import annotations

import logging
import math
from functools import partial
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from ._core.events import LinkUp
from ._endings import (
    BROKEN,
    GOING_AWAY,
    LEAVING,
    ForeignCancellation,
    closed_by_peer,
    farewell,
    located,
    lost,
    single,
)  # fmt: skip
from ._exceptions import LinkError, PeerViolationError
from ._latch import Latch
from ._link_peer import LinkPeer
from ._logger import logger
from ._message_sizes import Skips
from ._remotes import RemoteNode
from ._text import printable
from ._tracebacks import contained, forget_frames
from ._turn import Turn
from ._waking import Bell, Canceller
from ._watching import watch
from ._wire import Limits, Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ._engine import Engine
    from ._link_owner import LinkOwner
    from ._message_sizes import SizeCap
    from ._messages import PeerEvent
    from ._remotes import Traffic
    from .transport import MessageStream, TransportOptions

__all__ = ["Link"]

BATCH: Final = 64 * 1024  # bytes after which a batch is sent
HEARD_AT_ONCE: Final = 32  # events told the machine in one step; fewer if they take long
PATIENCE: Final = 0.5  # seconds before a violator that may come back at once is told to go
LAST_WORDS: Final = 0.05  # seconds that reader and writer leave to each other when one has failed
CLOSING: Final = 1.0  # seconds that a close may take
CLOSING_CANCELLED: Final = 0.5


class Link:
    """A link from its being up to its end.

    :ivar reading_since: the monotonic time since when it waits for the peer; infinity while what was said is dealt with.
    :ivar ready: whether the machine has something to send. Set under the lock.
    :ivar fault: what the machine has against the peer. Set under the lock.
    :ivar peer: the other side.
    :ivar remote: the same for users, once it has said its name. Set under the lock.
    :ivar bell: wakes the writer, from any thread.
    :ivar canceller: ends the link from any thread.
    :ivar upstream: whether this side connected.
    :ivar largest_sent: bytes of the largest message that was sent.
    :ivar last_said: the monotonic time at which something was last sent.
    :ivar reason: why it ended; None before, and when it was cancelled.
    """

    __slots__ = (
        "_cap", "_dry", "_engine", "_finishing", "_goodbye", "_introduced", "_keep_alive_due", "_left", "_most",
        "_name", "_options", "_orderly", "_owner", "_scope", "_session", "_skips", "_stream", "_traffic", "_url",
        "bell", "canceller", "fault", "id", "largest_sent", "last_said", "peer", "reading_since", "ready", "reason",
        "remote", "upstream",
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
        self._goodbye = LEAVING if self.upstream else GOING_AWAY
        self._cap: SizeCap | None = None
        self._most: int | None = None  # what it said last
        self.largest_sent: int = 0
        self._session = Session(
            listening=not self.upstream,
            name=name,
            load_limit=load_limit or (),
            limits=Limits(max_message=options.max_message),
            max_taken=owner.max_taken,
        )
        self._scope = anyio.CancelScope()
        self._dry, self._introduced = Latch(), Latch()
        self._skips = Skips(engine, traffic)
        self._finishing = self._left = self._keep_alive_due = False
        self._orderly = False  # whether the peer has ended it in good order
        self.peer: LinkPeer = LinkPeer(stream, self._session)
        self.last_said: float = monotonic()
        self.bell: Bell = Bell()
        self.canceller: Canceller = Canceller(self._scope)
        self.id: int = -1
        self.reading_since: float = math.inf
        self.ready: bool = False
        self.fault: LinkError | None = None
        self.remote: RemoteNode | None = None
        self.reason: Exception | None = None

    async def run(self) -> Exception | None:
        """Read and write until the link ends, and close it. Raises nothing but cancellation.

        :return: why it ended; None when this side has left, or the node was closed.
        """
        try:
            await self._guard(self._talk)
        finally:
            self._engine.exit_link(self)
            self._dry.set()
            in_order = self._left or self.reason is not None
            with anyio.move_on_after(CLOSING if in_order else CLOSING_CANCELLED, shield=True):
                await self._close()
        return self.reason

    async def _talk(self) -> None:
        self._enter()
        parts = {anyio.CancelScope(): self._write_or_hear_why}
        if not getattr(self._stream, "detects_silence", False):
            parts[anyio.CancelScope()] = partial(watch, self, self._options)
        async with anyio.create_task_group() as group:
            for scope, part in parts.items():
                group.start_soon(contained, scope, partial(self._guard, part))
            with self._scope:
                await self._guard(self._read)
            for scope in parts:
                scope.cancel()

    async def _guard(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the link, whose failure is the link's end and nobody else's."""
        try:
            with ForeignCancellation():
                await part()
        except BROKEN as error:
            self._end(lost(error))
        except Exception as error:  # noqa: BLE001  # a transport's code, on a peer's bytes: whoever tells of it sorts it
            self._end(single(error))
        else:
            return
        self._scope.cancel()

    def give_sign(self) -> None:
        """Send something, soon, which says nothing."""
        self._keep_alive_due = True
        self.bell.wake()

    async def flush(self) -> None:
        """Return when all that there is to say was sent, or the link has ended."""
        self._finishing = True
        self.bell.wake()
        await self._dry.wait()

    def leave(self) -> None:
        """End the link from this side, in good order."""
        self._left = True
        self._scope.cancel()

    def named(self, name: str) -> None:
        """The peer has said its name. Only under the lock."""
        came = self.remote is None
        self.remote = RemoteNode(
            self.id, name, self.peer.address, self.upstream, self.peer.identity
        )
        beside = self._owner.established(self, self.remote)
        if came:
            self._cap = self._owner.size_cap(self)  # now that a node below may have said its id
            self._engine.say(logging.INFO, "link up: %s%s", str(self), beside)

    def ended(self) -> None:
        """The facts of the link are void. Only under the lock, and once."""
        self._owner.lost(self.reason)

    def _enter(self) -> None:
        self.peer.look()
        self._cap = self._owner.size_cap(self)
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

    def _introduction(self) -> list[bytes]:
        """Give what is said first: with a note, unless the peer is known to be no node of this project."""
        if self.peer.ours is False:
            return self._session.opening()
        most = self._options.max_message
        note = self._engine.call(lambda machine, now: machine.first_note(self.id, most, now))
        return self._session.opening(note)

    @property
    def vouched_until(self) -> float | None:
        """The monotonic time until which the peer vouched for what it had said; None for now."""
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
        turn = Turn()
        self.reading_since = monotonic()
        try:
            while True:
                messages = await self._stream.receive()
                self.reading_since = math.inf
                self.peer.heard = turn.begin()
                self._traffic.messages_in += len(messages)
                self._traffic.bytes_in += sum(map(len, messages))
                for message in messages:
                    await self._take(message, turn)
                self.reading_since = turn.end()
        except PeerViolationError as error:
            with anyio.move_on_after(LAST_WORDS):
                await self._introduced.wait()  # it says what this side takes
            self._end(error)
            if not self.peer.ours:
                await self._discard()
        except anyio.EndOfStream as end:
            forget_frames(end)  # the stream keeps it, and it this frame
            self._orderly = True
            self._end(closed_by_peer(self._stream))

    async def _take(self, message: bytes, turn: Turn) -> None:
        heard: list[PeerEvent] = []
        try:
            for event in self._session.receive(message):
                if event is not None:
                    heard.append(event)
                over = turn.over()
                if over or len(heard) == HEARD_AT_ONCE:
                    self._hear(heard)
                    heard.clear()
                if over:
                    await turn.give()
        except LinkError:
            self._hear(heard)  # what was said before
            raise
        self._hear(heard)

    def _hear(self, events: list[PeerEvent]) -> None:
        if events:
            self._engine.hear(self.id, events)
            if self.fault is not None:
                raise self.fault

    async def _discard(self) -> None:
        """Throw away what comes from a peer that would be back at once, for a while."""
        with anyio.move_on_after(PATIENCE):
            try:
                while True:
                    await self._stream.receive()
                    await checkpoint()
            except (LinkError, *BROKEN):
                await anyio.sleep_forever()

    # ---- writing ----------------------------------------------------------------------------------------------------

    async def _write_or_hear_why(self) -> None:
        try:
            await self._write()
            return
        except BROKEN as error:
            failure = error
        # the other side may have said why before it went: the reader, if it hears that, ends the link first
        try:
            await anyio.sleep(LAST_WORDS)
            raise failure
        finally:
            del failure  # it holds this frame

    async def _write(self) -> None:
        turn = Turn()
        await self._send(self._introduction())
        self._introduced.set()
        while True:
            if self.ready or self._keep_alive_due:
                turn.begin()
                batch = await self._collect(turn)
                turn.end()
                if turn.used_up:
                    await turn.give()
                if batch:
                    await self._send(batch)
            elif self._finishing:
                self._dry.set()
                return
            else:
                await self.bell.wait()
                turn.taken()

    async def _send(self, batch: list[bytes]) -> None:
        self.largest_sent = max(self.largest_sent, *map(len, batch))
        await self._stream.send(batch)
        self.last_said = monotonic()
        self._traffic.messages_out += len(batch)
        self._traffic.bytes_out += sum(map(len, batch))

    async def _collect(self, turn: Turn) -> list[bytes]:
        """Give the next messages: about as many as fit into a batch, and into a turn."""
        batch: list[bytes] = []
        if self._keep_alive_due:
            self._keep_alive_due = False
            batch.append(self._session.keep_alive())
        self.ready = False
        if self._cap is not None:
            self._obey(self._cap)
        self._skips.try_again(self, self._session)
        while True:
            instructions, more = self._engine.call(
                lambda machine, now: machine.next_batch_for(self.id, now)
            )
            for instruction in instructions:
                for _ in self._session.prepare(instruction):
                    if turn.over():
                        await turn.give()
                batch += self._session.encode(instruction)
            if not more:
                break
            if sum(map(len, batch)) >= BATCH or turn.over():
                self.ready = True  # the machine will not say so again
                break
        if self._session.skipped or self._session.unsaid:
            self._skips.report(self, self._session)
        return batch

    def _obey(self, cap: SizeCap) -> None:
        most = cap.most(monotonic())
        if most != self._most:
            self._most = most
            self._session.cap(most)
            self._engine.call(lambda machine, _: machine.set_size_cap(self.id, most))

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Close the stream, with a word that says why."""
        try:
            if self._engine.cause is not None:
                await self._stream.aclose(1011, "internal error")
            else:
                await self._stream.aclose(*farewell(self.reason, self._goodbye))
        except BROKEN:
            pass  # it was gone already
        except Exception:  # noqa: BLE001  # a transport's code: no other link may notice
            logger.exception("%s: the link could not be closed in good order", self)

    @override
    def __str__(self) -> str:
        address = self.peer.address or "an unknown address"
        name = f"{self.remote.name} at " if self.remote is not None else ""
        return printable(f"{name}{address} ({self._url.partition(':')[0]})")
