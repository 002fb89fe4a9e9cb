"""What users seldom do, and may do: odd types and handlers, states that are pickled undecoded, objects lost at a bad moment."""

from __future__ import annotations

import logging
import operator
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import hakuban
from hakuban import JSON, MESSAGE_PACK, RAW, LocalNode, ObjectDescriptor
from hakuban._api import serve as _serve
from hakuban._api.codecs import CodecSerializer, _cached
from support.waiting import until

if TYPE_CHECKING:
    from hakuban import ObjectStateSink, Serializer, TagObserve

WEATHER = ObjectDescriptor(["weather"], 1)


# ---- pickled states -------------------------------------------------------------------------------------------------


def why_it_has_no_data(state: Any) -> hakuban.DeserializationError:
    with pytest.raises(hakuban.DeserializationError) as caught:
        _ = state.data
    return caught.value


@pytest.mark.parametrize(
    ("published", "error"),
    [
        ((("JSON",), b'{"celsius":"warm"}'), hakuban.DeserializationError),
        ((("JSON",), b"{"), hakuban.DeserializationError),
        ((("png",), b"..."), hakuban.WrongFormatError),
    ],
    ids=["another type", "no JSON", "another format"],
)
def test_a_state_that_does_not_decode_says_the_same_in_another_process(
    published: tuple[tuple[str, ...], bytes], error: type[hakuban.DeserializationError]
) -> None:
    @dataclass
    class Reading:  # which no other process finds
        celsius: int

    format, data = published
    node = LocalNode()
    with (
        node.object(WEATHER).expose(serializer=RAW.with_format(format)) as exposer,
        node.object(WEATHER).observe(type=Reading) as watcher,
    ):
        exposer.set_object_data(data)
        state = watcher.object_state()
        here, there = why_it_has_no_data(state), why_it_has_no_data(reread(state))
    assert type(here) is type(there) is error
    assert str(there) == str(here)
    assert str(WEATHER) in str(there)


def reread(state: Any) -> Any:
    return pickle.loads(pickle.dumps(state))


def test_a_state_survives_pickling_although_its_serializer_fails_in_ways_of_its_own() -> None:
    class Lookup:  # which no other process finds
        def serialize(self, value: str, /) -> tuple[tuple[str, ...], bytes]:
            return (), value.encode()

        def deserialize(self, _format: object, data: bytes, _type: Any, /) -> Any:
            return {b"known": "value"}[data]

    node = LocalNode(serializer=Lookup())
    with node.object(WEATHER).expose() as exposer, node.object(WEATHER).observe() as watcher:
        exposer.set_object_data("known")
        assert reread(watcher.object_state()).data == "value"
        exposer.set_object_data("unknown")
        with pytest.raises(KeyError):
            watcher.object_data()
        again = reread(watcher.object_state())
    assert again.raw == b"unknown"
    reason = str(why_it_has_no_data(again))
    assert "KeyError" in reason
    assert str(WEATHER) in reason


# ---- types ----------------------------------------------------------------------------------------------------------


class Tree(msgspec.Struct):
    """A type that refers to itself."""

    name: str
    children: list[Tree] = []


class Foreign:
    """Nothing that msgspec knows."""


class TreeOfForeigners(msgspec.Struct):
    children: list[TreeOfForeigners]
    value: Foreign


SERIALIZERS = pytest.mark.parametrize("serializer", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])


@SERIALIZERS
def test_a_type_may_refer_to_itself(serializer: Serializer) -> None:
    node = LocalNode(serializer=serializer)
    oak = Tree("trunk", [Tree("branch", [Tree("leaf")])])
    with (
        node.object(WEATHER).expose() as exposer,
        node.object(WEATHER).observe(type=Tree) as watcher,
    ):
        exposer.set_object_data(oak)
        assert watcher.object_data() == oak


@SERIALIZERS
@pytest.mark.parametrize(
    "wrong", [TreeOfForeigners, (), (int,), 5], ids=["foreign", "no types", "a tuple", "a value"]
)
def test_what_nothing_can_be_decoded_to_is_refused_before_it_is_observed(
    serializer: Serializer, wrong: Any
) -> None:
    node = LocalNode(serializer=serializer)
    for builder in (node.object(WEATHER), node.tag("weather")):
        with pytest.raises(TypeError, match="can be decoded to"):
            builder.observe(type=wrong)
    assert node.snapshot().objects == []


