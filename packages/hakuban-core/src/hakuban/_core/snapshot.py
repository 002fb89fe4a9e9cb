"""Pictures of a node for people and monitors, with the names and JSON shapes of the crate's `ExchangeSnapshot`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .links import Downlink
from .records import Interest, LocalSink, ObjectRecord, TagRecord

if TYPE_CHECKING:
    from .._descriptors import ObjectDescriptor
    from .links import Uplink
    from .records import Exposer
    from .world import World

Json = dict[str, Any]


@dataclass(slots=True, frozen=True)
class NodeSnapshot:
    """A consistent picture of one node at one moment.

    :ivar objects: one JSON object for each known object (the crate's `ObjectSnapshot`). The field
        `synchronized_ms_ago` of a state holds microseconds, as it does in the crate.
    :ivar tags: one for each known tag (`TagSnapshot`).
    :ivar downstream_connections: one for each peer below (`DownstreamConnectionSnapshot`).
    :ivar upstream: the link to the node above (`UpstreamConnectionSnapshot`), or None.
    :ivar ignored_states: published states that were not newer than the held one, for each object that had any.
    :ivar skipped_states: states that some peer did not get, since it takes none so large, for each object that had any.
    :ivar size_caps: bytes of the largest message that is sent for now, for each link where that was learnt from an end with
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
        """Give the JSON of the crate's `ExchangeSnapshot`."""
        return {
            "objects": self.objects,
            "tags": self.tags,
            "upstream_connection": self.upstream_connection,
        }


def take_snapshot(world: World, now: float) -> NodeSnapshot:
    """Draw the picture."""
    uplink = world.uplink
    return NodeSnapshot(
        objects=[_object(record, uplink, now) for record in world.objects.values()],
        tags=[_tag(record, uplink) for record in world.tags.values()],
        downstream_connections=[
            _downstream(link, now) for link in world.links.values() if isinstance(link, Downlink)
        ],
        upstream=None if uplink is None else _upstream(uplink),
        ignored_states={
            record.descriptor: record.held.ignored
            for record in world.objects.values()
            if record.held.ignored
        },
        skipped_states={
            record.descriptor: record.held.skipped
            for record in world.objects.values()
            if record.held.skipped
        },
        size_caps={
            link.id: link.size_cap for link in world.links.values() if link.size_cap is not None
        },
    )


def _object(record: ObjectRecord, uplink: Uplink | None, now: float) -> Json:
    upstream = None
    if uplink is not None:
        upstream = {
            "sinks_receiving_from_upstream_count": len(record.fed),
            "streams_sending_to_upstream_count": len(record.feeding),
        }
    capacity = sum(contract.capacity for contract in record.exposers.values())
    capacity += sum(interest.capacity for interest in record.interests.values())
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
        "cumulative_object_exposer_capacity": capacity,
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
    return {"UpstreamConnection": next(link.id for link in record.fed.values())}


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
    capacity = sum(contract.capacity for contract in tag.exposers.values())
    capacity += sum(wish.capacity for wish in tag.interests.values())
    return {
        "id": tag.id,
        "descriptor": tag.descriptor.json,
        "objects": [record.id for record in tag.objects],
        "tag_observe_contract_count": len(tag.observers),
        "tag_expose_contract_count": len(tag.exposers),
        "upstream_link": None if uplink is None else {},
        "downstream_links": [
            {
                "downstream_connection_id": link.id,
                "tag_observer": wish.observes,
                "tag_exposer": wish.exposes,
                "tag_exposer_capacity": wish.capacity,
            }
            for link, wish in tag.interests.items()
        ],
        "cumulative_tag_exposer_capacity": capacity,
    }


def _downstream(link: Downlink, now: float) -> Json:
    return {
        "downstream_connection_id": link.id,
        "remote_address": link.remote_address,
        "local_name": link.local_name,
        "remote_name": link.remote_name,
        "load": link.load,
        "load_limit": None if link.ramp is None else link.ramp.limit(now),
    }


def _upstream(link: Uplink) -> Json:
    return {
        "upstream_connection_id": link.id,
        "local_address": link.local_address,
        "local_name": link.local_name,
        "remote_name": link.remote_name,
    }
