"""What users pass: names, versions, values, types, handlers. A wrong one raises at the call and leaves the node as it was."""

from __future__ import annotations

import contextlib
import copy
import enum
import functools
import inspect
import itertools
import logging
import math
import pickle
from collections import OrderedDict, UserString
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pytest
from typing_extensions import override

import hakuban
from hakuban import (
    JSON,
    MESSAGE_PACK,
    RAW,
    InvalidDescriptorError,
    LocalNode,
    ObjectDescriptor,
    SerializationError,
    TagDescriptor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hakuban import Format, ObjectExpose, TagExpose

WEATHER = ObjectDescriptor(["weather"], {"city": "Poznań"})


@pytest.fixture
def node() -> Iterator[LocalNode]:
    with LocalNode() as node:
        yield node
        # whatever a test has done: the node still works
        with node.object("alive").observe() as watcher, node.object("alive").expose() as contract:
            contract.set_object_data("yes")
            assert watcher.object_data() == "yes"


# ---- names ----------------------------------------------------------------------------------------------------------


class Kind(str, enum.Enum):  # noqa: UP042  # what users have, and StrEnum shows itself in another way
    OVEN = "oven"


class Number(enum.IntEnum):
    ONE = 1


class Shouting(str):
    __slots__ = ()

    @override
    def __format__(self, spec: str) -> str:
        return self.upper()

    @override
    def __str__(self) -> str:
        return self.upper()


class Rounded(float):
    @override
    def __repr__(self) -> str:
        return "about two"


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.filterwarnings("ignore:a descriptor with a floating-point")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Kind.OVEN, '"oven"'),
        ({Kind.OVEN: Number.ONE}, '{"oven":1}'),
        (Shouting("oven"), '"oven"'),
        ({Shouting("oven"): 1}, '{"oven":1}'),
        (Rounded(2.5), "2.5"),
        (True, "true"),
        (np.float64(1.5), "1.5"),
        (np.float32(1.5), "1.5"),
        (np.int8(-3), "-3"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.str_("oven"), '"oven"'),
        (np.bool_(True), "true"),
        (np.array(7), "7"),
        (Point(1, 2), "[1,2]"),
        ([(1, 2)], "[[1,2]]"),
        (OrderedDict(b=1, a=2), '{"a":2,"b":1}'),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_a_name_is_made_of_the_value_and_not_of_how_it_shows_itself(value: Any, text: str) -> None:
    assert TagDescriptor(value).json_text == text
    assert ObjectDescriptor([value], value).json_text == text
    assert TagDescriptor.from_json(text) == TagDescriptor(value)


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Color.RED, ".value"),
        (np.arange(3), "tolist"),
        (np.datetime64("2026-11-28"), "as text"),
        (2**64, "as text"),
        (-(2**63) - 1, "as text"),
        (10**400, "as text"),
        (Decimal(1), "as text"),
        (1j, "as text"),
        (b"x", "as text"),
        (UserString("x"), "as text"),
        ({1: 2}, "strings"),
        ({Shouting("a"): 1, "A": 2, Kind.OVEN: 3, b"x": 4}, "strings"),
        ({1, 2}, "sorted"),
        (WEATHER, ".json"),
        (math.nan, "not JSON"),
        (np.float64("inf"), "not JSON"),
        ("\ud800", "surrogate"),
        ("x" * 65_535, "more shortly"),
        (["é" * 32_767], "more shortly"),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_no_peer_could_read_is_no_name(node: LocalNode, value: Any, advice: str) -> None:
    for name in (
        lambda: TagDescriptor(value),
        lambda: ObjectDescriptor(["t"], value),
        lambda: ObjectDescriptor([value], 1),
        lambda: node.object(["t"], value),
        lambda: node.tag(value),
    ):
        with pytest.raises(InvalidDescriptorError, match=advice):
            name()


