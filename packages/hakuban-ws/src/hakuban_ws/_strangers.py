"""Connections that have not asked for a link yet, and which of them give up their place when there is none left."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import anyio

    from hakuban.sockets import SocketStream

_SILENCE: Final = 2.0
"""Seconds of silence after which a place goes to whoever comes next."""
_LOOKS: Final = 1_000
"""Connections looked at in one go: about 1 ms."""


class Strangers:
    """The silent keep their places while there are others."""

    def __init__(self) -> None:
        # By when they were last heard, as far as is known: that is looked at only when a place is wanted.
        self._heard: OrderedDict[SocketStream, tuple[float, anyio.CancelScope]] = OrderedDict()

    def add(self, channel: SocketStream, scope: anyio.CancelScope) -> None:
        """Somebody has connected.

        :param scope: is cancelled to send it away.
        """
        self._heard[channel] = channel.last_received, scope

    def forget(self, channel: SocketStream) -> None:
        """It has asked for a link, or is gone."""
        self._heard.pop(channel, None)

    def send_away(self, most: int) -> list[anyio.CancelScope]:
        """Send the silent away, the longest silent first; give the scopes of those who go.

        :param most: how many.
        """
        gone: list[anyio.CancelScope] = []
        now = time.monotonic()
        for _ in range(min(_LOOKS, len(self._heard))):
            channel, (heard, scope) = next(iter(self._heard.items()))
            if channel.last_received > heard:
                self._hear(channel, channel.last_received, scope)
            elif len(gone) == most or now - heard < _SILENCE:
                break
            elif channel.has_unread():  # it is we who stood still
                self._hear(channel, now, scope)
            else:
                self.forget(channel)
                scope.cancel()
                gone.append(scope)
        return gone

    def _hear(self, channel: SocketStream, when: float, scope: anyio.CancelScope) -> None:
        self._heard[channel] = when, scope
        self._heard.move_to_end(channel)
