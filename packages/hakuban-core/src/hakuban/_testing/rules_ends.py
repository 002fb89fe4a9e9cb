"""Rules on how links end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from ..transport import LinkError
from .environment import (
    CLOSE_SECONDS,
    PATIENCE,
    PAUSE,
    Finding,
    Rule,
    collect,
    end_of,
    error_of,
    until,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..transport import MessageStream
    from .environment import Environment


ENDS: Final = (anyio.EndOfStream, anyio.BrokenResourceError, LinkError)
"""What receive may raise when the other side went away without a word."""


async def _check_peer_close(env: Environment) -> None:
    for direction in range(2):
        async with env.link() as link:
            leaver, stayer = link.directions()[direction]
            if getattr(stayer, "close_code", None) is not None:
                raise Finding("close_code is set while the link is up")
            async with anyio.create_task_group() as group:
                await leaver.send([b"last words"])
                group.start_soon(leaver.aclose, 1001, "going away")
                await anyio.sleep(PAUSE)  # closed, or waiting for the receiver
                await collect(stayer, [b"last words"])
                error = await end_of(stayer)
            if not isinstance(error, anyio.EndOfStream):
                raise Finding(f"receive raised {error!r}")
            reported = (
                getattr(stayer, "close_code", 1001),
                getattr(stayer, "close_reason", "going away"),
            )
            if reported != (1001, "going away"):
                raise Finding(f"after aclose(1001, 'going away') the other side tells {reported}")


async def _check_error_repeats(env: Environment) -> None:
    async with env.link() as link:
        await link.accepted.aclose()
        first = await end_of(link.connected)
        for _ in range(2):
            error = await error_of(link.connected.receive)
            if type(error) is not type(first):
                raise Finding(f"receive raised {first!r}, and then {error!r}")


async def _check_send_after_peer_close(env: Environment) -> None:
    async with env.link() as link:
        await link.accepted.aclose()
        error = await _error_of_sending(link.connected)
        if not isinstance(error, anyio.BrokenResourceError):
            raise Finding(f"send raised {error!r}")


async def _error_of_sending(stream: MessageStream) -> Exception:
    errors: list[Exception] = []

    async def send_fails() -> bool:
        error = await error_of(lambda: stream.send([bytes(1_000)]))
        if error is not None:
            errors.append(error)
        return error is not None

    with within(PATIENCE, "send raises after the link has ended"):
        await until(send_fails)
    return errors[0]


async def _check_closed_here(env: Environment) -> None:
    for direction in range(2):
        async with env.link() as link:
            sender, closer = link.directions()[direction]
            await sender.send([b"one", b"two", b"three"])
            await closer.receive()  # and the rest may be waiting in a buffer
            await closer.aclose()
            for call in (closer.receive, lambda closer=closer: closer.send([b"x"])) * 2:
                error = await error_of(call)
                if not isinstance(error, anyio.ClosedResourceError):
                    raise Finding(f"after aclose it raised {error!r}")


async def _check_close_twice(env: Environment) -> None:
    async with env.link() as link:
        for stream in (link.connected, link.accepted):
            for time in ("first", "second"):
                with within(CLOSE_SECONDS, f"the {time} aclose returns"):
                    await stream.aclose()


async def _check_close_when_cancelled(env: Environment) -> None:
    for direction in range(2):
        async with env.link() as link:
            leaver, stayer = link.directions()[direction]
            await _cancel(leaver.aclose, rescue=stayer.aclose, before=True)
            await _expect_end(stayer, "aclose in a cancelled scope")


async def _check_cancelled_receive(env: Environment) -> None:
    for direction in range(2):
        async with env.link() as link:
            leaver, stayer = link.directions()[direction]
            await _cancel(leaver.receive, rescue=stayer.aclose)
            with within(CLOSE_SECONDS, "aclose returns after a cancelled receive"):
                await leaver.aclose()
            await _expect_end(stayer, "aclose after a cancelled receive")


async def _check_cancelled_send(env: Environment) -> None:
    for direction in range(2):
        async with env.link() as link:
            leaver, stayer = link.directions()[direction]

            async def flood(leaver: MessageStream = leaver) -> None:
                while True:
                    await leaver.send([bytes(65_536)])

            await _cancel(flood, rescue=stayer.aclose)
            with within(CLOSE_SECONDS, "aclose returns although the other side does not receive"):
                await leaver.aclose()
            await _expect_end(stayer, "aclose after a cancelled send")


async def _cancel(
    call: Callable[[], Awaitable[Any]],
    *,
    rescue: Callable[[], Awaitable[None]],
    before: bool = False,
) -> None:
    """Cancel a call, before it starts or in its middle, and bound the time that it takes to notice."""
    scope = anyio.CancelScope()
    done = anyio.Event()
    name = getattr(call, "__name__", "a call")
    error: Exception | None = None

    async def run() -> None:
        nonlocal error
        with scope:
            error = await error_of(call)
        done.set()

    async with anyio.create_task_group() as group:
        if before:
            scope.cancel()
        group.start_soon(run)
        await anyio.sleep(PAUSE)
        scope.cancel()
        with anyio.move_on_after(CLOSE_SECONDS):
            await done.wait()
        if not done.is_set():
            # It may be behind a shield: let it end before this task group waits for it.
            await rescue()
            raise Finding(f"{name} goes on {CLOSE_SECONDS:g} s after it was cancelled")
    if error is not None:
        raise Finding(f"{name} raised {error!r} when it was cancelled")


async def _expect_end(stream: MessageStream, doing: str) -> None:
    error = await end_of(stream)
    if not isinstance(error, ENDS):
        raise Finding(f"{doing} made the other side's receive raise {error!r}")


async def _check_leaving_connect(env: Environment) -> None:
    ended = anyio.Event()

    async def handler(stream: MessageStream) -> None:
        await _expect_end(stream, "leaving `connect`")
        ended.set()
        await stream.aclose()

    async with env.serving(handler) as url:
        async with env.connecting(url):
            pass
        with within(PATIENCE, "the listening side sees the end of a link whose `connect` was left"):
            await ended.wait()


END_RULES: Final = (
    Rule(
        "when the other side closes, receive gives what came before and then raises EndOfStream",
        "flush in aclose, end the connection in an orderly way, and translate its end to anyio.EndOfStream; where"
        " close_code and close_reason are offered, they are the other side's arguments of aclose",
        _check_peer_close,
    ),
    Rule(
        "after the end receive raises the same error again",
        "remember the first error and raise it at each further call",
        _check_error_repeats,
    ),
    Rule(
        "send raises BrokenResourceError when the other side has closed",
        "translate the errors of the socket to anyio.BrokenResourceError",
        _check_send_after_peer_close,
    ),
    Rule(
        "after aclose, send and receive raise ClosedResourceError",
        "remember that this side has closed, also for what is still in a buffer",
        _check_closed_here,
    ),
    Rule(
        "aclose may be called twice",
        "return at once when it is closed already",
        _check_close_twice,
    ),
    Rule(
        "aclose works in a cancelled scope",
        "do without awaiting what can be done without it, or wait for <= 1 s under a shield",
        _check_close_when_cancelled,
    ),
    Rule(
        "a cancelled receive ends soon, and the stream can be closed then",
        "no shield around reads; give no lock or state away that aclose waits for",
        _check_cancelled_receive,
    ),
    Rule(
        "a cancelled send ends soon, and the stream can be closed then although nobody receives",
        "no shield around writes; bound the flush in aclose, and drop the connection when it does not end",
        _check_cancelled_send,
    ),
    Rule(
        "leaving the context of connect closes the link",
        "close the stream when the context manager ends, however it ends",
        _check_leaving_connect,
    ),
)
