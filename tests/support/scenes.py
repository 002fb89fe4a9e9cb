"""Stories about nodes, written once and told in tasks of an event loop as well as in plain threads.

A story is an `async def` that waits by the verbs of its scene alone. In the columns of event loops the verbs await. In
the column of threads they block: there the same coroutine runs from its first line to its last without ever being
suspended, and without any event loop in its thread.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from itertools import count
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import hakuban
import hakuban.sync
from hakuban import LocalNode, NotAssignedError, ObjectState

from .ports import free_port

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Story: TypeAlias = Coroutine[Any, Any, Any]
Part: TypeAlias = Story | Callable[[], None]

ANYWHERE = {
    "memory": "memory://",
    "ws": "ws://127.0.0.1:0",
    "zmq": "zmq+tcp://127.0.0.1:0",
}
"""By the transport of a column, the URL of an address that is free."""

TIMEOUT = 10.0
"""Seconds that anything may take before a story has failed; nothing here takes a tenth of it."""


class Iterates(Protocol[T_co]):
    """What can be looped over in both spellings."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...
    def __iter__(self) -> Iterator[T_co]: ...


def story(function: Callable[..., Story]) -> Callable[..., None]:
    """Make a test of a story: it is told in each column that the fixture `scene` has."""

    @functools.wraps(function)
    def test(*, scene: Scene, **kwargs: object) -> None:
        scene.tell(function(scene=scene, **kwargs))

    return test


class EndedError(AssertionError):
    """A loop ended, although something was still to come."""


class Block(ABC, Generic[T]):
    """A `connect` or `listen` block that was entered, and can be left at any time.

    :ivar value: what `as` gives.
    """

    value: T

    @abstractmethod
    async def leave(self) -> None:
        """Leave the block; twice does no harm."""


class Loop(Generic[T]):
    """A loop over states, streams, sinks or statuses, one step at a time.

    Of states it checks with each step that they never go back, and that nothing is given twice.

    :ivar seen: what it has given so far.
    """

    def __init__(self, scene: Scene, over: Iterates[T]) -> None:
        self.seen: list[T] = []
        self._scene = scene
        self._iterator = scene.iterate(over)

    async def next(self) -> T:
        """Give the next item.

        :raises EndedError: the loop has ended.
        """
        item: T = await self._scene.step(self._iterator)
        if self.seen and isinstance(item, ObjectState):
            self._check_order(self.seen[-1], item)
        self.seen.append(item)
        return item

    async def until(self, wanted: Callable[[T], object]) -> T:
        """Step until an item is what is wanted, and give it."""
        while True:
            item = await self.next()
            if wanted(item):
                return item

    async def end(self) -> None:
        """Step until the loop ends."""
        while True:
            try:
                await self.next()
            except EndedError:
                return

    @staticmethod
    def _check_order(before: Any, after: ObjectState[Any]) -> None:
        assert after.version >= before.version, f"{before} was followed by {after}"
        if after.version == before.version:
            assert (after.raw, after.format) == (before.raw, before.format)
            assert not (after.synchronized and before.synchronized), f"{after} was given twice"


def fresh(data: object) -> Callable[[ObjectState[Any]], bool]:
    """Want a state with these data that is current."""
    return lambda state: state.synchronized and state.data == data


def stale(data: object) -> Callable[[ObjectState[Any]], bool]:
    """Want a state with these data that is not current any more."""
    return lambda state: not state.synchronized and state.age > 0 and state.data == data


