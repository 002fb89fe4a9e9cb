"""What a link remembers of each open channel, and the patches between states."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias
from weakref import ref

from hakuban._contents import Content
from hakuban._diff import diff, diffing, patch, patching
from hakuban._exceptions import PeerViolationError
from hakuban._session_events import ItemIgnored, StateReceived, SynchronizedReceived

from . import encoding
from .tags import MessageTag, Side, StateTag
from .varint import MARKER_16, unsigned

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from hakuban._descriptors import ObjectDescriptor
    from hakuban._session_events import PeerEvent

    from .reader import Patch, Reader


class Role(Enum):
    """What a channel is for, where no state is remembered with it."""

    OPENED = "opened"  # and not yet initialized
    CONTROL = "control"
    IGNORED = "ignored"  # its descriptor is over a limit


def _prefix(channel: int, action: StateTag) -> bytes:
    """Write a message of one action, up to what the action contains."""
    return encoding.message(Side.UPSTREAM, channel, MessageTag.STATE_STREAM, [bytes((action,))])


_CHANNEL_AT = len(encoding.open_channel(Side.UPSTREAM, 0)) - 1
_PREFIX_SIZE = len(_prefix(0, StateTag.PATCH))
_PREFIX_SIZES = {
    unsigned(channel)[0]: len(_prefix(channel, StateTag.PATCH))
    for channel in (MARKER_16, 1 << 16, 1 << 32)
}


def patch_prefix(message: bytes) -> bytes:
    """Cut out what is an `Inlet.patch_prefix` if the message consists of one patch."""
    if len(message) <= _CHANNEL_AT:
        return b""
    return message[: _PREFIX_SIZES.get(message[_CHANNEL_AT], _PREFIX_SIZE)]


class Inlet:
    """A data channel on which states arrive.

    :param descriptor: the object.
    :ivar last: the last state received, which the next patch leads from.
    :ivar over: whether that one was ignored: how fresh it is means nothing for the one before.
    :ivar patch_prefix: the message of one patch, up to its body, as nearly all messages begin.
    """

    __slots__ = ("_channel", "_descriptor", "_format_over", "last", "over", "patch_prefix")

    def __init__(self, channel: int, descriptor: ObjectDescriptor) -> None:
        self._channel = channel
        self._descriptor = descriptor
        self._format_over = ""  # why the format of the last state was not read
        self.over = False
        self.last: Content | None = None
        self.patch_prefix = _prefix(channel, StateTag.PATCH)

    def read_patch(self, reader: Reader, max_object: int) -> StateReceived | None:
        """Read a patch and apply it; its body is kept for whoever forwards it.

        :return: None when there is more to it, and nothing is done: it is still to be read, by `read_long_patch`.
        :raises DiffError: the patch cannot be applied.
        :raises PeerViolationError: the first patch has no format.
        """
        received = reader.patch()
        if received is None or (self._format_over and received.format is None):
            return None
        self._format_over = ""
        self._expect_format(received)
        return self._state(received, patch(_data_of(self.last), received.difference, max_object))

    def read_long_patch(self, reader: Reader, max_object: int) -> Iterator[PeerEvent | None]:
        """Do the same as `read_patch`, in steps; a state of which something is over a limit is passed over.

        Its data are kept: the next patch leads from them.
        """
        received = reader.patch()
        if received is None:
            received = yield from reader.skim_patch()
        self._expect_format(received)
        base = self.last
        data = yield from patching(_data_of(base), received.difference, max_object)
        if received.format is not None or received.format_over:
            self._format_over = received.format_over
        over = received.over or self._format_over
        if over:
            format = received.format or (() if base is None else base.format)
            self.last = Content(data, format, received.version)
            yield ItemIgnored(over, str(self._descriptor))
            if not self.over:  # else it gets older by itself
                yield SynchronizedReceived(self._channel, max(received.age, 1))
            self.over = True
        else:
            yield self._state(received, data)

    def _expect_format(self, received: Patch) -> None:
        if received.format is None and self.last is None and not received.format_over:
            raise PeerViolationError(f"the first patch on channel {self._channel} has no format")

    def _state(self, received: Patch, data: bytes) -> StateReceived:
        self.over = False
        base, format = self.last, received.format
        if base is not None and format is None:
            format = base.format
        assert format is not None
        content = self.last = Content(data, format, received.version)
        # a first one was checked against empty data, so it refers to nothing and leads here from any base
        content.encodings[None if base is None else ref(base)] = received.body
        return StateReceived(self._channel, content, received.age)


class Outlet:
    """A data channel on which states are sent.

    The last state sent is remembered weakly: who holds on to it (the machine keeps a few) makes the next patch small,
    and a link that nobody reads keeps nothing alive.

    :param descriptor: the object.
    :ivar last: the last state sent.
    :ivar behind: whether a newer one was skipped: then what the peer has is not current, whatever is sent of the newer.
    :ivar patch_prefix: the message of one patch, up to its body.
    """

    __slots__ = ("_synchronized_prefix", "behind", "descriptor", "last", "patch_prefix")

    def __init__(self, channel: int, descriptor: ObjectDescriptor) -> None:
        self.descriptor = descriptor
        self.last: ref[Content] | None = None
        self.behind = False
        self.patch_prefix = _prefix(channel, StateTag.PATCH)
        self._synchronized_prefix = _prefix(channel, StateTag.SET_SYNCHRONIZED)

    def synchronized(self, age: int) -> bytes:
        """Return the message that states how old the last state is."""
        return self._synchronized_prefix + encoding.age(age)

    def body(self, content: Content) -> bytes:
        """Return the body of a patch from what was sent last, if it is alive, to a state; shared by all links."""
        base, origin = self._base()
        body = content.encodings.get(origin)
        if body is None:
            body = _body(content, base, diff(_data_of(base), content.data))
            _keep_body(content, origin, body)
        return body

    def prepare_body(self, content: Content) -> Generator[None, None, None]:
        """Make the body, in steps, so that it is there at once when it is asked for."""
        base, origin = self._base()
        if origin not in content.encodings:
            difference = yield from diffing(_data_of(base), content.data)
            _keep_body(content, origin, _body(content, base, difference))

    def _base(self) -> tuple[Content | None, ref[Content] | None]:
        """Return what was sent last if it is alive, and its key among the encodings."""
        base = None if self.last is None else self.last()
        return base, None if base is None else self.last


def _data_of(base: Content | None) -> bytes:
    return b"" if base is None else base.data


def _body(content: Content, base: Content | None, difference: bytes) -> bytes:
    kept = base is not None and base.format == content.format
    return encoding.patch_body(content.version, None if kept else content.format, difference)


def _keep_body(content: Content, origin: ref[Content] | None, body: bytes) -> None:
    """Keep the body of a patch, and forget those that lead from what is gone."""
    # a snapshot of the keys, since links of other threads may add theirs
    for key in list(content.encodings):
        if key is not None and key() is None:
            content.encodings.pop(key, None)
    content.encodings[origin] = body


Entry: TypeAlias = Role | Inlet | Outlet
