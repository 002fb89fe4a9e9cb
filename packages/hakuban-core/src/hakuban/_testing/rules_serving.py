"""Rules on listening and connecting, and on silence."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint

from ..transport import InvalidURLError, Transport
from .environment import (
    PATIENCE,
    Finding,
    Rule,
    error_of,
    exchange,
    sequence_fault,
    until,
    within,
)

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from ..transport import MessageStream
    from .environment import Environment


GARBAGE: Final = ("", ":", ":x", ":0", "[", "[::1:1", "?", "/:/", "user:password@")
"""What may stand behind the scheme and "://", and names no host that somebody would have to look up."""

LINKS: Final = 20


async def echo(stream: MessageStream) -> None:
    """Send back what comes, until the link ends."""
    try:
        # An OSError is a fault, for the rules on ends to name.
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            while True:
                await stream.send(await stream.receive())
    finally:
        with anyio.move_on_after(1, shield=True):
            await stream.aclose()


async def expect_echo(stream: MessageStream, text: bytes) -> None:
    """Send a text to `echo`, and take it back."""
    if fault := sequence_fault([text], await exchange(stream, stream, [text])):
        raise Finding(f"{fault}, sent back by a handler of its own")


async def _check_transport_shape(env: Environment) -> None:
    await checkpoint()
    if isinstance(env.transport, type) or not isinstance(env.transport, Transport):
        raise Finding(f"{env.transport!r} is no object with connect and serve")


async def _check_started(env: Environment) -> None:
    async with env.serving(echo) as url:
        if not isinstance(url, str) or "#" in url or "://" not in url:
            raise Finding(f"task_status.started was given {url!r}")
        async with env.connecting(url) as stream:
            await expect_echo(stream, b"hello")


async def _check_bind_again(env: Environment) -> None:
    async with env.serving(echo) as url:
        pass
    refusal: Exception | None = None

    async def visit() -> None:
        async with env.serving(echo, url=url), env.connecting(url) as stream:
            await expect_echo(stream, b"hello again")

    async def listens_again() -> bool:
        nonlocal refusal
        refusal = await error_of(visit)
        return refusal is None

    with anyio.move_on_after(PATIENCE):  # an operating system may need a moment to forget
        await until(listens_again)
    if refusal is not None:
        raise refusal


async def _check_two_listeners(env: Environment) -> None:
    async with env.serving(echo) as one, env.serving(echo) as other:
        if one == other:
            raise Finding(f"two listeners are there at the same time, and both say {one!r}")
        for url in (one, other):
            async with env.connecting(url) as stream:
                await expect_echo(stream, b"hello")


async def _check_urls_that_work(env: Environment) -> None:
    if not hasattr(env.transport, "check"):
        return
    _expect_taken(env, env.new_url(), listening=True)
    async with env.serving(echo) as url:
        _expect_taken(env, url, listening=False)


async def _check_garbage(env: Environment) -> None:
    if not hasattr(env.transport, "check"):
        return
    scheme = env.new_url().partition("://")[0]
    for garbage in GARBAGE:
        url = f"{scheme}://{garbage}"
        _refusal_by_check(env, url, listening=True)
        if _refusal_by_check(env, url, listening=False) is None:
            refusal = await _refusal(env, url)
            if isinstance(refusal, ValueError):
                raise Finding(f"check took {url!r}, and connect raised {refusal!r}")


def _expect_taken(env: Environment, url: str, *, listening: bool) -> None:
    refusal = _refusal_by_check(env, url, listening=listening)
    if refusal is not None:
        raise Finding(f"check with listening={listening} raised {refusal!r}")


def _refusal_by_check(env: Environment, url: str, *, listening: bool) -> InvalidURLError | None:
    """Ask `check`, within this turn of the loop."""
    check: Any = getattr(env.transport, "check", None)
    try:
        answer = check(url, env.serve_options if listening else env.options, listening=listening)
    except InvalidURLError as refusal:
        return refusal
    except Exception as error:
        raise Finding(f"check({url!r}, listening={listening}) raised {error!r}") from error
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # else it would be warned of
        raise Finding("check is a coroutine, and has to answer at once")
    return None


async def _check_addresses(env: Environment) -> None:
    async with env.link() as link:
        for stream in (link.connected, link.accepted):
            for name in ("local_address", "remote_address"):
                if not isinstance(getattr(stream, name, ""), str):
                    raise Finding(f"{name} of {stream!r} is no str")


async def _check_nobody(env: Environment) -> None:
    async with env.serving(echo) as url:
        pass
    refusal = await _refusal(env, url)
    if refusal is None:
        raise Finding("connect succeeded where nobody listens any more")
    if not isinstance(refusal, OSError):
        raise Finding(f"connect raised {refusal!r} where nobody listens any more")


async def _refusal(env: Environment, url: str) -> Exception | None:
    """Return what connect raises, None when it succeeds."""

    async def visit() -> None:
        async with env.connecting(url, handshake_timeout=1.0):
            pass

    with within(PATIENCE, "connect gives up after handshake_timeout, which was 1 s"):
        refusal = await error_of(visit)
    return refusal  # noqa: RET504 -- a return inside would leave a path without one, for the type checker


async def _check_bind_twice(env: Environment) -> None:
    async with env.serving(echo) as url, anyio.create_task_group() as group:
        try:
            await env.start(group, url, env.serve_options, echo)
        except OSError:  # not `suppress`, which lets groups of it pass from Python 3.12 on
            pass  # and no error is fine too: some sockets can be bound twice
        group.cancel_scope.cancel()


async def _check_many_links(env: Environment) -> None:
    served: list[int] = []
    everybody = anyio.Event()

    async def client(url: str, number: int) -> None:
        async with env.connecting(url) as stream:
            await expect_echo(stream, b"link %d" % number)
            served.append(number)
            if len(served) == LINKS:
                everybody.set()
            await everybody.wait()

    async with env.serving(echo) as url:
        with within(PATIENCE, f"{LINKS} links are served at the same time"):
            async with anyio.create_task_group() as group:
                for number in range(LINKS):
                    group.start_soon(client, url, number)


async def _check_independence(env: Environment) -> None:
    async with env.serving(echo) as url, env.connecting(url) as stays:
        await expect_echo(stays, b"before")
        async with env.connecting(url) as leaves:
            await expect_echo(leaves, b"a guest")
        await expect_echo(stays, b"after")
        async with env.connecting(url) as newcomer:
            await expect_echo(newcomer, b"a newcomer")


async def _check_stop(env: Environment) -> None:
    """Keep a handler busy while serve is cancelled: there must be no way in any more, and the handler must know."""
    running, stop, cancelled, released = (anyio.Event() for _ in range(4))

    async def handler(stream: MessageStream) -> None:
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
            with anyio.move_on_after(2 * PATIENCE, shield=True):
                await released.wait()
                await stream.aclose()

    async def no_way_in() -> bool:
        return await _refusal(env, url) is not None

    async def serve(*, task_status: TaskStatus[str]) -> None:
        async with env.serving(handler) as url:
            task_status.started(url)
            await stop.wait()

    async with anyio.create_task_group() as group:
        url = await group.start(serve)
        try:
            async with env.connecting(url):
                with within(PATIENCE, "serve calls the handler of a new link"):
                    await running.wait()
                stop.set()
                with within(PATIENCE, "the handlers are cancelled with serve"):
                    await cancelled.wait()
                # uvloop closes a socket one turn of the loop later.
                with within(
                    PATIENCE, "connect fails after serve was cancelled, while a handler lingers"
                ):
                    await until(no_way_in)
        finally:
            released.set()


SERVING_RULES: Final = (
    Rule(
        "a transport has connect and serve",
        "return an object like `hakuban.transport.Transport`, not its class",
        _check_transport_shape,
    ),
    Rule(
        "serve calls task_status.started with a URL that connect accepts",
        "call task_status.started(bound_url) once the socket listens, with the real host and port in the URL, and go on"
        " until cancelled",
        _check_started,
    ),
    Rule(
        "serve can listen again where another serve has listened until it was cancelled",
        "close the listening socket when serve ends, however it ends, and unlink its path if it has one; SO_REUSEADDR"
        " lets a port be bound again at once",
        _check_bind_again,
    ),
    Rule(
        "there can be several listeners at the same time, each at a URL of its own",
        "give check_transport a URL that is free however often it is bound, such as one with port 0, or a function that"
        " gives a new one at each call where addresses are names or paths; and let serve listen where its url says",
        _check_two_listeners,
    ),
    Rule(
        "check, if there is one, answers at once and takes what serve and connect take",
        "a function, no coroutine, without I/O; or leave check out",
        _check_urls_that_work,
    ),
    Rule(
        "a URL of the scheme that can never work is refused by check with InvalidURLError, and by nothing else",
        "parse URLs in one function that check, connect and serve call, and turn each ValueError into InvalidURLError",
        _check_garbage,
    ),
    Rule(
        "the addresses of a stream, if it has any, are text",
        "make local_address and remote_address something that people can read in a log",
        _check_addresses,
    ),
    Rule(
        "connect raises OSError or TimeoutError when nobody answers",
        "let the errors of the socket through, not in a group, and bound it by `options.handshake_timeout`",
        _check_nobody,
    ),
    Rule(
        "serve raises OSError when it cannot bind",
        "bind before a task group is opened, which would wrap the error",
        _check_bind_twice,
    ),
    Rule(
        "many links are served at the same time, each by a handler of its own",
        "start each handler in a task of its own",
        _check_many_links,
    ),
    Rule(
        "the end of one link leaves the others and the listener alone",
        "no state shared between links, and nothing that ends serve when a handler returns",
        _check_independence,
    ),
    Rule(
        "cancelling serve closes the listening socket, and cancels the handlers",
        "open the task group of the handlers outside of the listening socket, so that it is left last",
        _check_stop,
    ),
)
