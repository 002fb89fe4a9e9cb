"""Values of other libraries' classes: there and back, in JSON and MessagePack, without a word from the user."""

from __future__ import annotations

import enum
import pickle
import sys
import uuid
from collections import UserDict, UserString, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest

from hakuban import (
    JSON,
    MESSAGE_PACK,
    RAW,
    DeserializationError,
    LocalNode,
    ObjectDescriptor,
    PluginError,
    SerializationError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hakuban import Serializer

NOON = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)
WARSAW = ObjectDescriptor(["weather"], "Warsaw")
both = pytest.mark.parametrize("serializer", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])

T = TypeVar("T")


class Text(str):
    __slots__ = ()


class Data(bytes):
    __slots__ = ()


class Price(Decimal):
    __slots__ = ()


class Count(int):
    pass


class Day(date):
    pass


class Span(timedelta):
    pass


class Id(uuid.UUID):
    pass


class Model(pydantic.BaseModel):
    celsius: float
    at: datetime
    inner: Model | None = None


@attrs.define
class Attrs:
    celsius: float
    tags: list[str]


@dataclass
class Plain:
    at: datetime
    price: Decimal
    id: uuid.UUID
    maybe: int | None = None


class Wind(enum.Enum):
    EAST = "east"


class Box(msgspec.Struct, Generic[T]):
    value: T


class Made(Generic[T]):
    def __init__(self, value: object) -> None:
        self.value = value

    @classmethod
    def from_dict(cls, value: object) -> Made[T]:
        return cls(value)


class Anything(pydantic.BaseModel):
    a: object
    b: object


class Refusing(pydantic.BaseModel):
    a: int

    @pydantic.field_serializer("a")
    def refuse(self, value: int) -> int:
        raise ZeroDivisionError(value)


VALUES: list[tuple[Any, Any]] = [
    (np.float64(1.5), np.float64),
    (np.float32(1.5), float),
    (np.int64(-7), np.int64),
    (np.uint8(7), int),
    (np.bool_(True), bool),
    (pd.Timestamp("2026-11-30T12:00:00.123456Z"), pd.Timestamp),
    (pd.Timestamp("2026-11-30T12:00:00.123456Z"), datetime),
    (Model(celsius=20, at=NOON), Model),
    ([Model(celsius=20, at=NOON, inner=Model(celsius=1, at=NOON))], list[Model]),
    (Attrs(20.5, ["a"]), Attrs),
    (Plain(NOON, Decimal("1.20"), uuid.UUID(int=5)), Plain),
    (Wind.EAST, Wind),
    (None, Plain | None),
    (Box(value=3), Box[int]),
    ({"x": Box(value=np.float64(2.5))}, dict[str, Box[float]]),
    (date(2026, 11, 30), date),
    (np.str_("text"), str),
    (Text("text"), str),
    (Text("text"), Text),
    (UserString("0012"), str),
    ([UserString("0012")], list[Text]),
    (Data(b"data"), Data),
    (Price("1.20"), Price),
    (Count(7), Count),
    (Day(2026, 11, 30), Day),
    (Span(days=1, microseconds=1), Span),
    (Id(int=5), Id),
    (np.datetime64("2026-11-30T12:00:00.123456789"), np.datetime64),
    (np.timedelta64(1_500_000_001, "ns"), np.timedelta64),
    (pd.Timedelta("1.5s"), pd.Timedelta),
    (pd.Timedelta("1.5s"), timedelta),
    (np.longdouble(1.5), float),
    ({np.int64(1): "a"}, dict[int, str]),
    ({Text("key"): deque([1])}, dict[str, Sequence[int]]),
    (MappingProxyType({"a": range(3)}), dict[str, list[int]]),
]