def test_what_just_fits_is_a_name_for_peers_too() -> None:
    assert len(TagDescriptor("x" * 65_534).json_text) == 65_536
    assert len(TagDescriptor("ż" * 32_767).json_text.encode()) == 65_536
    with pytest.raises(InvalidDescriptorError, match="more shortly"):
        TagDescriptor("ż" * 32_768)
    assert len(LocalNode("ż" * 512).name.encode()) == 1_024
    with pytest.raises(ValueError, match="1024 bytes"):
        LocalNode("ż" * 513)
    assert len(ObjectDescriptor(range(1_000), 1).tags) == 1_000
    assert len(ObjectDescriptor([1] * 2_000, 1).tags) == 1
    with pytest.raises(InvalidDescriptorError, match="1,000 tags"):
        ObjectDescriptor(range(1_001), 1)


def test_what_was_read_from_json_is_refused_where_it_is_used(node: LocalNode) -> None:
    """A peer may say what others ignore; a program that does is told."""
    many = ObjectDescriptor.from_json([str(number) for number in range(1_001)], "1")
    long = TagDescriptor.from_json(f'"{"x" * 65_535}"')
    with pytest.raises(InvalidDescriptorError, match="1,000 tags"):
        node.object(many)
    for name in (
        lambda: node.object(ObjectDescriptor.from_json([], long.json_text)),
        lambda: node.object([long], 1),
        lambda: node.tag(long),
    ):
        with pytest.raises(InvalidDescriptorError, match="more shortly"):
            name()


def test_a_tuple_that_names_an_object_is_the_spelling_of_the_crate(node: LocalNode) -> None:
    assert node.object((["weather"], {"city": "Poznań"})).descriptor == WEATHER
    assert ObjectDescriptor((("weather",), {"city": "Poznań"})) == WEATHER
    assert ObjectDescriptor(("x",)) == ObjectDescriptor([], "x") == ObjectDescriptor("x")
    assert ObjectDescriptor(WEATHER) == WEATHER
    for wrong in ((), (1, 2, 3)):
        for name in (ObjectDescriptor, node.object):
            with pytest.raises(TypeError, match="write a list for a JSON array"):
                name(wrong)
    with pytest.raises(TypeError, match=r"write \['weather'\]"):
        node.object(("weather", {"city": "Poznań"}))
    assert ObjectDescriptor([], (1, 2)).json_text == "[1,2]"


def test_wherever_a_descriptor_is_wanted_a_name_will_do(node: LocalNode) -> None:
    name = (["weather"], {"city": "Poznań"})
    with (
        node.tag("weather").expose() as exposed,
        node.tag("weather").observe() as observed,
        node.object(name).observe(),
    ):
        assert exposed.set_object_data(name, 1)
        assert observed.object_data(name) == 1
        assert exposed.set_object_state(name, [9], 2)
        assert observed.object_version(name) == (9,)
        assert exposed.set_object_version(name, [10])
        state = observed.object_state(name)
        assert state is not None
        assert state.version == (10,)
        assert name in observed
        assert name in exposed
        assert "else" not in observed
        assert ["else"] not in exposed


@pytest.mark.parametrize("wrong", [(1, 2, 3), (), ("weather", 1), (None, 1), (5, 1)], ids=repr)
def test_a_wrong_name_raises_where_it_is_passed(node: LocalNode, wrong: Any) -> None:
    with node.tag("weather").expose() as exposed, node.tag("weather").observe() as observed:
        calls: list[Callable[[], object]] = [
            lambda: exposed.set_object_data(wrong, 1),
            lambda: exposed.set_object_state(wrong, [1], 1),
            lambda: exposed.set_object_version(wrong),
            lambda: observed.object_data(wrong),
            lambda: observed.object_state(wrong),
            lambda: observed.object_version(wrong),
            lambda: wrong in observed,
            lambda: wrong in exposed,
        ]
        for call in calls:
            with pytest.raises(TypeError):
                call()


def test_descriptors_are_not_subclassed() -> None:
    for kind in (ObjectDescriptor, TagDescriptor):
        with pytest.raises(TypeError, match="subclassed"):
            type("Mine", (kind,), {})


