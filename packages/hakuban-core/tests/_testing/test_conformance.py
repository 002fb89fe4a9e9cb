"""`check_transport` finds a fault in transports that are broken on purpose, and names the rule and the remedy.

They are broken memory transports, run on trio's virtual clock: what never happens is noticed at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
import trio.testing
from typing_extensions import override

from hakuban._testing import memory
from hakuban._testing.environment import Environment, Finding
from hakuban._testing.rules_attributes import ATTRIBUTE_RULES
from hakuban._testing.rules_cancel import CANCEL_RULES
from hakuban._testing.rules_ends import END_RULES
from hakuban._testing.rules_load import LOAD_RULES
from hakuban._testing.rules_messages import MESSAGE_RULES
from hakuban._testing.rules_serving import SERVING_RULES
from hakuban._testing.rules_silence import SILENCE_RULES, STANDSTILL_RULES
from hakuban.testing import (
    MemoryStream,
    MemoryTransport,
    TransportContractError,
    check_transport,
    cut_links,
)
from hakuban.transport import (
    ConnectionRequest,
    Identity,
    InvalidURLError,
    LinkTimeoutError,
    MessageStream,
    PeerViolationError,
    RefusedError,
    Transport,
    TransportOptions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from anyio.abc import TaskStatus

MIB = 1024 * 1024


class Wrapped:
    """A stream that does what another one does."""

    def __init__(self, inner: MemoryStream, options: TransportOptions) -> None:
        self.inner = inner
        self.options = options

    @property
    def identity(self) -> Identity | None:
        return self.inner.identity

    async def send(self, messages: Sequence[bytes], /) -> None:
        await self.inner.send(messages)

    async def receive(self, /) -> Sequence[bytes]:
        return await self.inner.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self.inner.aclose(code, reason)


class Wrapping:
    """The memory transport with another kind of stream, the base of transports that are broken elsewhere too."""

    def __init__(
        self, stream: Callable[[MemoryStream, TransportOptions], MessageStream] = Wrapped
    ) -> None:
        self.stream = stream
        self.inner = MemoryTransport()

    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        async with self.inner.connect(url, self.options(options)) as stream:
            yield self.stream(stream, options)

    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        async def wrapped(stream: MessageStream) -> None:
            assert isinstance(stream, MemoryStream)
            await self.handle(handler, self.stream(stream, options))

        return self.inner.serve(url, self.options(options), wrapped, task_status=task_status)

    def options(self, options: TransportOptions) -> TransportOptions:
        return options

    async def handle(
        self, handler: Callable[[MessageStream], Awaitable[None]], stream: MessageStream
    ) -> None:
        await handler(stream)


def on_virtual_time(run: Callable[[], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    jump = clock.jump

    def jump_unless_asking(seconds: float) -> None:
        if any(thread.name == "hakuban authorises" for thread in threading.enumerate()):
            time.sleep(0.001)  # threads live in real time
        else:
            jump(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "jump", jump_unless_asking)
        anyio.run(run, backend="trio", backend_options={"clock": clock})


def check(transport: Transport, url: str = "memory://", **arguments: Any) -> None:
    on_virtual_time(partial(check_transport, transport, url, process=False, **arguments))


def finding_of(transport: Transport, rule: str) -> str:
    with pytest.raises(TransportContractError) as caught:
        check(transport)
    assert rule in caught.value.rule, caught.value
    return caught.value.finding


# ---- messages -------------------------------------------------------------------------------------------------------


class Reorders(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        await super().send(messages[::-1])


class DropsEmpty(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        await super().send([message for message in messages if message])


class Joins(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        joined = b"".join(messages)
        await super().send(messages if b"" in messages[:2] and len(messages) == 3 else [joined])


class Truncates(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        await super().send([message[:MIB] + bytes(len(message[MIB:])) for message in messages])


class LimitIsOffByOne(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = await super().receive()
        if any(len(message) >= self.options.max_message for message in messages):
            raise PeerViolationError("too big", code=1009)
        return messages


class WrongCode(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        try:
            return await super().receive()
        except PeerViolationError as error:
            raise PeerViolationError(error.reason, code=1002) from None


class IgnoresLimit(Wrapping):
    @override
    def options(self, options: TransportOptions) -> TransportOptions:
        return replace(options, max_message=100 * MIB)


class GivesNothing(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = await super().receive()
        return messages if len(messages) < 900 else []


class GivesTooMany(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = list(await super().receive())
        if len(messages) >= 900:
            messages += await super().receive()
        return messages


class GivesTooMuch(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = list(await super().receive())
        while len(messages[-1]) == 100_000:
            messages += await super().receive()
        return messages


class GivesBytearrays(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        return [bytearray(message) for message in await super().receive()]  # type: ignore[misc]


class AnswersFirst(Wrapped):
    """Reads only between writes: two of them that write at the same time wait for each other."""

    def __init__(self, inner: MemoryStream, options: TransportOptions) -> None:
        super().__init__(inner, options)
        self.written = anyio.Event()
        self.written.set()

    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        self.written = anyio.Event()
        try:
            await super().send(messages)
        finally:
            self.written.set()

    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = await super().receive()
        await self.written.wait()
        return messages


class MixesUpItsBuffers(Wrapped):
    sending = False

    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        self.sending = True
        await super().send(messages)
        self.sending = False

    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = await super().receive()
        mixed_up = self.sending and len(messages[0]) > 1_000
        return [bytes(len(message)) for message in messages] if mixed_up else messages


class MixesUpItsLinks(Wrapping):
    links = 0

    @override
    async def handle(
        self, handler: Callable[[MessageStream], Awaitable[None]], stream: MessageStream
    ) -> None:
        self.links += 1
        await handler(Answers(stream) if self.links == 10 else stream)


class Answers:
    """Gets what another link was sent."""

    def __init__(self, inner: MessageStream) -> None:
        self.send, self.aclose, self.inner = inner.send, inner.aclose, inner

    async def receive(self) -> Sequence[bytes]:
        return [message[::-1] for message in await self.inner.receive()]


class NoBackPressure(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        await super().send([])
        for message in messages:
            self.inner._outward.put(message)


class BuffersTooMuch(Wrapped):
    """Accepts 3 MiB beyond what the pipe has room for."""

    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        pipe = self.inner._outward
        for message in messages:
            if len(message) == MIB and pipe.held < 3 * MIB:
                pipe.put(message)
            else:
                await super().send([message])


class NeverGoesOn(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        with anyio.move_on_after(0.25):
            return await super().send(messages)
        return await anyio.sleep_forever()


# ---- ends -----------------------------------------------------------------------------------------------------------


class EndIsBroken(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        try:
            return await super().receive()
        except anyio.EndOfStream:
            raise anyio.BrokenResourceError from None


class LosesLastWords(Wrapped):
    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.inner._outward.messages.clear()
        await super().aclose(code, reason)


class HasItsCodeAtOnce(Wrapped):
    close_code = 1000


class TellsAnotherCode(Wrapped):
    close_code: int | None = None

    @override
    async def receive(self, /) -> Sequence[bytes]:
        try:
            return await super().receive()
        except anyio.EndOfStream:
            self.close_code = 1006
            raise


class ForgetsItsEnd(Wrapped):
    ended = False

    @override
    async def receive(self, /) -> Sequence[bytes]:
        if self.ended:
            raise anyio.BrokenResourceError
        try:
            return await super().receive()
        except anyio.EndOfStream:
            self.ended = True
            raise


class SendsIntoTheVoid(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        with contextlib.suppress(anyio.BrokenResourceError):
            await super().send(messages)


class RaisesErrorsOfItsSocket(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        try:
            await super().send(messages)
        except anyio.BrokenResourceError:
            raise BrokenPipeError from None


class ForgetsItsClosing(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        try:
            return await super().receive()
        except anyio.ClosedResourceError:
            return [b"from a buffer"]


class ClosesOnce(Wrapped):
    closed = False

    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if self.closed:
            raise anyio.ClosedResourceError
        self.closed = True
        await super().aclose(code, reason)


class ClosesWhenItMay(Wrapped):
    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await anyio.sleep(0.1)  # raises at once in a cancelled scope
        await super().aclose(code, reason)


class RaisesWhenCancelled(Wrapped):
    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if anyio.current_effective_deadline() == float("-inf"):
            raise RuntimeError("no time to close")
        await super().aclose(code, reason)


class EndsInAnErrorOfItsSocket(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        try:
            return await super().receive()
        except anyio.EndOfStream:
            if self.inner.close_code == 1000:
                raise ConnectionResetError from None
            raise


class ShieldsReceive(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        with anyio.CancelScope(shield=True):
            return await super().receive()
        raise AssertionError


class ShieldsSend(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        with anyio.CancelScope(shield=True):
            await super().send(messages)


class FlushesForever(Wrapped):
    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        pipe = self.inner._outward
        while pipe.messages and not pipe.abandoned:
            await pipe.changed.wait()
        await super().aclose(code, reason)


class LeavesOpen(Wrapping):
    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        listener = memory._listeners.get(memory._name(url))
        if listener is None:
            raise ConnectionRefusedError
        stream = await listener.accept(options)
        assert stream is not None
        yield Wrapped(stream, options)


# ---- serving --------------------------------------------------------------------------------------------------------


class Addressless(Wrapped):
    local_address = 3001


class SaysAnotherUrl(Wrapping):
    def __init__(self, url: object) -> None:
        super().__init__()
        self.url = url

    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        base = super().serve

        async def lie() -> None:
            async with anyio.create_task_group() as group:
                await group.start(base, url, options, handler)
                task_status.started(self.url)  # type: ignore[arg-type]

        return lie()


class ForgetsToSayThatItListens(Wrapping):
    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        return super().serve(url, options, handler, task_status=anyio.TASK_STATUS_IGNORED)


class ReturnsAtOnce(Wrapping):
    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        return anyio.lowlevel.checkpoint()


class ListensWhereItLikes(Wrapping):
    """At a fixed place, whatever the URL."""

    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        return super().serve("memory://here", options, handler, task_status=task_status)


class TakesThePlaceOfOthers(ListensWhereItLikes):
    """As who unlinks the path of a socket that somebody listens to."""

    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        serving = super().serve(url, options, handler, task_status=task_status)

        async def push_aside() -> None:
            before = memory._listeners.pop("here", None)
            try:
                await serving
            finally:
                if before is not None:
                    memory._listeners["here"] = before

        return push_aside()


class LeavesItsPathBehind(Wrapping):
    def __init__(self) -> None:
        super().__init__()
        self.used: set[str] = set()

    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        if url in self.used:
            raise OSError(f"{url} is in use")
        self.used.add("memory://1")
        return super().serve(url, options, handler, task_status=task_status)


class ConnectsToNobody(Wrapping):
    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        if memory._name(url) in memory._listeners:
            async with super().connect(url, options) as stream:
                yield stream
        elif self.error is not None:
            raise self.error
        else:
            yield Wrapped(
                MemoryStream("", "", (memory._Pipe(), memory._Pipe()), max_message=1), options
            )


class BindsInATaskGroup(Wrapping):
    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        serving = super().serve(url, options, handler, task_status=task_status)

        async def in_a_group() -> None:
            async with anyio.create_task_group():
                await serving

        return in_a_group()


class Checking(Wrapping):
    """Has the `check` of the memory transport."""

    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> object:
        self.inner.check(url, options, listening=listening)
        return None


class RefusesWhatItServes(Checking):
    @override
    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> object:
        if not listening and url[-1:].isdigit():
            raise InvalidURLError(url, "no name")
        return super().check(url, options, listening=listening)


class ListensToNoOne(Checking):
    @override
    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> object:
        return super().check(url, options, listening=False)


class AnswersLater(Checking):
    @override
    async def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> None:
        await anyio.lowlevel.checkpoint()


class StumblesOverGarbage(Checking):
    @override
    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> object:
        if url.endswith("["):
            raise ValueError("Invalid IPv6 URL")
        return super().check(url, options, listening=listening)


class TakesWhatCannotWork(Checking):
    @override
    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> object:
        return None


class OneAtATime(Wrapping):
    def __init__(self) -> None:
        super().__init__()
        self.turn = anyio.Lock()

    @override
    async def handle(
        self, handler: Callable[[MessageStream], Awaitable[None]], stream: MessageStream
    ) -> None:
        async with self.turn:
            await handler(stream)


class EndsAllLinks(Wrapping):
    @override
    async def handle(
        self, handler: Callable[[MessageStream], Awaitable[None]], stream: MessageStream
    ) -> None:
        await handler(stream)
        assert isinstance(stream, Wrapped)
        with contextlib.suppress(ValueError):  # the listener has ended
            cut_links(stream.inner.local_address)


class ListensToTheLast(Wrapping):
    """Serves one visitor, and stops listening when its handler has ended, and not before."""

    @override
    def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> Coroutine[Any, Any, None]:
        listening = anyio.CancelScope(shield=True)
        visitors: list[MessageStream] = []
        came = anyio.Event()

        async def note(stream: MessageStream) -> None:
            visitors.append(stream)
            came.set()
            await anyio.sleep_forever()

        serving = super().serve(url, options, note, task_status=task_status)

        async def handle_the_first() -> None:
            try:
                await came.wait()
                await handler(visitors[0])
            finally:
                listening.cancel()

        async def both() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(handle_the_first)
                with listening:
                    await serving

        return both()


class LeavesHandlers(Wrapping):
    """Cancels no handler."""

    @override
    async def handle(
        self, handler: Callable[[MessageStream], Awaitable[None]], stream: MessageStream
    ) -> None:
        with anyio.move_on_after(30, shield=True):
            await handler(stream)


# ---- load -----------------------------------------------------------------------------------------------------------


class CountsInSixteenBits(Wrapped):
    """Takes the message whose number is 0 again for a double of the first one."""

    sent = 0

    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        numbered = list(enumerate(messages, self.sent))
        self.sent += len(messages)
        await super().send([message for number, message in numbered if number != 65_536])


class SwapsTwo(Wrapped):
    """Overtakes itself, once in a while."""

    sent = 0

    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        self.sent += len(messages)
        late = self.sent == 50_000
        await super().send([messages[1], messages[0], *messages[2:]] if late else messages)


class Leaks(Wrapping):
    """Leaves something behind for each link that was made."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int] = []
        self.end = threading.Event()

    def __del__(self) -> None:
        self.end.set()
        for descriptor in self.left:
            os.close(descriptor)


