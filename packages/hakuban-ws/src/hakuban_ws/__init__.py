"""WebSocket transport of hakuban: the URL schemes ws and wss."""

from __future__ import annotations

from hakuban.transport import hookimpl

from ._transport import WebSocketTransport
from ._version import __version__

__all__ = ["WebSocketTransport", "__version__", "hakuban_transport"]


@hookimpl
def hakuban_transport(scheme: str) -> WebSocketTransport | None:
    """Return the transport for ws and wss."""
    return WebSocketTransport() if scheme in {"ws", "wss"} else None
