"""What events come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._engine.feeds import Feed

if TYPE_CHECKING:
    from .._descriptors import ObjectDescriptor
    from .._engine.engine import Engine
    from .._engine.entries import ContractEntry
    from .._engine.hub import Hub


class ContractEmitter:
    """The objects of a contract."""

    __slots__ = ("_entry", "hub", "name")

    def __init__(self, engine: Engine, entry: ContractEntry, name: str) -> None:
        self.hub: Hub = engine
        self.name: str = name
        self._entry = entry

    def keys(self) -> list[ObjectDescriptor]:
        """Return the objects that are there: that of a contract on one object as long as the contract."""
        return self._entry.keys()

    def feed(self) -> Feed[ObjectDescriptor]:
        """Return who is told of them."""
        entry = self._entry
        if entry.feed is None:
            entry.feed = Feed()
            if entry.closed and not entry.keys():
                entry.feed.end()
        return entry.feed
