"""Notifies systemd, or whoever started this with NOTIFY_SOCKET, of how far the service is (sd_notify(3))."""

from __future__ import annotations

import os
import socket

from ._log import logger


def notify(state: str) -> None:
    """Send one state, for example "READY=1". Without NOTIFY_SOCKET this does nothing; a failure is one log line."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path or not hasattr(socket, "AF_UNIX"):
        return
    if path.startswith("@"):
        path = f"\0{path[1:]}"  # a name in Linux' abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.setblocking(False)
            notifier.connect(path)
            notifier.send(state.encode())
    except OSError as error:
        logger.warning("cannot tell the service manager %s: %s", state, error)
