"""Pictures of a router as text for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hakuban.transport import printable

from ._monitor import CONNECTOR, EXCHANGE, LISTENER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._monitor import Json

__all__ = ["render"]


def render(pictures: dict[str, Json]) -> Iterator[str]:
    """Write the pictures of `Monitor.pictures`, some lines for each object, tag and connection."""
    yield ""
    for lines in _parts(pictures):
        yield from map(printable, lines)


def _parts(pictures: dict[str, Json]) -> Iterator[Iterator[str]]:
    yield _exchange(pictures[EXCHANGE])
    yield _listener(pictures[LISTENER])
    if CONNECTOR in pictures:
        yield _connector(pictures[CONNECTOR])


def _exchange(exchange: Json) -> Iterator[str]:
    yield f"== {EXCHANGE}, connected to a router above: {_yes(exchange['upstream_connection'])}"
    yield f"objects: {len(exchange['objects'])}"
    for item in exchange["objects"]:
        yield from _object(item)
    yield f"tags: {len(exchange['tags'])}"
    for item in exchange["tags"]:
        yield from _tag(item)


def _object(item: Json) -> Iterator[str]:
    descriptor = item["descriptor"]
    yield f"  {item['id']}  {_text(descriptor['tags'])}:{_text(descriptor['json'])}"
    yield (
        f"      should exist: {_yes(item['should_exist'])}, data needed: {_yes(item['data_needed'])},"
        f" exposer: {_exposer(item['assigned_exposer'])},"
        f" capacity: {item['cumulative_object_exposer_capacity']}"
    )
    yield (
        f"      contracts here: {item['object_observe_contract_count']} observe,"
        f" {item['object_expose_contract_count']} expose; of its tags:"
        f" {item['tag_observe_contract_count']} observe, {item['tag_expose_contract_count']} expose"
    )
    if link := item["upstream_link"]:
        yield (
            f"      upstream: {link['sinks_receiving_from_upstream_count']} sinks fed by it,"
            f" {link['streams_sending_to_upstream_count']} streams feed it"
        )
    for link in item["downstream_links"]:
        yield (
            f"      downstream {link['downstream_connection_id']}:"
            f" observes: {_yes(link['object_observer'])} (tags: {link['tag_observer_count']}),"
            f" exposes: {_yes(link['object_exposer'])} (tags: {link['tag_exposer_count']},"
            f" capacity {link['object_exposer_capacity']}),"
            f" stream: {_yes(link['stream'])}, sink: {_yes(link['sink'])}"
        )
    if state := item["data_state"]:
        microseconds = state["synchronized_ms_ago"]  # named so by the crate
        fresh = f"{microseconds / 1e6:.3f} s old" if microseconds else "synchronized"
        yield (
            f"      state: version {_text(state['version'])}, format {_text(state['format'])},"
            f" {state['size']} bytes, {fresh}"
        )


def _tag(item: Json) -> Iterator[str]:
    yield (
        f"  {item['id']}  {_text(item['descriptor'])}, objects: {_text(item['objects'])},"
        f" capacity: {item['cumulative_tag_exposer_capacity']}"
    )
    yield (
        f"      contracts here: {item['tag_observe_contract_count']} observe,"
        f" {item['tag_expose_contract_count']} expose"
    )
    for link in item["downstream_links"]:
        yield (
            f"      downstream {link['downstream_connection_id']}:"
            f" observes: {_yes(link['tag_observer'])}, exposes: {_yes(link['tag_exposer'])}"
            f" (capacity {link['tag_exposer_capacity']})"
        )


def _listener(listener: Json) -> Iterator[str]:
    urls = listener.get("urls", [listener["url"]])
    connections = listener["downstream_connections"]
    yield f"== {LISTENER} {' '.join(urls)}, connections: {len(connections)}"
    for link in connections:
        limit = "none" if link["load_limit"] is None else f"{link['load_limit']:g}"
        yield (
            f"  {link['downstream_connection_id']}  {link['remote_address']}"
            f" {_text(link['remote_name'])}, load: {link['load']:g}, limit: {limit}"
        )


def _connector(connector: Json) -> Iterator[str]:
    link = connector["upstream_connection"]
    yield f"== {CONNECTOR} {connector['url']}, connected: {_yes(link)}"
    if link:
        yield (
            f"  {link['upstream_connection_id']}  {link['local_address']}"
            f" {_text(link['local_name'])} to {_text(link['remote_name'])}"
        )


def _exposer(exposer: Json | None) -> str:
    if exposer is None:
        return "none"
    ((kind, id),) = exposer.items()
    return f"{kind} {id}"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
