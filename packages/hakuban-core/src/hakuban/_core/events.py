"""What can happen to a machine beside what users call and peers say: links come and go, time passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(slots=True)
class LinkUp:
    """A link is established.

    :ivar link: an id that `Machine.new_link` gave.
    :ivar upstream: this node is the connecting side.
    :ivar wall: Unix nanoseconds by the clock of the root above, for default versions given in this and later steps; None
        goes on with the clock of before.
    """

    link: int
    upstream: bool
    local_name: str = ""
    local_address: str = ""
    remote_address: str = ""
    wall: int | None = None


@dataclass(slots=True)
class LinkDown:
    """A link has ended, for whatever reason. Says so once or twice: the second time means nothing."""

    link: int


@dataclass(slots=True)
class Tick:
    """Time has passed; due whenever `Machine.next_deadline()` is reached."""


Event: TypeAlias = LinkUp | LinkDown | Tick
