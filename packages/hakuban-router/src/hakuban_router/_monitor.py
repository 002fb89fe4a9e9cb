"""What a router shows of itself, in the JSON of the crate's router: `exchange`, `websocket-listener`, `websocket-connector`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio

import hakuban

from ._log import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

__all__ = ["CONNECTOR", "EXCHANGE", "LISTENER", "Json", "Monitor"]

Json = dict[str, Any]

EXCHANGE: Final = "exchange"
LISTENER: Final = "websocket-listener"
CONNECTOR: Final = "websocket-connector"
PERIOD: Final = 1.0  # seconds between two pictures


class Monitor:
    """Takes pictures of a router. Thread-safe.

    :ivar listening: the URLs that the router listens on, with their real ports.
    """

    def __init__(self, node: hakuban.LocalNode, connecting: str | None) -> None:
        """Watch a node.

        :param connecting: the URL of the router above, or None without one.
        """
        self.listening: list[str] = []
        self._node = node
        self._connecting = connecting

    def pictures(self) -> dict[str, Json]:
        """Give the JSON of each monitor object, all of one moment."""
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

    async def publish(self, tag: str, *, task_status: TaskStatus[None]) -> None:
        """Expose a picture under each name, a new one every second while it is observed; until cancelled."""
        names = (
            [EXCHANGE, LISTENER] if self._connecting is None else [EXCHANGE, LISTENER, CONNECTOR]
        )
        with ExitStack() as contracts:
            opened = {
                name: contracts.enter_context(self._node.object([tag], name).expose())
                for name in names
            }
            task_status.started()  # whoever looks from now on sees all of them
            async with anyio.create_task_group() as group:
                for name, contract in opened.items():
                    group.start_soon(contract.serve, self._producer(name))

    def _producer(self, name: str) -> Callable[[hakuban.ObjectStateSink[Json]], Awaitable[None]]:
        async def produce(sink: hakuban.ObjectStateSink[Json]) -> None:
            while True:
                try:
                    sink.set(self.pictures()[name])
                except hakuban.StateTooLargeError as error:
                    logger.warning("the monitor object %s is not published: %s", name, error)
                    return  # tried again when it is observed anew
                await anyio.sleep(PERIOD)

        return produce
