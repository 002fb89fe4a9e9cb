"""Links: made, lost, made again, left."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

import hakuban
from hakuban import ObjectDescriptor
from support.cables import cable
from support.scenes import Scene, fresh, stale, story
from support.shapes import grow
from support.tellings import columns

if TYPE_CHECKING:
    from collections.abc import Iterator

X = ObjectDescriptor(["t"], "x")


@story
async def test_both_sides_learn_the_name_of_the_other(scene: Scene) -> None:
    above, below = scene.node("the one above"), scene.node()
    listener = (await scene.listen(above)).value
    connection = (await scene.connect(below, listener.url + "#name=the one below")).value
    assert connection.up
    assert connection.remote_name == "the one above"
    await scene.echo(above, below)
    for peers in (listener.peers, above.peers):
        (peer,) = peers
        assert (peer.name, peer.upstream) == ("the one below", False)
    (peer,) = below.peers
    assert (peer.name, peer.upstream) == ("the one above", True)
    assert peer == connection.remote


@story
async def test_names_may_be_said_for_each_link(scene: Scene) -> None:
    above, below = scene.node("node"), scene.node("node")
    listener = (await scene.listen(above, name="for these")).value
    connection = (await scene.connect(below, listener.url, name="argument")).value
    await scene.echo(above, below)
    assert connection.remote_name == "for these"
    assert [peer.name for peer in listener.peers] == ["argument"]


@story
async def test_a_node_has_one_link_upwards(scene: Scene) -> None:
    one, two, below = scene.node(), scene.node(), scene.node()
    first, second = (await scene.listen(one)).value, (await scene.listen(two)).value
    link = await scene.connect(below, first.url)
    with pytest.raises(hakuban.AlreadyConnectedError) as error:
        await scene.connect(below, second.url)
    assert error.value.url == first.url
    assert link.value.up
    await link.leave()
    await scene.connect(below, second.url)
    await scene.echo(two, below)


@pytest.mark.promise("self-healing")
@story
async def test_connecting_waits_for_somebody_to_listen(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    above, below = scene.node(), scene.node()
    with below.object(X).observe() as seen, above.object(X).expose() as exposed:
        exposed.set_object_data("data")
        block = await scene.listen(above)
        url = block.value.url
        await block.leave()
        connection = (await scene.connect(below, url, wait=False)).value
        assert not connection.up
        statuses = scene.loop(connection.statuses())
        status = await statuses.until(lambda status: status.attempts >= 3)
        assert isinstance(status.error, OSError)
        assert isinstance(connection.last_error, OSError)
        with caplog.at_level(logging.INFO, "hakuban"):
            await scene.listen(above, url)
            await scene.up(connection)
            # behind the line that the link is up
            await scene.loop(seen).until(fresh("data"))
        assert connection.counters.reconnects == 0
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert [record.getMessage().split(": ")[0] for record in warnings] == [
            f"cannot connect to {url}"
        ]
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
        assert [line for line in told if f"; the link to {url} is up after " in line]


@pytest.mark.promise("stale-visible", "self-healing")
@pytest.mark.parametrize(
    "scene", [*columns("memory", threads=False), *columns("ws", "zmq")], indirect=True
)
@story
async def test_a_link_that_was_cut_is_made_again_and_all_is_as_before(scene: Scene) -> None:
    a, middle, b = scene.node("a"), scene.node("middle"), scene.node("b")
    listener = (await scene.listen(middle)).value
    other = (await scene.listen(middle)).value
    await scene.connect(a, listener.url)
    with cable(other.url) as (url, cut):
        link = await scene.connect(b, url)
        statuses = scene.loop(link.value.statuses())
        assert (await statuses.next()).up
        with a.tag("t").observe() as seen, b.object(X).expose() as exposed:
            exposed.set_object_state([1], "xxx")
            await scene.sees(seen, fresh("xxx"))
            for number in range(2, 5):
                cut()
                await statuses.until(lambda status: not status.up)
                exposed.set_object_state([number], number)
                await statuses.until(lambda status: status.up)
                state = await scene.sees(seen, fresh(number))
                assert state.version == (number,)
            assert link.value.counters.reconnects == 3
            assert link.value.last_error is not None
        await link.leave()


@pytest.mark.promise("stale-visible")
@story
async def test_closing_a_listener_closes_its_links(scene: Scene) -> None:
    above, below = scene.node(), scene.node()
    listening = await scene.listen(above)
    connection = (await scene.connect(below, listening.value.url)).value
    with below.object(X).observe() as seen, above.object(X).expose() as exposed:
        exposed.set_object_data("data")
        states = scene.loop(seen)
        await states.until(fresh("data"))
        await listening.leave()
        assert listening.value.peers == above.peers == ()
        assert not exposed.assigned
        await states.until(stale("data"))
        await scene.loop(connection.statuses()).until(lambda status: not status.up)
        assert connection.remote is None


@pytest.mark.promise("latest")
@story
async def test_a_last_value_arrives_when_a_link_is_left_in_peace(scene: Scene) -> None:
    a, b = scene.node(), scene.node()
    link = await scene.connect(b, (await scene.listen(a)).value.url)
    with a.object(X).observe() as seen, b.object(X).expose() as exposed:
        await scene.assigned(exposed)
        exposed.set_object_data(["a large value"] * 100_000)
        await link.leave()
        state = await scene.loop(seen).until(stale(["a large value"] * 100_000))
        assert state.age < 10
        assert not link.value.up
        with pytest.raises(anyio.ClosedResourceError):
            await scene.up(link.value)
        await scene.loop(link.value.statuses()).end()
        assert not exposed.closed


@pytest.mark.promise("stale-visible")
@story
async def test_closing_a_node_ends_its_links_and_loops(scene: Scene) -> None:
    tree = await grow(scene, "router")
    a, b = tree.leaves
    seen, exposed = a.object(X).observe(), b.object(X).expose()
    exposed.set_object_data("data")
    states = scene.loop(seen)
    await states.until(fresh("data"))
    b.close()
    await states.until(stale("data"))
    a.close()
    await states.end()
    for link in tree.links:
        await scene.loop(link.value.statuses()).end()
    await scene.loop(exposed).end()


@story
async def test_listening_where_somebody_listens_fails_at_once(scene: Scene) -> None:
    one, two = scene.node(), scene.node()
    listener = (await scene.listen(one)).value
    with pytest.raises(OSError, match="in use"):
        await scene.listen(two, listener.url)


@pytest.mark.promise("plugins")
@story
async def test_a_url_that_nobody_serves_says_what_to_install(scene: Scene) -> None:
    node = scene.node()
    with pytest.raises(hakuban.UnknownSchemeError) as error:
        await scene.connect(node, "pigeon://127.0.0.1:3001")
    assert error.value.scheme == "pigeon"
    assert {"memory", "ws", "wss"} <= set(error.value.installed)
    assert "entry-point group hakuban.transports" in str(error.value)
    with pytest.raises(hakuban.UnknownSchemeError):
        await scene.listen(node, "nothing://at-all")
    with pytest.raises(hakuban.InvalidURLError, match="no-such-option"):
        await scene.connect(node, "ws://127.0.0.1:1#no-such-option=1")


@pytest.fixture
def closing_port() -> Iterator[tuple[int, list[float]]]:
    """A port that accepts and closes at once, and the times when it did."""
    times: list[float] = []

    def accept() -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = server.accept()
                times.append(time.monotonic())
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], times
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("scene", columns("ws"), indirect=True)
@story
async def test_a_port_that_accepts_and_closes_is_tried_with_growing_pauses(
    scene: Scene, closing_port: tuple[int, list[float]]
) -> None:
    port, times = closing_port
    url = f"ws://127.0.0.1:{port}"
    connection = (await scene.connect(scene.node(), url, wait=False)).value
    await scene.loop(connection.statuses()).until(lambda status: status.attempts >= 5)
    pauses = [after - before for before, after in pairwise(times)]
    least = (0.025, 0.05, 0.1, 0.2)
    assert len(pauses) >= len(least)
    assert all(pause >= bound for pause, bound in zip(pauses, least, strict=False))
