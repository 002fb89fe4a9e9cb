"""`check_transport`: the contract of `hakuban.transport`, rule by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from ..transport import TransportOptions
from .environment import Environment, Finding, TransportContractError, within
from .rules_attributes import ATTRIBUTE_RULES
from .rules_cancel import CANCEL_RULES
from .rules_ends import END_RULES
from .rules_load import LOAD_RULES
from .rules_messages import MESSAGE_RULES
from .rules_process import PROCESS_RULES
from .rules_serving import SERVING_RULES
from .rules_silence import SILENCE_RULES, STANDSTILL_RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..transport import Transport
    from .environment import Rule


RULE_SECONDS: Final = 60.0
"""Seconds after which a rule is given up; single waits are bounded by less."""


async def check_transport(
    transport: Transport,
    url: str | Callable[[], str],
    *,
    options: TransportOptions | None = None,
    serve_options: TransportOptions | None = None,
    silence: bool = True,
    process: bool = True,
) -> None:
    """Check a transport against its contract, and raise at the first rule that it breaks.

    It opens and closes some hundreds of links, a few of them to processes that it starts and kills, and takes 5 to
    15 s. To be run on asyncio and on trio, since a transport works on both. A transport that ignores cancellation may
    hang it.

    :param url: where to listen: one that is free however often it is bound at a time, such as "tcp://127.0.0.1:0"; or
        a function that returns a new one whenever it is called, where addresses are names.
    :param options: for the connecting side; `max_message`, `keep_alive`, `timeout` and `handshake_timeout` are set by
        the rules about them. The largest message sent has 5 MiB.
    :param serve_options: for the listening side, when it needs others: a TLS context, for example.
    :param silence: whether to check streams with `detects_silence` for it, which takes 3 s more,
        and stops the event loop for 0.6 s.
    :param process: whether to link this process to others, which are killed and stopped. The transport and the options
        are pickled for them, so their classes are in modules that can be imported; what cannot be pickled by itself,
        such as an `ssl.SSLContext`, needs `copyreg.pickle`. False is for transports that work within one process.
    :raises TransportContractError: with the rule, what was seen instead, and how to mend it.
    """
    options = options or TransportOptions()
    new_url = url if callable(url) else lambda: url
    env = Environment(transport, new_url, options, serve_options or options)
    for rule in SERVING_RULES + MESSAGE_RULES + ATTRIBUTE_RULES:
        await _apply(rule, env)
    # Those that wait most of their time do so together; those that count what is left behind are alone.
    await _apply_together(END_RULES, env)
    if silence:
        await _apply_together(SILENCE_RULES, env)
        for rule in STANDSTILL_RULES:
            await _apply(rule, env)
    for rule in LOAD_RULES + CANCEL_RULES:
        await _apply(rule, env)
    if process:
        await _apply_together(PROCESS_RULES, env)


async def _apply_together(rules: Sequence[Rule], env: Environment) -> None:
    """Apply rules at the same time, and raise for the first in their order that is broken."""
    broken: dict[int, TransportContractError] = {}

    async def apply(number: int) -> None:
        try:
            await _apply(rules[number], env)
        except TransportContractError as error:
            broken[number] = error

    async with anyio.create_task_group() as group:
        for number in range(len(rules)):
            group.start_soon(apply, number)
    if broken:
        raise broken[min(broken)]


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