def test_a_tag_that_is_a_list_of_one_string_is_probably_a_mistake_and_logged_once(
    node: LocalNode, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hakuban"):
        for _ in range(3):
            node.tag(["probably"])
        node.tag("probably")
        node.tag(["not", "this"])
        node.tag([1])
    (line,) = caplog.messages
    assert (
        line
        == 'the tag ["probably"] is a list of one string: for the tag "probably" write the string alone'
    )


# ---- versions, ages, capacities -------------------------------------------------------------------------------------


def test_numbers_of_other_libraries_are_taken_by_value(node: LocalNode) -> None:
    with (
        node.object(WEATHER).expose(capacity=np.int32(3)) as contract,  # type: ignore[call-overload]  # that is the point
        node.object(WEATHER).observe() as watcher,
    ):
        assert (contract.capacity, type(contract.capacity)) == (3, int)
        contract.capacity = np.uint8(5)
        assert (contract.capacity, type(contract.capacity)) == (5, int)
        contract.set_object_state(np.array([1, 2]), "numpy")
        assert str(watcher.object_version()) == "(1, 2)"
        mixed: list[Any] = [Number.ONE, True, np.int64(3)]
        contract.set_object_state(mixed, "mixed")
        assert str(watcher.object_version()) == "(1, 2)", "which was greater"
        greater: list[Any] = [np.int16(2)]
        contract.set_object_state(greater, "greater")
        assert str(watcher.object_version()) == "(2,)"
        contract.set_synchronized(np.float32(1.5))
        contract.set_synchronized(Fraction(1, 2))
        assert not watcher.synchronized


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("123", TypeError),
        (b"123", TypeError),
        (5, TypeError),
        ([1.0], TypeError),
        (["1"], TypeError),
        ([np.float64(1)], TypeError),
        ([None], TypeError),
        ([2**63], ValueError),
        ([-(2**63) - 1], ValueError),
        ([1 << 5_000], ValueError),
        ([1] * 1_001, ValueError),
        ([2**63 - 1] * 1_000, ValueError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_version_is_some_integers_of_64_bits(
    node: LocalNode, version: Any, error: type[Exception]
) -> None:
    with node.object(WEATHER).expose() as contract, node.tag("weather").expose() as other:
        calls: list[Callable[[], object]] = [
            lambda: contract.set_object_state(version, 1),
            lambda: contract.set_object_version(version),
            lambda: other.set_object_state(WEATHER, version, 1),
            lambda: other.set_object_version(WEATHER, version),
        ]
        for call in calls:
            with pytest.raises(error, match="version"):
                call()


def test_the_longest_version_is_followed_by_one_that_peers_accept(node: LocalNode) -> None:
    with (
        node.object(WEATHER).expose() as contract,
        node.object(WEATHER).observe() as watcher,
    ):
        longest = (2**62, *[2**63 - 1] * 999)
        assert contract.set_object_state(longest, 1)
        contract.set_object_data(2)
        assert watcher.object_data() == 2
        assert watcher.object_version() == (2**62 + 1,)


@pytest.mark.parametrize("capacity", ["1", 1.0, None, -1, 2**32, [1]], ids=repr)
def test_a_capacity_is_an_integer_of_32_bits(node: LocalNode, capacity: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="capacity"):
        node.object(WEATHER).expose(capacity=capacity)
    with node.tag("weather").expose() as contract:
        with pytest.raises((TypeError, ValueError), match="capacity"):
            contract.capacity = capacity
        assert contract.capacity == 1


@pytest.mark.parametrize(
    "age",
    ["1", b"1", -1, math.nan, math.inf, 1j, [1], 1 << 5_000],
    ids=lambda age: type(age).__name__,
)
def test_an_age_is_some_seconds(node: LocalNode, age: Any) -> None:
    with node.object(WEATHER).expose() as contract:
        contract.set_object_data(1)
        with pytest.raises((TypeError, ValueError), match="age"):
            contract.set_synchronized(age)


@pytest.mark.parametrize("timeout", ["1", math.nan, [1], 1j], ids=repr)
def test_a_time_limit_is_some_seconds(node: LocalNode, timeout: Any) -> None:
    with (
        node.object(WEATHER).observe() as watcher,
        pytest.raises((TypeError, ValueError), match="timeout"),
    ):
        watcher.wait_state_sync(timeout)


def test_a_time_limit_may_be_in_the_past_or_beyond_all_time(node: LocalNode) -> None:
    with node.object(WEATHER).observe() as watcher, node.object(WEATHER).expose() as contract:
        with pytest.raises(hakuban.WaitTimeoutError):
            watcher.wait_state_sync(-1)
        contract.set_object_data(1)
        assert watcher.wait_state_sync(math.inf).data == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": 5},
        {"name": b"x"},
        {"name": "x" * 1_025},
        {"name": "\ud800"},
        {"max_state": -1},
        {"max_state": 1.5},
        {"max_state": "1"},
        {"rebalance": "0.1"},
        {"rebalance": math.nan},
        {"rebalance": -1},
        {"rebalance": math.inf},
        {"serializer": None},
        {"serializer": "JSON"},
        {"serializer": hakuban.Serializer},
        {"serializer": int},
    ],
    ids=str,
)
def test_a_node_is_made_of_what_makes_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
        LocalNode(**arguments)


