"""ZeroMQ sockets on any event loop, by their descriptor.

The descriptor of a ZeroMQ socket signals that something happened, and any call on the socket may take that away again.
So a task waits on it only after EVENTS has shown that there is no message, and whoever else has called the socket looks
at EVENTS after that and takes what is there, before the loop has its next turn.
"""

from __future__ import annotations

import errno
import itertools
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import zmq
from anyio.lowlevel import checkpoint
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskGroup

MESSAGES_PER_TURN: Final = 100
"""Messages taken before the loop has its turn: about 1 ms."""

_EVENT: Final = struct.Struct("=HI")

_STEPS: Final = {
    errno.EACCES: "ports below 1024 need privileges, and a path a folder that this user may write to",
    errno.EADDRINUSE: "stop who listens there, or take another address",
    errno.EADDRNOTAVAIL: "take an address that this machine has, or 0.0.0.0 for all of them",
    errno.EMFILE: "let this process open more files (ulimit -n)",
    errno.ENOENT: "make the folder first",
}

_numbers = itertools.count()


class WatchedSocket:
    """A socket whose messages are taken as they come.

    :param socket: it is owned by this.
    :param take: receives one message, which is there; it raises nothing.
    """

    __slots__ = ("_catching_up", "_take", "_taking", "_tasks", "socket")

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[], None]) -> None:
        self.socket = socket
        self._take = take
        self._taking = False
        self._catching_up = False
        self._tasks: TaskGroup | None = None

    async def watch(self, tasks: TaskGroup) -> None:
        """Take what comes, until cancelled.

        :param tasks: where to go on when `look` has found too much.
        """
        self._tasks = tasks
        descriptor = self.socket.fileno()
        try:
            while True:
                await self._catch_up()
                await anyio.wait_readable(descriptor)
        finally:
            self._tasks = None

    def look(self) -> bool:
        """Take what is there: to be called after each other call on the socket.

        :returns: whether there was more than fits into a turn of the loop; it is taken soon.
        """
        more = self._drain()
        if more and not self._catching_up and self._tasks is not None:
            self._catching_up = True
            self._tasks.start_soon(self._catch_up)
        return more

    def _drain(self) -> bool:
        if self._taking or self.socket.closed:
            return False
        self._taking = True
        try:
            for _ in range(MESSAGES_PER_TURN):
                if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                    return False
                self._take()
        finally:
            self._taking = False
        return True

    async def _catch_up(self) -> None:
        while True:
            if not self._drain():
                break
            await checkpoint()
        self._catching_up = False

    def close(self) -> None:
        """Close the socket; nobody may be watching it any more."""
        self.socket.close(0)
        self._take = _nothing  # what it was belongs to somebody who holds this


class Monitor(WatchedSocket):
    """What libzmq reports about the connections of a socket.

    :param events: which events.
    :param note: called with an event and its value.
    """

    __slots__ = ("_note", "_watched")

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        watched: zmq.Socket[bytes],
        events: int,
        note: Callable[[int, int], None],
    ) -> None:
        # never one that was used before: libzmq releases names in its own time
        address = f"inproc://hakuban.monitor.{next(_numbers)}"
        watched.monitor(address, events)
        socket = context.socket(zmq.PAIR)
        try:
            socket.rcvhwm = 0  # libzmq's own thread would wait for us
            socket.connect(address)
        except BaseException:
            socket.close(0)
            raise
        super().__init__(socket, self._take_event)
        self._watched = watched
        self._note = note

    def _take_event(self) -> None:
        event, value = _EVENT.unpack(self.socket.recv_multipart(zmq.NOBLOCK)[0])
        self._note(event, value)

    def stop(self) -> None:
        """End it, before the watched socket is closed."""
        if not self._watched.closed:
            self._watched.disable_monitor()

    @override
    def close(self) -> None:
        super().close()
        self._note = _nothing


def _nothing(*_: object) -> None:
    pass


@contextmanager
def as_os_error(where: str) -> Iterator[None]:
    """Make OSError of the errors of ZeroMQ, which are none, and add to both where that was and what to do."""
    try:
        yield
    except (zmq.ZMQError, OSError) as error:
        code = error.errno or errno.EIO
        step = _STEPS.get(code, "try another address")
        raise OSError(code, f"{where}: {zmq.strerror(code)}; {step}") from error


def set_options(socket: zmq.Socket[bytes], **values: Any) -> None:
    """Set options by their names in small letters."""
    for name, value in values.items():
        socket.setsockopt(getattr(zmq, name.upper()), value)
