"""What the rules of `check_transport` stand on: links to try, bounded waits, and findings."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from ..transport import MessageStream, Transport, TransportOptions


PATIENCE: Final = 10.0
"""Seconds for what should take milliseconds: a busy machine is no broken transport."""

CLOSE_SECONDS: Final = 3.0
"""Seconds that `aclose` may take: the contract allows 1, and machines are busy."""

PAUSE: Final = 0.05
"""Seconds that let the other tasks get into the middle of something."""


class TransportContractError(AssertionError):
    """A transport breaks a rule of `hakuban.transport`.

    :ivar rule: the rule, a sentence.
    :ivar finding: what was seen instead.
    :ivar advice: how to mend it.
    """

    def __init__(self, rule: str, finding: str, advice: str) -> None:
        self.rule = rule
        self.finding = finding
        self.advice = advice
        super().__init__(f"{rule}\n  seen: {finding}\n  to mend it: {advice}")


class Finding(Exception):
    """A rule is broken: what was seen."""


@dataclass(slots=True)
class Rule:
    """One rule of the contract, how to mend a transport that breaks it, and its check."""

    promise: str
    advice: str
    check: Callable[[Environment], Awaitable[None]]


@dataclass(slots=True)
class Link:
    """Both ends of one link."""

    connected: MessageStream
    accepted: MessageStream

    def directions(self) -> list[tuple[MessageStream, MessageStream]]:
        """Return (sender, receiver) for each direction."""
        return [(self.connected, self.accepted), (self.accepted, self.connected)]


class _Status:
    """The `task_status` of a `serve`.

    :ivar called: whether the transport has reported that it listens.
    """

    def __init__(self, inner: TaskStatus[str]) -> None:
        self._inner = inner
        self.called = False

    def started(self, value: Any = None) -> None:
        self.called = True
        self._inner.started(value)


@dataclass(slots=True)
class Environment:
    """The transport under test.

    :ivar new_url: returns where to listen.
    """

    transport: Transport
    new_url: Callable[[], str]
    options: TransportOptions
    serve_options: TransportOptions

    @asynccontextmanager
    async def serving(
        self,
        handler: Callable[[MessageStream], Awaitable[None]],
        *,
        url: str | None = None,
        **changes: Any,
    ) -> AsyncIterator[str]:
        """Serve `handler`, and yield the bound URL; leaving it cancels `serve`.

        :param url: where; None for a new URL.
        """
        url = self.new_url() if url is None else url
        async with anyio.create_task_group() as group:
            yield await self.start(group, url, replace(self.serve_options, **changes), handler)
            group.cancel_scope.cancel()

    async def start(
        self,
        group: TaskGroup,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
    ) -> str:
        """Start `serve` in a task group, and return the bound URL.

        :raises Finding: it does not call `task_status.started`.
        """

        async def serve(status: _Status) -> None:
            await self.transport.serve(url, options, handler, task_status=status)
            if not status.called:
                raise Finding("serve returned, and had not called task_status.started(bound_url)")

        def start(*, task_status: TaskStatus[str]) -> Coroutine[Any, Any, None]:
            return serve(_Status(task_status))

        with within(PATIENCE, "serve calls task_status.started(bound_url), once it listens"):
            bound: str = await group.start(start)
        return bound

    @asynccontextmanager
    async def connecting(self, url: str, **changes: Any) -> AsyncIterator[MessageStream]:
        """Connect to a bound URL, within the time that the options allow for a handshake."""
        options = replace(self.options, **changes)
        async with self.transport.connect(url, options) as stream:
            yield stream

    @asynccontextmanager
    async def link(self, **changes: Any) -> AsyncIterator[Link]:
        """Return one link, with changed options on both sides; leaving it closes both ends."""
        send, accepted = anyio.create_memory_object_stream["MessageStream"](1)
        with send, accepted:

            async def handler(stream: MessageStream) -> None:
                try:
                    send.send_nowait(stream)
                    await anyio.sleep_forever()
                finally:
                    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                        await error_of(stream.aclose)  # other rules look at that

            async with (
                self.serving(handler, **changes) as url,
                self.connecting(url, **changes) as connected,
            ):
                with within(PATIENCE, "serve calls the handler of a new link"):
                    other_end = await accepted.receive()
                yield Link(connected, other_end)
                # both at once: each may wait a while for the other's close message
                async with anyio.create_task_group() as group:
                    for stream in (connected, other_end):
                        group.start_soon(error_of, stream.aclose)


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Bound a wait, and report what did not happen."""
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise Finding(f"not within {seconds:g} s: {what}")


async def exchange(
    sender: MessageStream, receiver: MessageStream, messages: Sequence[bytes], *, batch: int = 100
) -> list[bytes]:
    """Send messages in batches while the other end receives, and return what has come."""
    got: list[bytes] = []
    async with anyio.create_task_group() as group:

        async def send() -> None:
            for start in range(0, len(messages), batch):
                await sender.send(messages[start : start + batch])

        group.start_soon(send)
        got += await collect(receiver, messages)
    return got


async def collect(receiver: MessageStream, expected: Sequence[bytes]) -> list[bytes]:
    """Receive until as many bytes have come as were expected; the last message expected must not be empty."""
    got: list[bytes] = []
    total = missing = sum(map(len, expected))
    with anyio.move_on_after(PATIENCE) as scope:
        while missing > 0:
            batch = await receiver.receive()
            got.extend(batch)
            missing -= sum(map(len, batch))
            # Pushed now and then: a scope for each call would take longer than the call.
            if scope.deadline < anyio.current_time() + PATIENCE / 2:
                scope.deadline += PATIENCE / 2
    if scope.cancelled_caught:
        raise Finding(
            f"not within {PATIENCE:g} s: the rest of {total} bytes arrives ({missing} bytes are missing)"
        )
    return got


def sequence_fault(sent: Sequence[bytes], got: Sequence[bytes]) -> str | None:
    """Return how two sequences of messages differ, or None."""
    if list(sent) == list(got):
        return None
    pairs = enumerate(zip_longest(sent, got))
    i, (expected, found) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    return f"message {i} was {_short(expected)} when sent, {_short(found)} when received"


def _short(message: bytes | None) -> str:
    return "none" if message is None else f"{message[:12]!r} ({len(message)} bytes)"


async def error_of(call: Callable[[], Awaitable[object]]) -> Exception | None:
    """Return what a call raises, or None."""
    try:
        await call()
    except Exception as error:  # noqa: BLE001 -- whatever a transport raises is what is looked at
        return error
    return None


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    """Try until it is so: what a peer or the operating system knows already has no event here."""
    while not await done():  # noqa: ASYNC110 -- see above
        await anyio.sleep(PAUSE)


async def end_of(stream: MessageStream) -> Exception:
    """Receive until it raises, and return what it raised."""
    with within(PATIENCE, "receive raises after the link has ended"):
        while (error := await error_of(stream.receive)) is None:
            pass
    return error
