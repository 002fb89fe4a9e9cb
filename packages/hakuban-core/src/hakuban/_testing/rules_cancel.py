"""Rules on cancelling a call wherever it suspends: first at its first suspension, then at its second, and so on."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from ..transport import LinkError
from .environment import CLOSE_SECONDS, PATIENCE, PAUSE, Finding, Rule, error_of, within
from .leaks import Census
from .suspending import Suspending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..transport import MessageStream
    from .environment import Environment


MOST: Final = 30
"""Suspensions after which a call, such as a long send, has been cancelled often enough."""

QUESTION: Final = b"?"
LONG: Final = [bytes(65_536)] * 32


class _Listener:
    """The other side: counts the bytes that come, and sends their number when it is asked."""

    def __init__(self) -> None:
        self.came = 0
        self.totals: list[int] = []
        self.stream: MessageStream | None = None

    async def handle(self, stream: MessageStream) -> None:
        self.came += 1
        self.stream = stream
        total = 0
        try:
            while True:
                messages = await stream.receive()
                total += sum(map(len, messages))
                if messages[-1] == QUESTION:
                    await stream.send([b"%d" % total])
        except (anyio.EndOfStream, anyio.BrokenResourceError, LinkError, OSError):
            pass
        finally:
            self.totals.append(total)
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await error_of(stream.aclose)

    async def idle(self) -> None:
        """Wait until all who came have gone."""
        with within(PATIENCE, "the other side sees the end of each link"):
            while len(self.totals) < self.came:  # noqa: ASYNC110 -- and nobody may come meanwhile
                await anyio.sleep(PAUSE / 10)


class _Attempt:
    """One call, cancelled when it suspends for the n-th time.

    :ivar suspensions: how often it has suspended.
    :ivar result: what it returned; None when it did not.
    """

    def __init__(self, name: str, number: int, call: Callable[[], Awaitable[object]]) -> None:
        self.suspensions = 0
        self.result: object = None
        self._name = f"{name}, cancelled at its suspension {number},"
        self._number = number
        self._call = call
        self._scope = anyio.CancelScope()

    @property
    def over(self) -> bool:
        """Whether the call ended before it was to be cancelled."""
        return self.suspensions < self._number

    async def make(self, listener: _Listener) -> None:
        """Make the call.

        :raises Finding: it did not end, or raised something.
        """
        error: Exception | None = None
        ended = anyio.Event()

        async def run() -> None:
            nonlocal error
            with self._scope:
                error = await error_of(lambda: Suspending(self._keep_result(), self._suspended))
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            with anyio.move_on_after(PATIENCE / 2):
                await ended.wait()
            if not ended.is_set():
                # It may be behind a shield: let it end before this task group waits for it.
                if listener.stream is not None:
                    await error_of(listener.stream.aclose)
                raise Finding(f"{self._name} goes on for {PATIENCE / 2:g} s")
        if error is not None:
            raise Finding(f"{self._name} raised {error!r}")

    async def _keep_result(self) -> None:
        self.result = await self._call()

    def _suspended(self) -> None:
        self.suspensions += 1
        if self.suspensions == self._number:
            self._scope.cancel()


async def _connect(env: Environment, url: str, listener: _Listener, number: int) -> bool:
    async def visit() -> None:
        async with env.connecting(url):
            pass

    attempt = _Attempt("connect", number, visit)
    await attempt.make(listener)
    return attempt.over


async def _send(env: Environment, url: str, listener: _Listener, number: int) -> bool:
    returned: list[bool] = []
    async with env.connecting(url) as stream:

        async def send() -> None:
            await stream.send(LONG)
            returned.append(True)

        attempt = _Attempt("send", number, send)
        await attempt.make(listener)
        with within(CLOSE_SECONDS, "aclose returns after a send that was cancelled"):
            await stream.aclose()
    await listener.idle()
    total = sum(map(len, LONG))
    if returned and listener.totals[-1] != total:
        raise Finding(
            f"send, cancelled at its suspension {number}, returned as if all were well,"
            f" but of {total} bytes {listener.totals[-1]} arrived"
        )
    return attempt.over


async def _receive(env: Environment, url: str, listener: _Listener, number: int) -> bool:
    async with env.connecting(url) as stream:
        await stream.send([QUESTION])
        attempt = _Attempt("receive", number, stream.receive)
        await attempt.make(listener)
        if attempt.result not in (None, [b"1"], (b"1",)):
            raise Finding(
                f"receive, cancelled at its suspension {number}, returned {attempt.result!r}"
            )
        with within(CLOSE_SECONDS, "aclose returns after a receive that was cancelled"):
            await stream.aclose()
    return attempt.over


async def _close(env: Environment, url: str, listener: _Listener, number: int) -> bool:
    async with env.connecting(url) as stream:
        await stream.send([QUESTION])
        await stream.receive()
        attempt = _Attempt("aclose", number, stream.aclose)
        await attempt.make(listener)
        await listener.idle()  # although the context of `connect` is not left yet
    return attempt.over


async def _check(
    operation: Callable[[Environment, str, _Listener, int], Awaitable[bool]], env: Environment
) -> None:
    listener = _Listener()
    async with env.serving(listener.handle) as url:
        await _expect_service(env, url)  # whatever is made once and kept is made now
        await listener.idle()
        census = Census.take()
        for number in range(1, MOST + 1):
            if await operation(env, url, listener, number):
                break
        with suppress(Finding):  # as a leak it is reported in more detail
            await listener.idle()
        await census.expect_no_more("the calls that were cancelled")
        await _expect_service(env, url)


async def _expect_service(env: Environment, url: str) -> None:
    with within(PATIENCE, "the listener serves the next link"):
        async with env.connecting(url) as stream:
            await stream.send([QUESTION])
            await stream.receive()


CANCEL_RULES: Final = (
    Rule(
        "connect can be cancelled wherever it suspends, and leaves nothing behind",
        "close the socket in `except BaseException` or `finally`, from the line on that makes it; let cancellation"
        " through, and await nothing in cleanup but for <= 1 s under a shield",
        partial(_check, _connect),
    ),
    Rule(
        "send can be cancelled wherever it suspends, does not return then, and aclose works",
        "let cancellation through; aclose gives up what was half sent, and closes the socket",
        partial(_check, _send),
    ),
    Rule(
        "receive can be cancelled wherever it suspends, does not return nonsense then, and aclose works",
        "let cancellation through; give no lock or state away that aclose waits for",
        partial(_check, _receive),
    ),
    Rule(
        "aclose can be cancelled wherever it suspends, and the link is closed then",
        "close the socket in `finally`, and await nothing after it",
        partial(_check, _close),
    ),
)
