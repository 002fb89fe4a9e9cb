"""Each kind of contract of ours, against a node of the crate's, over each way two nodes can be linked."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from hakuban import ObjectDescriptor, TagDescriptor
from support.ours import OurNode
from support.processes import RouterProcess
from support.rust import RustPeer, RustRouter
from support.watching import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.parties import Party

pytestmark = [pytest.mark.usefixtures("needs_rust"), pytest.mark.promise("interop")]

ROLES = ["object observe", "object expose", "tag observe", "tag expose"]
WAYS = ["through the crate's router", "through ours", "we listen", "Rust listens"]
REFERENCES = ["Rust alone, its router", "Rust alone, our router", "Rust alone, one listens"]


@pytest.fixture(scope="module")
def routers() -> Iterator[dict[str, str]]:
    """URLs of the routers by the ways that lead through them."""
    with RustRouter() as theirs, RouterProcess() as ours:
        yield {
            "through the crate's router": theirs.url,
            "Rust alone, its router": theirs.url,
            "through ours": ours.url,
            "Rust alone, our router": ours.url,
        }


@contextmanager
def linked(way: str, subject: Party, rust: Party, routers: dict[str, str]) -> Iterator[None]:
    """Link two nodes."""
    with subject, rust:
        if way in routers:
            subject.connect(routers[way])
            rust.connect(routers[way])
        elif way == "we listen":
            rust.connect(subject.listen())
        else:
            subject.connect(rust.listen())
        yield


def exchange(role: str, subject: Party, rust: Party, name: str) -> None:
    """Take the subject through all that its contract is there for."""
    thing = ObjectDescriptor([name], {"id": 1})
    tag = TagDescriptor(name)
    observer, exposer = (subject, rust) if "observe" in role else (rust, subject)
    wanted = tag if role == "tag observe" else thing
    offered = tag if role == "tag expose" else thing

    exposer.publish(thing, b'"first"')
    exposer.expose(offered)
    observer.observe(wanted)
    first = observer.wait_state(thing, b'"first"')
    assert first.format == ("JSON",)
    exposer.wait_assigned(thing)

    exposer.publish(thing, b'"first and more"')
    second = observer.wait_state(thing, b'"first and more"')
    assert second.version > first.version

    observer.unobserve(wanted)
    exposer.wait_unassigned(thing)
    observer.latest.clear()
    observer.observe(wanted)
    observer.wait_state(thing, b'"first and more"')

    exposer.unexpose(offered)
    until(
        lambda: not observer.latest[thing].synchronized or observer.count("stream_closed") > 1,
        "the observer is told that nobody produces it",
    )
    versions = [event.state.version for event in observer.events if event.state is not None]
    assert versions == sorted(versions)


@pytest.mark.cell("contracts", "role", "way")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("role", ROLES)
def test_a_contract_of_ours_works_with_a_node_of_the_crate(
    role: str,
    way: str,
    anyio_backend: tuple[str, dict[str, Any]],
    routers: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    subject, rust = OurNode(backend=anyio_backend), RustPeer()
    with linked(way, subject, rust, routers):
        exchange(role, subject, rust, request.node.name)


@pytest.mark.cell("contracts", "role", "way")
@pytest.mark.parametrize("way", REFERENCES)
@pytest.mark.parametrize("role", ROLES)
def test_nodes_of_the_crate_do_the_same_among_themselves(
    role: str, way: str, routers: dict[str, str], request: pytest.FixtureRequest
) -> None:
    subject, rust = RustPeer("subject"), RustPeer()
    with linked(way, subject, rust, routers):
        exchange(role, subject, rust, request.node.name)
