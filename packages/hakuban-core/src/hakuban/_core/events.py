"""What can happen to a machine beside what users call and peers send: links come and go, time passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(slots=True)
class LinkUp:
    """A link is established.

    :ivar link: an id that `Machine.new_link` returned.
    :ivar upstream: this node is the connecting side.
    :ivar clock: what the listening side has stated as its clock when this side connected, Unix nanoseconds; None where
        it has not.
    :ivar wall: the wall clock of this machine, Unix nanoseconds; None goes on with what it was.
    :ivar careful: whether nothing is announced before the peer has sent its name, and before that the nodes above it.
    """

    link: int
    upstream: bool
    local_name: str = ""
    local_address: str = ""
    remote_address: str = ""
    clock: int | None = None
    wall: int | None = None
    careful: bool = False


@dataclass(slots=True)
class LinkDown:
    """A link has ended, for whatever reason. It may be reported twice: the second time means nothing.

    :ivar at: the monotonic time until which the peer vouched for what it had sent: that of the last receipt, where the
        link did not end in good order; None for now.
    """

    link: int
    at: float | None = None


@dataclass(slots=True)
class Tick:
    """Time has passed; due whenever `Machine.next_deadline()` is reached.

    :ivar wall: the wall clock of this machine, Unix nanoseconds; None goes on with what it was.
    """

    wall: int | None = None


Event: TypeAlias = LinkUp | LinkDown | Tick