# ---- values ---------------------------------------------------------------------------------------------------------


class Broken:
    """A serializer that gives what it was made with."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def serialize(self, _value: Any, /) -> tuple[Format, bytes]:
        result: tuple[Format, bytes] = self.given
        return result

    def deserialize(self, _format: Format, data: bytes, _type: Any, /) -> Any:
        return data


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("text", "format, data"),
        (None, "format, data"),
        (b"data", "format, data"),
        ((("JSON",), b"1", 1), "format, data"),
        ((("JSON",), "1"), "encode it"),
        ((("JSON",), None), "bytes"),
        ((("JSON",), [1]), "bytes"),
        ((b"1", ("JSON",)), "has to be"),
        ((bytearray(b"1"), ["JSON"]), "has to be"),
        (("JSON", b"1"), "tuple of names"),
        ((None, b"1"), "tuple of names"),
        (((1,), b"1"), "format"),
        (((b"JSON",), b"1"), "format"),
        ((("JSON",) * 65, b"1"), "64 names"),
        ((("x" * 20_000,), b"1"), "16,384 bytes"),
        ((("\ud800",), b"1"), "surrogate"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_serializer_must_not_give_is_said_where_a_value_is_set(
    node: LocalNode, given: Any, reason: str
) -> None:
    serializer = Broken(given)
    with (
        node.object(WEATHER).expose(serializer=serializer) as contract,
        node.tag("weather").expose(serializer=serializer) as other,
        node.object(WEATHER).observe() as watcher,
    ):
        for call in (
            lambda: contract.set_object_data(1),
            lambda: contract.set_object_state([1], 1),
            lambda: other.set_object_data(WEATHER, 1),
        ):
            with pytest.raises(SerializationError, match=reason) as caught:
                call()
            assert caught.value.value_type is int
        assert watcher.object_state() is None


@pytest.mark.parametrize(
    "make", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "view"]
)
def test_a_buffer_that_is_used_again_does_not_tear_what_was_published(
    node: LocalNode, make: Callable[[bytes], Any]
) -> None:
    buffer = make(b"before")
    with (
        node.object("raw").expose(serializer=RAW) as contract,
        node.object("mine").expose(serializer=Broken(((), buffer))) as other,
        node.object("raw").observe(serializer=RAW) as watcher,
        node.object("mine").observe(serializer=RAW) as watcher_of_mine,
    ):
        contract.set_object_data(buffer)
        other.set_object_data(1)
        buffer[:] = b"after!"
        assert watcher.object_data() == watcher_of_mine.object_data() == b"before"


def test_bytes_are_not_copied(node: LocalNode) -> None:
    data = b"x" * 1_000
    with (
        node.object("raw").expose(serializer=RAW) as contract,
        node.object("raw").observe(type=bytes, serializer=RAW) as watcher,
    ):
        contract.set_object_data(data)
        assert watcher.object_data() is data


def test_a_format_is_made_of_plain_names(node: LocalNode) -> None:
    serializer = Broken(([Shouting("json"), Kind.OVEN], b"1"))
    with (
        node.object("x").expose(serializer=serializer) as contract,
        node.object("x").observe() as watcher,
    ):
        contract.set_object_data(1)
        state = watcher.object_state()
        assert state is not None
        assert repr(state.format) == "('json', 'oven')"


@pytest.mark.parametrize(
    "wrong", ["x", [1], ["x"] * 65, ["\ud800"], 5, None], ids=lambda value: type(value).__name__
)
def test_a_declared_format_is_checked_where_it_is_declared(wrong: Any) -> None:
    for declare in (JSON.with_format, MESSAGE_PACK.with_format, RAW.with_format):
        with pytest.raises((TypeError, ValueError), match="format"):
            declare(wrong)


# ---- types and serializers of contracts -----------------------------------------------------------------------------


class First(msgspec.Struct):
    a: int


class Second(msgspec.Struct):
    b: int


class Model:
    """Of a library that nobody here knows."""

    a: int


class WithModel(msgspec.Struct):
    more: WithModel | None
    models: dict[str, list[Model]]


@pytest.mark.parametrize(
    "wanted",
    [
        5,
        "Reading",
        First | Second,
        Model,
        list[Model],
        WithModel,
        "no such name",
        complex,
        object(),
    ],
    ids=lambda wanted: type(wanted).__name__,
)
def test_a_type_that_no_value_can_be_is_refused_when_it_is_asked_for(
    node: LocalNode, wanted: Any
) -> None:
    for builder in (node.object(WEATHER), node.tag("weather")):
        for serializer in (None, MESSAGE_PACK, RAW):
            with pytest.raises(TypeError, match=r"decoded|RAW gives bytes"):
                builder.observe(type=wanted, serializer=serializer)
    assert node.snapshot().objects == [], "no contract was opened"


@pytest.mark.parametrize(
    "wanted",
    [dict, First, First | None, list[First], int | str, object, None, tuple[int, ...]],
    ids=str,
)
def test_a_type_that_values_can_be_is_taken(node: LocalNode, wanted: Any) -> None:
    with (
        node.object(WEATHER).observe(type=wanted),
        node.tag("weather").observe(type=wanted, serializer=MESSAGE_PACK),
    ):
        pass


@pytest.mark.parametrize(
    "wrong", ["JSON", 5, Broken, object(), math], ids=lambda value: type(value).__name__
)
def test_a_serializer_is_one(node: LocalNode, wrong: Any) -> None:
    for builder in (node.object(WEATHER), node.tag("weather")):
        for make in (builder.observe, builder.expose):
            with pytest.raises(TypeError, match="serializer"):
                make(serializer=wrong)


# ---- loops that would never end -------------------------------------------------------------------------------------


def test_a_list_of_what_never_ends_says_what_to_write(node: LocalNode) -> None:
    with (
        node.tag("weather").observe() as observed,
        node.object(WEATHER).observe() as watcher,
        node.tag("weather").expose() as exposed,
        node.object(WEATHER).expose() as contract,
    ):
        contract.set_object_data(1)
        kinds: list[Callable[[Any], object]] = [list, tuple, sorted]
        for endless in (observed, watcher, exposed, contract):
            for kind in kinds:
                with pytest.raises(TypeError, match=r"for \w+ in|object_descriptors"):
                    kind(endless)
            with pytest.raises(TypeError, match="write"):
                list(iter(endless))
        with pytest.raises(TypeError, match="write"):
            assert 1 in watcher
        with pytest.raises(TypeError, match="write"):
            assert 1 in contract
        assert WEATHER in observed
        assert next(iter(observed)).descriptor == WEATHER
    for ended in (observed, watcher, exposed, contract):
        assert list(ended) == []


# ---- handlers -------------------------------------------------------------------------------------------------------


def plain(sink: Any) -> None:
    raise AssertionError("never called")


async def no_argument() -> None:
    raise AssertionError("never called")


async def two_arguments(sink: Any, more: Any) -> None:
    raise AssertionError("never called")


@contextlib.asynccontextmanager
async def context(sink: Any) -> Any:
    yield 1


yielding = inspect.unwrap(context)


def generating(sink: Any) -> Any:
    yield 1


class Handlers:
    def plain(self, sink: Any) -> None: ...

    async def good(self, sink: Any) -> None: ...

    async def __call__(self, sink: Any) -> None: ...


class PlainCall:
    def __call__(self, sink: Any) -> None: ...


@pytest.mark.parametrize(
    "wrong",
    [
        plain, no_argument, two_arguments, yielding, context, generating, Handlers, Handlers().plain, PlainCall(), None, 5,
        functools.partial(plain), functools.partial(yielding), functools.partial(two_arguments, 1, 2), "produce",
    ],
    ids=lambda wrong: type(wrong).__name__,
)  # fmt: skip
async def test_what_cannot_be_a_handler_is_refused_before_it_is_needed(
    node: LocalNode, wrong: Any
) -> None:
    contracts: list[ObjectExpose[Any] | TagExpose[Any]] = [
        node.object(WEATHER).expose(),
        node.tag("weather").expose(),
    ]
    for contract in contracts:
        with contract, pytest.raises(TypeError, match="handler"):
            await contract.serve(wrong)


@pytest.mark.parametrize(
    "right",
    [
        Handlers().good,
        Handlers(),
        functools.partial(two_arguments, more=1),
        lambda sink: Handlers().good(sink),
    ],
    ids=["method", "callable object", "partial", "lambda"],
)
async def test_what_is_called_with_a_sink_and_awaited_is_a_handler(right: Any) -> None:
    with LocalNode() as node:
        contract = node.object("nobody wants it").expose()
    await contract.serve(right)


async def test_a_lambda_that_turns_out_to_be_no_handler_ends_serving(node: LocalNode) -> None:
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe():
        with pytest.RaisesGroup(pytest.RaisesExc(TypeError, match="returned None")):
            await contract.serve(lambda _sink: None)  # type: ignore[arg-type,return-value]  # that is the point


# ---- what a reviewer found ------------------------------------------------------------------------------------------


def with_database(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(sink: Any) -> None:
        await function(sink, "database")

    return wrapper


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(sink: Any) -> Any:
        return function(sink)

    return wrapper


@pytest.mark.parametrize(
    "right",
    [with_database(two_arguments), with_database(yielding), plainly(Handlers().good)],
    ids=["argument", "yield", "plain"],
)
async def test_a_decorated_handler_is_judged_by_what_is_called(right: Any) -> None:
    with LocalNode() as node:
        contract = node.object("nobody wants it").expose()
    await contract.serve(right)


def test_a_contract_is_not_copied_since_its_copy_would_close_it(node: LocalNode) -> None:
    for contract in (
        node.object(WEATHER).observe(),
        node.object(WEATHER).expose(),
        node.tag("weather").observe(),
        node.tag("weather").expose(),
    ):
        with contract:
            for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="belongs to its node"):
                    duplicate(contract)
            assert not contract.closed


def test_json_texts_are_texts() -> None:
    for wrong in (None, b"1", 5):
        with pytest.raises(TypeError, match="JSON text"):
            TagDescriptor.from_json(wrong)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(TypeError, match="JSON text"):
            ObjectDescriptor.from_json([], wrong)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="list of JSON texts"):
        ObjectDescriptor.from_json("123", "1")


def test_what_has_no_end_is_refused_after_as_much_as_is_allowed(node: LocalNode) -> None:
    with pytest.raises(InvalidDescriptorError, match="100,000 tags"):
        node.object(itertools.repeat("t"), 1)
    with pytest.raises(ValueError, match="64 names"):
        RAW.with_format(itertools.repeat("x"))
    with pytest.raises(ValueError, match="1,000 integers"):
        with node.object(WEATHER).expose() as contract:
            contract.set_object_version(itertools.repeat(1))
    with pytest.raises(ValueError, match="1,000 points"):
        node.connect("memory://x", load_limit=itertools.repeat((0, 1)))
    with pytest.raises(ValueError, match="10,000 origins"):
        node.listen("memory://", allow_origins=itertools.repeat("x"))  # type: ignore[arg-type]  # that is the point


@pytest.mark.filterwarnings("ignore:a link was never made")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_argument_that_is_an_array_is_made_of_its_items() -> None:
    with LocalNode() as node:
        points: Any = np.array([[0, 3], [10, 5]])
        block = node.connect("memory://x", load_limit=points)
        with pytest.raises(TypeError, match="allow_origins"):
            node.listen("memory://", allow_origins=5)  # type: ignore[arg-type]  # that is the point
        del block


class Encoded(NamedTuple):
    format: Format
    data: Any


def test_a_named_pair_is_a_pair_and_a_released_view_is_no_data(node: LocalNode) -> None:
    released = memoryview(b"x")
    released.release()
    with node.object("x").expose(serializer=Broken(Encoded((), b"1"))) as contract:
        contract.set_object_data(1)
    with (
        node.object("x").expose(serializer=Broken(Encoded((), released))) as contract,
        pytest.raises(SerializationError, match="released"),
    ):
        contract.set_object_data(1)


def test_a_released_view_is_no_list_of_anything(node: LocalNode) -> None:
    """CPython 3.11 raises a SystemError of its own there, later ones a ValueError."""
    released: Any = memoryview(b"x")
    released.release()
    with node.object(WEATHER).expose() as contract:
        calls: list[Callable[[], object]] = [
            lambda: contract.set_object_version(released),
            lambda: node.object(released, 1),
            lambda: ObjectDescriptor.from_json(released, "1"),
            lambda: RAW.with_format(released),
        ]
        for call in calls:
            with pytest.raises((TypeError, ValueError)):
                call()


def test_a_warning_of_a_name_points_at_the_line_that_has_it(node: LocalNode) -> None:
    calls: list[Callable[[], object]] = [
        lambda: TagDescriptor(1.5),
        lambda: ObjectDescriptor([1.5], 1),
        lambda: ObjectDescriptor([], {"a": [{"b": 1.5}]}),
        lambda: node.object(1.5),
        lambda: node.object(["t"], 1.5),
        lambda: node.tag([1.5]),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="floating-point") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_states_survive_every_protocol_of_pickle(node: LocalNode, protocol: int) -> None:
    for serializer in (JSON, JSON.with_format(["inner"]), MESSAGE_PACK, RAW):
        with (
            node.object("x").expose(serializer=serializer) as contract,
            node.object("x").observe(serializer=serializer) as watcher,
        ):
            contract.set_object_data(b"1" if serializer is RAW else 1)
            state = watcher.object_state()
            again = pickle.loads(pickle.dumps(state, protocol))
            assert (again, again.data) == (state, watcher.object_data())


def test_long_names_are_cut_in_errors(node: LocalNode) -> None:
    with (
        node.object("x" * 60_000).observe() as watcher,
        pytest.raises(hakuban.WaitTimeoutError) as caught,
    ):
        watcher.wait_state_sync(0.01)
    assert len(str(caught.value)) < 500
    with pytest.raises(hakuban.ClosedError) as closed:
        watcher.wait_state_sync(0.01)
    assert len(str(closed.value)) < 500
