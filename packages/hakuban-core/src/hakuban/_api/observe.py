"""Observing: the demand to see the states of one object, or of all objects of a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from typing_extensions import override

from .._checks import checked_integer, checked_retain
from .._descriptors import ObjectDescriptor, TagDescriptor, object_named
from .._engine.view_table import ViewTable
from .._engine.waiting import Endless, MemberCursor
from .._limits import MOST_INT64
from .contracts import Contract
from .streams import ObjectStateStream, StateReader
from .view import TagView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .._canonical import Json
    from .._contents import Version
    from .._engine.engine import Engine
    from .._engine.entries import ObserveEntry, StreamEntry
    from .._exceptions import ClosedError
    from .._states import ObjectState
    from .decoding import Decoder


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ObjectObserve(Contract, Endless, StateReader[T_co]):
    """The demand to see the states of one object; made by `LocalNode.object(...).observe()`.

    From its making until `close` somebody able to is asked to produce the object. See `StateReader` for reading
    and looping; a loop ends only when the contract or the node is closed::

        with node.object(["weather"], {"city": "Poznań"}).observe() as weather:
            async for state in weather:
                print(state.data, state.synchronized)
    """

    __slots__ = ("_decode",)

    _instead = "`contract.object_state()` for the current one, or `for state in contract:`"

    _entry: ObserveEntry

    def __init__(self, engine: Engine, entry: ObserveEntry, decode: Decoder[T_co]) -> None:
        super().__init__(engine, entry)
        self._decode = decode

    @property
    @override
    def descriptor(self) -> ObjectDescriptor:
        """The object."""
        descriptor = self._entry.descriptor
        assert isinstance(descriptor, ObjectDescriptor)
        return descriptor

    @override
    def __iter__(self) -> Iterator[ObjectState[T_co]]:
        return self._looping(self._cursor())

    @override
    def _over(self) -> bool:
        return self._entry.closed

    @override
    def _ended_error(self) -> ClosedError:
        return self._closed_error()

    @override
    def _place(self) -> object:
        return self._entry

    @override
    def _stream(self) -> StreamEntry | None:
        return self._entry.newest

    @override
    def _ends_with(self, entry: StreamEntry) -> bool:
        return False


class TagObserve(Contract, Endless, Generic[T_co]):
    """The demand to see the states of all objects that carry a tag; made by `LocalNode.tag(...).observe()`.

    It has each of these objects produced by somebody able to, but makes no object exist: that takes a contract on the
    object itself, here or elsewhere. Looping over the contract, with `async for` in a task or `for` in a thread
    without event loop, yields a stream for each object, once for each of its lives::

        with node.tag("weather").observe() as weathers:
            async for stream in weathers:
                task_group.start_soon(show, stream)

    The reading methods are thread-safe and never wait; where they ask for a descriptor, whatever `ObjectDescriptor`
    takes alone will do, `(tags, json)` for example. `descriptor in contract` is True while the object exists.
    """

    __slots__ = ("_decode",)

    _instead = (
        "`contract.object_descriptors()` for those that exist now, or `for stream in contract:`"
    )

    _entry: ObserveEntry

    def __init__(self, engine: Engine, entry: ObserveEntry, decode: Decoder[T_co]) -> None:
        super().__init__(engine, entry)
        self._decode = decode

    @property
    def descriptor(self) -> TagDescriptor:
        """The tag."""
        descriptor = self._entry.descriptor
        assert isinstance(descriptor, TagDescriptor)
        return descriptor

    def object_descriptors(self) -> frozenset[ObjectDescriptor]:
        """Return the objects that exist now."""
        self._engine.catch_up()
        return frozenset(self._engine.read(lambda: [*self._entry.members]))

    def object_state(self, descriptor: ObjectDescriptor | Json) -> ObjectState[T_co] | None:
        """Return the current state of one object; None before the first one, or if the object does not exist."""
        stream = self._stream(descriptor)
        return None if stream is None else stream.object_state()

    def object_data(self, descriptor: ObjectDescriptor | Json) -> T_co | None:
        """Return the decoded value of one object; None before the first one, or if the object does not exist.

        :raises DeserializationError: the data are not what the type or serializer of the contract expects.
        """
        stream = self._stream(descriptor)
        return None if stream is None else stream.object_data()

    def object_version(self, descriptor: ObjectDescriptor | Json) -> Version | None:
        """Return the version of one object; None before the first state, or if the object does not exist."""
        stream = self._stream(descriptor)
        return None if stream is None else stream.object_version()

    def view(self, *, retain: float = 0.0, retain_most: int = 10_000) -> TagView[T_co]:
        """Begin to show the current states of all objects as one mapping; it is closed by `with`, `close`, or the contract.

        It takes no task, and a change costs the same however many objects there are.

        :param retain: seconds for which an object stays in it, stale, that has ceased; `math.inf`: until it is closed.
        :param retain_most: how many of those stay at most: their names are written by peers. Then who ceased first goes.
        :raises TypeError: one of them is no number.
        :raises ValueError: one of them is negative, or no number of seconds.
        """
        table = ViewTable(
            checked_retain(retain), checked_integer("retain_most", retain_most, 0, MOST_INT64)
        )
        return TagView(self._engine, self._entry, self._decode, self, table)

    def __aiter__(self) -> AsyncIterator[ObjectStateStream[T_co]]:
        return MemberCursor(self._engine, self._entry, self._make)

    def __iter__(self) -> Iterator[ObjectStateStream[T_co]]:
        return self._looping(MemberCursor(self._engine, self._entry, self._make))

    @override
    def __contains__(self, descriptor: ObjectDescriptor | Json) -> bool:
        return object_named(descriptor) in self._entry.members

    def _stream(self, descriptor: ObjectDescriptor | Json) -> ObjectStateStream[T_co] | None:
        entry = self._entry.members.get(object_named(descriptor))
        return None if entry is None else self._make(entry)

    def _make(self, entry: StreamEntry) -> ObjectStateStream[T_co]:
        return ObjectStateStream(self._engine, entry, self._decode, self)
