"""Streams of a tag that their reader closes, in trees of all shapes."""

from __future__ import annotations

import anyio
import pytest

from hakuban import ObjectDescriptor
from support.scenes import EndedError, Scene, fresh, stale, story
from support.shapes import Shape, grow, in_every_shape

X = ObjectDescriptor(["t"], "x")


@in_every_shape
@story
async def test_a_loop_ends_when_somebody_else_closes_the_stream(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.tag("t").observe() as tag, b.object(X).expose() as exposed:
        exposed.set_object_data("data")
        stream = await scene.loop(tag).next()
        states = scene.loop(stream)
        await states.until(fresh("data"))
        await scene.together(states.end(), stream.close)
        assert stream.closed
        assert not tag.closed
        assert exposed.assigned


@in_every_shape
@story
async def test_after_a_closed_stream_the_contract_gives_another_with_the_current_state(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.tag("t").observe() as tag, b.object(X).expose() as exposed:
        exposed.set_object_data("data")
        closed = await scene.loop(tag).next()
        await scene.state(closed)
        closed.close()
        stream = await scene.loop(tag).next()
        assert (stream.descriptor, stream.closed) == (X, False)
        states = scene.loop(stream)
        assert fresh("data")(await states.next())
        exposed.set_object_data("more")
        await states.until(fresh("more"))
        await scene.loop(closed).end()


@in_every_shape
@story
async def test_a_closed_stream_keeps_what_it_has_seen(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.tag("t").observe() as tag, b.object(X).expose() as exposed:
        exposed.set_object_data("old")
        stream = await scene.loop(tag).next()
        await scene.state(stream)
        stream.close()
        exposed.set_object_data("new")
        await scene.sees(tag, fresh("new"))
        last = stream.object_state()
        assert last is not None
        assert stale("old")(last)
        assert (stream.object_data(), stream.object_version()) == ("old", last.version)
        assert not stream.synchronized
        assert stream.age > 0


@in_every_shape
@story
async def test_a_closed_stream_takes_nothing_from_another_of_the_same_object(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.tag("t").observe() as tag, b.object(X).expose() as exposed:
        kept, closed = await scene.loop(tag).next(), await scene.loop(tag).next()
        states = scene.loop(kept)
        await scene.together(
            states.until(fresh("data")), closed.close, lambda: exposed.set_object_data("data")
        )
        assert closed.closed
        assert tag.object_descriptors() == {X}
        assert tag.object_data(X) == "data"
        assert not kept.closed


@in_every_shape
@story
async def test_no_state_is_waited_for_on_a_closed_stream(scene: Scene, shape: Shape) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.tag("t").observe() as tag, b.object(X).expose():
        stream = await scene.loop(tag).next()

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await scene.state(stream)

        await scene.together(wait(), stream.close)
        await wait()
        assert stream.object_state() is None


@in_every_shape
@story
async def test_a_stream_can_be_closed_twice_and_after_its_object(
    scene: Scene, shape: Shape
) -> None:
    a, b = (await grow(scene, shape)).leaves
    with a.tag("t").observe() as tag:
        with b.object(X).expose() as exposed:
            exposed.set_object_data("data")
            one, two = await scene.loop(tag).next(), await scene.loop(tag).next()
            await scene.loop(one).until(fresh("data"))
            one.close()
            one.close()
        await scene.loop(two).end()
        two.close()
        for stream in (one, two):
            assert stream.closed
            assert stream.object_data() == "data"
            with pytest.raises(EndedError):
                await scene.loop(stream).next()
