"""All objects of a tag at once."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Self, TypeVar

from typing_extensions import override

from .._descriptors import ObjectDescriptor, object_named
from .._engine.feeds import TableEmitter
from .._events.source import EventSource
from .._states import ObjectState
from .._uncopied import Uncopied

if TYPE_CHECKING:
    from .._canonical import Json
    from .._contents import View
    from .._engine.engine import Engine
    from .._engine.entries import ObserveEntry
    from .._engine.view_table import ViewTable
    from .contracts import Contract
    from .decoding import Decoder

T_co = TypeVar("T_co", covariant=True)


class TagView(Uncopied, Mapping[ObjectDescriptor, ObjectState[T_co]]):
    """The current states of all objects of a tag: a live mapping from descriptors; made by `TagObserve.view`.

    An object is in it from its first state on. When it ceases it goes, at once or after the seconds it is retained for:
    until then it is stale, and its age goes on from when it was last current. If it comes back meanwhile, the first state
    of its new life takes the place of the kept one, whatever the versions. Closed by `with`, by `close`, and with its
    contract: then it is empty.

    Thread-safe; nothing waits. `items()`, `keys()`, `values()` and loops show all objects at one moment. To copy it, write
    `dict(view.items())`: `dict(view)` and `{**view}` look up one object after the other, and raise KeyError where one has
    gone meanwhile. Where a descriptor is asked for, whatever `ObjectDescriptor` takes alone will do, `(tags, json)` for
    example.
    """

    __slots__ = ("__weakref__", "_contract", "_decode", "_engine", "_entry", "_table")

    def __init__(
        self,
        engine: Engine,
        entry: ObserveEntry,
        decode: Decoder[T_co],
        contract: Contract,
        table: ViewTable,
    ) -> None:
        self._engine = engine
        self._entry = entry
        self._decode = decode
        self._contract = contract  # or it would be collected, and closed, while its view is in use
        self._table = table
        engine.add_view(entry, table)

    @override
    def __getitem__(self, descriptor: ObjectDescriptor | Json) -> ObjectState[T_co]:
        """Return the state of an object.

        :raises KeyError: there is none.
        """
        named = object_named(descriptor)
        return self._state(named, self._shown()[named])

    @override
    def __contains__(self, descriptor: object) -> bool:
        return object_named(descriptor) in self._shown()

    @override
    def __len__(self) -> int:
        return len(self._shown())

    @override
    def __iter__(self) -> Iterator[ObjectDescriptor]:
        return iter(self._cut())

    @override
    def keys(self) -> KeysView[ObjectDescriptor]:
        return self._cut().keys()

    @override
    def items(self) -> ItemsView[ObjectDescriptor, ObjectState[T_co]]:
        """Return all objects and their states, of one moment."""
        return {named: self._state(named, view) for named, view in self._cut().items()}.items()

    @override
    def values(self) -> ValuesView[ObjectState[T_co]]:
        return dict(self.items()).values()

    def live(self, descriptor: ObjectDescriptor | Json) -> bool:
        """Return whether an object is in it, and has not ceased."""
        named, shown = object_named(descriptor), self._shown()
        return named in shown and named not in self._table.kept

    def changes(self) -> EventSource[ObjectDescriptor]:
        """Return what happens to its objects as events.

        INSERT with the first state; CHANGE with each later one, with a change of freshness, when an object that is kept
        has ceased, and when it has come back; REMOVE when it goes.
        """
        table = self._table
        name = f"changes of {self!r}"
        return EventSource(
            TableEmitter(self._engine, name, lambda: [*table.shown], table.feed), None, self
        )

    @property
    def closed(self) -> bool:
        """Whether it, its contract or its node was closed."""
        return self._table.ending

    def close(self) -> None:
        """Close it; its contract goes on. Never waits, from signal handlers and finalizers too; twice is fine."""
        self._engine.end_view(self._entry, self._table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            engine, entry, table = self._engine, self._entry, self._table
        except AttributeError:
            return  # __init__ was interrupted
        engine.forget_view(entry, table)

    @override
    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<TagView {self._entry.descriptor}{closed}>"

    def _shown(self) -> dict[ObjectDescriptor, View]:
        self._engine.catch_up()  # something may have to go by now
        return {} if self._table.ending else self._table.shown

    def _cut(self) -> dict[ObjectDescriptor, View]:
        """Return what is shown at one moment."""
        self._engine.catch_up()
        return self._engine.read(lambda: {} if self._table.ending else self._table.shown.copy())

    def _state(self, named: ObjectDescriptor, view: View) -> ObjectState[T_co]:
        return ObjectState.received(view.content, view.stale_for(), self._decode, named)
