"""The session of one link: its channel tables, bytes to events, instructions to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never
from weakref import ref

from msgspec import UNSET

from hakuban._exceptions import LinkError, PeerViolationError, ProtocolMismatchError, WireError
from hakuban._session_events import (
    ChannelClosed,
    ChannelKind,
    ChannelOpened,
    CloseChannel,
    ItemIgnored,
    NoteIgnored,
    NoteReceived,
    OpenChannel,
    SendContracts,
    SendNote,
    SendState,
    SendSynchronized,
    SynchronizedReceived,
)

from .._limits import Limits
from . import control, encoding, notes
from .channels import Inlet, Outlet, Role, patch_prefix
from .reader import Reader
from .tags import INITIALIZE, ChannelTag, EventTag, MessageTag, Side, StateTag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hakuban._descriptors import ObjectDescriptor, TagDescriptor
    from hakuban._session_events import ContractAction, Instruction, Note, PeerEvent

    from .channels import Entry

_DEFAULT_LIMITS = Limits()
_CONTROL_CHANNEL = 1
_CONTROL_HEAD = 16  # bytes of a message on a control channel, beside its actions; rounded up
_SHORT = 4096  # bytes of a message that is decoded in one step
_LONG = 32 * 1024  # bytes of a state of which the difference from another may take long to find
_OPEN_OF_0_8_0 = tuple(b"\0\0\0\0" + bytes((side,)) + b"\0\0\0\1\0\0\0\0\0\0\0" for side in Side)


class Session:
    """One link's end of the protocol. Not thread-safe; one reader and one writer may share it on one event loop.

    The last state sent on a channel is remembered weakly, the last one received strongly.

    :param listening: whether this side accepted the link; the other kind of peer connected.
    :param name: the name that this side sends to the other.
    :param load_limit: points of (seconds from now, load) that a connecting side declares, sorted; none is no limit.
    :param limits: limits of what is received; `max_message` is that of what is sent too, unless the peer takes less.
    :param max_taken: bytes of the largest message that the peer takes, as stated on an earlier link; None for unknown.
    :ivar max_taken: the same, as the peer stated last.
    :ivar peer_node: the id of the peer's node, once a note has stated it; else "".
    :ivar max_sent: bytes of the largest message that is sent.
    :ivar skipped: (object, bytes of the message) of each state that was not sent because its message would be over
        `max_sent`; the caller takes them out.
    :ivar oversized: the same of contracts and channels.
    """

    __slots__ = (
        "_cap", "_channels", "_ended", "_last_issued", "_limits", "_listening", "_load_limit", "_name", "_own",
        "_patched", "_short", "max_sent", "max_taken", "oversized", "peer_node", "skipped",
    )  # fmt: skip

    def __init__(
        self,
        *,
        listening: bool,
        name: str,
        load_limit: Sequence[tuple[float, int]] = (),
        limits: Limits = _DEFAULT_LIMITS,
        max_taken: int | None = None,
    ) -> None:
        self.skipped: list[tuple[ObjectDescriptor, int]] = []
        self.oversized: list[tuple[ObjectDescriptor | TagDescriptor, int]] = []
        self.peer_node: str = ""
        self.max_taken: int | None = max_taken
        self._listening = listening
        self._own = Side.UPSTREAM if listening else Side.DOWNSTREAM
        self._name = name
        self._load_limit = tuple(load_limit)
        self._limits = limits
        self._ended = False
        # All open channels but our control channel, by the side that opened them. Data channels are the listener's.
        self._channels: tuple[dict[int, Entry], dict[int, Entry]] = ({}, {})
        # The inlets by how a message of one patch for them begins: nearly all messages do.
        self._patched: dict[bytes, Inlet] = {}
        self._short = min(_SHORT, limits.max_message)
        self._last_issued = _CONTROL_CHANNEL
        self.cap(None)

    # ---- sending ----------------------------------------------------------------------------------------------------

    def opening(self, note: Note | None = None) -> list[bytes]:
        """Return the messages that begin the link: they wait for nothing the other side sends.

        :param note: for a peer that may be of this project; before the name, by which the link is up for users.
        """
        kind, actions = ChannelTag.DOWNSTREAM_CONTROL, [encoding.set_name(self._name)]
        if not self._listening:
            kind = ChannelTag.UPSTREAM_CONTROL
            actions.append(encoding.set_load_limit(self._load_limit))
        initialize = [encoding.initialize_control(kind)]
        return [
            encoding.open_channel(self._own, _CONTROL_CHANNEL),
            encoding.message(self._own, _CONTROL_CHANNEL, MessageTag.UNINITIALIZED, initialize),
            *(() if note is None else (self._note(note),)),
            self._control(actions),
        ]

    def cap(self, most: int | None) -> None:
        """Send no message of more bytes, whatever the peer states that it takes; None for no such limit."""
        self._cap = most
        limits = (self._limits.max_message, self.max_taken, most)
        self.max_sent: int = min(limit for limit in limits if limit is not None)

    def keep_alive(self) -> bytes:
        """Return a message without actions, for transports that cannot notice silence."""
        return self._control([])

    def _note(self, note: Note) -> bytes:
        return self.keep_alive() + notes.encoded(note)

    def prepare(self, instruction: Instruction) -> Iterable[None]:
        """Do what takes long of encoding an instruction, if anything does, in steps, so that others may have a turn."""
        if isinstance(instruction, SendState) and len(instruction.content.data) > _LONG:
            outlet = self._outlet(instruction.channel)
            if outlet is not None:
                return outlet.prepare_body(instruction.content)
        return ()

    def encode(self, instruction: Instruction) -> list[bytes]:
        """Turn an instruction into whole messages, in order.

        There are none for a channel that is not open: the peer may have closed it when the instruction was on its way.
        """
        match instruction:
            case SendState():
                return self._send_state(instruction)
            case SendSynchronized(channel, age):
                outlet = self._outlet(channel)
                # what the peer has and is not current gets older by itself, whatever becomes of what it did not get
                if outlet is None or outlet.behind:
                    return []
                return [outlet.synchronized(age)]
            case SendContracts(actions):
                return self._send_contracts(actions)
            case SendNote(note):
                message = self._note(note)
                return [message] if len(message) <= self.max_sent else []
            case OpenChannel():
                return self._open(instruction)
            case CloseChannel(channel):
                if self._forget(Side.UPSTREAM, channel) is None:
                    return []
                return [encoding.close_channel(Side.UPSTREAM, channel)]
            case _:
                assert_never(instruction)

    def _control(self, actions: Sequence[bytes]) -> bytes:
        kind = MessageTag.DOWNSTREAM_CONTROL if self._listening else MessageTag.UPSTREAM_CONTROL
        return encoding.message(self._own, _CONTROL_CHANNEL, kind, actions)

    def _open(self, instruction: OpenChannel) -> list[bytes]:
        assert self._listening
        channel, kind, descriptor = instruction.channel, instruction.kind, instruction.descriptor
        action = control.initialize_data(kind, descriptor)
        message = encoding.message(Side.UPSTREAM, channel, MessageTag.UNINITIALIZED, [action])
        self._last_issued = max(self._last_issued, channel)
        if len(message) > self.max_sent:
            self.oversized.append((descriptor, len(message)))
            return []
        if kind is ChannelKind.SINK:
            self._add_inlet(Side.UPSTREAM, channel, descriptor)
        else:
            self._channels[Side.UPSTREAM][channel] = Outlet(channel, descriptor)
        return [encoding.open_channel(Side.UPSTREAM, channel), message]

    def _send_contracts(self, actions: Sequence[ContractAction]) -> list[bytes]:
        messages: list[bytes] = []
        for batch in control.contracts(actions, self.max_sent - _CONTROL_HEAD):
            if isinstance(batch, list):
                messages.append(self._control(batch))
            else:
                self.oversized.append((batch[0].descriptor, batch[1]))
        return messages

    def _add_inlet(self, side: int, channel: int, descriptor: ObjectDescriptor) -> None:
        inlet = self._channels[side][channel] = Inlet(channel, descriptor)
        self._patched[inlet.patch_prefix] = inlet

    def _forget(self, side: int, channel: int) -> Entry | None:
        entry = self._channels[side].pop(channel, None)
        if isinstance(entry, Inlet):
            del self._patched[entry.patch_prefix]
        return entry

    def _outlet(self, channel: int) -> Outlet | None:
        entry = self._channels[Side.UPSTREAM].get(channel)
        return entry if isinstance(entry, Outlet) else None

    def _send_state(self, instruction: SendState) -> list[bytes]:
        channel, content = instruction.channel, instruction.content
        outlet = self._outlet(channel)
        if outlet is None:
            return []
        body = outlet.body(content)
        age = encoding.age(instruction.age)
        size = len(outlet.patch_prefix) + len(body) + len(age)
        if size > self.max_sent:
            self.skipped.append((outlet.descriptor, size))
            behind, outlet.behind = outlet.behind, True
            return [] if behind else [outlet.synchronized(max(instruction.age, 1))]
        outlet.behind = False
        outlet.last = ref(content)
        return [b"".join((outlet.patch_prefix, body, age))]

    # ---- receiving --------------------------------------------------------------------------------------------------

    def receive(self, message: bytes) -> Iterable[PeerEvent | None]:
        """Decode one message, event by event; a message may hold millions. Once it has raised, nothing more is read.

        None between events means that there is work left, and that others may have a turn.

        :raises WireError: the message does not decode.
        :raises DiffError: a patch cannot be applied.
        :raises PeerViolationError: the peer broke a rule of the protocol.
        :raises ProtocolMismatchError: the peer uses another version of the protocol.
        :raises LinkError: the peer closed its control channel, and thereby the link (code 1000).
        """
        if self._ended or not message:
            return ()
        inlet = self._patched.get(patch_prefix(message))
        if inlet is None or len(message) > self._short:
            return self._receive(message)
        try:
            reader = Reader(message, self._limits, len(inlet.patch_prefix))
            state = inlet.read_patch(reader, self._limits.max_object)
            return (state,) if state is not None else self._receive(message)
        except LinkError:
            self._ended = True
            raise

    def _receive(self, message: bytes) -> Iterator[PeerEvent | None]:
        try:
            if len(message) > self._limits.max_message:
                raise PeerViolationError(f"a message of {len(message)} bytes", code=1009)
            yield from self._events(message)
        except LinkError:
            self._ended = True
            raise

    def _events(self, message: bytes) -> Iterable[PeerEvent | None]:
        if message in _OPEN_OF_0_8_0:
            raise ProtocolMismatchError(
                "protocol mismatch: the peer speaks the encoding of hakuban 0.8.0, which later 0.8 releases changed;"
                " upgrade it to 0.8.5"
            )
        reader = Reader(message, self._limits)
        event, side, channel = reader.event()
        if event == EventTag.MESSAGE:
            return self._message(reader, side, channel)
        if side == self._own:
            raise PeerViolationError(
                f"the peer opens or closes channel {channel}, which is ours to open and close"
            )
        return (
            self._opened(side, channel) if event == EventTag.OPEN else self._closed(side, channel)
        )

    def _opened(self, side: int, channel: int) -> Iterable[PeerEvent | None]:
        channels = self._channels[side]
        if channel in channels:
            raise PeerViolationError(f"channel {channel} is opened twice")
        limits = self._limits
        limit = limits.max_control_channels if self._listening else limits.max_channels
        if len(channels) >= limit:
            raise PeerViolationError(f"more than {limit} channels are open", code=1008)
        channels[channel] = Role.OPENED
        return ()

    def _closed(self, side: int, channel: int) -> Iterable[PeerEvent | None]:
        entry = self._forget(side, channel)
        if entry is None:
            raise PeerViolationError(f"channel {channel} is closed, and was not open")
        if entry is Role.CONTROL:
            raise LinkError("the peer closed its control channel", code=1000)
        return () if isinstance(entry, Role) else (ChannelClosed(channel),)

    def _message(self, reader: Reader, side: int, channel: int) -> Iterable[PeerEvent | None]:
        entry = self._channels[side].get(channel)
        if isinstance(entry, Inlet):
            _expect(reader, MessageTag.STATE_STREAM, channel)
            return self._states(reader, channel, entry)
        if isinstance(entry, Outlet):
            raise PeerViolationError(
                f"a message arrives on channel {channel}, which states leave on"
            )
        if entry is Role.CONTROL:
            return self._control_actions(reader, channel)
        if entry is Role.OPENED:
            return self._initialized(reader, side, channel)
        # Unread: what is sent to the control channel of ours, what was under way when we closed a channel of ours,
        # and what belongs to a descriptor that was ignored. (To decode it would take long and give no event.)
        if entry is None and (side != self._own or channel > self._last_issued):
            raise PeerViolationError(f"a message arrives on channel {channel}, which is not open")
        return ()

    def _states(self, reader: Reader, channel: int, inlet: Inlet) -> Iterator[PeerEvent | None]:
        open_channels = self._channels[Side.UPSTREAM]
        for _ in range(reader.length()):
            if open_channels.get(channel) is not inlet:
                return  # closed by us while the events before were handled
            action = reader.u32()
            if action == StateTag.PATCH:
                yield from inlet.read_long_patch(reader, self._limits.max_object)
            elif action == StateTag.SET_SYNCHRONIZED:
                age = reader.unsigned()
                if not inlet.over:
                    yield SynchronizedReceived(channel, age)
            else:
                raise WireError(f"unknown action {action} on a data channel")

    def _control_actions(self, reader: Reader, channel: int) -> Iterable[PeerEvent | None]:
        kind = MessageTag.UPSTREAM_CONTROL if self._listening else MessageTag.DOWNSTREAM_CONTROL
        _expect(reader, kind, channel)
        count = reader.length()
        if not count:
            return self._noted(notes.read(reader))
        if self._listening:
            return control.connector_actions(reader, count, self._limits.max_load_seconds)
        return control.listener_actions(reader, count)

    def _noted(self, event: NoteReceived | NoteIgnored | None) -> Iterable[PeerEvent]:
        if isinstance(event, NoteReceived):
            if event.note.max_message is not UNSET:
                self.max_taken = event.note.max_message
                self.cap(self._cap)
            if event.note.node is not UNSET and not self.peer_node:
                self.peer_node = event.note.node
        return () if event is None else (event,)

    def _initialized(self, reader: Reader, side: int, channel: int) -> Iterable[PeerEvent | None]:
        _expect(reader, MessageTag.UNINITIALIZED, channel)
        count = reader.unsigned()
        if count != 1:
            raise PeerViolationError(
                f"channel {channel} begins with {count} actions instead of one"
            )
        action, tag = reader.u32(), reader.u32()
        if action != INITIALIZE or tag > ChannelTag.OBJECT_STREAM_FROM_UPSTREAM:
            raise WireError(f"channel {channel} begins with an unknown action ({action}, {tag})")
        if (tag == ChannelTag.UPSTREAM_CONTROL) is not self._listening:
            raise PeerViolationError(f"channel {channel} is initialized to {ChannelTag(tag).name}")
        kind = control.DATA_KINDS.get(tag)
        if kind is not None:
            return self._data_channel(reader, side, channel, kind)
        self._channels[side][channel] = Role.CONTROL
        return ()

    def _data_channel(
        self, reader: Reader, side: int, channel: int, kind: ChannelKind
    ) -> Iterator[PeerEvent | None]:
        descriptor = yield from control.read_object(reader)
        if isinstance(descriptor, ItemIgnored):
            self._channels[side][channel] = Role.IGNORED
            yield descriptor
            return
        if kind is ChannelKind.SINK:
            self._channels[side][channel] = Outlet(channel, descriptor)
        else:
            self._add_inlet(side, channel, descriptor)
        yield ChannelOpened(channel, kind, descriptor)


def _expect(reader: Reader, wanted: MessageTag, channel: int) -> None:
    kind = reader.u32()
    if kind > MessageTag.STATE_STREAM:
        raise WireError(f"unknown kind {kind} of a message")
    if kind != wanted:
        raise PeerViolationError(
            f"{MessageTag(kind).name} actions arrive on channel {channel} instead of {wanted.name}"
        )