class Scene(ABC):
    """Where a story is told: over which transport, and on which event loop or on none.

    :ivar transport: the scheme of all URLs.
    :ivar connections: all that were made, oldest first.
    """

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.connections: list[hakuban.Connection] = []
        self._echoes = count(1)
        self._nodes: list[LocalNode] = []
        self._blocks: list[Block[Any]] = []

    def node(self, name: str | None = None, **options: Any) -> LocalNode:
        """Make a node. At the end of the story it may know nothing any more, and is closed."""
        node = LocalNode(name, **options)
        self._nodes.append(node)
        return node

    # ---- links ------------------------------------------------------------------------------------------------------

    async def connect(self, node: LocalNode, url: str, **options: Any) -> Block[hakuban.Connection]:
        """Enter `connect`, and leave it at the end of the story or before."""
        block = await self._enter(
            lambda: node.connect(url, **options),
            lambda: hakuban.sync.connect(node, url, **options),
        )
        self.connections.append(block.value)
        return self._keep(block)

    async def listen(
        self, node: LocalNode, url: str | None = None, **options: Any
    ) -> Block[hakuban.Listener]:
        """Enter `listen`, by default at an address that is free, and leave it at the end of the story or before."""
        where = url or ANYWHERE[self.transport].replace(":0", f":{free_port()}")
        return self._keep(
            await self._enter(
                lambda: node.listen(where, **options),
                lambda: hakuban.sync.listen(node, where, **options),
            )
        )

    def _keep(self, block: Block[T]) -> Block[T]:
        self._blocks.append(block)
        return block

    async def _end(self) -> None:
        while self._blocks:
            await self._blocks.pop().leave()
        for node in self._nodes:
            if not node.closed:
                picture = node.snapshot()
                assert (picture.objects, picture.tags) == ([], []), f"{node} remembers something"
                assert (picture.upstream, picture.downstream_connections) == (None, [])
                assert node.peers == ()

    def _close_nodes(self) -> None:
        for node in self._nodes:
            node.close()

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def loop(self, over: Iterates[T]) -> Loop[T]:
        """Begin a loop."""
        return Loop(self, over)

    async def state(
        self, reader: hakuban.ObjectObserve[T] | hakuban.ObjectStateStream[T]
    ) -> ObjectState[T]:
        """Wait for a first state."""
        return await self._wait(reader.wait_state, reader.wait_state_sync)

    async def sees(
        self,
        contract: hakuban.ObjectObserve[T] | hakuban.TagObserve[T],
        wanted: Callable[[ObjectState[T]], object],
        thing: hakuban.ObjectDescriptor | None = None,
    ) -> ObjectState[T]:
        """Wait for a state that is wanted.

        :param thing: which object of a tag, if there are several.
        """
        if isinstance(contract, hakuban.ObjectObserve):
            return await self.loop(contract).until(wanted)
        streams = self.loop(contract)
        while True:
            stream = await streams.until(lambda stream: thing in (None, stream.descriptor))
            with suppress(EndedError):  # the object ceased; another life of it may follow
                return await self.loop(stream).until(wanted)

    async def assigned(self, contract: hakuban.ObjectExpose[Any]) -> None:
        """Wait until a contract is assigned."""
        await self._wait(contract.wait_assigned, contract.wait_assigned_sync)

    async def publish(
        self, contract: hakuban.ObjectExpose[T] | hakuban.TagExpose[T], value: T
    ) -> None:
        """Publish a value at each assignment, until the contract is closed."""
        sinks = self.loop(contract)
        with suppress(EndedError):
            while True:
                sink = await sinks.next()
                with suppress(NotAssignedError):  # it may end at any moment
                    sink.set(value)

    async def unassigned(self, sink: hakuban.ObjectStateSink[Any]) -> None:
        """Wait for the end of an assignment."""
        await self._wait(sink.wait_unassigned, sink.wait_unassigned_sync)

    async def up(self, connection: hakuban.Connection) -> None:
        """Wait for a link."""
        await self._wait(connection.wait_up, connection.wait_up_sync)

    async def echo(self, *nodes: LocalNode) -> None:
        """Return when whatever these nodes have said until now has reached each other and all between them.

        Each way and back: an object of its own is asked for and produced behind everything that was sent before.
        """
        pairs = [(a, b) for a in nodes for b in nodes if a is not b]
        for asking, answering in pairs:
            name = f"echo {next(self._echoes)}"
            with asking.object(name).observe() as asked, answering.object(name).expose() as answer:
                answer.set_object_data("here")
                await self.loop(asked).until(fresh("here"))

    # ---- the two tellings -------------------------------------------------------------------------------------------

    @abstractmethod
    def tell(self, story: Story) -> None:
        """Run a story, and leave all blocks that it has entered."""

    @abstractmethod
    async def together(self, *parts: Part) -> None:
        """Run stories and plain calls at the same time, each in a task or thread of its own, until all have ended."""

    @abstractmethod
    async def _wait(
        self, awaiting: Callable[[], Awaitable[T]], blocking: Callable[[float], T]
    ) -> T: ...

    @abstractmethod
    def iterate(self, over: Iterates[T]) -> Any:
        """Give an iterator, of the kind that `step` takes."""

    @abstractmethod
    async def step(self, iterator: Any) -> Any:
        """Give the next item of an iterator.

        :raises EndedError: there is none.
        """

    @abstractmethod
    async def _enter(
        self,
        awaiting: Callable[[], AbstractAsyncContextManager[T]],
        blocking: Callable[[], AbstractContextManager[T]],
    ) -> Block[T]: ...
