"""Pictures of a node for people and monitors, with the names and JSON shapes of the crate's `ExchangeSnapshot`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .graph import Downlink, Interest, LocalSink, ObjectRecord, TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._descriptors import ObjectDescriptor
    from .graph import Exposer, Uplink
    from .world import World

Json = dict[str, Any]


# units of work
_OBJECT = 40
_LINK = 5
_PART = 5


@dataclass(slots=True)
class NodeSnapshot:
    """A picture of one node. It is drawn in slices: of a large node one part may be of another moment than the next.

    :ivar objects: one JSON object for each known object (the crate's `ObjectSnapshot`). The field
        `synchronized_ms_ago` of a state holds microseconds, as it does in the crate.
    :ivar tags: one for each known tag (`TagSnapshot`).
    :ivar downstream_connections: one for each peer below (`DownstreamConnectionSnapshot`).
    :ivar upstream: the link to the node above (`UpstreamConnectionSnapshot`), or None.
    :ivar ignored_states: published states that were not newer than the held one, for each object that had any.
    :ivar skipped_states: states that some peer did not get, since it takes none so large, for each object that had any.
    :ivar size_caps: bytes of the largest message sent for now, for each link where that was learnt from an end with
        1009, by the id of its connection; see `Connection.size_cap`.
    """

    objects: list[Json] = field(default_factory=list)
    tags: list[Json] = field(default_factory=list)
    downstream_connections: list[Json] = field(default_factory=list)
    upstream: Json | None = None
    ignored_states: dict[ObjectDescriptor, int] = field(default_factory=dict)
    skipped_states: dict[ObjectDescriptor, int] = field(default_factory=dict)
    size_caps: dict[int, int] = field(default_factory=dict)

    @property
    def upstream_connection(self) -> bool:
        """Whether there is a link to the node above."""
        return self.upstream is not None

    def to_json(self) -> Json:
        """Return the JSON of the crate's `ExchangeSnapshot`."""
        return {
            "objects": self.objects,
            "tags": self.tags,
            "upstream_connection": self.upstream_connection,
        }


class Picture:
    """A picture of a node that is drawn in slices, of which each is of its own moment."""

    __slots__ = ("_now", "_snapshot", "_strokes", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._now = 0.0
        self._snapshot = NodeSnapshot()
        self._strokes = self._draw()

    def go_on(self, now: float) -> NodeSnapshot | None:
        """Draw, as far as this step has room; return the picture when it is done."""
        self._now = now
        for cost in self._strokes:
            self._world.left -= cost
            if self._world.left <= 0:
                return None
        return self._snapshot

    def _draw(self) -> Iterator[int]:
        """Draw one thing after the other; return what each has cost, in units of work."""
        world, snapshot = self._world, self._snapshot
        links, tags, records = (
            [*world.links.values()],
            [*world.tags.values()],
            [*world.objects.values()],
        )
        yield (len(links) + len(tags) + len(records)) // 32
        for link in links:
            if link.alive:
                self._draw_link(link)
                yield _LINK
        for record in records:
            if world.objects.get(record.descriptor) is record:
                self._draw_object(record)
                yield _OBJECT + _PART * (len(record.interests) + len(record.tags))
        for tag in tags:
            if world.tags.get(tag.descriptor) is tag:
                snapshot.tags.append(_tag(tag, world.uplink))
                yield _OBJECT + _PART * len(tag.interests) + len(tag.objects) // 8

    def _draw_link(self, link: Downlink | Uplink) -> None:
        snapshot = self._snapshot
        if isinstance(link, Downlink):
            snapshot.downstream_connections.append(_downstream(link, self._now))
        else:
            snapshot.upstream = _upstream(link)
        if link.size_cap is not None:
            snapshot.size_caps[link.id] = link.size_cap

    def _draw_object(self, record: ObjectRecord) -> None:
        snapshot, held = self._snapshot, record.held
        snapshot.objects.append(_object(record, self._world.uplink, self._now))
        if held.ignored:
            snapshot.ignored_states[record.descriptor] = held.ignored
        if held.skipped:
            snapshot.skipped_states[record.descriptor] = held.skipped


def _object(record: ObjectRecord, uplink: Uplink | None, now: float) -> Json:
    upstream = None
    if uplink is not None:
        upstream = {
            "sinks_receiving_from_upstream_count": len(record.upstream_inlets),
            "streams_sending_to_upstream_count": len(record.upstream_outlets),
        }
    return {
        "id": record.id,
        "descriptor": {
            "tags": [tag.json for tag in record.descriptor.tags],
            "json": record.descriptor.json,
        },
        "should_exist": record.should_exist,
        "data_needed": record.data_needed,
        "assigned_exposer": _exposer(record, record.exposer),
        "object_observe_contract_count": len(record.observers),
        "object_expose_contract_count": len(record.exposers),
        "tag_observe_contract_count": sum(len(tag.observers) for tag in record.tags),
        "tag_expose_contract_count": sum(len(tag.exposers) for tag in record.tags),
        "upstream_link": upstream,
        "downstream_links": [_interest(interest) for interest in record.interests.values()],
        "cumulative_object_exposer_capacity": record.capacity,
        "data_state": _state(record, now),
    }


def _exposer(record: ObjectRecord, exposer: Exposer | None) -> Json | None:
    if exposer is None:
        return None
    if isinstance(exposer, LocalSink):
        of_tag = isinstance(exposer.contract.target, TagRecord)
        kind = "TagExposeContract" if of_tag else "ObjectExposeContract"
        return {kind: exposer.contract.id}
    if isinstance(exposer, Interest):
        return {"DownstreamConnection": exposer.link.id}
    above = next(
        iter(record.upstream_inlets.values()), None
    )  # none, if that has changed and is not settled
    return None if above is None else {"UpstreamConnection": above.id}


def _interest(interest: Interest) -> Json:
    return {
        "downstream_connection_id": interest.link.id,
        "object_observer": interest.observes,
        "object_exposer": interest.exposes,
        "object_exposer_capacity": interest.capacity,
        "tag_observer_count": interest.tag_observers,
        "tag_exposer_count": interest.tag_exposers,
        "stream": interest.outlet is not None,
        "sink": interest.inlet is not None,
    }


def _state(record: ObjectRecord, now: float) -> Json | None:
    view = record.held.view
    if view is None:
        return None
    return {
        "version": list(view.content.version),
        "format": list(view.content.format),
        "size": len(view.content.data),
        "synchronized_ms_ago": view.age(now),
    }


def _tag(tag: TagRecord, uplink: Uplink | None) -> Json:
    return {
        "id": tag.id,
        "descriptor": tag.descriptor.json,
        "objects": [record.id for record in tag.objects.values()],
        "tag_observe_contract_count": len(tag.observers),
        "tag_expose_contract_count": len(tag.exposers),
        "upstream_link": None if uplink is None else {},
        "downstream_links": [
            {
                "downstream_connection_id": link.id,
                "tag_observer": interest.observes,
                "tag_exposer": interest.exposes,
                "tag_exposer_capacity": interest.capacity,
            }
            for link, interest in tag.interests.items()
        ],
        "cumulative_tag_exposer_capacity": tag.capacity,
    }


def _downstream(link: Downlink, now: float) -> Json:
    return {
        "downstream_connection_id": link.id,
        "remote_address": link.remote_address,
        "local_name": link.local_name,
        "remote_name": link.remote_name,
        "load": link.load,
        "load_limit": None if link.load_limit is None else link.load_limit.limit(now),
    }


def _upstream(link: Uplink) -> Json:
    return {
        "upstream_connection_id": link.id,
        "local_address": link.local_address,
        "local_name": link.local_name,
        "remote_name": link.remote_name,
    }
