"""A large table by ids."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_BITS: Final = 7  # of an id, for its place in a page
_SIZE: Final = 1 << _BITS


class PagedTable(Generic[T]):
    """What a dict is for ids that grow and are never used twice, without its pauses.

    A dict that outgrows its room is copied at once: that of a million items takes 0.1 s. A thousand tables of the same
    items outgrow theirs in the same step: so each of them begins its pages elsewhere.

    :param start: the id at which a page begins, one of them.
    """

    __slots__ = ("_pages", "_size", "_start")

    def __init__(self, start: int = 0) -> None:
        self._start = start % _SIZE - _SIZE
        self._pages: dict[int, dict[int, T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, id: int) -> bool:
        page = self._pages.get((id - self._start) >> _BITS)
        return page is not None and id in page

    def get(self, id: int) -> T | None:
        """Return what has an id; None if nothing has."""
        page = self._pages.get((id - self._start) >> _BITS)
        return None if page is None else page.get(id)

    def add(self, id: int, item: T) -> None:
        """Put something in, under an id that is new."""
        page = self._pages.get((id - self._start) >> _BITS)
        if page is None:
            page = self._pages[(id - self._start) >> _BITS] = {}
        page[id] = item
        self._size += 1

    def pop(self, id: int) -> T | None:
        """Take out what has an id; None if nothing has."""
        page = self._pages.get((id - self._start) >> _BITS)
        if page is None or id not in page:
            return None
        found = page.pop(id)
        self._size -= 1
        if not page:
            del self._pages[(id - self._start) >> _BITS]
        return found

    def values(self) -> Iterator[T]:
        """Return all there is; the oldest first."""
        return chain.from_iterable(page.values() for page in self._pages.values())

    def items(self) -> Iterator[tuple[int, T]]:
        """Return all there is, by their ids."""
        return chain.from_iterable(page.items() for page in self._pages.values())
