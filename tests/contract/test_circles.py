"""Nodes that would be above themselves: it is said, and everything else goes on."""

from __future__ import annotations

import logging
import time

import pytest

import hakuban
from hakuban import ObjectDescriptor
from support.scenes import Scene, fresh, story

X = ObjectDescriptor(["t"], "x")


def circles(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the circles that were told, as ways round; each once."""
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    ways = [line.partition("that would close a circle: ")[2].split(";")[0] for line in told]
    found = filter(None, ways)
    return sorted(set(found))


async def told(
    scene: Scene, caplog: pytest.LogCaptureFixture, *nodes: hakuban.LocalNode
) -> list[str]:
    """Wait until a circle is told: that is when the link of it is closed."""
    for _ in range(200):
        if circles(caplog):
            break
        await scene.echo(*nodes)
    return circles(caplog)


@story
async def test_a_node_that_connects_to_itself_hears_so(scene: Scene) -> None:
    lab = scene.node("lab")
    listener = (await scene.listen(lab)).value
    with pytest.raises(hakuban.CircleError, match=r"circle: lab -> lab; let one of") as raised:
        await scene.connect(lab, listener.url)
    assert raised.value.path == ("lab", "lab")
    assert raised.value.code == 1008
    with lab.object(X).observe() as seen, lab.object(X).expose() as exposed:
        exposed.set_object_data("data")
        await scene.sees(seen, fresh("data"))


@pytest.mark.long
@story
async def test_who_does_not_wait_tries_again_each_five_seconds_and_says_so_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    lab = scene.node("lab")
    listener = (await scene.listen(lab)).value
    began = time.monotonic()
    connection = (await scene.connect(lab, listener.url, wait=False)).value
    statuses = scene.loop(connection.statuses())
    for attempts in (1, 2):
        status = await statuses.until(lambda status: status.attempts == attempts)  # noqa: B023  # before the next
        assert isinstance(status.error, hakuban.CircleError)
    assert 4.9 < time.monotonic() - began < 9
    assert circles(caplog) == ["lab -> lab"]


@story
async def test_a_circle_is_said_although_nobody_listened_there_before(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    lab, other = scene.node("lab"), scene.node("other")
    block = await scene.listen(lab)
    url = block.value.url
    await block.leave()
    connection = (await scene.connect(lab, url, wait=False)).value
    statuses = scene.loop(connection.statuses())
    await statuses.until(lambda status: isinstance(status.error, OSError))
    await scene.listen(lab, url)
    await statuses.until(lambda status: isinstance(status.error, hakuban.CircleError))
    await scene.connect(other, url)
    assert await told(scene, caplog, lab, other) == ["lab -> lab"]


@pytest.mark.parametrize("count", [2, 3])
@story
async def test_a_circle_of_several_is_opened_by_one_of_them_and_all_is_served(
    scene: Scene, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    nodes = [scene.node(f"node {number}") for number in range(count)]
    urls = [(await scene.listen(node)).value.url for node in nodes]
    with nodes[0].object(X).observe() as seen, nodes[1].object(X).expose() as exposed:
        exposed.set_object_data("data")
        began = time.monotonic()
        connections = {
            node: (await scene.connect(node, urls[(number + 1) % count], wait=False)).value
            for number, node in enumerate(nodes)
        }
        smallest = connections.pop(min(nodes, key=id_of))
        await scene.loop(smallest.statuses()).until(
            lambda status: isinstance(status.error, hakuban.CircleError)
        )
        assert time.monotonic() - began < 10
        for connection in connections.values():
            await scene.up(connection)
        await scene.sees(seen, fresh("data"))
        (way,) = await told(scene, caplog, *nodes)
    assert sorted(way.split(" -> ")[1:]) == [node.name for node in nodes]


def id_of(node: hakuban.LocalNode) -> str:
    return node._engine._machine.world.node