class LeaksADescriptor(Leaks):
    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        async with super().connect(url, options) as stream:
            self.left.append(os.open(os.devnull, os.O_RDONLY))
            yield stream


class LeaksAThread(Leaks):
    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        async with super().connect(url, options) as stream:
            threading.Thread(target=self.end.wait, daemon=True).start()
            yield stream


class LeaksATask(Wrapping):
    """Keeps a task for each link until it stops to listen."""

    @override
    async def handle(
        self, handler: Callable[[MessageStream], Awaitable[None]], stream: MessageStream
    ) -> None:
        await handler(stream)
        await anyio.sleep_forever()


# ---- cancellation ---------------------------------------------------------------------------------------------------


class ForgetsItsSocketWhenCancelled(Leaks):
    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        self.left.append(os.open(os.devnull, os.O_RDONLY))
        async with super().connect(url, options) as stream:
            os.close(self.left.pop())
            yield stream


class MakesATimeoutOfCancellation(Wrapping):
    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        slept = False
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep(0.01)
            slept = True
        if not slept:
            raise TimeoutError("took too long")
        async with super().connect(url, options) as stream:
            yield stream


class ConnectsBehindAShield(Wrapping):
    """Sees a cancellation, and goes on until somebody hangs up."""

    @override
    @contextlib.asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MessageStream]:
        async with super().connect(url, options) as stream:
            try:
                await anyio.sleep(0.01)
            except anyio.get_cancelled_exc_class():
                with contextlib.suppress(anyio.EndOfStream), anyio.CancelScope(shield=True):
                    await stream.receive()
                raise
            yield stream


