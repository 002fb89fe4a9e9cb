"""Who produces an object when observers and exposers come and go, through a router in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from typing_extensions import override

from hakuban import LocalNode, ObjectDescriptor
from hakuban.testing import MemoryStream, MemoryTransport, linked_nodes
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hakuban import ObjectExpose, ObjectObserve, ObjectStateSink, TagExpose
    from hakuban.transport import TransportOptions

WEATHER = ObjectDescriptor(["weather"], 1)


async def next_sink(contract: ObjectExpose[Any] | TagExpose[Any]) -> ObjectStateSink[Any]:
    with anyio.fail_after(10):
        return await anext(aiter(contract))


def expose(node: LocalNode, kind: str) -> ObjectExpose[Any] | TagExpose[Any]:
    return node.object(WEATHER).expose() if kind == "object" else node.tag("weather").expose()


async def shown(watcher: ObjectObserve[Any], data: object, *, synchronized: bool = True) -> None:
    await until(lambda: (watcher.object_data(), watcher.synchronized) == (data, synchronized))


@pytest.mark.promise("on-demand")
@pytest.mark.parametrize("kind", ["object", "tag"])
async def test_an_observer_that_leaves_ends_the_production_elsewhere(kind: str) -> None:
    async with linked_nodes() as (here, there):
        with expose(there, kind) as contract:
            with here.object(WEATHER).observe() as watcher:
                sink = await next_sink(contract)
                sink.set(1)
                await shown(watcher, 1)
            with anyio.fail_after(10):
                await sink.wait_unassigned()
            with anyio.move_on_after(0.05) as scope:
                await anext(aiter(contract))
            assert scope.cancelled_caught, "nobody asks for it any more"


@pytest.mark.promise("stale-visible")
@pytest.mark.parametrize("kind", ["object", "tag"])
async def test_an_exposer_that_leaves_is_seen_as_an_age(kind: str) -> None:
    async with linked_nodes() as (here, there):
        with here.object(WEATHER).observe() as watcher:
            with expose(there, kind) as contract:
                (await next_sink(contract)).set(1)
                await shown(watcher, 1)
            await shown(watcher, 1, synchronized=False)
            assert watcher.age < 10


@pytest.mark.parametrize("kind", ["object", "tag"])
async def test_an_observer_that_returns_gets_what_is_produced_anew(kind: str) -> None:
    async with linked_nodes() as (here, there):
        with expose(there, kind) as contract:
            for number in (1, 2):
                with here.object(WEATHER).observe() as watcher:
                    sink = await next_sink(contract)
                    sink.set(number)
                    await shown(watcher, number)
                with anyio.fail_after(10):
                    await sink.wait_unassigned()


@pytest.mark.parametrize("kind", ["object", "tag"])
async def test_an_exposer_that_returns_is_assigned_again(kind: str) -> None:
    async with linked_nodes() as (here, there):
        with here.object(WEATHER).observe() as watcher:
            for number in (1, 2):
                with expose(there, kind) as contract:
                    (await next_sink(contract)).set(number)
                    await shown(watcher, number)
                await until(lambda: not watcher.synchronized)


@pytest.mark.promise("one-exposer")
@pytest.mark.parametrize("first", ["object", "tag"])
@pytest.mark.parametrize("second", ["object", "tag"])
async def test_a_waiting_exposer_takes_over(first: str, second: str) -> None:
    async with linked_nodes(3) as (here, one, other):
        with here.object(WEATHER).observe() as watcher, expose(other, second) as waiting:
            with expose(one, first) as contract:
                await until(lambda: bool(assigned(contract)) != bool(assigned(waiting)))
                holder, rest = (contract, waiting) if assigned(contract) else (waiting, contract)
                (await next_sink(holder)).set(1)
                await shown(watcher, 1)
                assert not assigned(rest)
                holder.close()
                (await next_sink(rest)).set(2)
                await shown(watcher, 2)


def assigned(contract: Any) -> bool:
    members = contract._entry.members
    return bool(members)


class Cable(MemoryTransport):
    """Carries one link until it is cut, without a goodbye from either end; there is no other one after that."""

    def __init__(self) -> None:
        self._connected: MemoryStream | None = None
        self._cut = False

    @override
    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[MemoryStream]:
        if self._cut:
            raise ConnectionRefusedError
        async with super().connect(url, options) as self._connected:
            yield self._connected

    def cut(self) -> None:
        assert self._connected is not None
        self._cut = True
        self._connected.cut()


@pytest.mark.promise("self-healing")
@pytest.mark.parametrize("kind", ["object", "tag"])
async def test_a_waiting_exposer_takes_over_when_the_first_is_cut_off(kind: str) -> None:
    router, cut_off, cable = LocalNode(), LocalNode(), Cable()
    async with (
        router.listen("memory://") as listener,
        cut_off.connect(listener.url, transport=cable) as connection,
        linked_nodes(2, router=router) as (here, other),
    ):
        with here.object(WEATHER).observe() as watcher, expose(cut_off, kind) as contract:
            sink = await next_sink(contract)
            with expose(other, kind) as waiting:
                sink.set("before")
                await shown(watcher, "before")
                cable.cut()
                (await next_sink(waiting)).set("after")
                await shown(watcher, "after")
            with anyio.fail_after(10):
                await sink.wait_unassigned()
            assert not connection.up
            assert not contract.closed


@pytest.mark.promise("monotonic")
async def test_a_new_exposer_with_lower_versions_is_not_believed_until_it_is_ahead() -> None:
    async with linked_nodes(3) as (here, one, other):
        with here.object(WEATHER).observe() as watcher:
            with one.object(WEATHER).expose() as contract:
                contract.set_object_state([10], "ten")
                await shown(watcher, "ten")
            await until(lambda: not watcher.synchronized)
            with other.object(WEATHER).expose() as contract:
                contract.set_object_state([3], "three")
                await contract.wait_assigned()
                contract.set_object_state([11], "eleven")
                await shown(watcher, "eleven")
                assert watcher.object_version() == (11,)
                assert not contract.set_object_state([11], "other")
                assert watcher.object_data() == "eleven"


async def test_an_exposer_that_counts_from_one_again_is_delivered_exactly() -> None:
    async with linked_nodes() as (here, there):
        for life in ("first", "second"):
            with (
                there.object(WEATHER).expose() as contract,
                here.object(WEATHER).observe() as watcher,
            ):
                await contract.wait_assigned()
                for number in range(1, 4):
                    contract.set_object_state([number], [life, number])
                    await shown(watcher, [life, number])
            await until(lambda: not here.snapshot().objects)


async def test_a_wish_that_flaps_leaves_nothing_behind() -> None:
    router = LocalNode("router")
    async with linked_nodes(router=router) as (here, there):
        with there.object(WEATHER).expose() as contract:
            contract.set_object_data("value")
            for number in range(500):
                watcher = here.object(WEATHER).observe()
                if number % 7 == 0:
                    await shown(watcher, "value")
                watcher.close()
            with here.object(WEATHER).observe() as watcher:
                await shown(watcher, "value")
        await until(lambda: not router.snapshot().objects and not there.snapshot().objects)
        engine = router._engine
        assert engine._registry.contracts == {}
        assert len(engine._machine.world.sinks) == 0


async def test_a_member_of_a_tag_comes_and_goes_elsewhere() -> None:
    async with linked_nodes() as (here, there):
        with here.tag("weather").observe() as watchers:
            streams = aiter(watchers)
            for number in (1, 2):
                with there.object(WEATHER).expose() as contract:
                    contract.set_object_data(number)
                    with anyio.fail_after(10):
                        stream = await anext(streams)
                        assert (await stream.wait_state()).data == number
                with anyio.fail_after(10):
                    last = [state.synchronized async for state in stream]
                assert last in ([True, False], [False])
                assert stream.closed


async def test_an_object_moves_to_a_lighter_exposer_when_the_clock_says_so() -> None:
    async with linked_nodes(3) as (here, one, other):
        descriptors = [ObjectDescriptor(["weather"], number) for number in range(4)]
        watchers = [here.object(descriptor).observe() for descriptor in descriptors]
        with one.tag("weather").expose() as loaded:
            await until(lambda: len(loaded.object_descriptors()) == 4)
            with other.tag("weather").expose() as idle:
                await until(lambda: len(idle.object_descriptors()) == 2, seconds=5)
                await until(lambda: len(loaded.object_descriptors()) == 2)  # they may overlap
                assert not loaded.object_descriptors() & idle.object_descriptors()
        for watcher in watchers:
            watcher.close()
