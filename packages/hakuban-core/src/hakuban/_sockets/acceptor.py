"""An accept loop that survives, and one task for each connection."""

from __future__ import annotations

import contextlib
import errno
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio

from .._loops.tracebacks import contained
from .._text import redacted
from .._transport.heartbeats import default_max_connections
from .acceptor_places import Places, send_any_away
from .addresses import address_text
from .descriptor_reserve import missing_in_reserve

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup

    from .._logger import Logger
    from .acceptor_places import Place
    from .addresses import Address

# What accept raises when the listening socket is none any more. All else passes: EMFILE, a network that is down.
_FATAL = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
_PAUSE_SECONDS = 0.1
_LOG_SECONDS = 10.0
_FEW_DESCRIPTORS = "too few descriptors are left; raise the limit of open files (ulimit -n)"
# Connections taken from the kernel before the loop gets its turn.
_ACCEPTS_PER_TURN = 64


class Acceptor:
    """Accepts connections on listening sockets and runs a task for each, for at most so many at a time.

    Whoever has not asked for a link, and is silent, gives its place up when there is none left: see `Place`. Descriptors
    count as places: 64 (a quarter of the limit where that is less) are left to what else the process does, and only the
    silent of any acceptor of the same event loop make room while these are in use.

    :param url: what the sockets are bound to, for the log.
    :param logger: the transport's, for times when nobody can be accepted for now, at most each 10 s.
    :param max_connections: how many; None means `hakuban.transport.default_max_connections()`.
    :param serve: run in a task for each connection, with its socket, the address of the other side as text, and its
        place. The socket is closed when it ends. An exception of its own is a
        fault of the transport: it is logged with its traceback, and ends that connection alone.
    :param turn_away: sends something to a socket, which does not block, for which there is no place, before it
        is closed; an OSError is ignored.
    :ivar closed: whether `run` is ending.
    """

    def __init__(
        self,
        url: str,
        *,
        logger: Logger,
        max_connections: int | None,
        serve: Callable[[socket.socket, str, Place], Awaitable[None]],
        turn_away: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self._url = redacted(url)
        self._logger = logger
        self._limit = default_max_connections() if max_connections is None else max_connections
        self._serve = serve
        self._turn_away = turn_away
        self._places = Places()
        self._log_again = 0.0
        self.closed: bool = False

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until cancelled; then close the listening sockets first, and end the connections after that.

        To be called once.

        :param sockets: as `bind_sockets` returns them; the acceptor owns them.
        :raises OSError: a listening socket is none any more; in an ExceptionGroup.
        """
        async with anyio.create_task_group() as connections:
            try:
                with self._places.known():
                    async with anyio.create_task_group() as tasks:
                        for sock in sockets:
                            accept = partial(self._accept, sock, connections)
                            tasks.start_soon(contained, anyio.CancelScope(), accept)
            finally:
                self.closed = True
                for sock in sockets:
                    sock.close()
                self._places.end()

    async def _accept(self, listening: socket.socket, connections: TaskGroup) -> None:
        while True:
            await anyio.wait_readable(listening)
            try:
                if self._accept_some(listening, connections):
                    continue
                why: str | None = _FEW_DESCRIPTORS
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno in _FATAL:
                    raise
                send_any_away(_ACCEPTS_PER_TURN)  # perhaps they hold what is missing
                why = _FEW_DESCRIPTORS if error.errno == errno.EMFILE else error.strerror
            self._log_pause(why)
            await anyio.sleep(_PAUSE_SECONDS)

    def _accept_some(self, listening: socket.socket, connections: TaskGroup) -> bool:
        """Accept who waits; return whether to go on, for there are descriptors left.

        :raises OSError: of `accept`; nobody waits any more, for example.
        """
        for _ in range(_ACCEPTS_PER_TURN):
            sock, address = listening.accept()
            missing = missing_in_reserve(sock.fileno())
            if missing and send_any_away(missing) < missing:
                self._refuse(sock)
                return False
            self._admit(sock, address, connections)
            if missing:
                return True  # the descriptors of those who go come back in the loop's next turn
        return True

    def _admit(self, sock: socket.socket, address: Address, connections: TaskGroup) -> None:
        if len(self._places) >= self._limit:
            self._places.send_away(1)
        if len(self._places) >= self._limit:
            self._refuse(sock)
            return
        place, scope = self._places.take()
        connections.start_soon(self._serve_one, sock, address, place, scope)

    def _refuse(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):  # it may have gone already
            sock.setblocking(False)
            if self._turn_away is not None:
                self._turn_away(sock)

    def _log_pause(self, why: str | None) -> None:
        now = time.monotonic()
        if now >= self._log_again:
            self._log_again = now + _LOG_SECONDS
            self._logger.warning("%s accepts nobody for now: %s", self._url, why)

    async def _serve_one(
        self, sock: socket.socket, address: Address, place: Place, scope: anyio.CancelScope
    ) -> None:
        peer = address_text(address)
        try:
            with sock, scope:
                if not self.closed:
                    await self._serve(sock, peer, place)
            if place.given_up:
                self._logger.debug("%s: silent, and others wait for its place", peer)
        except Exception:
            self._logger.exception("%s: serving it has failed", peer)
        finally:
            self._places.leave(place)
