"""A node of ours as a party: its loop runs in a thread of its own, on whichever backend."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.from_thread import start_blocking_portal
from typing_extensions import override

import hakuban
from hakuban import ObjectDescriptor, TagDescriptor

from .parties import Descriptor, Party, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from anyio.abc import TaskGroup

    _Observe: TypeAlias = hakuban.ObjectObserve[bytes] | hakuban.TagObserve[bytes]
    _Expose: TypeAlias = hakuban.ObjectExpose[bytes] | hakuban.TagExpose[bytes]

_BYTES = hakuban.RAW.with_format(("JSON",))


class OurNode(Party):
    """A node of this library.

    :param backend: name and options of an anyio backend.
    :param options: options of its URLs, such as `load-limit=3`.
    """

    def __init__(
        self,
        name: str = "ours",
        *,
        backend: tuple[str, dict[str, Any]] = ("asyncio", {}),
        options: str = "",
        **node_options: Any,
    ) -> None:
        super().__init__(name)
        self._fragment = "#" + options if options else ""
        self._remembered: dict[ObjectDescriptor, tuple[bytes, tuple[int, ...] | None]] = {}
        self._sinks: dict[ObjectDescriptor, list[hakuban.ObjectStateSink[bytes]]] = {}
        self._contracts: dict[tuple[str, Descriptor], tuple[Any, Future[None]]] = {}
        self._portal = self.stack.enter_context(start_blocking_portal(backend[0], backend[1]))
        self.node = self.stack.enter_context(hakuban.LocalNode(name, **node_options))
        self._links = self.stack.enter_context(ExitStack())
        self.stack.callback(self._close_contracts)

    # ---- links ------------------------------------------------------------------------------------------------------

    @override
    def connect(self, url: str) -> None:
        connection = self.node.connect(url + self._fragment)
        link = self._links.enter_context(self._portal.wrap_async_context_manager(connection))
        self._links.callback(self._portal.start_task_soon(self._watch_link, link).cancel)

    async def _watch_link(self, connection: hakuban.Connection) -> None:
        async for status in connection.statuses():
            self.happened("connected" if status.up else "disconnected")

    @override
    def disconnect(self) -> None:
        self._links.close()

    @override
    def listen(self) -> str:
        listening = self.node.listen("ws://127.0.0.1:0" + self._fragment)
        listener = self._links.enter_context(self._portal.wrap_async_context_manager(listening))
        return listener.url.partition("#")[0].rstrip("/")

    # ---- contracts --------------------------------------------------------------------------------------------------

    @override
    def observe(self, descriptor: Descriptor) -> None:
        contract: _Observe
        if isinstance(descriptor, TagDescriptor):
            contract = self.node.tag(descriptor).observe(serializer=_BYTES)
        else:
            contract = self.node.object(descriptor).observe(serializer=_BYTES)
        task = self._portal.start_task_soon(self._watch, contract)
        self._contracts["observe", descriptor] = contract, task

    async def _watch(self, contract: _Observe) -> None:
        if isinstance(contract, hakuban.ObjectObserve):
            await self._watch_states(contract.descriptor, contract)
            return
        async with anyio.create_task_group() as tasks:
            async for stream in contract:
                tasks.start_soon(self._watch_states, stream.descriptor, stream)

    async def _watch_states(
        self,
        thing: ObjectDescriptor,
        states: hakuban.ObjectObserve[bytes] | hakuban.ObjectStateStream[bytes],
    ) -> None:
        self.happened("stream_opened", thing)
        async for state in states:
            seen = State(state.raw, state.format, state.version, state.synchronized, state.age)
            self.happened("state", thing, seen)
        self.happened("stream_closed", thing)

    @override
    def unobserve(self, descriptor: Descriptor) -> None:
        self._close("observe", descriptor)

    @override
    def expose(self, descriptor: Descriptor, capacity: int = 1) -> None:
        contract: _Expose
        if isinstance(descriptor, TagDescriptor):
            contract = self.node.tag(descriptor).expose(capacity=capacity, serializer=_BYTES)
        else:
            contract = self.node.object(descriptor).expose(capacity=capacity, serializer=_BYTES)
        task = self._portal.start_task_soon(self._produce, contract)
        self._contracts["expose", descriptor] = contract, task

    async def _produce(self, contract: _Expose) -> None:
        async with anyio.create_task_group() as tasks:
            async for sink in contract:
                self._start(sink, tasks)

    def _start(self, sink: hakuban.ObjectStateSink[bytes], tasks: TaskGroup) -> None:
        thing = sink.descriptor
        self._sinks.setdefault(thing, []).append(sink)
        self.happened("assigned", thing)
        if thing in self._remembered:
            _put(sink, *self._remembered[thing])
        tasks.start_soon(self._until_unassigned, sink)

    async def _until_unassigned(self, sink: hakuban.ObjectStateSink[bytes]) -> None:
        await sink.wait_unassigned()
        self._sinks[sink.descriptor].remove(sink)
        self.happened("unassigned", sink.descriptor)

    @override
    def unexpose(self, descriptor: Descriptor) -> None:
        self._close("expose", descriptor)

    @override
    def publish(
        self, thing: ObjectDescriptor, data: bytes, version: tuple[int, ...] | None = None
    ) -> None:
        self._remembered[thing] = data, version
        for sink in list(self._sinks.get(thing, ())):
            _put(sink, data, version)

    @override
    def publish_all(self, thing: ObjectDescriptor, states: Sequence[bytes]) -> None:
        for data in states:
            self.publish(thing, data)

    @override
    def vanish(self) -> None:
        self.node.close()

    def _close(self, verb: str, descriptor: Descriptor) -> None:
        contract, task = self._contracts.pop((verb, descriptor))
        contract.close()
        task.result(10)  # raises what the watching task raised

    def _close_contracts(self) -> None:
        for verb, descriptor in list(self._contracts):
            self._close(verb, descriptor)


def _put(
    sink: hakuban.ObjectStateSink[bytes], data: bytes, version: tuple[int, ...] | None
) -> None:
    with suppress(hakuban.NotAssignedError):  # the end of the assignment may be on its way
        if version is None:
            sink.set(data)
        else:
            sink.set_state(version, data)
