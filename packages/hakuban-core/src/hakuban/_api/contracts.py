"""What all four contracts have in common."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from .._engine.entries import NOT_OPEN
from .._events.emitters import ContractEmitter
from .._events.source import EventSource
from .._exceptions import ClosedError
from .._uncopied import Uncopied

if TYPE_CHECKING:
    from .._descriptors import ObjectDescriptor, TagDescriptor
    from .._engine.engine import Engine
    from .._engine.entries import ContractEntry


class Contract(Uncopied):
    """A contract of a node: in effect from its making until `close`. A context manager that closes it.

    Thread-safe, and independent of event loops. A contract that is never closed is closed when it is collected,
    which is logged at WARNING, and causes a ResourceWarning.
    """

    __slots__ = ("__weakref__", "_engine", "_entry")

    _entry: ContractEntry

    def __init__(self, engine: Engine, entry: ContractEntry) -> None:
        self._engine = engine
        self._entry = entry

    @property
    def closed(self) -> bool:
        """Whether the contract, or its node, was closed."""
        return self._entry.closed

    def close(self) -> None:
        """End the contract; loops over it end. Never waits, from signal handlers and finalizers too; twice is fine."""
        self._engine.close_entry(self._entry)

    def changes(self) -> EventSource[ObjectDescriptor]:
        """Return what happens to the objects of this contract, as events with their descriptors as keys.

        Of a contract on a tag: INSERT when an object begins to exist for it (or is assigned to it), CHANGE when its state
        or its freshness changes, REMOVE when it ceases. Of one on an object: INSERT at once, CHANGE whenever the state, its
        freshness or the assignment changes, REMOVE when the contract is closed.
        """
        name = f"changes of {self!r}"
        return EventSource(ContractEmitter(self._engine, self._entry, name), None, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            entry = self._entry
        except AttributeError:
            return  # __init__ was interrupted
        engine = self._engine
        if entry.closed or entry.id == NOT_OPEN or sys.is_finalizing():
            return
        if engine.forked or engine.cause is not None:
            return  # there is nothing left to release
        text = (
            f"{self!r} was never closed, and is withdrawn since nobody keeps it:"
            " write `with ... as contract:`, or keep it and call close()"
        )
        if engine.release_entry(entry, text):
            warnings.warn(text, ResourceWarning, source=self, stacklevel=1)

    @override
    def __repr__(self) -> str:
        closed = " closed" if self._entry.closed else ""
        return f"<{type(self).__name__} {self._descriptor}{closed}>"

    def _closed_error(self) -> ClosedError:
        step = (
            "make a new LocalNode" if self._engine.closed else "make another one where it is needed"
        )
        return ClosedError(self._descriptor, f"the {type(self).__name__} of", step)

    @property
    def _descriptor(self) -> ObjectDescriptor | TagDescriptor:
        return self._entry.descriptor
