"""What a router shows of itself, in the JSON of the crate's router: `exchange`, `websocket-listener`, `websocket-connector`."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

import hakuban

from ._log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anyio.abc import TaskStatus


Json = dict[str, Any]
T = TypeVar("T")

EXCHANGE: Final = "exchange"
LISTENER: Final = "websocket-listener"
CONNECTOR: Final = "websocket-connector"
PERIOD: Final = 1.0  # seconds between the beginnings of two pictures, whoever looks
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
        self._requests: list[_Request[Any]] = []
        self._arrival = anyio.Event()

    @property
    def observed(self) -> Sequence[str]:
        """The names of the monitor objects that somebody observes."""
        return list(self._watches)

    def pictures(self) -> dict[str, Json]:
        """Return the JSON of each monitor object, all of one picture of the node."""
        snapshot = self._node.snapshot()
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

    async def publish(self, tag: str | None, *, task_status: TaskStatus[None]) -> None:
        """Expose a picture under each name, renewed each second while any of them is observed; until cancelled.

        :param tag: of the monitor objects; without one there are none, and only `look` has pictures taken.
        """
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
                if tag is not None
            }
            task_status.started()  # whoever looks from now on sees all of them
            async with anyio.create_task_group() as group:
                for name, contract in opened.items():
                    group.start_soon(contract.serve, partial(self._attend, name))
                await self._renew()

    async def look(self, draw: Callable[[dict[str, Json]], T]) -> T:
        """Return what `draw`, called in a thread, makes of the next picture, which is taken for all who look.

        :raises NodeBrokenError: there is nothing to take a picture of.
        """
        request = _Request(draw)
        self._requests.append(request)
        self._arrival.set()
        await request.over.wait()
        return request.result()

    async def _attend(self, name: str, sink: hakuban.ObjectStateSink[bytes]) -> None:
        """Have pictures published while one monitor object is observed."""
        watch = self._watches[name] = _Watch(sink)
        self._arrival.set()
        try:
            await watch.over.wait()
        finally:
            del self._watches[name]
        if watch.error is not None:
            raise watch.error  # reported, and tried again later, by `serve`

    async def _renew(self) -> None:
        """Take one picture in each period for all who look, and none for nobody."""
        due = -math.inf
        while True:
            while not (self._watches or self._requests):
                self._arrival = anyio.Event()
                await self._arrival.wait()
            await anyio.sleep(max(0.0, due - monotonic()))
            if self._watches or self._requests:
                exposure = _Exposure(monotonic())
                await self._expose(exposure)
                due = exposure.due

    async def _expose(self, exposure: _Exposure) -> None:
        """Take a picture, and hand it to all who look."""
        requests, self._requests = self._requests, []
        watches = list(self._watches.values())
        try:
            await exposure.take(partial(self._draw, requests))
            for request in requests:
                request.over.set()
            await self._show(exposure)
        except Exception as error:  # noqa: BLE001  # a fault of ours: no reason for the router to end
            for request in requests:
                request.end(error)
            for watch in watches:
                watch.end(error)

    def _draw(self, requests: Sequence[_Request[Any]]) -> dict[str, Json]:
        pictures = self.pictures()
        for request in requests:
            request.draw(pictures)
        return pictures

    async def _show(self, exposure: _Exposure) -> None:
        """Publish a picture for who looks, and for who comes as long as it is the latest that there may be."""
        while True:
            arrival = self._arrival = anyio.Event()
            for name, watch in list(self._watches.items()):
                if watch.shown is not exposure:
                    watch.shown = exposure
                    watch.show(name, await exposure.encoded(name))
            with anyio.move_on_after(exposure.began + PERIOD - monotonic()):
                await arrival.wait()
                continue
            return await exposure.forget()


class _Request(Generic[T]):
    """Somebody who waits for the next picture."""

    def __init__(self, draw: Callable[[dict[str, Json]], T]) -> None:
        self.over = anyio.Event()
        self._draw = draw
        self._drawn: list[T] = []
        self._error: Exception | None = None

    def draw(self, pictures: dict[str, Json]) -> None:
        self._drawn.append(self._draw(pictures))

    def end(self, error: Exception) -> None:
        self._error = error
        self.over.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._drawn[0]


class _Exposure:
    """One picture: its lists, and what of it is encoded already.

    :ivar began: when it was begun.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self._worked = 0.0  # seconds
        self._until = began
        self._pictures: dict[str, Json] = {}
        self._encoded: dict[str, bytes] = {}

    @property
    def due(self) -> float:
        """When the next one may begin."""
        return max(self.began + PERIOD, self._until + REST * self._worked)

    async def take(self, draw: Callable[[], dict[str, Json]]) -> None:
        with self._working():
            self._pictures = await anyio.to_thread.run_sync(draw, abandon_on_cancel=True)

    async def encoded(self, name: str) -> bytes:
        if name not in self._encoded:
            with self._working():
                self._encoded[name] = await _encoded(self._pictures.pop(name))
        return self._encoded[name]

    async def forget(self) -> None:
        """Free what was not encoded, a little at a time."""
        self._encoded.clear()
        with self._working():
            for picture in self._pictures.values():
                for value in picture.values():
                    if isinstance(value, list):
                        await _free(value)

    @contextmanager
    def _working(self) -> Iterator[None]:
        start = monotonic()
        try:
            yield
        finally:
            self._until = monotonic()
            self._worked += self._until - start


class _Watch:
    """An assignment of a monitor object, which means that it is observed.

    :ivar over: set when nothing more is to be published for it.
    :ivar error: why, if that is a fault.
    :ivar shown: the picture that was published last.
    """

    def __init__(self, sink: hakuban.ObjectStateSink[bytes]) -> None:
        self.over = anyio.Event()
        self.error: Exception | None = None
        self.shown: _Exposure | None = None
        self._sink = sink

    def show(self, name: str, picture: bytes) -> None:
        try:
            self._sink.set(picture)
        except hakuban.NotAssignedError:
            pass  # `serve` is about to report that
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
    encoded: list[bytes] = []
    await _use_up(items, lambda item: encoded.append(_json(item).encode()))
    return b"[%b]" % b",".join(encoded)


async def _free(items: list[Any]) -> None:
    await _use_up(items, lambda _: None)


async def _use_up(items: list[Any], use: Callable[[Any], None]) -> None:
    """Call with each item and forget it, for to free a hundred thousand at once takes a while; with breaks, as above."""
    items.reverse()
    until = monotonic() + SLICE
    while items:
        use(items.pop())
        if monotonic() >= until:
            await checkpoint()
            until = monotonic() + SLICE
