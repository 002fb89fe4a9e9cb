"""What is sent about descriptors, names, load limits and contracts, between bytes and the words of the machine.

The readers of actions yield one event for each action, so that a message of millions of actions is never a
list and its handler can stop in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hakuban._canonical import MAX_DEPTH, depth_of
from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._exceptions import InvalidDescriptorError, PeerViolationError, WireError
from hakuban._session_events import (
    ChannelKind,
    ContractAction,
    ItemIgnored,
    PeerLimited,
    PeerNamed,
    Verb,
)

from . import encoding
from .tags import ChannelTag, ControlTag, ExchangeTag

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from hakuban._session_events import PeerEvent

    from .reader import Reader

_VERBS = {verb.value: verb for verb in Verb}
DATA_KINDS: dict[int, ChannelKind] = {
    ChannelTag.OBJECT_SINK_TO_UPSTREAM: ChannelKind.SINK,
    ChannelTag.OBJECT_STREAM_FROM_UPSTREAM: ChannelKind.STREAM,
}
_DATA_TAGS = {kind: ChannelTag(tag) for tag, kind in DATA_KINDS.items()}
_CAPACITY_SIZE = 5  # bytes, at most
_WITH_CAPACITY = frozenset({Verb.EXPOSE, Verb.SET_CAPACITY})


def contract(action: ContractAction) -> bytes:
    """Write the change of a contract."""
    verb, descriptor = action.verb, action.descriptor
    capacity = action.capacity if verb in _WITH_CAPACITY else None
    if isinstance(descriptor, TagDescriptor):
        return encoding.tag_contract(verb, descriptor.json_text, capacity)
    return encoding.object_contract(verb, _tags(descriptor), descriptor.json_text, capacity)


def contracts(
    actions: Iterable[ContractAction], room: int
) -> Iterator[list[bytes] | tuple[ContractAction, int]]:
    """Write changes of contracts: in batches of at most so many bytes, and what does not fit alone with its size.

    What is sent about one object or tag always fits, or never does: it must not be taken back if it was not sent.
    """
    batch: list[bytes] = []
    size = 0
    for action in actions:
        written = contract(action)
        largest = len(written) + (0 if action.verb in _WITH_CAPACITY else _CAPACITY_SIZE)
        if largest > room:
            yield action, largest
            continue
        if size + len(written) > room:
            yield batch
            batch, size = [], 0
        batch.append(written)
        size += len(written)
    if batch:
        yield batch


def initialize_data(kind: ChannelKind, descriptor: ObjectDescriptor) -> bytes:
    """Write what a data channel is for."""
    return encoding.initialize_data(_DATA_TAGS[kind], _tags(descriptor), descriptor.json_text)


def _tags(descriptor: ObjectDescriptor) -> list[str]:
    return [tag.json_text for tag in descriptor.tags]


def connector_actions(
    reader: Reader, count: int, max_load_seconds: float
) -> Iterator[PeerEvent | None]:
    """Read so many actions of a connecting peer."""
    for _ in range(count):
        subject = reader.u32()
        if subject == ControlTag.EXCHANGE:
            if _exchange(reader) == ExchangeTag.SET_NAME:
                yield PeerNamed(reader.name())
            else:
                yield _load_limit(reader, max_load_seconds)
        elif subject == ControlTag.OBJECT_CONTRACT:
            verb = _verb(reader)
            descriptor = yield from read_object(reader)
            yield _contract(reader, verb, descriptor)
        elif subject == ControlTag.TAG_CONTRACT:
            verb = _verb(reader)
            yield _contract(reader, verb, _read_tag(reader))
        else:
            raise WireError(f"unknown action {subject} on a control channel")


def listener_actions(reader: Reader, count: int) -> Iterator[PeerEvent]:
    """Read so many actions of a listening peer."""
    for _ in range(count):
        subject = reader.u32()
        if subject != ControlTag.EXCHANGE:
            raise WireError(f"unknown action {subject} on a listener's control channel")
        if _exchange(reader) == ExchangeTag.SET_LOAD_LIMIT:
            raise PeerViolationError("a listener declares a load limit")
        yield PeerNamed(reader.name())


def read_object(reader: Reader) -> Generator[None, None, ObjectDescriptor | ItemIgnored]:
    """Read the descriptor of an object; in steps, since it may contain more than is taken."""
    texts = yield from reader.object_texts()
    if isinstance(texts, ItemIgnored):
        return texts
    try:
        return ObjectDescriptor.from_json(texts[:-1], texts[-1])
    except InvalidDescriptorError as error:
        return _ignored(error, texts)


def _read_tag(reader: Reader) -> TagDescriptor | ItemIgnored:
    texts = reader.tag_text()
    if isinstance(texts, ItemIgnored):
        return texts
    try:
        return TagDescriptor.from_json(texts[0])
    except InvalidDescriptorError as error:
        return _ignored(error, texts)


def _ignored(error: InvalidDescriptorError, texts: list[str]) -> ItemIgnored:
    shown = ",".join(texts)
    if any(depth_of(text) > MAX_DEPTH for text in texts):
        return ItemIgnored(f"a descriptor is nested deeper than {MAX_DEPTH} levels", shown)
    return ItemIgnored(f"a descriptor does not decode: {error.reason}", shown)


def _exchange(reader: Reader) -> int:
    tag = reader.u32()
    if tag > ExchangeTag.SET_LOAD_LIMIT:
        raise WireError(f"unknown exchange action {tag}")
    return tag


def _verb(reader: Reader) -> Verb:
    tag = reader.u32()
    verb = _VERBS.get(tag)
    if verb is None:
        raise WireError(f"unknown contract action {tag}")
    return verb


def _contract(
    reader: Reader, verb: Verb, descriptor: ObjectDescriptor | TagDescriptor | ItemIgnored
) -> ContractAction | ItemIgnored:
    # the capacity is read even if the contract is ignored: the next action begins after it
    capacity = reader.u32() if verb in _WITH_CAPACITY else 0
    if isinstance(descriptor, ItemIgnored):
        return descriptor
    return ContractAction(verb, descriptor, capacity)


def _load_limit(reader: Reader, max_seconds: float) -> PeerLimited:
    points = reader.load_limit()
    previous = 0.0
    for seconds, _ in points:
        if not previous <= seconds <= max_seconds:  # false for NaN, too
            raise PeerViolationError(f"a load limit has a point at {seconds} s, after {previous} s")
        previous = seconds
    return PeerLimited(points)
