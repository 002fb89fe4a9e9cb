"""Rules on what a stream may state about its peer: when anything was last received, and who it is."""

from __future__ import annotations

import math
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from ..transport import ConnectionRequest, Identity, RefusedError
from .environment import PATIENCE, Finding, Rule, end_of, error_of, exchange, until, within
from .rules_serving import echo

if TYPE_CHECKING:
    from ..transport import MessageStream
    from .environment import Environment


KEEP_ALIVE: Final = 0.1


async def _check_last_heard(env: Environment) -> None:
    for direction in range(2):
        async with env.link() as link:
            sender, receiver = link.directions()[direction]
            if getattr(receiver, "last_heard", None) is None:
                return
            heard = _last_heard_since(receiver, -math.inf, "a link that is up")
            for number in range(3):
                sent = monotonic()
                await exchange(sender, receiver, [b"message %d" % number])
                heard = _last_heard_since(receiver, max(heard, sent), "a message")
            await sender.aclose()
            await end_of(receiver)
            _last_heard_since(receiver, heard, "the end")
            await receiver.aclose()
            _last_heard_since(receiver, heard, "aclose")


async def _check_signs_are_heard(env: Environment) -> None:
    async with env.link(keep_alive=KEEP_ALIVE) as link:
        ends = (link.connected, link.accepted)
        if not all(hasattr(end, "last_heard") and _detects_silence(end) for end in ends):
            return
        heard = [_last_heard_since(end, -math.inf, "a link that is up") for end in ends]

        async def goes_on() -> bool:
            await checkpoint()
            return all(
                _last_heard_since(end, before, "signs of life") > before
                for end, before in zip(ends, heard, strict=True)
            )

        async with anyio.create_task_group() as group:
            for end in ends:
                group.start_soon(error_of, end.receive)
            with within(
                PATIENCE,
                f"last_heard goes on while both sides receive, after {KEEP_ALIVE:g} s of silence",
            ):
                await until(goes_on)
            group.cancel_scope.cancel()


def _detects_silence(stream: MessageStream) -> bool:
    return bool(getattr(stream, "detects_silence", False))


def _last_heard_since(stream: MessageStream, least: float, what: str) -> float:
    """Read when anything was last received: a time that is not before another one, nor in the future."""
    heard: object = getattr(stream, "last_heard", None)
    now = monotonic()
    if not isinstance(heard, (int, float)) or math.isnan(heard):
        raise Finding(f"last_heard is {heard!r} after {what}")
    if heard < least:
        raise Finding(f"last_heard is {least - heard:.3f} s too early after {what}")
    if heard > now:
        raise Finding(f"last_heard is {heard - now:.3f} s in the future after {what}")
    return heard


async def _check_authorize(env: Environment) -> None:
    asked: list[object] = []
    loop, blocked = get_ident(), False
    handled: list[MessageStream] = []
    somebody = Identity("somebody")

    def refuse(request: ConnectionRequest) -> Identity:
        nonlocal blocked
        asked.append(request)
        blocked = get_ident() == loop
        raise RefusedError("nobody is let in", retry=False)

    async def handler(stream: MessageStream) -> None:
        handled.append(stream)
        await echo(stream)

    async def visit() -> None:
        async with env.connecting(url):
            pass

    async with env.serving(handler, authorize=refuse) as url:
        refusal = await error_of(visit)
    if not asked:
        return  # it guards nobody, and has not passed that option to `check_exposure`
    if not isinstance(asked[0], ConnectionRequest):
        raise Finding(f"options.authorize was asked about {asked[0]!r}")
    if blocked:
        raise Finding("options.authorize was called on the event loop, which a plugin may block")
    if handled:
        raise Finding("the handler got a peer that options.authorize had refused")
    if not isinstance(refusal, (OSError, RefusedError)):
        raise Finding(f"options.authorize refused, and connect raised {refusal!r}")
    async with env.link(authorize=lambda _: somebody) as link:
        identity = getattr(link.accepted, "identity", None)
        if identity != somebody:
            raise Finding(f"options.authorize returned {somebody!r}, and identity is {identity!r}")


ATTRIBUTE_RULES: Final = (
    Rule(
        "last_heard, if a stream has it, goes on with each message that comes in, and never back",
        "take `time.monotonic()` when bytes are read, and keep it after the end; or leave last_heard out, and the messages"
        " that the core receives count",
        _check_last_heard,
    ),
    Rule(
        "signs of life move last_heard, where a stream has it and detects_silence",
        "take the time of whatever comes in, pings and answers to them too",
        _check_signs_are_heard,
    ),
    Rule(
        "a listener that asks options.authorize lets in whom it gives an identity, and nobody else",
        "ask with `await identify(options, request)` before the link is up, let RefusedError turn the peer away, and make what it returns the `identity` of the"
        " stream; or do not ask, and hand check_exposure options without it",
        _check_authorize,
    ),
)
