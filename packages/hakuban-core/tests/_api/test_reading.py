"""Waiting for a state of one's own choice, ages that count, and what loops have skipped."""

from __future__ import annotations

import pickle
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import numpy as np
import pandas as pd
import pytest

from hakuban import (
    JSON,
    MESSAGE_PACK,
    RAW,
    ClosedError,
    LocalNode,
    NotAssignedError,
    ObjectDescriptor,
    ObjectState,
    SerializationError,
    StateTooLargeError,
    WaitTimeoutError,
)
from hakuban._limits import PEERS
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakuban import Serializer

WARSAW = ObjectDescriptor(["weather"], "Warsaw")


@pytest.fixture
def node() -> Iterator[LocalNode]:
    with LocalNode() as node:
        yield node


@pytest.mark.anyio
async def test_a_task_waits_for_the_first_state_that_it_wants(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        found: list[ObjectState[int]] = []

        async def wait() -> None:
            found.append(await observe.wait(lambda state: state.data > 20))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            for number in (10, 20, 21, 30):
                expose.set_object_data(number)
                await until(lambda: found or observe._engine._parking.places)
        assert found[0].data == 21
        assert (await observe.wait(lambda state: state.data == 30)).synchronized
        with pytest.raises(ZeroDivisionError):
            await observe.wait(lambda state: state.data // 0)
        observe.close()
        with pytest.raises(ClosedError):
            await observe.wait(lambda state: state.data == 30)


def test_a_thread_waits_for_the_first_state_that_it_wants(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        expose.set_object_data(1)

        def set_all() -> None:
            for number in range(2, 9):
                expose.set_object_data(number)

        thread = threading.Thread(target=set_all)
        thread.start()
        assert observe.wait_sync(lambda state: state.data == 8, timeout=30).data == 8
        thread.join()
        with pytest.raises(WaitTimeoutError, match=r"within 0\.02 s"):
            observe.wait_sync(lambda state: state.data == 9, timeout=0.02)
        observe.close()
        with pytest.raises(ClosedError):
            observe.wait_sync(lambda state: state.data == 8)


def test_a_wait_of_a_thread_ends_in_time_however_many_states_come(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        seen: list[int] = []
        began = monotonic()

        def never(state: ObjectState[int]) -> bool:
            seen.append(state.data)
            expose.set_object_data(state.data + 1)
            return monotonic() > began + 20

        expose.set_object_data(0)
        with pytest.raises(WaitTimeoutError, match=r"not the state .* within 0\.05 s") as caught:
            observe.wait_sync(never, timeout=0.05)
        assert caught.value.timeout == 0.05
        assert seen == [*range(len(seen))]
        seen.clear()
        with pytest.raises(WaitTimeoutError, match="within 0 s"):
            observe.wait_sync(never, timeout=0)
        assert len(seen) == 1, "it has a look at what is there"
        last = observe.wait_sync(lambda state: state.data > seen[0], timeout=0)
        assert last.data == seen[0] + 1


async def _is_new(state: ObjectState[int]) -> bool:
    return True


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (_is_new, "without `async`"),
        (anyio.to_thread.run_sync, "without `async`"),
        (5, "a predicate is a function of a state, not 5"),
        (None, "a predicate is a function of a state, not None"),
    ],
)
async def test_what_is_no_predicate_is_refused(node: LocalNode, predicate: Any, text: str) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        expose.set_object_data(1)
        with pytest.raises(TypeError, match=text):
            await observe.wait(predicate)
        with pytest.raises(TypeError, match=text):
            await anyio.to_thread.run_sync(lambda: observe.wait_sync(predicate))


def test_a_loop_of_a_thread_waits_for_a_limited_time(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        with pytest.raises(WaitTimeoutError, match="no state within"):
            next(observe.iter(timeout=0.01))
        expose.set_object_data(1)
        states = observe.iter(timeout=0.01)
        assert next(states).data == 1
        with pytest.raises(WaitTimeoutError, match="no change within"):
            next(states)
        expose.set_object_data(2)
        assert next(states).data == 2
        observe.close()
        assert [*states] == []


@pytest.mark.anyio
async def test_a_stale_state_is_given_again_with_its_age(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        expose.set_object_data(1, age=5.0)
        states = observe.every(0.01)
        ages = [(await anext(states)).age for _ in range(3)]
        assert 5.0 <= ages[0] < ages[1] < ages[2]
        assert ages[2] >= ages[0] + 0.02
        expose.set_object_data(2)
        assert (await anext(states)).synchronized
        with anyio.move_on_after(0.05) as scope:
            await anext(states)
        assert scope.cancelled_caught, "what is current is given once"
        expose.set_object_data(3)
        assert (await anext(states)).data == 3
        observe.close()
        assert [state async for state in states] == []


@pytest.mark.anyio
async def test_a_newer_state_is_given_even_if_the_time_is_over_at_once(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        states = observe.every(1e-9)
        for number in (1, 2, 3):
            expose.set_object_data(number, age=5.0)
            assert (await anext(states)).data == number
        assert (await anext(states)).data == 3
        observe.close()
        assert [state async for state in states] == []


def test_a_stale_state_is_given_again_in_a_thread_too(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        expose.set_object_data(1, age=5.0)
        states = iter(observe.every(0.01))
        ages = [next(states).age for _ in range(3)]
        assert 5.0 <= ages[0] < ages[1] < ages[2]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "1", None])
def test_what_is_no_interval_is_refused(node: LocalNode, seconds: Any) -> None:
    with (
        node.object(WARSAW).observe() as observe,
        pytest.raises((TypeError, ValueError), match="an interval is a number"),
    ):
        observe.every(seconds)


def test_a_state_tells_how_many_its_loop_has_skipped(node: LocalNode) -> None:
    with node.object(WARSAW).observe(type=int) as observe, node.object(WARSAW).expose() as expose:
        expose.set_object_data(0)
        expose.set_object_data(1)
        states, slow = iter(observe), iter(observe)
        assert (next(states).skipped, next(slow).skipped) == (0, 0), "those before it began"
        for number in (2, 3, 4):
            expose.set_object_data(number)
            assert next(states).skipped == 0
        state = next(slow)
        assert (state.data, state.skipped) == (4, 2)
        expose.set_synchronized(1.0)
        expose.set_synchronized()
        expose.set_object_data(5)
        assert next(slow).skipped == 0, "freshness is no state"
        assert observe.object_state() is not None
        state = observe.object_state() or state
        assert state.skipped == 0


# ---- states of one's own ---------------------------------------------------------------------------------------------


def test_a_state_of_ones_own_is_what_it_was_made_of() -> None:
    state = ObjectState({"celsius": 20}, version=[1, 2], age=1.5)
    assert state.data == {"celsius": 20}
    assert (state.version, state.format, state.age) == ((1, 2), (), 1.5)
    assert (state.synchronized, state.descriptor, state.skipped) == (False, None, 0)
    with pytest.raises(ValueError, match="nobody has encoded"):
        assert state.raw
    assert "not encoded" in repr(state)
    assert str(state).startswith("= {'celsius': 20}, stale for 1.5 s")
    fresh = ObjectState(b"21", format=["JSON"])
    assert (fresh.raw, fresh.data, fresh.synchronized) == (b"21", b"21", True)
    assert not fresh.version
    buffer = bytearray(b"21")
    copied = ObjectState(buffer)
    buffer[:] = b"99"
    assert copied.raw == b"21"


def test_states_of_ones_own_are_equal_and_pickled_as_others_are(node: LocalNode) -> None:
    state = ObjectState([1], version=[1], age=2.0)
    assert state == ObjectState([1], version=[1], age=3.0)
    assert state != ObjectState([2], version=[1], age=2.0)
    assert state != ObjectState([1], version=[1])
    again = pickle.loads(pickle.dumps(state))
    assert (again, again.data) == (state, [1])
    assert again.age >= 2.0
    with node.object(WARSAW).observe() as observe, node.object(WARSAW).expose() as expose:
        expose.set_object_state([7], 5)
        received = observe.object_state()
        assert received == ObjectState(b"5", format=["JSON"], version=[7])


def test_states_whose_values_cannot_be_compared_are_not_equal() -> None:
    array = np.array([1, 2])
    state = ObjectState(array)
    assert state == state.replace()
    for other in (np.array([1, 2]), np.array([1, 2, 3]), [array, array], pd.DataFrame({"a": [1]})):
        assert (state == ObjectState(other), state != ObjectState(other)) == (False, True)
        assert ObjectState(b"1") != ObjectState(other)
    raw = ObjectState(np.bytes_(b"1"), format=["JSON"])
    assert raw == ObjectState(b"1", format=["JSON"])


def test_a_state_is_replaced_in_parts() -> None:
    state = ObjectState(b"1", format=["JSON"], version=[1], age=1.0)
    assert state.replace(version=[2]) == ObjectState(b"1", format=["JSON"], version=[2], age=1.0)
    assert state.replace(age=None).synchronized
    assert state.replace(age=9.0).age == 9.0
    assert state.replace(format=[]).format == ()
    other = state.replace(data=[3])
    assert (other.data, other.format, other.version) == ([3], (), (1,))
    assert ObjectState([1]).replace(version=[4]).data == [1]


@pytest.mark.parametrize(
    "arguments",
    [{"version": "1"}, {"version": [2**63]}, {"format": "JSON"}, {"age": -1.0}, {"age": "1"}],
)
def test_what_no_state_can_be_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        ObjectState(b"", **arguments)


def test_a_state_is_forwarded_unchanged(node: LocalNode) -> None:
    copy = ObjectDescriptor(["weather"], "a copy")
    with (
        node.object(WARSAW).observe() as observe,
        node.object(WARSAW).expose() as expose,
        node.object(copy).observe() as copied,
        node.object(copy).expose(serializer=RAW) as forward,
    ):
        (sink,) = [next(iter(forward))]
        expose.set_object_state([3, 4], {"celsius": 20})
        expose.set_synchronized(60.0)
        state = observe.object_state()
        assert state is not None
        assert sink.send(state)
        received = copied.object_state()
        assert received == state
        assert received is not None
        assert received.age >= 60.0
        assert not sink.send(state), "no newer version"
        assert sink.send(state.replace(version=[3, 5], age=None))
        assert copied.synchronized
        forward.close()
        with pytest.raises(NotAssignedError):
            sink.send(state)


def test_a_value_of_a_state_of_ones_own_is_encoded_and_limited() -> None:
    with (
        LocalNode(max_state=100) as node,
        node.object(WARSAW).observe() as observe,
        node.object(WARSAW).expose() as expose,
    ):
        sink = next(iter(expose))
        assert sink.send(ObjectState({"celsius": 20}, age=5.0))
        state = observe.object_state()
        assert state is not None
        assert (state.data, state.format, state.synchronized) == ({"celsius": 20}, ("JSON",), False)
        assert state.version[0] == 0, "a default one"
        with pytest.raises(StateTooLargeError):
            sink.send(ObjectState(b"x" * 101))


@pytest.mark.parametrize(
    ("serializer", "format"),
    [
        (JSON, ("weather", "JSON")),
        (MESSAGE_PACK.with_format(["a"]), ("weather", "a", "MessagePack")),
    ],
)
def test_the_format_of_a_value_goes_under_its_encoding(
    node: LocalNode, serializer: Serializer, format: tuple[str, ...]
) -> None:
    with (
        node.object(WARSAW).observe(serializer=serializer) as observe,
        node.object(WARSAW).expose(serializer=serializer) as expose,
    ):
        sink = next(iter(expose))
        assert sink.send(ObjectState(5, format=["weather"]))
        state = observe.object_state()
        assert state is not None
        assert (state.format, state.data) == (format, 5)
        most = ObjectState(6, format=["x"] * PEERS.max_format)
        with pytest.raises(SerializationError, match="under its encoding: a format has at most"):
            sink.send(most)
        assert observe.object_data() == 5


@pytest.mark.parametrize("state", ["x", None, b"1"])
def test_what_is_no_state_is_not_sent(node: LocalNode, state: Any) -> None:
    with node.object(WARSAW).observe(), node.object(WARSAW).expose() as expose:
        with pytest.raises(TypeError, match=r"send takes an ObjectState, not .*: write `set"):
            next(iter(expose)).send(state)


def test_a_value_is_published_with_its_age(node: LocalNode) -> None:
    with (
        node.tag("weather").observe() as observe,
        node.tag("weather").expose() as able,
        node.object(WARSAW).observe(),
    ):
        assert able.set_object_data(WARSAW, 1, age=7.0)
        state = observe.object_state(WARSAW)
        assert state is not None
        assert 7.0 <= state.age < 60.0
        assert able.set_synchronized(WARSAW)
        state = observe.object_state(WARSAW)
        assert state is not None
        assert state.synchronized
        sink = next(iter(able))
        sink.set(2, age=8.0)
        state = observe.object_state(WARSAW)
        assert state is not None
        assert 8.0 <= state.age < 60.0
        assert not able.set_synchronized(ObjectDescriptor(["weather"], "not here"))
        with pytest.raises(ValueError, match="age"):
            sink.set(3, age=-1)
        with pytest.raises(ValueError, match="age"):
            able.set_object_data(WARSAW, 3, age=-1)
    with pytest.raises(ClosedError):
        able.set_synchronized(WARSAW)