class SwallowsCancellationOfSend(Wrapped):
    @override
    async def send(self, messages: Sequence[bytes], /) -> None:
        if len(messages) == 1:
            return await super().send(messages)
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await super().send(messages)
        return None


class SwallowsCancellationOfReceive(Wrapped):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            return await super().receive()
        return []


class StaysOpenWhenCloseIsCancelled(Wrapped):
    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if anyio.current_effective_deadline() > float("-inf"):
            self.inner._outward.wake()
            await anyio.sleep(0.01)
        await super().aclose(code, reason)


# ---- silence --------------------------------------------------------------------------------------------------------


class NeverNotices(Wrapped):
    detects_silence = True


class NoSignOfLife(Wrapped):
    detects_silence = True
    delay = 0.0

    @override
    async def receive(self, /) -> Sequence[bytes]:
        timeout = self.options.timeout or 6.0
        with anyio.move_on_after(timeout + self.delay):
            return await super().receive()
        raise LinkTimeoutError(timeout)


class NoticesAnEnd(Wrapped):
    detects_silence = True

    @override
    async def receive(self, /) -> Sequence[bytes]:
        with anyio.move_on_after(self.options.timeout or 6.0):
            return await super().receive()
        raise anyio.EndOfStream


class GivesSignsOfLife(Wrapped):
    detects_silence = True

    @override
    async def receive(self, /) -> Sequence[bytes]:
        timeout = self.options.timeout or 6.0
        with anyio.move_on_after(min(self.options.keep_alive, timeout)):
            return await super().receive()
        if self.options.keep_alive < timeout:
            return [b""]
        raise LinkTimeoutError(timeout)


