"""The states of all objects of a tag at once, and those of objects that have ceased for a while."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from .._changes import Action
from .feeds import Feed

if TYPE_CHECKING:
    from .._contents import View
    from .._descriptors import ObjectDescriptor

_DROPPED: Final = 256  # objects at a time


class ViewTable:
    """What one view on a tag shows. Under the lock of the node; times are monotonic.

    An object is in it from its first state on. One that ceases is kept for a while, stale; its next life takes its place.

    :param retain: seconds; 0.0 keeps nothing, `math.inf` as long as the view is open.
    :param retain_most: how many are kept at most: then the one that ceased first goes.
    :ivar shown: what is to be seen of each object.
    :ivar kept: those of them that have ceased, and when they go.
    :ivar feed: who is told of its changes.
    :ivar ending: whether it is closed: then all of it goes.
    """

    __slots__ = ("ending", "feed", "kept", "retain", "retain_most", "shown")

    def __init__(self, retain: float, retain_most: int) -> None:
        self.retain: float = retain
        self.retain_most: int = retain_most
        self.shown: dict[ObjectDescriptor, View] = {}
        self.kept: OrderedDict[ObjectDescriptor, float] = OrderedDict()
        self.feed: Feed[ObjectDescriptor] = Feed()
        self.ending: bool = False

    def changed(self, descriptor: ObjectDescriptor, view: View) -> None:
        """There is something new to be seen of an object."""
        if self.ending:
            return
        action = Action.CHANGE if descriptor in self.shown else Action.INSERT
        self.shown[descriptor] = view
        self.kept.pop(descriptor, None)
        self.feed.put(action, descriptor)

    def ceased(self, descriptor: ObjectDescriptor, view: View | None, now: float) -> None:
        """An object has ceased.

        :param view: what is to be seen of it now, which is not current; None if it had no state.
        """
        if view is None or self.ending or descriptor not in self.shown:
            return
        if self.retain <= 0.0 or self.retain_most <= 0:
            self._drop(descriptor)
            return
        self.shown[descriptor] = view
        self.kept[descriptor] = now + self.retain
        self.feed.put(Action.CHANGE, descriptor)
        if len(self.kept) > self.retain_most:
            self._drop(next(iter(self.kept)))

    def due(self) -> float:
        """Return the time at which something goes; `math.inf` for never."""
        if self.ending:
            return 0.0 if self.shown else math.inf
        return next(iter(self.kept.values()), math.inf)

    def expire(self, now: float) -> None:
        """Drop some of what has to go by now: see `due` for the rest."""
        for _ in range(_DROPPED):
            if self.due() > now:
                break
            if self.ending:
                self._drop_last()
            else:
                self._drop(next(iter(self.kept)))
        if self.ending and not self.shown:
            self.feed.end()

    def end(self) -> None:
        """It is closed: nothing comes any more, and what there is goes."""
        self.ending = True
        if not self.shown:
            self.feed.end()

    def _drop(self, descriptor: ObjectDescriptor) -> None:
        del self.shown[descriptor]
        self._dropped(descriptor)

    def _drop_last(self) -> None:
        # a dict whose first ones were deleted looks for the next first one longer and longer
        self._dropped(self.shown.popitem()[0])

    def _dropped(self, descriptor: ObjectDescriptor) -> None:
        self.kept.pop(descriptor, None)
        self.feed.put(Action.REMOVE, descriptor)


class ViewSchedule:
    """When something has to go from the views of a node. Under its lock.

    :ivar due: the time of the first; `math.inf` for never.
    """

    __slots__ = ("_tables", "due")

    def __init__(self) -> None:
        self.due: float = math.inf
        self._tables: dict[ViewTable, None] = {}

    def look_at(self, table: ViewTable) -> None:
        """Something may have to go from a view now."""
        due = table.due()
        if due < math.inf:
            self._tables[table] = None
            self.due = min(self.due, due)

    def expire(self, now: float) -> None:
        """Drop some of what has to go by now; if there is more, `due` is in the past still."""
        for table in [*self._tables]:
            if table.due() <= now:
                table.expire(now)
                break
        self._tables = {table: None for table in self._tables if table.due() < math.inf}
        self.due = min((table.due() for table in self._tables), default=math.inf)
