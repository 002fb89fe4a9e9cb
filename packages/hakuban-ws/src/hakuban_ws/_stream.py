"""One established WebSocket as a stream of messages."""

from __future__ import annotations

import contextlib
import ssl
import time
from copy import copy
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from hakuban.sockets import SocketStream
from hakuban.transport import (
    KeepAlive,
    LinkTimeoutError,
    PeerViolationError,
    ReadAhead,
    Verdict,
)

from ._frames import CLOSE, PING, PONG, close_payload
from ._tls_errors import describe_tls_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hakuban.transport import Heartbeats, Identity, ReassemblyLimit, TransportOptions

    from ._handshake import Agreement

_FLUSH_SECONDS = 1.0
_LINGER_SECONDS = 0.5
# Seconds until control frames that found the socket full are tried again.
_RETRY_SECONDS = 0.1
# Sends that may go by without giving the loop a turn: a turn costs as much as a small send.
_SENDS_PER_TURN = 16
_CODE_ABNORMAL = 1006
_READ_MOST = SocketStream.READ_MOST


class WebSocketStream:
    """A message stream over one WebSocket: `hakuban.transport.MessageStream` describes what it does.

    Pings, pongs and the Close frame go out between the fragments of messages: by the sender when there is one at
    work, else by whoever finds them due, without waiting. So the reader never waits for the socket to take
    something - two nodes that flood each other would wait for ever - and never more than one ping, the answer to
    the newest ping and a Close wait to be sent.

    :param agreement: what the handshake came to.
    :param listening: whether the other side connected to us.
    :param received: what came in behind the handshake.
    :param reassembly: of all links of a listener, or of the one that was connected.
    :ivar local_address: text for people.
    :ivar remote_address: text for people.
    :ivar close_code: how the other side closed, once `receive` has raised; 1006 when it just went.
    :ivar close_reason: the reason that it sent then.
    :ivar detects_silence: True.
    :ivar peer_is_ours: whether the other side knows the sub-protocol `hakuban.0.8`.
    :ivar peer_clock: Unix time in nanoseconds that the listening side stated at connect.
    :ivar identity: who the other side is, when an authorising plugin has stated it.
    """

    detects_silence = True

    __slots__ = (
        "__weakref__", "_channel", "_check_at", "_close_answer", "_close_sent", "_closed", "_end", "_heartbeats",
        "_keep_alive", "_listening", "_peer_close", "_ping_due", "_pong", "_read_ahead", "_reader", "_reassembly",
        "_returned_at", "_sending", "_sends", "_writer", "close_code", "close_reason", "identity", "local_address",
        "peer_clock", "peer_is_ours", "remote_address",
    )  # fmt: skip

    def __init__(
        self,
        channel: SocketStream,
        agreement: Agreement,
        heartbeats: Heartbeats,
        options: TransportOptions,
        *,
        listening: bool,
        received: bytes,
        reassembly: ReassemblyLimit,
    ) -> None:
        self._channel = channel
        self._listening = listening
        self._reader, self._writer = agreement.codec(
            listening=listening, max_message=options.max_message
        )
        self._reassembly = reassembly
        self._read_ahead = ReadAhead(_READ_MOST)
        # when messages were handed out that are not handled yet, as far as is known
        self._returned_at = 0.0
        if received:
            self._reader.feed(received)
        self._heartbeats = heartbeats
        self._keep_alive = KeepAlive(
            options, time.monotonic(), ours=agreement.ours, listening=listening
        )
        self._closed = False  # by us
        self._end: Exception | None = None  # what receive raises from now on
        self._peer_close: tuple[int, str] | tuple[None, None] = (None, None)
        self._sending = False  # stays True after a send that failed or was cancelled
        self._sends = 0
        self._pong: bytes | None = None  # payloads that wait to be sent
        self._close_answer: bytes | None = None
        self._ping_due = False
        self._close_sent = False
        self.local_address, self.remote_address = channel.addresses()
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.peer_is_ours = agreement.ours
        self.peer_clock = agreement.peer_clock
        self.identity: Identity | None = None
        self._check_at = self._keep_alive.due
        heartbeats.watch(self, self._check_at)

    @property
    def last_heard(self) -> float:
        """When bytes of the other side, or their end, last came in: seconds of `time.monotonic()`. Known after the end too."""
        return self._channel.last_received

    async def send(self, messages: Sequence[bytes], /) -> None:
        """Send a batch in order; on return the operating system has all of it."""
        if self._closed:
            raise anyio.ClosedResourceError
        if self._sending or self._end is not None:
            raise self._broken()
        self._sending = True
        try:
            await self._send_units(messages)
        except anyio.ClosedResourceError:
            if self._closed:
                raise
            raise self._broken() from None
        except OSError as error:
            raise anyio.BrokenResourceError(self._describe(error)) from error
        self._sending = False
        if self._control_due:
            self._send_control()
        if self._end is not None:
            raise self._broken()
        self._sends += 1
        if self._sends == _SENDS_PER_TURN:
            self._sends = 0
            await checkpoint()

    async def receive(self, /) -> Sequence[bytes]:
        """Return the next messages."""
        waited = False
        if self._returned_at:
            self._read_ahead.handled(time.monotonic() - self._returned_at)
            self._returned_at = 0.0
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._end is not None:
                self.close_code, self.close_reason = self._peer_close
                raise _copy_of(self._end)
            if self._reader.starved:
                await self._read()
                waited = True
                continue
            messages = self._parse()
            if messages:
                if self._reassembly.held:  # perhaps by this one, and its message is finished now
                    self._reassembly.hold(self, 0)
                if not waited:
                    await checkpoint()  # a flood must leave the loop its turn
                self._returned_at = time.monotonic()
                return messages
            if not self._reader.starved:
                await checkpoint()  # there were control frames only
                waited = True

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close frame and wait for its answer, for at most 1.5 s, and close.

        :param code: the code of the Close frame.
        :param reason: its reason, cut to 123 bytes.
        """
        if self._closed:
            return
        self._closed = True
        self._reader.clear()
        self._reassembly.hold(self, 0)
        try:
            with anyio.CancelScope(shield=True):
                self._channel.interrupt()
                # Whoever waited on the socket has to let go of it before we wait.
                await checkpoint()
                if not isinstance(self._end, anyio.BrokenResourceError):
                    with contextlib.suppress(OSError):
                        await self._send_close(code, reason)
        finally:
            self._channel.close()

    def check(self, now: float) -> float | None:
        """Send a ping or end the link when that is due; called by `Heartbeats`."""
        # Where a retry came in between, the entry it overtook is not needed any more.
        if self._closed or self._end is not None or now < self._check_at:
            return None
        channel, rule = self._channel, self._keep_alive
        verdict = rule.check(now, channel.last_received, channel.last_sent)
        if verdict is Verdict.END:
            if not channel.has_unread():
                self._finish(LinkTimeoutError(rule.timeout))
                channel.interrupt()
                return None
            # The other side lives; it is our user who does not read.
            verdict = rule.spare(now, channel.last_sent)
        if verdict is Verdict.SIGN:
            self._ping_due = True
        self._check_at = rule.due
        if not self._sending and self._flush_control():
            self._check_at = now + _RETRY_SECONDS
        return self._check_at

    def give_up(self, violation: PeerViolationError, /) -> None:
        """End the link for what it holds of an unfinished message; called by `ReassemblyLimit`."""
        self._finish(violation)
        self._reader.clear()
        self._channel.interrupt()

    def _parse(self) -> list[bytes]:
        reader = self._reader
        try:
            messages = reader.messages()
        except PeerViolationError as violation:
            self._finish(violation)
            return []
        if reader.ping is not None:
            self._pong, reader.ping = reader.ping, None
            self._send_control()
        if reader.close is not None:
            self._peer_close = reader.close
            self._close_answer = close_payload(reader.close[0], "")
            self._finish(anyio.EndOfStream())
            self._send_control()
        return messages

    async def _send_units(self, messages: Sequence[bytes]) -> None:
        channel = self._channel
        for unit in self._writer.units(messages):
            if self._end is not None:
                return  # nothing may follow the answer to a Close
            if self._control_due:
                channel.write(self._control_frames())
            channel.write(unit)
            if not channel.flush_nowait():
                await channel.flush()

    async def _read(self) -> None:
        self._reassembly.hold(self, self._reader.unfinished)
        if self._end is not None:
            return
        size = self._read_ahead.learn()
        if size < _READ_MOST or self._channel.receive_buffer.small:
            self._channel.receive_buffer.fit(size)
            # the rest of a message that has begun is no reading ahead
            size = max(size, min(self._reader.missing, _READ_MOST))
        try:
            data = await self._channel.read(size)
        except anyio.ClosedResourceError:
            return  # interrupted: the caller looks at why
        except OSError as error:
            lost = anyio.BrokenResourceError(self._describe(error))
            lost.__cause__ = error.with_traceback(None)  # which would hold this frame
            self._lose(lost)
        else:
            if data:
                self._read_ahead.came(len(data))
                self._reader.feed(data)
            else:
                self._lose(anyio.BrokenResourceError("the connection ended without a Close frame"))

    def _lose(self, error: anyio.BrokenResourceError) -> None:
        self._peer_close = (_CODE_ABNORMAL, "")
        self._finish(error)

    def _broken(self) -> anyio.BrokenResourceError:
        if self._end is None:
            return anyio.BrokenResourceError("an earlier send failed or was cancelled")
        return anyio.BrokenResourceError(str(self._end) or "the other side has closed the link")

    def _describe(self, error: OSError) -> str:
        if isinstance(error, ssl.SSLError):
            return describe_tls_error(error, listening=self._listening)
        return str(error)

    def _finish(self, end: Exception) -> None:
        """Let `receive` raise this from now on; the first one counts."""
        if self._end is None:
            self._end = _copy_of(end)

    @property
    def _control_due(self) -> bool:
        return self._ping_due or self._pong is not None or self._close_answer is not None

    def _control_frames(self) -> bytes:
        frames = b""
        if self._pong is not None:
            frames = self._writer.control(PONG, self._pong)
            self._pong = None
        if self._ping_due:
            frames += self._writer.control(PING, b"")
            self._ping_due = False
        if self._close_answer is not None:
            frames += self._writer.control(CLOSE, self._close_answer)
            self._close_answer = None
            self._close_sent = True
        return frames

    def _send_control(self) -> None:
        """Send the control frames that are due, soon; a sender at work does it itself."""
        if not self._sending and self._flush_control():
            retry_at = time.monotonic() + _RETRY_SECONDS
            if retry_at < self._check_at:
                self._check_at = retry_at
                self._heartbeats.watch(self, retry_at)

    def _flush_control(self) -> bool:
        """Send them as far as the socket takes them now; returns whether it is stuck."""
        channel = self._channel
        try:
            if not channel.flush_nowait():
                return True
            if self._control_due:
                channel.write(self._control_frames())
                return not channel.flush_nowait()
        except OSError:
            pass  # receive meets the end of the connection, and reports it
        return False

    async def _send_close(self, code: int, reason: str) -> None:
        channel = self._channel
        if not self._close_sent:
            channel.write(self._writer.control(CLOSE, close_payload(code, reason)))
        if isinstance(self._end, LinkTimeoutError):
            channel.flush_nowait()  # should it come back to life; there is no waiting for that
            return
        with anyio.move_on_after(_FLUSH_SECONDS) as flushing:
            await channel.flush()
        if flushing.cancelled_caught:
            return  # a side that does not read will not read our reason either
        with anyio.move_on_after(_LINGER_SECONDS):
            await channel.end()


def _copy_of(end: Exception) -> Exception:
    """Return another exception like one that is kept: what is raised holds frames, and these the stream."""
    other = copy(end)
    other.__cause__ = end.__cause__
    return other