class TakesAStandstillForSilence(NeverNotices):
    @override
    async def receive(self, /) -> Sequence[bytes]:
        began, timeout = time.monotonic(), self.options.timeout or 6.0
        while True:
            with anyio.move_on_after(timeout):
                return await super().receive()
            if self.options.keep_alive > timeout or time.monotonic() - began > timeout:
                raise LinkTimeoutError(timeout)


class NoticesLate(NoSignOfLife):
    delay = 1.5


# ---- attributes -----------------------------------------------------------------------------------------------------


class Hears(Wrapped):
    """Says when it has heard the other side."""

    detects_silence: bool = False

    def __init__(self, inner: MemoryStream, options: TransportOptions) -> None:
        super().__init__(inner, options)
        self.last_heard: object = time.monotonic()

    @override
    async def receive(self, /) -> Sequence[bytes]:
        messages = await super().receive()
        self.last_heard = self.heard()
        return messages

    def heard(self) -> object:
        return time.monotonic()


class HeardItBegin(Hears):
    @override
    def heard(self) -> object:
        return self.last_heard


class HearsOnAnotherClock(Hears):
    @override
    def heard(self) -> object:
        return time.time()


class HearsNonsense(Hears):
    @override
    def heard(self) -> object:
        return "now"


class ForgetsWhatItHeard(Hears):
    @override
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.last_heard = 0.0
        await super().aclose(code, reason)