def plain(value: Any) -> Any:
    """Return what comes back of a value: times have microseconds, and collections are lists and dicts."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return value.astype(f"{value.dtype.kind}8[us]")
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return list(value) if isinstance(value, (deque, range)) else value


@both
@pytest.mark.parametrize(
    ("value", "wanted"), VALUES, ids=lambda it: str(getattr(it, "__name__", ""))
)
def test_values_of_other_libraries_come_back(
    serializer: Serializer, value: Any, wanted: Any
) -> None:
    with (
        LocalNode(serializer=serializer) as node,
        node.object(WARSAW).observe(wanted) as observe,
        node.object(WARSAW).expose() as expose,
    ):
        expose.set_object_data(value)
        data = observe.object_data()
        assert data == plain(value)
        if isinstance(wanted, type):
            assert isinstance(data, wanted)


@both
def test_arrays_and_tables_come_back(serializer: Serializer) -> None:
    array = np.arange(6).reshape(2, 3)
    format, data = serializer.serialize({"a": array, "deep": [np.array([1.5])]})
    assert serializer.deserialize(format, data, dict) == {
        "a": [[0, 1, 2], [3, 4, 5]],
        "deep": [[1.5]],
    }
    again = serializer.deserialize(*serializer.serialize(array), np.ndarray)
    assert (again == array).all()
    table = pd.DataFrame({"celsius": [20.0, 21.5], "city": ["Warsaw", "Poznań"]})
    assert serializer.deserialize(*serializer.serialize(table), pd.DataFrame).equals(table)
    series = pd.Series([1, 2])
    assert serializer.deserialize(*serializer.serialize(series), pd.Series).equals(series)


@both
def test_arrays_are_of_the_numbers_that_were_asked_for(serializer: Serializer) -> None:
    wanted: Any
    for wanted, dtype in (
        (npt.NDArray[np.float32], np.float32),
        (npt.NDArray[Any], np.int64),
        (npt.NDArray[np.integer[Any]], np.int64),
        (np.ndarray[Any, Any], np.int64),
        (np.ma.MaskedArray[Any, np.dtype[np.int8]], np.int8),
    ):
        array: Any = serializer.deserialize(*serializer.serialize(np.array([1, 2])), wanted)
        assert ([*array], array.dtype) == ([1, 2], dtype)
        assert isinstance(array, np.ma.MaskedArray) is ("Masked" in str(wanted))
    times = np.array(["2026-11-30T12:00"], dtype="M8[m]")
    wanted = npt.NDArray[np.datetime64]
    assert (serializer.deserialize(*serializer.serialize(times), wanted) == times).all()
    wanted = npt.NDArray[np.int8]
    assert serializer.deserialize(*serializer.serialize([]), wanted).dtype == np.int8
    for values in ([1.5], [1000]):
        with pytest.raises(DeserializationError):
            serializer.deserialize(*serializer.serialize(values), wanted)


@both
def test_what_takes_a_parameter_is_made_by_its_class(serializer: Serializer) -> None:
    wanted: Any = Made[int]
    with (
        LocalNode(serializer=serializer) as node,
        node.object(WARSAW).observe(wanted) as observe,
        node.object(WARSAW).expose() as expose,
    ):
        expose.set_object_data([1])
        made = observe.object_data()
        assert made is not None
        assert made.value == [1]


@both
def test_what_would_be_lost_is_an_error(serializer: Serializer) -> None:
    with pytest.raises(SerializationError, match="two columns have one name"):
        serializer.serialize(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    missing = np.datetime64("NaT", "s")
    for value in (missing, np.timedelta64("NaT", "s"), np.array([missing]), pd.Series([missing])):
        with pytest.raises(SerializationError, match="no time: there is none"):
            serializer.serialize({"a": value})


@both
def test_numbers_of_any_class_are_numbers(serializer: Serializer) -> None:
    class Index:
        def __index__(self) -> int:
            return 7

    plain: Any = serializer.deserialize(*serializer.serialize([Index(), Fraction(1, 2)]), object)
    assert plain == [7, 0.5]


@both
def test_a_model_that_does_not_fit_is_an_error_with_its_path(serializer: Serializer) -> None:
    format, data = serializer.serialize([{"celsius": "warm", "at": None}])
    with pytest.raises(DeserializationError, match=r"(?s)celsius.*\$\[0\]"):
        serializer.deserialize(format, data, list[Model])


class Hostile:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def item(self) -> object:
        raise self.error


@both
@pytest.mark.parametrize("error", [ZeroDivisionError("zero"), KeyError("key"), TypeError("type")])
def test_an_object_whose_methods_raise_is_an_error_that_says_where(
    serializer: Serializer, error: Exception
) -> None:
    with (
        LocalNode(serializer=serializer) as node,
        node.object(WARSAW).expose() as expose,
        pytest.raises(SerializationError) as caught,
    ):
        expose.set_object_data({"readings": [1, Hostile(error)]})
    text = str(caught.value)
    assert text.startswith('["weather"]:"Warsaw": cannot encode dict: ')
    assert "`$['readings'][1]` is of type Hostile" in text
    assert type(error).__name__ in text
    assert "with_hooks(encode=...)" in text
    assert caught.value.descriptor == WARSAW


@both
def test_an_object_that_nobody_knows_is_an_error_with_a_remedy(serializer: Serializer) -> None:
    @dataclass
    class Outer:
        inner: object

    with pytest.raises(
        SerializationError, match=r"`\$\.inner\['x'\]` is of type object.*with_hooks"
    ):
        serializer.serialize(Outer({"x": object()}))


@both
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Attrs(1.0, [object()]), "`$.tags[0]` is of type object"),  # type: ignore[list-item]
        ({"a": {1, object()}}, "`$['a'][...]` is of type object"),
        (deque([1, object()]), "`$[1]` is of type object"),
        (UserDict(a=[object()]), "`$['a'][0]` is of type object"),
        (np.array([[1, object()]]), "`$[0][1]` is of type object"),
        (pd.DataFrame({"a": [1, object()]}), "`$['a'][1]` is of type object"),
        (Anything(a=1, b={"c": object()}), "`$.b['c']` is of type object"),
        (Refusing(a=1), "something in `$`, of type Refusing, cannot be encoded"),
        ([*range(20_000), object()], "something in `$`, of type list, cannot be encoded"),
        ({"a": Refusing(a=1)}, "something in `$['a']`, of type Refusing, cannot be encoded"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
def test_the_path_goes_on_in_other_classes(serializer: Serializer, value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        serializer.serialize(value)
    assert path in str(caught.value)
    assert "with_hooks(encode=...)" in str(caught.value)


@both
def test_what_is_nested_without_an_end_is_an_error(serializer: Serializer) -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, {"a": endless}, nested(100_000)):
        with pytest.raises(SerializationError, match=r"`\$.*` is of type list: .* flatten it"):
            serializer.serialize(value)


@both
@pytest.mark.parametrize("levels", [400, 700])
def test_what_is_nested_deeply_comes_back(serializer: Serializer, levels: int) -> None:
    for innermost in (1, None):
        value = nested(levels, innermost)
        assert serializer.deserialize(*serializer.serialize(value), Any) == value


@both
@pytest.mark.parametrize("innermost", [object(), Hostile(KeyError("key"))])
def test_the_path_of_what_lies_deep_is_shortened(serializer: Serializer, innermost: object) -> None:
    with pytest.raises(SerializationError, match=r"with_hooks") as caught:
        serializer.serialize(nested(700, innermost))
    assert "`$[0][0][0][0][0]...[0][0][0][0][0]` is of type" in str(caught.value)


def test_a_key_that_cannot_be_encoded_is_named() -> None:
    for key in ((1, 2), None, (None,)):
        with pytest.raises(
            SerializationError,
            match=r"`\$\['a'\]` has a key of type (tuple|NoneType): .*with_hooks",
        ):
            JSON.serialize({"a": {1: 2, key: 3}})


def nested(levels: int, innermost: object = 1) -> Any:
    value: Any = innermost
    for _ in range(levels):
        value = [value]
    return value


def test_not_a_number_is_no_json_and_the_error_says_what_takes_it() -> None:
    for value in (float("nan"), [{"a": np.float64("inf")}]):
        with pytest.raises(SerializationError, match="MESSAGE_PACK takes them"):
            JSON.serialize(value)
        assert MESSAGE_PACK.serialize(value)
    with pytest.raises(SerializationError, match=r"`\$\[1\]` is of type float: NaN"):
        JSON.serialize(np.array([1, np.nan]))
    for key in (float("nan"), float("-inf"), np.float64("inf"), np.float32("nan")):
        with pytest.raises(SerializationError, match=r"`\$\['a'\]` has a key of type float.*NaN"):
            JSON.serialize({"a": {key: 1}})
        assert MESSAGE_PACK.serialize({"a": {key: 1}})
    assert JSON.serialize({"nan": "inf", "a": 'nan":'})
    with pytest.raises(SerializationError, match="no time"):
        JSON.serialize(pd.NaT)


def test_a_union_with_a_class_of_another_library_says_what_to_ask_for() -> None:
    wanted: Any
    for wanted in (Model | int, dict[str, np.float64 | str]):
        with pytest.raises(TypeError, match="ask for one class alone"):
            JSON.check_type(wanted)
    JSON.check_type(Model | None)


# ---- hooks and names --------------------------------------------------------------------------------------------------


def complex_to_list(value: Any) -> Any:
    if isinstance(value, complex):
        return [value.real, value.imag]
    raise NotImplementedError


def list_to_complex(cls: Any, value: Any) -> Any:
    if cls is complex:
        return complex(*value)
    raise NotImplementedError


@both
def test_hooks_of_ones_own_are_asked_first(serializer: Any) -> None:
    hooked = serializer.with_hooks(encode=complex_to_list, decode=list_to_complex)
    for each in (hooked, pickle.loads(pickle.dumps(hooked)), hooked.with_format(["weather"])):
        value = {"a": 1j, "b": np.float64(2.5)}
        format, data = each.serialize(value)
        each.check_type(dict[str, complex])
        assert each.deserialize(format, data, Any) == {"a": [0.0, 1.0], "b": 2.5}
        assert each.deserialize(*each.serialize([2j]), list[complex]) == [2j]
        assert each.deserialize(*each.serialize(np.int64(3)), np.int64) == 3
    with pytest.raises(SerializationError):
        serializer.serialize(1j)
    with pytest.raises(TypeError, match="complex"):
        serializer.check_type(complex)
    with pytest.raises(TypeError, match="a hook is a function"):
        serializer.with_hooks(encode=5)


def install(folder: Path, distribution: str, entry_point: str) -> None:
    metadata = folder / f"{distribution}-1.dist-info"
    metadata.mkdir()
    text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n"
    (metadata / "METADATA").write_text(text)
    (metadata / "entry_points.txt").write_text(f"[hakuban.serializers]\n{entry_point}\n")


def test_serializers_are_found_by_their_names() -> None:
    with LocalNode(serializer="msgpack") as node:
        for name, serializer in (("json", JSON), ("msgpack", MESSAGE_PACK), ("raw", RAW)):
            with (
                node.object(WARSAW).expose(serializer=name) as expose,
                node.object(WARSAW).observe(serializer=name) as observe,
            ):
                expose.set_object_data(b"1" if name == "raw" else 1)
                state = observe.object_state()
                assert state is not None
                assert state.format == serializer.serialize(b"" if name == "raw" else 1)[0]
        with node.object(WARSAW).expose() as expose, node.object(WARSAW).observe() as observe:
            expose.set_object_data(1)
            state = observe.object_state()
            assert state is not None
            assert state.format == ("MessagePack",)
        with pytest.raises(
            TypeError, match=r"no serializer 'pickle'; there are json, msgpack, raw"
        ):
            node.object(WARSAW).expose(serializer="pickle")


def test_an_installed_package_offers_a_serializer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouting.py").write_text(
        "class Shouting:\n"
        "    def serialize(self, value): return ('shout',), value.upper().encode()\n"
        "    def deserialize(self, format, data, type): return data.decode().lower()\n"
    )
    install(tmp_path, "shouting", "shout = shouting:Shouting")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        LocalNode() as node,
        node.object(WARSAW).expose(serializer="shout") as expose,
        node.object(WARSAW).observe(serializer="shout") as observe,
    ):
        expose.set_object_data("warm")
        state = observe.object_state()
        assert state is not None
        assert (state.raw, state.data) == (b"WARM", "warm")
    monkeypatch.delitem(sys.modules, "shouting")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere_to_be_found:it", "it does not load: ModuleNotFoundError"),
        ("os:nothing", "it does not load: AttributeError"),
        ("os:getcwd", "it does not load: TypeError: a serializer is an object"),
        ("decimal:Context.create_decimal", "it does not load: "),
    ],
)
def test_a_broken_package_of_a_serializer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, reason: str
) -> None:
    install(tmp_path, "quiet", f"whisper = {target}")
    monkeypatch.syspath_prepend(tmp_path)
    with LocalNode() as node, pytest.raises(PluginError) as caught:
        node.object(WARSAW).expose(serializer="whisper")
    assert caught.value.plugin == f"serializer 'whisper', {target} of quiet"
    assert caught.value.reason.startswith(reason)


def test_two_packages_of_one_serializer_are_both_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "one", "loud = hakuban:JSON")
    install(tmp_path, "two", "loud = hakuban:JSON")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="hakuban:JSON of one and hakuban:JSON of two"):
        LocalNode(serializer="loud")
    with LocalNode() as node, pytest.raises(TypeError, match="there are json, loud, msgpack"):
        node.object(WARSAW).observe(serializer="louder")


# ---- types of what is exposed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [True, False])
def test_what_observers_could_not_read_is_refused_where_bugs_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, *, debug: bool
) -> None:
    monkeypatch.setenv("HAKUBAN_DEBUG", "1" if debug else "0")
    with LocalNode() as node, node.object(WARSAW).expose(type=Box[int]) as expose:
        expose.set_object_data(Box(value=1))
        wrong: Any = Box(value="one")
        if debug or sys.flags.dev_mode:
            with pytest.raises(SerializationError, match=r"could not read it.*\$\.value"):
                expose.set_object_data(wrong)
        else:
            expose.set_object_data(wrong)
        with pytest.raises(TypeError, match="complex"):
            node.object(WARSAW).expose(type=complex)