def test_a_decoder_that_cannot_be_made_is_a_fault_of_the_type_however_msgspec_says_so() -> None:
    def fails(_type: Any, *, dec_hook: object) -> Any:
        raise SystemError("returned a result with an exception set")

    codec = CodecSerializer("codec", lambda value, _: msgspec.json.encode(value), _cached(fails))
    for use in (codec.check_type, lambda kind: codec.deserialize(("codec",), b"1", kind)):
        with pytest.raises(TypeError):
            use(int)


# ---- handlers -------------------------------------------------------------------------------------------------------


class Producer:
    """What a handler might be written as, and cannot be: to make one produces nothing."""

    def __init__(self, sink: Any) -> None:
        self.sink = sink


class AsyncProducer(Producer):
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("wrong", [Producer, AsyncProducer, Exception])
async def test_a_class_is_no_handler_although_it_is_made_of_a_sink(wrong: Any) -> None:
    with LocalNode().object(WEATHER).expose() as contract:
        pass
    with pytest.raises(TypeError, match="write `async def`"):
        await contract.serve(wrong)


async def test_what_is_not_written_in_python_is_judged_by_what_it_returns() -> None:
    """As a compiled handler: nothing about it tells that its calls are to be awaited."""
    node = LocalNode()
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        async with anyio.create_task_group() as group:
            group.start_soon(contract.serve, operator.methodcaller("wait_unassigned"))
            await contract.wait_assigned()
            await anyio.wait_all_tasks_blocked()
            contract.close()
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        with pytest.RaisesGroup(pytest.RaisesExc(TypeError, match="returned")), anyio.fail_after(5):
            await contract.serve(operator.attrgetter("descriptor"))


async def test_only_a_handler_that_has_lasted_as_long_as_the_longest_pause_begins_anew(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, longest = 2.0**-10, 2.0**-8  # so that sums of them are exact
    monkeypatch.setattr(_serve, "FIRST_DELAY", first)
    monkeypatch.setattr(_serve, "LAST_DELAY", longest)
    now = 0.0
    monkeypatch.setattr(_serve, "monotonic", lambda: now)
    lasting = [0, 0, 0, 0, 0.75 * longest, longest, 0, 5 * longest]

    async def produce(_sink: ObjectStateSink[int]) -> None:
        nonlocal now
        if not lasting:
            await anyio.sleep_forever()
        now += lasting.pop(0)
        raise ZeroDivisionError

    node = LocalNode()
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        async with anyio.create_task_group() as group:
            with caplog.at_level(logging.ERROR, "hakuban"):
                group.start_soon(contract.serve, produce)
                await until(lambda: len(caplog.records) == 8)
            contract.close()
    pauses = [record.getMessage().partition("again in ")[2] for record in caplog.records]
    expected = [first, 2 * first, longest, longest, longest, first, 2 * first, first]
    assert pauses == [f"{pause:g} s" for pause in expected]


# ---- moments --------------------------------------------------------------------------------------------------------


def collect_in_a_call(node: LocalNode, contracts: list[Any]) -> None:
    node._engine.call(lambda _machine, _now: contracts.clear())


def test_contracts_collected_in_the_middle_of_a_call_are_gone_for_whoever_asks_for_the_objects() -> (
    None
):
    """A garbage collection may come at any line; what it finds is closed later, a few at a time."""
    node = LocalNode()
    watched = [node.object(["weather"], number).observe() for number in range(600)]
    exposed = [node.object(["ice"], number).expose() for number in range(600)]
    with node.tag("weather").observe() as weathers, node.tag("ice").observe() as ice:
        assert len(weathers.object_descriptors()) == len(ice.object_descriptors()) == 600
        pairs: list[tuple[list[Any], TagObserve[Any]]] = [(watched, weathers), (exposed, ice)]
        for contracts, watcher in pairs:
            collect_in_a_call(node, contracts)
            assert not watcher.object_descriptors()


async def test_a_block_is_entered_when_the_link_is_up_unless_one_does_not_want_to_wait() -> None:
    with LocalNode() as above, LocalNode() as below, LocalNode() as hasty:
        async with above.listen("memory://") as listener, below.connect(listener.url) as link:
            assert link.up
            async with hasty.connect(listener.url, wait=False) as later:
                assert not later.up
                with anyio.fail_after(5):
                    await later.wait_up()
