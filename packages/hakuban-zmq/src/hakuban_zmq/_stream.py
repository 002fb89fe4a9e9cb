"""One link as a stream of messages, whichever side of it this is."""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from hakuban.transport import (  # fmt: skip
    AutoResetEvent,
    KeepAlive,
    Latch,
    LinkTimeoutError,
    PeerViolationError,
    Verdict,
)

from ._frame_sender import CLOSED_SENDER
from ._frames import (
    BYE,
    BYE_ACK,
    DATA,
    GRANT,
    HEADER,
    MAX_FRAME,
    PING,
    PONG,
    Reassembly,
    chunks,
    encode_bye,
    encode_grant,
    frame,
    read_bye,
    read_grant,
    session_of,
    with_help,
)
from ._receive_credit import ReceiveCredit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakuban.transport import Heartbeats, Identity, ReassemblyLimit, TransportOptions

    from ._frame_sender import FrameSender
    from ._frames import Window

_MOST_MESSAGES: Final = 1_000
_MOST_BYTES: Final = 1 << 20
_FLUSH_SECONDS: Final = 1.0
_SENDS_PER_TURN: Final = 16  # each may go by without one, which costs as much as a small send
_CODE_ABNORMAL: Final = 1006
_CODE_REVOKED: Final = 1008

_CLOSED: Final = "this side has closed the link"
_FULL: Final = "ZeroMQ takes nothing for it any more"


