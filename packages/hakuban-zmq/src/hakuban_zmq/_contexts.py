"""ZeroMQ's contexts: who has one, and when it goes."""

from __future__ import annotations

import os
import threading
from typing import Final

import zmq

MAX_SOCKETS: Final = 16_384


class SharedContext:
    """The one context of this process, made for its first user and terminated after its last. Thread-safe.

    One for each link would cost two threads each.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # What a parent had stays its own: pyzmq does not touch it in another process.
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._users = 0

    def acquire(self) -> zmq.Context[zmq.Socket[bytes]]:
        """Return the context; `release` goes with it."""
        with self._lock:
            if self._context is None:
                self._context = _new_context()
            self._users += 1
            return self._context

    def release(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Take back what `acquire` returned; all sockets of this user are closed."""
        with self._lock:
            if context is not self._context:
                return  # it is that of the process which this one was forked from
            self._users -= 1
            if self._users:
                return
            self._context = None
        context.term()


def _new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Make a context with room for many sockets."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    return context


shared: Final = SharedContext()
