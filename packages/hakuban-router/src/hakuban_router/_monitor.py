"""What a router shows of itself, in the JSON of the crate's router: `exchange`, `websocket-listener`, `websocket-connector`."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

import hakuban

from ._log import logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyio.abc import TaskStatus

__all__ = ["CONNECTOR", "EXCHANGE", "LISTENER", "Json", "Monitor"]

Json = dict[str, Any]

EXCHANGE: Final = "exchange"
LISTENER: Final = "websocket-listener"
CONNECTOR: Final = "websocket-connector"
PERIOD: Final = 1.0  # seconds between two pictures
REST: Final = (
    9.0  # times as long as a picture took nothing is done: a tenth of the time is for pictures
)
SLICE: Final = 0.001  # seconds of encoding without a break for the rest of the router

_json: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


class Monitor:
    """Takes pictures of a router. `pictures` is thread-safe.

    :ivar listening: the URLs that the router listens on, with their real ports.
    """

    def __init__(self, node: hakuban.LocalNode, connecting: str | None) -> None:
        """Watch a node.

        :param connecting: the URL of the router above, or None without one.
        """
        self.listening: list[str] = []
        self._node = node
        self._connecting = connecting
        self._watches: dict[str, _Watch] = {}
        self._arrival = anyio.Event()

    @property
    def observed(self) -> Sequence[str]:
        """The names of the monitor objects that somebody observes."""
        return list(self._watches)

    def pictures(self) -> dict[str, Json]:
        """Give the JSON of each monitor object, all of one picture of the node."""
        return self._pictures(self._node.snapshot())

    def _pictures(self, snapshot: hakuban.NodeSnapshot) -> dict[str, Json]:
        listener: Json = {
            "url": self.listening[0] if self.listening else "",
            "downstream_connections": snapshot.downstream_connections,
        }
        if len(self.listening) > 1:
            listener["urls"] = list(self.listening)  # the crate's router has one
        pictures = {EXCHANGE: snapshot.to_json(), LISTENER: listener}
        if self._connecting is not None:
            pictures[CONNECTOR] = {
                "url": self._connecting,
                "upstream_connection": snapshot.upstream,
            }
        return pictures

    async def publish(self, tag: str, *, task_status: TaskStatus[None]) -> None:
        """Expose a picture under each name, renewed each second while any of them is observed; until cancelled."""
        names = (
            [EXCHANGE, LISTENER] if self._connecting is None else [EXCHANGE, LISTENER, CONNECTOR]
        )
        serializer = hakuban.RAW.with_format(["JSON"])
        with ExitStack() as contracts:
            opened = {
                name: contracts.enter_context(
                    self._node.object([tag], name).expose(serializer=serializer)
                )
                for name in names
            }
            task_status.started()  # whoever looks from now on sees all of them
            async with anyio.create_task_group() as group:
                for name, contract in opened.items():
                    group.start_soon(contract.serve, partial(self._attend, name))
                await self._renew()

    async def _attend(self, name: str, sink: hakuban.ObjectStateSink[bytes]) -> None:
        """Have pictures published while one monitor object is observed."""
        watch = self._watches[name] = _Watch(sink)
        self._arrival.set()
        try:
            await watch.over.wait()
        finally:
            del self._watches[name]
        if watch.error is not None:
            raise watch.error  # told, and tried again later, by `serve`

    async def _renew(self) -> None:
        """Take one picture in each period for all who look, and one soon for who has come."""
        pause = 0.0
        while True:
            with anyio.move_on_after(pause if self._watches else math.inf):
                await self._arrival.wait()
            self._arrival = anyio.Event()
            began = monotonic()
            if self._watches:
                await self._show()
            took = monotonic() - began
            await anyio.sleep(REST * took)
            pause = max(0.0, PERIOD - (1 + REST) * took)

    async def _show(self) -> None:
        watches = dict(self._watches)
        try:
            pictures = self._pictures(await self._take())
            for name, watch in watches.items():
                watch.show(name, await _encoded(pictures[name]))
        except Exception as error:  # noqa: BLE001  # a fault of ours: no reason for the router to end
            for watch in watches.values():
                watch.end(error)

    async def _take(self) -> hakuban.NodeSnapshot:
        return await anyio.to_thread.run_sync(self._node.snapshot, abandon_on_cancel=True)


class _Watch:
    """An assignment of a monitor object, which means that it is observed.

    :ivar over: set when nothing more is to be published for it.
    :ivar error: why, if that is a fault.
    """

    def __init__(self, sink: hakuban.ObjectStateSink[bytes]) -> None:
        self.over = anyio.Event()
        self.error: Exception | None = None
        self._sink = sink

    def show(self, name: str, picture: bytes) -> None:
        try:
            self._sink.set(picture)
        except hakuban.NotAssignedError:
            pass  # `serve` is about to say so
        except hakuban.StateTooLargeError as error:
            logger.warning("the monitor object %s is not published: %s", name, error)
            self.over.set()  # tried again when it is observed anew

    def end(self, error: Exception) -> None:
        self.error = error
        self.over.set()


async def _encoded(picture: Json) -> bytes:
    """Encode as JSON, with a break after each slice of time; lists of the picture are used up."""
    fields = []
    for key, value in picture.items():
        data = await _encoded_list(value) if isinstance(value, list) else _json(value).encode()
        fields.append(b"%b:%b" % (_json(key).encode(), data))
    return b"{%b}" % b",".join(fields)


async def _encoded_list(items: list[Any]) -> bytes:
    encoded = []
    until = monotonic() + SLICE
    for item in _used_up(items):
        encoded.append(_json(item).encode())
        if monotonic() >= until:
            await checkpoint()
            until = monotonic() + SLICE
    return b"[%b]" % b",".join(encoded)


def _used_up(items: list[Any]) -> Iterator[Any]:
    """Give each item and forget it: to free a hundred thousand at once takes a while too."""
    items.reverse()
    while items:
        yield items.pop()