class HearsNoSigns(Hears):
    detects_silence = True


class AsksFor(Wrapping):
    """Asks `authorize`, and does something else than what it says."""

    def __init__(self, identity: Identity | None, *, refuses: bool = False) -> None:
        super().__init__()
        self.identity = identity
        self.refuses = refuses

    @override
    def options(self, options: TransportOptions) -> TransportOptions:
        if options.authorize is None:
            return options
        authorize = options.authorize

        def ask(request: ConnectionRequest) -> Identity | None:
            try:
                authorize(request)
            except RefusedError:
                if self.refuses:
                    raise
            return self.identity

        return replace(options, authorize=ask)


class AsksOnItsLoop(Wrapping):
    @override
    def options(self, options: TransportOptions) -> TransportOptions:
        if options.authorize is None:
            return options
        authorize, token = options.authorize, anyio.lowlevel.current_token()

        def ask(request: ConnectionRequest) -> Identity | None:
            return anyio.from_thread.run_sync(authorize, request, token=token)

        return replace(options, authorize=ask)


class AsksNobody(Wrapping):
    @override
    def options(self, options: TransportOptions) -> TransportOptions:
        return replace(options, authorize=None)


CASES: list[tuple[Callable[[], Any], str, str]] = [
    (partial(getattr, memory, "MemoryTransport"), "a transport has connect", "no object"),
    (RefusesWhatItServes, "check, if there is one", "check with listening=False raised"),
    (ListensToNoOne, "check, if there is one", "check with listening=True raised"),
    (AnswersLater, "check, if there is one", "check is a coroutine"),
    (StumblesOverGarbage, "can never work is refused", "raised ValueError"),
    (TakesWhatCannotWork, "can never work is refused", "and connect raised InvalidURLError"),
    (partial(Wrapping, Addressless), "the addresses", "local_address"),
    (partial(SaysAnotherUrl, "memory://elsewhere"), "with a URL that connect", "ConnectionRefused"),
    (partial(SaysAnotherUrl, 3001), "with a URL that connect", "3001"),
    (ForgetsToSayThatItListens, "with a URL that connect", "task_status.started(bound_url), once"),
    (ReturnsAtOnce, "with a URL that connect", "had not called task_status.started"),
    (ListensWhereItLikes, "several listeners", "memory://here is in use"),
    (TakesThePlaceOfOthers, "several listeners", "both say 'memory://here'"),
    (LeavesItsPathBehind, "listen again", "memory://1 is in use"),
    (partial(ConnectsToNobody, KeyError("x")), "when nobody answers", "KeyError"),
    (partial(ConnectsToNobody, None), "when nobody answers", "connect succeeded"),
    (BindsInATaskGroup, "when it cannot bind", "in use"),
    (OneAtATime, "many links", "20 links are served"),
    (MixesUpItsLinks, "many links", "by a handler of its own"),
    (EndsAllLinks, "the end of one link", "BrokenResourceError"),
    (LeavesHandlers, "cancelling serve", "handlers are cancelled"),
    (partial(Wrapping, Reorders), "in the order", "message 0"),
    (partial(Wrapping, DropsEmpty), "an empty message", "0 arrived"),
    (partial(Wrapping, Joins), "as one message", "(0 bytes) when sent"),
    (partial(Wrapping, Truncates), "1 MiB and 5 MiB", "5 MiB"),
    (partial(Wrapping, LimitIsOffByOne), "max_message bytes", "PeerViolationError"),
    (partial(Wrapping, WrongCode), "max_message bytes", "1001 bytes made it raise"),
    (IgnoresLimit, "max_message bytes", "receive raises"),
    (partial(Wrapping, GivesNothing), "1 to 1,000", "0 messages at once"),
    (partial(Wrapping, GivesTooMany), "1 to 1,000", "messages at once"),
    (partial(Wrapping, GivesTooMuch), "1 to 1,000", "bytes at once"),
    (partial(Wrapping, GivesBytearrays), "1 to 1,000", "bytearray"),
    (partial(Wrapping, AnswersFirst), "at the same time, in both", "bytes arrives"),
    (partial(Wrapping, MixesUpItsBuffers), "at the same time, in both", "when received"),
    (partial(Wrapping, NoBackPressure), "send waits", "64 messages of 1 MiB"),
    (partial(Wrapping, BuffersTooMuch), "send waits", "3 messages of 1 MiB"),
    (partial(Wrapping, NeverGoesOn), "send waits", "bytes are missing"),
    (partial(Wrapping, HeardItBegin), "last_heard, if", "too early after a message"),
    (partial(Wrapping, HearsOnAnotherClock), "last_heard, if", "in the future"),
    (partial(Wrapping, HearsNonsense), "last_heard, if", "'now'"),
    (partial(Wrapping, ForgetsWhatItHeard), "last_heard, if", "too early after aclose"),
    (partial(Wrapping, HearsNoSigns), "signs of life move", "while both sides receive"),
    (AsksOnItsLoop, "asks options.authorize", "on the event loop"),
    (partial(AsksFor, Identity("y")), "asks options.authorize", "had refused"),
    (partial(AsksFor, Identity("x"), refuses=True), "asks options.authorize", "identity is"),
    (partial(Wrapping, EndIsBroken), "then raises EndOfStream", "BrokenResourceError"),
    (partial(Wrapping, LosesLastWords), "then raises EndOfStream", "EndOfStream"),
    (partial(Wrapping, HasItsCodeAtOnce), "then raises EndOfStream", "while the link is up"),
    (partial(Wrapping, TellsAnotherCode), "then raises EndOfStream", "1006"),
    (partial(Wrapping, ForgetsItsEnd), "the same error again", "BrokenResourceError"),
    (partial(Wrapping, SendsIntoTheVoid), "send raises BrokenResourceError", "send raises after"),
    (partial(Wrapping, RaisesErrorsOfItsSocket), "send raises BrokenResourceError", "BrokenPipe"),
    (partial(Wrapping, ForgetsItsClosing), "after aclose", "None"),
    (partial(Wrapping, ClosesOnce), "aclose may be called twice", "ClosedResourceError"),
    (partial(Wrapping, ClosesWhenItMay), "in a cancelled scope", "receive raises after"),
    (partial(Wrapping, RaisesWhenCancelled), "in a cancelled scope", "no time to close"),
    (partial(Wrapping, EndsInAnErrorOfItsSocket), "in a cancelled scope", "ConnectionResetError"),
    (partial(Wrapping, ShieldsReceive), "a cancelled receive", "receive goes on"),
    (partial(Wrapping, ShieldsSend), "a cancelled send", "goes on"),
    (partial(Wrapping, FlushesForever), "a cancelled send", "aclose returns"),
    (LeavesOpen, "leaving the context", "sees the end"),
    (partial(Wrapping, NeverNotices), "raises LinkTimeoutError after", "receive raises"),
    (partial(Wrapping, NoticesLate), "raises LinkTimeoutError after", "2.00 s"),
    (partial(Wrapping, NoticesAnEnd), "raises LinkTimeoutError after", "EndOfStream"),
    (partial(Wrapping, GivesSignsOfLife), "keeps an idle link up", "nothing was sent"),
    (partial(Wrapping, NoSignOfLife), "keeps an idle link up", "LinkTimeoutError"),
    (
        partial(Wrapping, TakesAStandstillForSilence),
        "outlives a standstill",
        "after the event loop",
    ),
    (partial(Wrapping, CountsInSixteenBits), "100,000 small", "6 bytes are missing"),
    (partial(Wrapping, SwapsTwo), "100,000 small", "message 49000 was"),
    (LeaksADescriptor, "200 links", "200 descriptors more"),
    (LeaksAThread, "200 links", "threads more"),
    (LeaksATask, "200 links", "200 tasks more"),
    (ForgetsItsSocketWhenCancelled, "connect can be cancelled", "descriptors more"),
    (MakesATimeoutOfCancellation, "connect can be cancelled", "raised TimeoutError"),
    (ConnectsBehindAShield, "connect can be cancelled", "goes on for"),
    (partial(Wrapping, SwallowsCancellationOfSend), "send can be cancelled", "as if all were well"),
    (partial(Wrapping, SwallowsCancellationOfReceive), "receive can be cancelled", "returned []"),
    (partial(Wrapping, StaysOpenWhenCloseIsCancelled), "aclose can be cancelled", "sees the end"),
]


