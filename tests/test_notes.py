"""Two nodes learn from each other over every transport, whatever its streams say of their peers."""

from __future__ import annotations

import importlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

import hakuban
from hakuban import RAW, LocalNode, ObjectDescriptor
from hakuban.transport import register_plugin, unregister_plugin
from support.broken_tcp import EXAMPLE
from support.waiting import until
from support.websocket import Certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

X, LARGE = ObjectDescriptor([], "x"), ObjectDescriptor([], "large")
HOUR = 3600 * 10**9
LIMIT = 20_000
NOISE = random.Random(1).randbytes(2 * LIMIT)


class Place(NamedTuple):
    """Where a test listens, and what it has to say beside the URL."""

    url: str
    listening: dict[str, Any]
    connecting: dict[str, Any]


@pytest.fixture(params=["memory", "ws", "wss", "zmq", "tcp"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Give an address of each transport; that of the example tells nothing of its peers."""
    match request.param:
        case "memory":
            yield Place("memory://", {}, {})
        case "wss":
            trusted = Certificates()
            yield Place(
                "wss://127.0.0.1:0", {"ssl": trusted.listening()}, {"ssl": trusted.connecting()}
            )
        case "tcp":
            monkeypatch.syspath_prepend(
                str(Path(__file__).parents[1] / "examples/transport-plugin")
            )
            plugin = importlib.import_module(EXAMPLE)
            assert not hasattr(plugin.TcpStream, "peer_is_ours")
            register_plugin(plugin)
            yield Place("tcp://127.0.0.1:0", {}, {})
            unregister_plugin(plugin)
        case scheme:
            yield Place(f"{scheme.replace('zmq', 'zmq+tcp')}://127.0.0.1:0", {}, {})


def world(node: LocalNode) -> Any:
    return node._engine._machine.world


def peers(node: LocalNode) -> dict[str, str]:
    """Give who has introduced itself to a node by a note: names by ids."""
    return {link.notes.node: link.notes.name for link in world(node).note_links}


def hours_ahead(node: LocalNode) -> float:
    clock = node._engine.call(lambda machine, now: machine.read_clock(now, time.time_ns()))
    return (clock - time.time_ns()) / HOUR


def set_ahead(node: LocalNode) -> None:
    """Make the version clock of a node an hour fast, as if the time had been set there."""
    fast = time.time_ns() + HOUR
    node._engine.call(lambda machine, now: machine.world.clock.see_wall(fast, now, root=True))


async def test_two_nodes_know_each_other_and_the_one_below_who_is_above(place: Place) -> None:
    with LocalNode("root") as root, LocalNode("hall") as hall, LocalNode("lab") as lab:
        async with (
            root.listen(place.url, **place.listening) as upper,
            hall.listen(place.url, **place.listening) as lower,
            lab.connect(lower.url, **place.connecting),
        ):
            await until(lambda: peers(hall) == {world(lab).node: "lab"})
            await until(lambda: peers(lab) == {world(hall).node: "hall"})
            above_lab = [(world(hall).node, "hall"), (world(root).node, "root")]
            await until(lambda: [*world(lab).above] == above_lab[:1])
            async with hall.connect(upper.url, **place.connecting):
                await until(lambda: [*world(lab).above] == above_lab)
                assert [*world(hall).above] == above_lab[1:]
                assert world(root).above == ()
            await until(lambda: [*world(lab).above] == above_lab[:1])


async def test_a_node_that_connects_to_itself_hears_so(place: Place) -> None:
    with LocalNode("lab") as lab:
        async with lab.listen(place.url, **place.listening) as listener:
            with pytest.raises(hakuban.CircleError, match="lab -> lab"):
                await lab.connect(listener.url, **place.connecting).__aenter__()


async def test_a_clock_that_is_set_forward_is_followed_above_and_below(place: Place) -> None:
    with LocalNode("hall") as hall, LocalNode("lab") as lab, LocalNode("fast") as fast:
        async with hall.listen(place.url, **place.listening) as listener:
            async with lab.connect(listener.url, **place.connecting):
                await until(lambda: peers(lab))
                set_ahead(fast)
                async with fast.connect(listener.url, **place.connecting):
                    await until(lambda: hours_ahead(hall) > 0.9)
                    await until(lambda: hours_ahead(lab) > 0.9)
            assert hours_ahead(hall) > 0.9


@pytest.mark.parametrize("limited", ["above", "below"])
async def test_what_the_other_side_does_not_take_is_not_sent(
    place: Place, limited: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits: dict[str, dict[str, Any]] = {
        name: {"max_message": LIMIT} if name == limited else {} for name in ("above", "below")
    }
    above, below = LocalNode("above", serializer=RAW), LocalNode("below", serializer=RAW)
    exposing, observing = (below, above) if limited == "above" else (above, below)
    with above, below, anyio.fail_after(10):
        async with (
            above.listen(place.url, **place.listening, **limits["above"]) as listener,
            below.connect(listener.url, **place.connecting, **limits["below"]) as connection,
        ):
            with (
                observing.object(LARGE).observe() as large,
                observing.object(X).observe() as small,
                exposing.object(LARGE).expose() as exposed,
                exposing.object(X).expose() as other,
            ):
                exposed.set_object_data(b"fits")
                await until(lambda: large.object_data() == b"fits")
                exposed.set_object_data(NOISE)
                other.set_object_data(b"small")
                await until(lambda: small.object_data() == b"small")
                await until(lambda: not large.synchronized)
                assert large.object_data() == b"fits"
                assert connection.counters.reconnects == 0
    assert len([line for line in caplog.messages if "was skipped" in line]) == 1