class ZeroMQStream:
    """A message stream over ZeroMQ: `hakuban.transport.MessageStream` describes what it does.

    Frames are taken from the socket as they come, and lie here until `receive` takes them; what may lie here is what
    the other side was granted. A `receive` that was cancelled has taken nothing.

    :param frame_sender: how to send frames.
    :param session: of this side and of the other one.
    :param window: what this side grants.
    :param granted: what the other side grants.
    :param limit: of all links of a listener, or of the one that was connected.
    :param listening: whether the other side connected to us.
    :ivar local_address: text for people.
    :ivar remote_address: text for people.
    :ivar close_code: how the other side closed, once `receive` has raised; 1006 when it just went.
    :ivar close_reason: the reason that it sent then.
    :ivar detects_silence: True.
    :ivar peer_is_ours: True; nobody else speaks this.
    :ivar peer_clock: Unix time in nanoseconds that the listening side stated at connect.
    :ivar identity: who the other side is, when an authorising plugin has stated it.
    """

    detects_silence = True
    peer_is_ours = True

    __slots__ = (
        "__weakref__", "_arrived", "_closed", "_credit", "_credit_chunks", "_end", "_frame_sender", "_keep_alive",
        "_last_received", "_last_sent", "_let_go", "_limit", "_may_send", "_peer_close", "_pinged", "_reassembly",
        "_receive_credit", "_returned_at", "_sending", "_sends", "_session", "_unread", "_whole", "_window",
        "close_code", "close_reason", "identity", "local_address", "peer_clock", "remote_address", "remote_session",
    )  # fmt: skip

    def __init__(
        self,
        frame_sender: FrameSender,
        session: tuple[bytes, bytes],
        window: Window,
        granted: Window,
        options: TransportOptions,
        limit: ReassemblyLimit,
        *,
        listening: bool,
    ) -> None:
        self._frame_sender = frame_sender
        self._session, self.remote_session = session
        self._window = window
        self._receive_credit = ReceiveCredit(window)
        self._returned_at = 0.0  # when messages were handed out that may not be handled yet
        # what we may send still; never more than our own window, whatever a peer that does not read grants
        self._credit = min(granted.size, window.size)
        self._credit_chunks = min(granted.chunks, window.chunks)
        self._unread: list[
            bytes
        ] = []  # no more than the window has chunks; a deque takes 760 bytes when it is empty
        self._whole: list[bytes] = []  # the next one last
        self._reassembly = Reassembly(options.max_message)
        self._limit = limit
        self._closed = False  # by us
        self._end: Exception | None = None  # raised once all was taken
        self._peer_close: tuple[int, str] = (_CODE_ABNORMAL, "")
        self._sending = False  # stays True after a send that failed or was cancelled
        self._sends = 0
        self._arrived = AutoResetEvent()
        self._may_send: anyio.Event | None = None
        self._let_go = Latch()  # the other side knows that we have closed, or is gone
        self._last_received = self._last_sent = self._pinged = time.monotonic()
        self._keep_alive = KeepAlive(options, self._last_sent, listening=listening)
        self.local_address = self.remote_address = ""
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.peer_clock: int | None = None
        self.identity: Identity | None = None

    def watch(self, heartbeats: Heartbeats) -> None:
        """Have `check` called."""
        heartbeats.watch(self, self._keep_alive.due)

    @property
    def last_heard(self) -> float:
        """When a frame of the other side last came in: seconds of `time.monotonic()`. Known after the end too."""
        return self._last_received

    # ---- the user's side --------------------------------------------------------------------------------------------

    async def send(self, messages: Sequence[bytes], /) -> None:
        """Send a batch in order; on return ZeroMQ has all of it."""
        self._check_sending()
        if self._sending:
            raise anyio.BrokenResourceError("an earlier send was cancelled, or has failed")
        self._sending = True
        for data in chunks(messages, self.remote_session):
            while self._credit <= 0 or self._credit_chunks <= 0 or self._frame_sender.stuck:
                self._may_send = anyio.Event()
                await self._may_send.wait()
                self._sends = 0
                self._check_sending()
            self._check_sending()  # a turn may have passed between two chunks, and an end with it
            self._credit -= len(data)
            self._credit_chunks -= 1
            if not self._send(data):
                self.lose(_FULL)
                raise anyio.BrokenResourceError(_FULL)
        self._sending = False
        self._sends += 1
        if self._sends == _SENDS_PER_TURN:
            self._sends = 0
            await checkpoint()

    def _check_sending(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError(_CLOSED)
        if self._ended:
            raise anyio.BrokenResourceError(str(self._end) or "the other side closed the link")

    async def receive(self, /) -> Sequence[bytes]:
        """Return the next messages."""
        waited = False
        read_ahead = self._receive_credit.read_ahead
        if self._returned_at:
            read_ahead.handled(time.monotonic() - self._returned_at)
            self._returned_at = 0.0
        read_ahead.learn()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError(_CLOSED)
            if self._unread or self._whole:
                if not waited:
                    await checkpoint()  # a flood must leave the loop its turn
                    waited = True
                    continue
                if messages := self._take():
                    self._returned_at = time.monotonic()
                    return messages
                waited = False  # those were pieces of a large one
            elif self._end is not None:
                self.close_code, self.close_reason = self._peer_close
                raise copy(self._end)  # what is raised holds frames, and these the stream
            else:
                await self._arrived.wait()
                waited = True

    def give_up(self, violation: PeerViolationError, /) -> None:
        """End the link for what it holds of an unfinished message; called by `ReassemblyLimit`."""
        self._unread.clear()
        self._reassembly.clear()
        self._finish(violation)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Send a close message, wait for at most 1 s until the other side has received it, and close.

        :param code: why, as a WebSocket close code.
        :param reason: one line, cut to 1,024 bytes.
        """
        if self._closed:
            return
        self._closed = True
        self._wake()
        try:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                if self._end is None or isinstance(self._end, PeerViolationError):
                    if self._send(encode_bye(self.remote_session, code, reason)):
                        with anyio.move_on_after(_FLUSH_SECONDS):
                            await self._let_go.wait()
                elif isinstance(self._end, LinkTimeoutError):  # should it revive
                    self._send(encode_bye(self.remote_session, code, reason))
        finally:
            self._unread.clear()
            self._whole.clear()
            self._reassembly.clear()
            self._limit.hold(self, 0)
            frame_sender = self._frame_sender
            self._frame_sender = CLOSED_SENDER  # each holds the other
            frame_sender.forget()

    def _take(self) -> list[bytes]:
        """Return what one `receive` may return, of what lies here."""
        batch: list[bytes] = []
        size, overhead, whole = 0, 0, self._whole
        while True:
            while whole:
                size += len(whole[-1])
                if len(batch) == _MOST_MESSAGES or (batch and size > _MOST_BYTES):
                    return batch
                batch.append(whole.pop())
            if not self._unread or 2 * overhead >= MAX_FRAME:  # 13,000 tiny pieces take 5 ms
                self._limit.hold(self, self._reassembly.unfinished)
                return batch
            data = self._unread.pop(0)
            try:
                whole.extend(self._reassembly.messages(data))
            except PeerViolationError as violation:
                self._unread.clear()
                self._end = copy(self._fault(violation))
                self._wake()
                return batch
            finally:
                whole.reverse()
            overhead += max(0, len(data) - sum(map(len, whole)))
            self._grant(len(data))

    def _grant(self, size: int) -> None:
        """Let the other side send more, now that a frame was taken, when that is worth a frame."""
        # it counts before it is sent: what the other side does with it may come in within the same call
        grant = self._receive_credit.take(size, unfinished=self._reassembly.unfinished > 0)
        if (
            grant is not None
            and not self._ended
            and not self._send(encode_grant(self.remote_session, grant))
        ):
            self.lose(_FULL)

    # ---- the socket's side ------------------------------------------------------------------------------------------

    def take_frame(self, data: bytes) -> bool:
        """Take what has come from the other side; False when it was meant for another session."""
        if len(data) < HEADER:
            self._finish(self._fault(PeerViolationError("malformed frame")))
            return True
        if session_of(data) != self._session:
            return False
        self._last_received = time.monotonic()
        kind = data[0]
        try:
            if kind == DATA:
                self._take_data(data)
            elif kind == GRANT:
                self._take_grant(read_grant(data))
            elif kind == PING:
                self._send(frame(PONG, self.remote_session))
            elif kind == BYE:
                self._take_bye(*read_bye(data))
            elif kind == BYE_ACK:
                self._let_go.set()
            elif kind != PONG:
                raise PeerViolationError(f"frame of kind {kind}")
        except PeerViolationError as violation:
            self._finish(self._fault(violation))
        return True

    def _take_data(self, data: bytes) -> None:
        if self._closed or self._ended:
            return
        if len(data) > MAX_FRAME:
            raise PeerViolationError("chunk over 64 KiB")
        self._receive_credit.spend(len(data))
        self._unread.append(data)
        self._arrived.set()

    def _take_grant(self, grant: Window) -> None:
        self._credit = min(self._credit + grant.size, self._window.size)
        self._credit_chunks = min(self._credit_chunks + grant.chunks, self._window.chunks)
        self.resume()

    def resume(self) -> None:
        """Let `send` look whether it can go on; called by the frame sender, when it is stuck no longer."""
        if self._may_send is not None:
            self._may_send.set()

    def _take_bye(self, code: int, reason: str) -> None:
        self._send(frame(BYE_ACK, self.remote_session))
        if self._end is None:
            self._peer_close = (code, reason)
        self._finish(anyio.EndOfStream())
        self._let_go.set()

    def lose(self, reason: str) -> None:
        """The link is gone."""
        self._finish(anyio.BrokenResourceError(reason))
        self._let_go.set()

    def report_violation(self, violation: PeerViolationError) -> None:
        """The other side broke the rules of what carries the link."""
        self._finish(self._fault(violation))

    def revoke(self, reason: str) -> None:
        """End the link, and send the other side the reason."""
        self._send(encode_bye(self.remote_session, _CODE_REVOKED, reason))
        self.lose(reason)

    def check(self, now: float) -> float | None:
        """Send a ping or end the link when that is due; called by `Heartbeats`."""
        if self._closed or self._ended:
            return None
        rule, received = self._keep_alive, self._last_received
        verdict = rule.check(now, received, self._last_sent)
        if verdict is Verdict.END:
            # what waits in ZeroMQ is life; `look` takes it, or reports that there is too much to take
            if not self._frame_sender.look() and self._last_received == received:
                self._finish(LinkTimeoutError(rule.timeout))
                return None
            verdict = rule.spare(now, self._last_sent)
        # One without an answer is enough: it gets there, or the link ends.
        if verdict is Verdict.SIGN and self._pinged <= self._last_received:
            self._pinged = time.monotonic()  # first: the answer may come in within the same call
            self._send(frame(PING, self.remote_session))
        return rule.due

    def _send(self, data: bytes) -> bool:
        self._last_sent = time.monotonic()
        return self._frame_sender.send(data)

    def _fault(self, violation: PeerViolationError) -> PeerViolationError:
        return with_help(violation, self.remote_address)

    def _finish(self, end: Exception) -> None:
        """Let `receive` raise this when all was taken; the first one counts."""
        if self._end is None:
            self._end = copy(end)
            self._wake()

    def _wake(self) -> None:
        self._arrived.set()
        self.resume()

    @property
    def _ended(self) -> bool:
        return self._end is not None