def name_of(case: Callable[[], Any]) -> str:
    if not isinstance(case, partial):
        return getattr(case, "__name__", "?")
    last = case.args[0]
    return last.__name__ if isinstance(last, type) else f"{name_of(case.func)}-{last!r}"


@pytest.mark.long
@pytest.mark.leaks(
    "circle", "descriptor", "in a loop", "object", "table", "thread",
    reason="these transports are broken on purpose, and what they leave is what the kit finds",
)  # fmt: skip
@pytest.mark.parametrize(
    ("broken", "rule", "hint"), CASES, ids=[name_of(broken) for broken, _, _ in CASES]
)
def test_a_broken_transport_is_told_which_rule_it_breaks(
    broken: Callable[[], Transport], rule: str, hint: str
) -> None:
    assert hint in finding_of(broken(), rule)


def test_every_rule_is_broken_by_some_transport_of_this_test() -> None:
    groups = (
        SERVING_RULES,
        MESSAGE_RULES,
        ATTRIBUTE_RULES,
        END_RULES,
        SILENCE_RULES,
        STANDSTILL_RULES,
        LOAD_RULES,
        CANCEL_RULES,
    )
    rules = [rule for group in groups for rule in group]
    promises = {rule.promise for rule in rules}
    broken = [{promise for promise in promises if rule in promise} for _, rule, _ in CASES]
    assert [len(found) for found in broken] == [1] * len(CASES), "a text does not name one rule"
    assert promises == set().union(*broken)


