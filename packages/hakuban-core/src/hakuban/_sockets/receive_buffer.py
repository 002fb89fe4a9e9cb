"""How much of what comes in the operating system holds."""

from __future__ import annotations

import contextlib
import socket
import sys

# Whether the size of a buffer was set by hand, which stops its growing; Python has no name for it.
_BUF_LOCK = 72 if sys.platform == "linux" else -1
_RCVBUF_LOCK = 2
# Bytes of a receive buffer where little can be handled. In a smaller one the small segments of small states, which the
# kernel needs as much again for, find no room too often; they are dropped, and sent again after up to seconds.
_SMALL = 20 * 1024
# Bytes that can be handled soon: below the one a buffer is made small, above the other let grow.
_LITTLE, _MUCH = 32 * 1024, 64 * 1024


class ReceiveBuffer:
    """What the operating system holds for a connected socket until it is read: mostly as much as it likes.

    That is 64 KiB to several MiB, which is fine where it is read at once, and otherwise goes before each newer value.
    Left alone where the system cannot take the growing of buffers up again: only Linux can, since 5.15.

    :ivar small: whether it is smaller than it was.
    """

    __slots__ = ("_free", "_size", "_sock", "small")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.small: bool = False
        self._free = self._size = 0  # what it was before it was made smaller, and what it is now

    def fit(self, ahead: int) -> None:
        """Make it smaller where little can be handled soon, and let it grow again where much can.

        To be called before each read, since it is made smaller in steps: by what is read, or an eighth. The other side
        sends all that it was offered, and what the buffer has no room for then is dropped, and sent again much later.

        :param ahead: bytes that can be handled soon.
        """
        if ahead < (_MUCH if self.small else _LITTLE):
            if self._size > _SMALL or not self.small:
                self._shrink(ahead)
        elif self.small:
            self._release()

    def _shrink(self, by: int) -> None:
        # not this system; or the connection is gone, which `read` will report
        with contextlib.suppress(OSError):
            if not self.small:
                self._sock.getsockopt(socket.SOL_SOCKET, _BUF_LOCK)
                # what is set is doubled, for what the kernel needs beside the bytes; read it is what it was doubled to
                self._size = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
                self._free = self._size
                self.small = True
            smaller = self._size - max(by, self._size // 8)
            self._size = min(self._size, max(_SMALL, smaller))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._size)

    def _release(self) -> None:
        self.small = False
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._free)
            locks = self._sock.getsockopt(socket.SOL_SOCKET, _BUF_LOCK)
            self._sock.setsockopt(socket.SOL_SOCKET, _BUF_LOCK, locks & ~_RCVBUF_LOCK)
