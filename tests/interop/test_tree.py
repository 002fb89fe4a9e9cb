"""Two routers, one below the other, and nodes of both kinds at them: what a guest meets in the others' tree.

The guest is at the lower router. What both kinds cannot do is written where it is tested.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import pytest

from hakuban import ObjectDescriptor, TagDescriptor
from support.ours import OurNode
from support.ports import free_port
from support.processes import RouterProcess
from support.rust import RustPeer, RustRouter
from support.watching import holds, until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from support.parties import Party

pytestmark = [pytest.mark.usefixtures("needs_rust"), pytest.mark.promise("interop")]

Maker: TypeAlias = Literal["ours", "Rust"]
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Column:
    """Who makes what, and the schemes of both routers; at a router that does not speak ws there are only ours."""

    upper: Maker
    lower: Maker
    guest: Maker
    others: Maker
    above: str = "ws"
    below: str = "ws"


COLUMNS = {
    "our node in a tree of the crate's": Column("Rust", "Rust", "ours", "Rust"),
    "its node in ours": Column("ours", "ours", "Rust", "ours"),
    "its node below, zmq above": Column("ours", "ours", "Rust", "ours", above="zmq+tcp"),
    "zmq below, its node above": Column("ours", "ours", "ours", "Rust", below="zmq+tcp"),
    "Rust alone": Column("Rust", "Rust", "Rust", "Rust"),
    "our router above the crate's": Column("ours", "Rust", "Rust", "Rust"),
    "our router below the crate's": Column("Rust", "ours", "Rust", "Rust"),
}

FIRST = list(COLUMNS)[:2]
"""What everybody wants to know; the others are left to thorough runs."""


class Tree:
    """An upper and a lower router, and the nodes that a test asks for."""

    def __init__(self, column: Column, backend: tuple[str, dict[str, Any]]) -> None:
        self._column = column
        self._backend = backend
        self._stack = ExitStack()
        self._lower_url = f"{column.below}://127.0.0.1:{free_port()}"
        with self._stack:
            self._upper = _router(column.upper, f"{column.above}://127.0.0.1:{free_port()}")
            self._stack.enter_context(self._upper)
            self._lower = self._start_lower()
            self._stack = self._stack.pop_all()

    def _start_lower(self) -> RouterProcess | RustRouter:
        router = _router(self._column.lower, self._lower_url, "--connect", self._upper.url)
        self._stack.enter_context(router)
        return router

    def kill_lower(self) -> None:
        """Kill the lower router."""
        self._lower.kill()

    def restart_lower(self) -> None:
        """Start the lower router anew, where it was."""
        self._lower = self._start_lower()

    def guest(self, options: str = "") -> Party:
        """Connect the guest, to the lower router."""
        return self._join(self._column.guest, "guest", options, self._lower)

    def host(self, *, below: bool = False, name: str = "host") -> Party:
        """Connect another node, to the upper router or beside the guest."""
        return self._join(self._column.others, name, "", self._lower if below else self._upper)

    def _join(
        self, maker: Maker, name: str, options: str, router: RouterProcess | RustRouter
    ) -> Party:
        party: Party
        if maker == "Rust" and router.url.startswith("ws:"):
            party = RustPeer(name, options=options)
        else:
            party = OurNode(name, options=options, backend=self._backend, max_state=32 * MIB)
        self._stack.enter_context(party)
        party.connect(router.url)
        return party

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


def _router(maker: Maker, url: str, *options: str) -> RouterProcess | RustRouter:
    return (RouterProcess if maker == "ours" else RustRouter)(*options, bind=url)


def cells(selected: Collection[str], *, large: bool = False) -> pytest.MarkDecorator:
    """Run a test in each column: those selected for every push, the others and other backends nightly.

    :param large: takes seconds in each column.
    """

    def marks(column: str, backend: str) -> pytest.MarkDecorator | tuple[()]:
        if column not in selected or backend != "asyncio":
            return pytest.mark.nightly
        return pytest.mark.thorough if large or column not in FIRST else ()

    return pytest.mark.parametrize(
        ("column", "backend"),
        [
            pytest.param(
                column,
                backend,
                id=f"{column}-{backend}",
                marks=marks(column, backend),
            )
            for column, made in COLUMNS.items()
            for backend in ("asyncio", "trio")
            if backend == "asyncio" or "ours" in (made.guest, made.others)
        ],
    )


EVERYWHERE = cells(COLUMNS)
LARGE = cells(FIRST, large=True)


@pytest.fixture
def tree(column: str, backend: str) -> Iterator[Tree]:
    with Tree(COLUMNS[column], (backend, {})) as tree:
        yield tree


@pytest.fixture(params=["guest exposes", "guest observes"])
def exposer_and_observer(request: pytest.FixtureRequest, tree: Tree) -> tuple[Party, Party]:
    guest, host = tree.guest(), tree.host()
    return (guest, host) if request.param == "guest exposes" else (host, guest)


THING = ObjectDescriptor(["tag"], {"id": 1})
TAG = TagDescriptor("tag")


def things(count: int) -> list[ObjectDescriptor]:
    return [ObjectDescriptor(["tag"], number) for number in range(count)]


def text(value: object) -> bytes:
    return f'"{value}"'.encode()


# ---- who produces ---------------------------------------------------------------------------------------------------


@pytest.mark.cell("tree", "capacities 3:1", "column")
@EVERYWHERE
def test_objects_are_shared_out_by_capacity(tree: Tree) -> None:
    guest, other, observer = tree.guest(), tree.host(below=True, name="other"), tree.host()
    guest.expose(TAG, capacity=3)
    other.expose(TAG, capacity=1)
    for thing in things(8):
        observer.observe(thing)
    until(lambda: (len(guest.assigned), len(other.assigned)) == (6, 2), "6 and 2 are assigned")


@pytest.mark.cell("tree", "load limit", "column")
@EVERYWHERE
def test_no_more_is_assigned_than_a_load_limit_allows(tree: Tree) -> None:
    guest, observer = tree.guest("load-limit=3"), tree.host()
    guest.expose(TAG)
    for thing in things(10):
        observer.observe(thing)
    until(lambda: len(guest.assigned) == 3, "3 are assigned")
    holds(lambda: len(guest.assigned) == 3, "3 are assigned", seconds=1.5)


@pytest.mark.cell("tree", "hand-over", "column")
@EVERYWHERE
def test_production_is_handed_over_and_back(tree: Tree) -> None:
    guest, other, observer = tree.guest(), tree.host(below=True, name="other"), tree.host()
    observer.observe(THING)
    guest.expose(THING)
    guest.wait_assigned(THING)
    other.expose(THING)
    for round, (leaving, taking) in enumerate([(guest, other), (other, guest)]):
        leaving.publish(THING, text(f"before {round}"))
        observer.wait_state(THING, text(f"before {round}"))
        leaving.unexpose(THING)
        taking.wait_assigned(THING)
        taking.publish(THING, text(f"after {round}"))
        observer.wait_state(THING, text(f"after {round}"))
        leaving.expose(THING)


@pytest.mark.cell("tree", "exposer loss", "column")
@EVERYWHERE
def test_loss_of_an_exposer_shows_and_another_takes_over(
    tree: Tree, exposer_and_observer: tuple[Party, Party]
) -> None:
    exposer, observer = exposer_and_observer
    exposer.publish(THING, text("first"))
    exposer.expose(THING)
    observer.observe(THING)
    observer.wait_state(THING, text("first"))
    exposer.vanish()
    observer.wait_state(THING, text("first"), synchronized=False)
    standby = tree.host(below=True, name="standby")
    standby.expose(THING)
    standby.publish(THING, text("second"))
    observer.wait_state(THING, text("second"))


@pytest.mark.cell("tree", "router restart", "column")
@EVERYWHERE
def test_a_router_that_comes_back_is_caught_up_with(
    tree: Tree,
    exposer_and_observer: tuple[Party, Party],
    record_property: Any,
) -> None:
    exposer, observer = exposer_and_observer
    exposer.publish(THING, text("first"))
    exposer.expose(THING)
    observer.observe(THING)
    observer.wait_state(THING, text("first"))
    tree.kill_lower()
    observer.wait_state(THING, text("first"), synchronized=False)
    exposer.publish(THING, text("second"))
    tree.restart_lower()
    listening = time.monotonic()
    observer.wait_state(THING, text("second"))
    record_property(
        "figure", f"fresh {time.monotonic() - listening:.2f} s after the router listens"
    )


@pytest.mark.cell("tree", "tag observed", "column")
@EVERYWHERE
def test_who_observes_a_tag_sees_its_objects_come_and_go(
    exposer_and_observer: tuple[Party, Party],
) -> None:
    exposer, observer = exposer_and_observer
    observer.observe(TAG)
    for thing in things(3):
        exposer.publish(thing, text(thing.json))
        exposer.expose(thing)
    for thing in things(3):
        observer.wait_state(thing, text(thing.json))
    exposer.unexpose(things(3)[1])
    until(lambda: observer.count("stream_closed") == 1, "one of them has gone")
    exposer.publish(things(3)[2], text("still here"))
    observer.wait_state(things(3)[2], text("still here"))


# ---- what is carried ------------------------------------------------------------------------------------------------


def carries(exposer: Party, observer: Party, thing: ObjectDescriptor, data: bytes) -> None:
    """Deliver a state, and then a small change of it."""
    exposer.publish(thing, data)
    exposer.expose(thing)
    observer.observe(thing)
    observer.wait_state(thing, data, timeout=40)
    changed = data[:-8] + b"changed!"
    exposer.publish(thing, changed)
    observer.wait_state(thing, changed, timeout=40)


@pytest.mark.cell("tree", "unicode", "column")
@EVERYWHERE
def test_names_and_states_may_be_in_any_script(exposer_and_observer: tuple[Party, Party]) -> None:
    thing = ObjectDescriptor(
        ["źdźbło", {"ключ": ["значение", "\u2028", "\x7f\x00"]}],
        {"城市": "東京", "\U0001f980": ["\u00e9", "e\u0301"], 'quote " slash /\\': None},
    )
    data = '"Zażółć gęślą jaźń \U0001f980 東京 \\ud83e\\udd80 \u2028 ........"'.encode()
    carries(*exposer_and_observer, thing, data)


@pytest.mark.cell("tree", "state of 15 MiB", "column")
@LARGE
def test_a_state_of_15_mib_arrives(exposer_and_observer: tuple[Party, Party]) -> None:
    carries(*exposer_and_observer, THING, random.Random(15).randbytes(15 * MIB))


@pytest.mark.cell("tree", "state of 20 MiB, packed", "column")
@LARGE
def test_a_state_of_20_mib_that_fits_a_message_arrives(
    exposer_and_observer: tuple[Party, Party],
) -> None:
    """The crate sends a state in one frame, and takes no frame over 16 MiB: only what it can pack is carried by it.

    What cannot be packed is tried in test_links.
    """
    carries(*exposer_and_observer, THING, random.Random(20).randbytes(MIB) * 20)


@pytest.mark.cell("tree", "1,000 objects", "column")
@EVERYWHERE
def test_a_thousand_objects_arrive(exposer_and_observer: tuple[Party, Party]) -> None:
    exposer, observer = exposer_and_observer
    wanted = things(1_000)
    for thing in wanted:
        exposer.publish(thing, text(thing.json))
    exposer.expose(TAG)
    for thing in wanted:
        observer.observe(thing)
    until(lambda: len(observer.latest) == 1_000, "all have a state", timeout=40)
    assert all(observer.sees(thing, text(thing.json)) for thing in wanted)
    # its own words come by another way than the states
    until(lambda: exposer.assigned == set(wanted), "all are assigned to the exposer")


@pytest.mark.cell("tree", "burst of 2,000", "column")
@EVERYWHERE
def test_a_burst_ends_on_the_last_state(exposer_and_observer: tuple[Party, Party]) -> None:
    exposer, observer = exposer_and_observer
    exposer.publish(THING, text(-1))
    exposer.expose(THING)
    observer.observe(THING)
    observer.wait_state(THING, text(-1))
    exposer.publish_all(THING, [text(number) for number in range(2_000)])
    observer.wait_state(THING, text(1_999))
    versions = [event.state.version for event in observer.events if event.state is not None]
    assert versions == sorted(versions)
