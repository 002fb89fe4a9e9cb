"""What `print` shows of nodes, connections and listeners: whatever state they are in, and at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._exceptions import NodeForkedError
from .._text import printable
from .close_codes import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._engine.engine import Engine
    from .._engine.entries import LinkEntry
    from .._remote import ConnectionStatus


MOST_LINKS: Final = 20  # a line each; a router has thousands


def shown_node(engine: Engine, name: str) -> str:
    """Show a node: its name and condition, counts, and a line for each link."""
    links = _look(lambda: engine.read(lambda: list(engine.links.values())))
    contracts, objects = engine.count()
    counts = f"{_count(contracts, 'contract')}, {_count(objects, 'object')}, {_count(len(links), 'link')}"
    lines = [f"node {printable(name)}{_condition(engine)}: {counts}"]
    if engine.upstream_url is not None and not any(link.upstream for link in links):
        lines.append(f"  above: {engine.upstream_url}, down")
    return "\n".join(lines + _lines(links))


def shown_connection(url: str, status: ConnectionStatus, *, closed: bool) -> str:
    """Show a connection: where it leads, whether it is up and to whom; else why not."""
    if status.remote is not None:
        remote = status.remote
        return printable(f"connection to {url}: up, {remote.name} at {remote.address}")
    why = "" if status.error is None else f": {describe(status.error)}"
    return f"connection to {printable(url)}: {'closed' if closed else 'down'}{why}"


def shown_listener(url: str, links: Callable[[], Sequence[LinkEntry]]) -> str:
    """Show a listener: where it listens, and a line for each peer."""
    peers = _look(links)
    return "\n".join([f"listener on {url}: {_count(len(peers), 'link')}", *_lines(peers)])


def _look(links: Callable[[], Sequence[LinkEntry]]) -> Sequence[LinkEntry]:
    try:
        return links()
    except NodeForkedError:
        return []  # they are the parent's


def _condition(engine: Engine) -> str:
    if engine.forked:
        return " (of the parent process)"
    if engine.cause is not None:
        return f" (broken: {describe(engine.cause)})"
    return " (closed)" if engine.closed else ""


def _lines(links: Sequence[LinkEntry]) -> list[str]:
    shown = [
        f"  {'above' if link.upstream else 'below'}: {link}, {'coming up' if link.remote is None else 'up'}"
        for link in links[:MOST_LINKS]
    ]
    if len(links) > MOST_LINKS:
        shown.append(f"  and {len(links) - MOST_LINKS} more")
    return shown


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
