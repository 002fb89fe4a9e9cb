"""Links that can be cut as networks do it: no end says goodbye."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from typing_extensions import override

from hakuban.testing import cut_links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Relay:
    """Passes TCP connections on to a port of this machine, each by two threads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pulled = False
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                if self._pulled:
                    self._sockets.append(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += near, far
                for source, sink in ((near, far), (far, near)):
                    way = source, sink, self.watcher()
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, see: Callable[[bytes], object]
    ) -> None:
        with suppress(OSError):  # cut
            while data := source.recv(65536):
                see(data)
                if not self._pulled:
                    sink.sendall(data)
            if not self._pulled:
                sink.shutdown(socket.SHUT_WR)

    def pull(self) -> None:
        """Lose from now on whatever comes, ends of connections too."""
        self._pulled = True

    def watcher(self) -> Callable[[bytes], object]:
        """Give what sees all bytes of one way of a connection before they are passed on."""
        return lambda _: None

    def cut(self) -> None:
        """End and reset all connections; later ones are passed on again."""
        self._close(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Reset all connections, of which no end is seen before that, and let nobody in any more."""
        with suppress(OSError):  # it was closed
            self._server.shutdown(socket.SHUT_RDWR)  # or the thread would let one more in
        self._server.close()
        self.pull()
        self._close(socket.SHUT_RD)

    def _close(self, how: int) -> None:
        while self._sockets:
            end = self._sockets.pop()
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):  # the other side was faster
                end.shutdown(how)  # or a thread that reads would keep it open
            end.close()

    def close(self) -> None:
        with suppress(OSError):  # not on every system
            self._server.shutdown(socket.SHUT_RDWR)  # or who comes back at once would be let in
        self._server.close()
        self._acceptor.join(5)
        self.cut()


class Recorder(Relay):
    """Keeps all that passes.

    :ivar records: of each connection what went to the listener, then what came from there.
    """

    def __init__(self, port: int) -> None:
        self.records: list[bytearray] = []
        super().__init__(port)

    @override
    def watcher(self) -> Callable[[bytes], object]:
        record = bytearray()
        self.records.append(record)
        return record.extend

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@contextmanager
def cable(url: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give a URL that leads to a listener, and what cuts the links over it.

    A `memory://` link is cut in its event loop only.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        yield url, lambda: cut_links(url)
        return
    assert parts.port is not None
    relay = Relay(parts.port)
    try:
        yield f"{parts.scheme}://127.0.0.1:{relay.port}", relay.cut
    finally:
        relay.close()
