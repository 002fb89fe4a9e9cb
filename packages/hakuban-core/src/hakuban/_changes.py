"""What happened to which key of a table: events, and how several of one key fold into one.

Pure: no lock, no thread. Whoever keeps one of these tables guards it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

K = TypeVar("K", bound=Hashable)

_LOOKED_AT: Final = 256  # keys that have come and gone, of which nothing is left to be reported


class Action(Enum):
    """What happened to a key (the crate's `Action`)."""

    INSERT = "insert"
    CHANGE = "change"
    REMOVE = "remove"

    @override
    def __repr__(self) -> str:
        return f"Action.{self.name}"


class Event(NamedTuple, Generic[K]):
    """Something happened to a key (the crate's `Event`).

    :ivar action: what happened.
    :ivar key: to what: an `ObjectDescriptor`, a `Peer`, or what a source was mapped to.
    """

    action: Action
    key: K


# What is left to be reported of two actions, one after the other, of which none was reported. A table that is kept well
# makes none of the pairs that are missing here (a key is not inserted twice): then the later one tells more.
_FOLDED: Final[dict[tuple[Action, Action], Action | None]] = {
    (Action.INSERT, Action.CHANGE): Action.INSERT,
    (Action.INSERT, Action.REMOVE): None,
    (Action.CHANGE, Action.CHANGE): Action.CHANGE,
    (Action.CHANGE, Action.REMOVE): Action.REMOVE,
    (Action.REMOVE, Action.INSERT): Action.CHANGE,
}


def folded(before: Action, after: Action) -> Action | None:
    """Return the one action that says what two do, one after the other; None if they leave nothing to be said."""
    return _FOLDED.get((before, after), after)


class PendingEvents(Generic[K]):
    """Events that wait for one reader: at most one a key, folded; the keys in the order of their first event.

    :param present: keys that are there at the beginning: for each there is an INSERT, and no work before it is taken.
    """

    __slots__ = ("_actions", "_present")

    def __init__(self, present: Iterable[K] = ()) -> None:
        self._present = [*present]
        self._present.reverse()
        self._actions: OrderedDict[K, Action] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._present or self._actions)

    def put(self, action: Action, key: K) -> None:
        """Something has happened to a key."""
        before = self._actions.get(key)
        after = action if before is None else folded(before, action)
        if after is None:
            del self._actions[key]
        else:
            self._actions[key] = after

    def pop(self) -> Event[K] | None:
        """Take the first event. None if there is none; or if there may be, and many keys had come and gone before it."""
        for _ in range(_LOOKED_AT):
            if not self._present:
                break
            key = self._present[-1]
            later = self._actions.pop(key, None)
            self._present.pop()
            action = Action.INSERT if later is None else folded(Action.INSERT, later)
            if action is not None:
                return Event(action, key)
        else:
            return None
        if not self._actions:
            return None
        key, action = self._actions.popitem(last=False)
        return Event(action, key)

    def __iter__(self) -> Iterator[Event[K]]:
        """Take all events."""
        while self:
            event = self.pop()
            if event is not None:
                yield event

    def clear(self) -> None:
        """Forget all events."""
        self._present.clear()
        self._actions.clear()


class MergedKeys(Generic[K]):
    """Keys of several tables, as those of one: a key is there as long as it is in one of them."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[K, int] = {}

    def keys(self) -> list[K]:
        """Return the keys that are there."""
        return [*self._counts]

    def put(self, action: Action, key: K) -> Action:
        """Something has happened to a key of one of the tables; return what that is for all of them together."""
        count = self._counts.get(key, 0)
        if action is Action.INSERT:
            self._counts[key] = count + 1
            return Action.CHANGE if count else Action.INSERT
        if action is Action.REMOVE:
            if count > 1:
                self._counts[key] = count - 1
                return Action.CHANGE
            self._counts.pop(key, None)
        return action
