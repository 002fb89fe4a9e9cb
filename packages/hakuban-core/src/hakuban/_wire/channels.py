"""What a link remembers of each open channel, and the patches between states."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias
from weakref import ref

from hakuban._diff import diff, patching
from hakuban._exceptions import PeerViolation
from hakuban._states import Content

from . import encoding
from .tags import MessageTag, Side, StateTag

if TYPE_CHECKING:
    from collections.abc import Generator

    from .reader import Reader


class Role(Enum):
    """What a channel is for, where no state is remembered with it."""

    OPENED = "opened"  # and not yet initialized
    CONTROL = "control"
    IGNORED = "ignored"  # its descriptor is over a limit


class Inlet:
    """A data channel on which states arrive.

    :ivar last: the last state received, which the next patch leads from.
    """

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: Content | None = None

    def read_patch(
        self, channel: int, reader: Reader, max_object: int
    ) -> Generator[None, None, tuple[Content, int]]:
        """Read a patch, apply it in steps, and keep its body for whoever forwards it; give the state and its age.

        :raises DiffError: the patch cannot be applied.
        :raises PeerViolation: the first patch has no format.
        """
        version, format, difference, age = reader.patch()
        base = self.last
        if base is None:
            if format is None:
                raise PeerViolation(f"the first patch on channel {channel} has no format")
            content = Content((yield from patching(b"", difference, max_object)), format, version)
            # it was checked against empty data, so it refers to nothing and leads here from any base
            origin = None
        else:
            data = yield from patching(base.data, difference, max_object)
            content = Content(data, base.format if format is None else format, version)
            origin = ref(base)
        content.encodings[origin] = encoding.patch_body(version, format, difference)
        self.last = content
        return content, age


class Outlet:
    """A data channel on which states are sent.

    The last state sent is remembered weakly: who holds on to it (the machine keeps a few) makes the next patch small,
    and a link that nobody reads keeps nothing alive.

    :ivar last: the last state sent.
    :ivar patch_prefix: the message of one patch, up to its body.
    :ivar synchronized_prefix: the message of one age, up to the age.
    """

    __slots__ = ("last", "patch_prefix", "synchronized_prefix")

    def __init__(self, channel: int) -> None:
        def prefix(action: StateTag) -> bytes:
            return encoding.message(
                Side.UPSTREAM, channel, MessageTag.STATE_STREAM, [bytes((action,))]
            )

        self.last: ref[Content] | None = None
        self.patch_prefix = prefix(StateTag.PATCH)
        self.synchronized_prefix = prefix(StateTag.SET_SYNCHRONIZED)

    def body(self, content: Content) -> bytes:
        """Give the body of a patch from what was sent last, if it is alive, to a state; shared by all links."""
        base = None if self.last is None else self.last()
        origin = None if base is None else self.last
        body = content.encodings.get(origin)
        if body is None:
            old = b"" if base is None else base.data
            kept = base is not None and base.format == content.format
            body = encoding.patch_body(
                content.version, None if kept else content.format, diff(old, content.data)
            )
            _forget_dead_bases(content)
            content.encodings[origin] = body
        return body


def _forget_dead_bases(content: Content) -> None:
    # a snapshot of the keys, since links of other threads may add theirs
    for origin in list(content.encodings):
        if origin is not None and origin() is None:
            content.encodings.pop(origin, None)


Entry: TypeAlias = Role | Inlet | Outlet
