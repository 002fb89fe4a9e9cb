"""Pictures of a router as text for people: in pages, since a router may have a hundred thousand objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hakuban.transport import printable

from ._monitor import CONNECTOR, EXCHANGE, LISTENER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._monitor import Json


LINES: Final = 1_000  # of a page, and those of one object more
CHARACTERS: Final = 100_000  # of a page, likewise
LINKS: Final = 20  # that are shown of one object or tag
LONGEST: Final = 500  # characters that are shown of a name or a version


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: the number of the page, which of the lists, and an index in it."""

    page: int
    list_number: int
    index: int


START: Final = Place(1, 0, 0)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a report.

    :ivar next: where the next one begins, or None behind the last.
    """

    lines: list[str]
    next: Place | None


def draw_page(pictures: dict[str, Json], place: Place) -> Page:
    """Write of the pictures of `Monitor.pictures` what is at a place: some lines for each object, tag and connection.

    The lists are counted on every page; what has changed since the page before may be on both, or on none.
    """
    exchange, listener = pictures[EXCHANGE], pictures[LISTENER]
    urls = " ".join(listener.get("urls", [listener["url"]]))
    shown = _Shown(place)
    above = _yes(exchange["upstream_connection"])
    shown.say("", f"== {EXCHANGE}, connected to a router above: {above}")
    shown.show("objects: ", exchange["objects"], _object)
    shown.show("tags: ", exchange["tags"], _tag)
    connections = listener["downstream_connections"]
    shown.show(f"== {LISTENER} {urls}, connections: ", connections, _connection)
    if CONNECTOR in pictures:
        shown.say(*_connector(pictures[CONNECTOR]))
    return Page(shown.lines, shown.next)


class _Shown:
    """A page that grows list by list."""

    def __init__(self, place: Place) -> None:
        self.lines: list[str] = []
        self.next: Place | None = None
        self._place = place
        self._list = 0
        self._characters = 0

    @property
    def _full(self) -> bool:
        return len(self.lines) >= LINES or self._characters >= CHARACTERS

    def say(self, *lines: str) -> None:
        for line in lines:
            self.lines.append(printable(line))
            self._characters += len(line)

    def show(
        self, heading: str, items: Sequence[Json], lines: Callable[[Json], Iterable[str]]
    ) -> None:
        """Show of a list what is on this page, below how many there are."""
        number, self._list = self._list, self._list + 1
        index = begin = self._begin(number, len(items))
        where = len(self.lines)
        self.say(f"{heading}{len(items)}")
        for item in islice(items, begin, None):
            if self._full or self.next is not None:
                self.next = self.next or Place(self._place.page + 1, number, index)
                break
            self.say(*lines(item))
            index += 1
        if begin < index < len(items) or 0 < begin < index:
            self.lines[where] += f", here {begin + 1} to {index}"

    def _begin(self, number: int, length: int) -> int:
        if number == self._place.list_number:
            return min(self._place.index, length)
        return 0 if number > self._place.list_number else length


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
    for link in item["downstream_links"][:LINKS]:
        yield (
            f"      downstream {link['downstream_connection_id']}:"
            f" observes: {_yes(link['object_observer'])} (tags: {link['tag_observer_count']}),"
            f" exposes: {_yes(link['object_exposer'])} (tags: {link['tag_exposer_count']},"
            f" capacity {link['object_exposer_capacity']}),"
            f" stream: {_yes(link['stream'])}, sink: {_yes(link['sink'])}"
        )
    yield from _left_out(item["downstream_links"])
    if state := item["data_state"]:
        microseconds = state["synchronized_ms_ago"]  # named so by the crate
        fresh = f"{microseconds / 1e6:.3f} s old" if microseconds else "synchronized"
        yield (
            f"      state: version {_text(state['version'])}, format {_text(state['format'])},"
            f" {state['size']} bytes, {fresh}"
        )


def _tag(item: Json) -> Iterator[str]:
    yield (
        f"  {item['id']}  {_text(item['descriptor'])}, objects: {_listed(item['objects'])},"
        f" capacity: {item['cumulative_tag_exposer_capacity']}"
    )
    yield (
        f"      contracts here: {item['tag_observe_contract_count']} observe,"
        f" {item['tag_expose_contract_count']} expose"
    )
    for link in item["downstream_links"][:LINKS]:
        yield (
            f"      downstream {link['downstream_connection_id']}:"
            f" observes: {_yes(link['tag_observer'])}, exposes: {_yes(link['tag_exposer'])}"
            f" (capacity {link['tag_exposer_capacity']})"
        )
    yield from _left_out(item["downstream_links"])


def _connection(link: Json) -> Iterator[str]:
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
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def _listed(ids: Sequence[int]) -> str:
    if len(ids) <= LINKS:
        return _text(ids)
    return f"{_text(ids[:LINKS])[:-1]}, ... and {len(ids) - LINKS} more]"


def _left_out(links: Sequence[Any]) -> Iterator[str]:
    if len(links) > LINKS:
        yield f"      ... and {len(links) - LINKS} more"
