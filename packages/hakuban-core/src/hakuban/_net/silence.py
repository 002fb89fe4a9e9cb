"""Signs of life on links whose transport sends none, and does not notice silence either."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from .._exceptions import LinkTimeoutError
from .._transport.keep_alive import KeepAlive, Verdict

if TYPE_CHECKING:
    from .._transport.interface import TransportOptions
    from .link_peer import LinkPeer
    from .link_writer import LinkWriter


AT_REST: Final = 0.05  # seconds of waiting after which all that had come in meanwhile has been read


class WaitingLink(Protocol):
    """A link that waits for its peer.

    :ivar peer: the other side.
    :ivar writer: sends the signs of life.
    :ivar reading_since: the monotonic time since when it waits; infinity while it handles what came.
    """

    peer: LinkPeer
    writer: LinkWriter
    reading_since: float


async def watch(link: WaitingLink, options: TransportOptions) -> None:
    """Have something sent now and then, until cancelled.

    :raises LinkTimeoutError: the peer has been silent for too long.
    """
    rule = KeepAlive(options, monotonic(), ours=link.peer.ours)
    while True:
        await anyio.sleep(max(0.0, rule.due - monotonic()))
        rule.ours = link.peer.ours
        now, sent = monotonic(), link.writer.last_sent
        verdict = rule.check(now, link.peer.last_heard, sent)
        if verdict is Verdict.END:
            if now - link.reading_since >= AT_REST:
                raise LinkTimeoutError(rule.timeout)
            verdict = rule.spare(now, sent)
        if verdict is Verdict.SIGN:
            link.writer.send_keep_alive()
