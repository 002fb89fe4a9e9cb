"""`check_transport`: the contract of `hakuban.transport`, rule by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..transport import TransportOptions
from .environment import Environment, Finding, TransportContractError, within
from .rules_ends import END_RULES
from .rules_messages import MESSAGE_RULES
from .rules_serving import SERVING_RULES, SILENCE_RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..transport import Transport
    from .environment import Rule

__all__ = ["check_transport"]

RULE_SECONDS: Final = 60.0
"""Seconds after which a rule is given up; single waits are bounded by less."""


async def check_transport(
    transport: Transport,
    url: str,
    *,
    options: TransportOptions | None = None,
    serve_options: TransportOptions | None = None,
    silence: bool = True,
) -> None:
    """Check a transport against its contract, and raise at the first rule that it breaks.

    It opens and closes some dozens of links within this process and takes 2 to 20 s. To be run on asyncio and on
    trio, since a transport works on both. A transport that ignores cancellation may hang it.

    :param url: where to listen: one that can be bound over and over, such as "tcp://127.0.0.1:0".
    :param options: for the connecting side; `max_message`, `keep_alive`, `timeout` and `handshake_timeout` are set by
        the rules about them. The largest message sent has 5 MiB.
    :param serve_options: for the listening side, when it needs others: a TLS context, for example.
    :param silence: whether to check streams with `detects_silence` for it, which takes 3 s more.
    :raises TransportContractError: with the rule, what was seen instead, and how to mend it.
    """
    options = options or TransportOptions()
    env = Environment(transport, url, options, serve_options or options)
    rules = SERVING_RULES + MESSAGE_RULES + END_RULES
    for rule in rules + SILENCE_RULES if silence else rules:
        await _apply(rule, env)


async def _apply(rule: Rule, env: Environment) -> None:
    try:
        with within(RULE_SECONDS, "all that this rule tries"):
            await rule.check(env)
    except Exception as error:
        causes = list(_leaves(error))
        cause = next((one for one in causes if isinstance(one, Finding)), causes[0])
        finding = str(cause) if isinstance(cause, Finding) else f"{type(cause).__name__}: {cause}"
        raise TransportContractError(rule.promise, finding, rule.advice) from error


def _leaves(error: Exception) -> Iterator[Exception]:
    """List the exceptions that groups hold, which task groups make of whatever is raised in them."""
    if isinstance(error, ExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
