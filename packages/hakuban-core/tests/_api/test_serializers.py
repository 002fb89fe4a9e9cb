"""Values to bytes and back (scenarios 152 to 156)."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import hakuban
from hakuban import JSON, MESSAGE_PACK, RAW, LocalNode, Serializer

if TYPE_CHECKING:
    from hakuban._api.codecs import CodecSerializer


@dataclass
class Point:
    x: int
    y: float


class Other(msgspec.Struct):
    """Beside `Reading`, not told apart by a tag."""


class Reading(msgspec.Struct):
    celsius: float
    place: str | None = None


VALUES = [None, True, 0, -(2**63), 1.5, "", "Poznań \U0001f600", [], [1, [2]], {"a": {"b": None}}]


@pytest.mark.parametrize("serializer", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_come_back(serializer: Serializer, value: Any) -> None:
    format, data = serializer.serialize(value)
    assert serializer.deserialize(format, data, Any) == value


@pytest.mark.parametrize("serializer", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])
def test_typed_values_come_back(serializer: Serializer) -> None:
    for value in (Point(1, 2.5), Reading(21.0), Reading(21.0, "Poznań")):
        format, data = serializer.serialize(value)
        assert serializer.deserialize(format, data, type(value)) == value
    format, data = serializer.serialize([1, 2])
    assert serializer.deserialize(format, data, tuple[int, int]) == (1, 2)
    annotated: Any = Any
    assert serializer.deserialize(format, data, annotated) == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [None, {"deep": [-math.inf]}],
        Reading(math.nan),
        "\ud800",
        pytest.param(object(), id="an object"),
        pytest.param({1, object()}, id="a set"),
    ],
    ids=repr,
)
def test_json_refuses_what_other_peers_could_not_read(value: Any) -> None:
    with pytest.raises(hakuban.SerializationError) as caught:
        JSON.serialize(value)
    assert caught.value.value_type is type(value)


def test_recursion_is_an_error_of_the_value() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for serializer in (JSON, MESSAGE_PACK):
        with pytest.raises(hakuban.SerializationError):
            serializer.serialize(loop)


def test_json_that_has_nulls_is_fine() -> None:
    assert (
        JSON.serialize({"a": None, "b": 1.5, "c": (None,)})[1] == b'{"a":null,"b":1.5,"c":[null]}'
    )


@pytest.mark.parametrize(
    "data", [b"", b"{", b"NaN", b"1e400", b'"\\ud800"', b"1 2", b"\xff", b'["\xff"]', b"[" * 2000]
)
def test_json_that_is_none_raises(data: bytes) -> None:
    with pytest.raises(hakuban.DeserializationError) as caught:
        JSON.deserialize(("JSON",), data, Any)
    assert caught.value.format == ("JSON",)


def test_data_of_another_type_raise() -> None:
    with pytest.raises(hakuban.DeserializationError):
        JSON.deserialize(("JSON",), b'{"x":1}', Point)
    with pytest.raises(hakuban.DeserializationError):
        MESSAGE_PACK.deserialize(("MessagePack",), b"\xc1", Any)


def test_only_the_outermost_encoding_counts() -> None:
    assert JSON.deserialize(("weather", "JSON"), b"1", int) == 1
    for format in ((), ("MessagePack",), ("JSON", "zstd")):
        with pytest.raises(hakuban.WrongFormatError) as caught:
            JSON.deserialize(format, b"1", Any)
        assert caught.value.expected == "JSON"
        assert caught.value.format == format


def test_names_of_the_application_go_under_the_encoding() -> None:
    assert JSON.serialize(1)[0] == ("JSON",)
    assert JSON.with_format(["weather"]).serialize(1)[0] == ("weather", "JSON")
    assert MESSAGE_PACK.with_format(["weather"]).serialize(1)[0] == ("weather", "MessagePack")
    assert RAW.with_format(["JSON"]).serialize(b"1")[0] == ("JSON",)
    for serializer in (JSON, RAW):
        with pytest.raises(TypeError, match="list of names"):
            serializer.with_format("weather")


def test_raw_bytes_pass() -> None:
    for value in (b"x", bytearray(b"x"), memoryview(b"x")):
        assert RAW.serialize(value) == ((), b"x")
    assert RAW.deserialize(("anything",), b"x", bytes) == b"x"
    anything: Any = Any
    assert RAW.deserialize((), b"x", anything) == b"x"
    with pytest.raises(hakuban.SerializationError):
        RAW.serialize("text")
    with pytest.raises(hakuban.DeserializationError):
        RAW.deserialize((), b"x", str)


def test_a_mutable_value_is_copied() -> None:
    value = bytearray(b"before")
    _, data = RAW.serialize(value)
    value[:] = b"after!"
    assert data == b"before"


def test_a_type_that_cannot_be_hashed_decodes_too() -> None:
    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]  # that is the point

    class Value(metaclass=Unhashable):
        pass

    with pytest.raises(hakuban.DeserializationError):
        JSON.deserialize(("JSON",), b"{", Value)


def test_serializers_say_what_they_are() -> None:
    assert repr(JSON) == "<JSON serializer, format ['JSON']>"
    assert repr(RAW) == "RAW"
    assert repr(RAW.with_format(["png"])) == "RAW.with_format(['png'])"


def test_a_serializer_of_ones_own_raises_its_own_errors() -> None:
    class Upper:
        def serialize(self, value: str, /) -> tuple[tuple[str, ...], bytes]:
            return ("Upper",), value.upper().encode()

        def deserialize(self, format: tuple[str, ...], data: bytes, type: Any, /) -> Any:
            if format != ("Upper",):
                raise KeyError(format)
            return type(data.decode())

    node = LocalNode(serializer=Upper())
    with (
        node.object("x").observe(type=str) as watcher,
        node.object("x").expose() as contract,
        node.object("x").observe(serializer=JSON) as stranger,
    ):
        contract.set_object_data("loud")
        assert watcher.object_data() == "LOUD"
        with pytest.raises(hakuban.WrongFormatError):
            stranger.object_data()
        with pytest.raises(AttributeError):
            contract.set_object_data(1)
        assert watcher.object_data() == "LOUD"


@pytest.mark.parametrize("serializer", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])
def test_a_pickled_serializer_declares_what_it_did(serializer: CodecSerializer) -> None:
    assert pickle.loads(pickle.dumps(serializer)) is serializer
    named = serializer.with_format(["weather"])
    again = pickle.loads(pickle.dumps(named))
    assert again.serialize(1) == named.serialize(1)
    assert again.serialize(1)[0][0] == "weather"


def test_a_view_that_was_released_is_an_error_of_the_value() -> None:
    view = memoryview(b"gone")
    view.release()
    with pytest.raises(hakuban.SerializationError, match="released"):
        RAW.serialize(view)


def test_a_type_that_msgspec_does_not_know_is_refused_before_anything_is_observed() -> None:
    for serializer in (JSON, MESSAGE_PACK):
        with pytest.raises(TypeError, match=r"no .* can be decoded to"):
            serializer.check_type(Reading | Other)


def test_an_object_whose_attributes_raise_is_no_type() -> None:
    class Odd:
        @property
        def __origin__(self) -> Any:
            raise ZeroDivisionError

    for use in (JSON.check_type, lambda odd: JSON.deserialize(("JSON",), b"1", odd)):
        with pytest.raises(TypeError):
            use(Odd())


def test_what_a_peer_wrote_does_not_talk_to_the_terminal_by_way_of_a_cause() -> None:
    class Choice(msgspec.Struct, tag_field="kind", tag="one"):
        pass

    with pytest.raises(hakuban.DeserializationError) as caught:
        JSON.deserialize(("JSON",), b'{"kind": "\\u001b[2J"}', Choice)
    cause = caught.value.__cause__
    assert cause is not None
    assert "\x1b" not in str(cause)
    assert "[2J" in str(cause)
