"""Rules on silence, for streams that notice it themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import anyio

from ..transport import LinkTimeoutError
from .environment import PAUSE, Finding, Rule, end_of, error_of

if TYPE_CHECKING:
    from ..transport import MessageStream
    from .environment import Environment


SILENCE: Final = 0.5
STANDSTILL: Final = 1.2 * SILENCE


async def _check_silence_noticed(env: Environment) -> None:
    for direction in range(2):
        # Nobody sends a sign of life, since keep_alive is far away.
        async with env.link(keep_alive=60.0, timeout=SILENCE) as link:
            stream, _ = link.directions()[direction]
            if not getattr(stream, "detects_silence", False):
                return
            started = anyio.current_time()
            error = await end_of(stream)
            elapsed = anyio.current_time() - started
            if not isinstance(error, LinkTimeoutError):
                raise Finding(
                    f"with timeout={SILENCE:g} a silent link made receive raise {error!r}"
                )
            if not 0.8 * SILENCE < elapsed < SILENCE + 1:
                raise Finding(f"with timeout={SILENCE:g} a silent link ended after {elapsed:.2f} s")


async def _check_signs_of_life(env: Environment) -> None:
    async with env.link(keep_alive=SILENCE / 5, timeout=SILENCE) as link:
        if not getattr(link.connected, "detects_silence", False):
            return
        async with anyio.create_task_group() as group:
            for stream in (link.connected, link.accepted):
                group.start_soon(_receive_nothing, stream, "on an idle link")
            await anyio.sleep(3 * SILENCE)
            group.cancel_scope.cancel()


async def _check_standstill(env: Environment) -> None:
    async with env.link(keep_alive=SILENCE / 5, timeout=SILENCE) as link:
        if not getattr(link.connected, "detects_silence", False):
            return
        when = f"after the event loop had stood still for {STANDSTILL:g} s with timeout={SILENCE:g}"
        async with anyio.create_task_group() as group:
            for stream in (link.connected, link.accepted):
                group.start_soon(_receive_nothing, stream, when)
            await anyio.sleep(PAUSE)
            _stand_still()
            await anyio.sleep(SILENCE)
            group.cancel_scope.cancel()


def _stand_still() -> None:
    time.sleep(STANDSTILL)


async def _receive_nothing(stream: MessageStream, when: str) -> None:
    """Receive until cancelled: neither a message nor an end may come."""
    error = await error_of(stream.receive)
    if error is None:
        raise Finding(f"receive returned {when}, although nothing was sent")
    raise Finding(f"receive raised {error!r} {when}")


SILENCE_RULES: Final = (
    Rule(
        "a stream with detects_silence raises LinkTimeoutError after options.timeout seconds without input",
        "restart one timer at each byte received; or leave detects_silence out, and the core watches",
        _check_silence_noticed,
    ),
    Rule(
        "a stream with detects_silence keeps an idle link up",
        "send a sign of life after options.keep_alive seconds without sending or receiving",
        _check_signs_of_life,
    ),
)

STANDSTILL_RULES: Final = (
    Rule(
        "a stream with detects_silence outlives a standstill of its own event loop",
        "what came in while the loop stood still is not read yet, and no sign of life could be sent: let"
        " `hakuban.transport.KeepAlive` say when a link has been silent for too long; or leave detects_silence out",
        _check_standstill,
    ),
)
