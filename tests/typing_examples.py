"""What type checkers infer: checked by mypy and pyright with everything else; nothing here runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import hakuban
from hakuban import (
    LocalNode,
    ObjectDescriptor,
    ObjectExpose,
    ObjectObserve,
    ObjectState,
    ObjectStateSink,
    ObjectStateStream,
    Peer,
    TagExpose,
    TagObserve,
    TagView,
)
from hakuban.events import Event, EventBuffer, EventMerge, EventSource, Registration


@dataclass
class Reading:
    celsius: float


def contracts(node: LocalNode) -> None:
    """Contracts have the type that they were opened with."""
    assert_type(node.object("x").observe(), ObjectObserve[Any])
    assert_type(node.object("x").observe(Reading), ObjectObserve[Reading])
    assert_type(node.object("x").observe(type=Reading), ObjectObserve[Reading])
    assert_type(node.object("x").observe(Reading | None), ObjectObserve[Reading | None])
    assert_type(node.object("x").observe(int | str), ObjectObserve[int | str])
    assert_type(node.object("x").observe(list[Reading]), ObjectObserve[list[Reading]])
    assert_type(node.tag("x").observe(dict[str, int]), TagObserve[dict[str, int]])
    assert_type(node.object("x").expose(), ObjectExpose[Any])
    assert_type(node.object("x").expose(type=Reading, serializer="json"), ObjectExpose[Reading])
    assert_type(node.tag("x").expose(type=Reading | None, capacity=3), TagExpose[Reading | None])


def reading(observe: ObjectObserve[Reading], lab: TagObserve[Reading]) -> None:
    """So do states, streams and views."""
    assert_type(observe.object_data(), Reading | None)
    assert_type(observe.object_state(), ObjectState[Reading] | None)
    assert_type(observe.wait_sync(lambda state: state.data.celsius > 0), ObjectState[Reading])
    for state in observe.every(1.0):
        assert_type(state, ObjectState[Reading])
    for stream in lab:
        assert_type(stream, ObjectStateStream[Reading])
    with lab.view(retain=1.0) as view:
        assert_type(view, TagView[Reading])
        assert_type(view["x"], ObjectState[Reading])
        for descriptor, kept in view.items():
            assert_type(descriptor, ObjectDescriptor)
            assert_type(kept.data, Reading)
    assert_type(ObjectState(Reading(1.0)), ObjectState[Reading])


def producing(expose: ObjectExpose[Reading]) -> None:
    """Sinks take what the contract takes."""
    for sink in expose:
        assert_type(sink, ObjectStateSink[Reading])
        sink.set(Reading(1.0), age=2.0)


async def events(node: LocalNode, lab: TagObserve[Reading]) -> None:
    """Events have the keys of their sources."""
    source = lab.changes()
    assert_type(source, EventSource[ObjectDescriptor])
    assert_type(source.map(str), EventSource[str])
    assert_type(source.annotate(1).buffer(), EventBuffer[tuple[int, ObjectDescriptor]])
    assert_type(source.register(print), Registration)
    assert_type(node.peer_changes().keys(), list[Peer])
    assert_type(EventMerge(source, node.changes()), EventMerge[ObjectDescriptor])
    async for event in source:
        assert_type(event, Event[ObjectDescriptor])
    assert_type(await source.buffer().get(), Event[ObjectDescriptor])


def names() -> None:
    """A name that is not there is an error, and modules are known without an import of their own."""
    print(hakuban.ObjectObserveContract)  # type: ignore[attr-defined]
    assert_type(hakuban.events.Event(hakuban.events.Action.INSERT, 1), Event[int])
