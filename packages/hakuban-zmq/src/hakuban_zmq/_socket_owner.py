"""One ZeroMQ socket with its monitor, and the tasks that watch them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import zmq

from hakuban.transport import contained

from ._frames import MAX_FRAME
from ._watched_sockets import MESSAGES_PER_TURN, Monitor, WatchedSocket, as_os_error, set_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._frames import Window

CURVE_OVERHEAD: Final = 256
STOP_SECONDS: Final = 5.0
"""Seconds for a socket owner to end, which takes one turn of the loop."""

# Frames beside the chunks that a window lets pass: grants, signs of life, close messages.
_CONTROL: Final = 16


class SocketOwner:
    """Owns a socket from `open` to the end of `run`. Belongs to one event loop.

    :param context: what the sockets are made in.
    :param release: gives it back.
    :ivar url: where it connects to, for people.
    :ivar skipping: whether there are parts left of a message that is not ours: we send one part.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        release: Callable[[zmq.Context[zmq.Socket[bytes]]], None],
        url: str,
    ) -> None:
        self.url = url
        self._context = context
        self._release = release
        self._watched_sockets: list[WatchedSocket] = []
        self._monitor: Monitor | None = None
        self._scope = anyio.CancelScope(shield=True)
        self.skipping = False
        self._stopped = anyio.Event()
        self._main: WatchedSocket

    def open_socket(
        self, kind: zmq.SocketType, take: Callable[[], None], options: Mapping[str, Any]
    ) -> zmq.Socket[bytes]:
        """Make the socket.

        :raises OSError: there are too many.
        """
        with as_os_error(self.url):
            socket = self._context.socket(kind)
            self._main = WatchedSocket(socket, take)
            self._watched_sockets.append(self._main)
            set_options(socket, **options)
        return socket

    def monitor(self, events: int, note: Callable[[int, int], None]) -> None:
        """Have events of the socket reported to `note`.

        :raises OSError: there are too many sockets.
        """
        with as_os_error(self.url):
            self._monitor = Monitor(self._context, self._main.socket, events, note)
        self._watched_sockets.append(self._monitor)

    def look(self) -> bool:
        """Take what has come; returns whether there is more than that."""
        if self._monitor is not None:
            self._monitor.look()
        return self._main.look()

    async def run(self) -> None:
        """Watch the sockets until `stop` is called, and close them; cancellation does not end it."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    for watched in self._watched_sockets:
                        watch = partial(watched.watch, tasks)
                        tasks.start_soon(contained, anyio.CancelScope(), watch)
        finally:
            self.close()
            self._stopped.set()

    async def stop(self) -> None:
        """End `run`, and return when it has ended: to be called under a shield."""
        self._scope.cancel()
        await self._stopped.wait()

    def skip_parts(self) -> None:
        """Receive the rest of a message of several parts, as far as a turn goes; `skipping` is False after the last."""
        socket = self._main.socket
        for _ in range(MESSAGES_PER_TURN):
            if not socket.getsockopt(zmq.RCVMORE):
                self.skipping = False
                return
            socket.recv(zmq.NOBLOCK)
        self.skipping = True

    def close(self) -> None:
        """Close everything; without `run`, or at its end."""
        if self._monitor is not None:
            self._monitor.stop()
        for watched in self._watched_sockets:
            watched.close()
        self._release(self._context)


def socket_options(window: Window) -> dict[str, Any]:
    """Return what bounds the queues and messages of a socket."""
    # libzmq counts a message as sent up to half a mark later than it was.
    mark = 2 * (window.chunks + _CONTROL)
    return {
        "linger": 0,
        "sndhwm": mark,
        "rcvhwm": mark,
        "maxmsgsize": MAX_FRAME + CURVE_OVERHEAD,
    }
