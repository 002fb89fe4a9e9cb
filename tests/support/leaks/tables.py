"""The tables of nodes, listeners and modules: what is in them when the node is closed, and when no link is open."""

from __future__ import annotations

import importlib
import pkgutil
from collections import deque
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from hakuban._engine.engine import Engine

from .circles import PACKAGES, is_our_module, module_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NODE: Final = "hakuban._engine.engine:Engine"
LISTENERS: Final = (
    "hakuban._net.connector:_Connector",
    "hakuban._net.listener:_Acceptor",
    "hakuban._sockets.acceptor:Acceptor",
    "hakuban._testing.memory:_Listener",
    "hakuban._transport.heartbeats:Heartbeats",
    "hakuban_ws._listener:Listener",
    "hakuban_zmq._listener:Listener",
)
"""What keeps tables of links, and outlives them: held until the test has ended, to be looked at then."""
LINKS: Final = (
    "hakuban._net.link:Link",
    "hakuban._sockets.stream:SocketStream",
    "hakuban._testing.memory:MemoryStream",
    "hakuban_ws._stream:WebSocketStream",
    "hakuban_zmq._connector:Connector",
    "hakuban_zmq._stream:ZeroMQStream",
)
"""What is a link, or a part of one."""
STAYS: Final = {
    "AllowList._files": "what was last read of the files that say who may connect",
    "Clock._reported": "a node whose clock is far ahead is told of once, and so are at most `MOST_REPORTED`",
    "Heartbeats._faulty": "classes of links whose faults are logged once",
    "Heartbeats._order": "the times of `_slots`",
    "Heartbeats._slots": "a link that is gone leaves a weak reference until its check would have been due",
    "Outage._reported": "a connection reports each kind of failure once in an outage, however long that lasts",
    "SizeCaps._caps": "what a listener has learnt of a node outlives the node's links, for 10 minutes",
}
"""Tables that keep something on purpose, and why."""


class Owner:
    """Something that keeps tables, and what was in them when it was made."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._before = _sizes(owner)

    def grown(self) -> Iterator[str]:
        """Return the tables in which there is more than there was; a node is closed first."""
        owner, broken = self._owner, False
        if isinstance(owner, Engine):
            broken = owner.cause is not None  # its machine stopped in the middle of something
            if not broken:
                owner.close()
        for name, size in _sizes(owner).items():
            before = self._before.get(name, 0)
            if size > before and name not in STAYS and not (broken and name.startswith("World.")):
                yield f"{name} of a {type(owner).__name__}, with {size} entries; {before} at first"


def watch(note_owner: Callable[[object], None], note_link: Callable[[object], None]) -> None:
    """Have it noted when something is made that keeps tables, and when a link is."""
    for path in (NODE, *LISTENERS):
        _after_init(path, note_owner)
    for path in (*LISTENERS, *LINKS):
        _after_init(path, note_link)


def _after_init(path: str, note: Callable[[object], None]) -> None:
    module, _, name = path.partition(":")
    cls: Any = getattr(importlib.import_module(module), name)
    init = cls.__init__

    @wraps(init)
    def noting(self: object, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        note(self)

    cls.__init__ = noting


def _sizes(root: object) -> dict[str, int]:
    """Count what is in the tables of an object, and of its parts that are ours."""
    found: dict[str, int] = {}
    pending, seen = [root], {id(root)}
    while pending:
        one = pending.pop()
        owner = type(one).__name__
        for name, value in _attributes(one):
            if isinstance(value, (dict, set, list, deque, bytearray)):
                found[f"{owner}.{name}"] = found.get(f"{owner}.{name}", 0) + len(value)
            elif id(value) not in seen and _is_part(value):
                seen.add(id(value))
                pending.append(value)
    return found


def _is_part(value: object) -> bool:
    ours = is_our_module(module_of(value))
    # a node is looked at by itself, and an exception has no tables
    return ours and not isinstance(value, (BaseException, Engine))


def _attributes(one: object) -> Iterator[tuple[str, object]]:
    for cls in type(one).__mro__:
        slots: str | Iterable[str] = cls.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        for name in names:
            if not name.startswith("__") and hasattr(one, name):
                yield name, getattr(one, name)
    yield from getattr(one, "__dict__", {}).items()


def in_modules() -> list[str]:
    """Return what is in the tables of modules."""
    # here, since coverage of the packages' own tests would not see what is imported before it begins
    from hakuban import sync
    from hakuban._testing import memory
    from hakuban_zmq import _address_claims, _contexts

    looks: dict[str, list[Any]] = {
        "hakuban.sync._open": list(sync._open),
        "hakuban.sync._loop_thread": [sync._loop_thread._users, sync._loop_thread._running],
        "hakuban._testing.memory._listeners": list(memory._listeners),
        "hakuban_zmq._address_claims._bound": list(_address_claims._bound),
        "hakuban_zmq._contexts.shared": [_contexts.shared._users, _contexts.shared._context],
    }
    return [f"{name} has {one!r}" for name, items in looks.items() for one in items if one]


def import_all() -> None:
    """Import all modules of ours, so that what they make of themselves is there before the first test."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