@pytest.mark.parametrize("kind", [Wrapping, Checking, partial(Wrapping, Hears), AsksNobody])
def test_a_wrapped_transport_that_is_not_broken_passes(kind: Callable[[], Wrapping]) -> None:
    check(kind())


def test_a_listener_that_outlives_its_handlers_is_found() -> None:
    options = TransportOptions()
    env = Environment(ListensToTheLast(), lambda: "memory://", options, options)
    (rule,) = (rule for rule in SERVING_RULES if "cancelling serve" in rule.promise)
    finding = pytest.RaisesExc(Finding, match="connect fails after serve")
    with pytest.RaisesGroup(finding, flatten_subgroups=True):
        on_virtual_time(partial(rule.check, env))


def test_silence_is_not_looked_at_when_it_is_not_wanted() -> None:
    check(Wrapping(NeverNotices), silence=False)


def test_the_error_tells_rule_finding_and_remedy() -> None:
    with pytest.raises(AssertionError) as caught:
        check(Wrapping(Reorders))
    error = caught.value
    assert isinstance(error, TransportContractError)
    for text in (error.rule, error.finding, error.advice):
        assert text
        assert text in str(error)


def test_both_sides_may_have_options_of_their_own() -> None:
    class Both(Wrapping):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[object] = []

        @override
        def options(self, options: TransportOptions) -> TransportOptions:
            self.seen.append(options.headers.get("side"))
            return options

    transport = Both()
    check(
        transport,
        options=TransportOptions(headers={"side": "connecting"}),
        serve_options=TransportOptions(headers={"side": "listening"}),
    )
    assert transport.seen[:2] == ["listening", "connecting"]
