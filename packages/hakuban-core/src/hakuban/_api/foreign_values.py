"""Values of other libraries' classes, told by what they can do: nothing is imported for their sake."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOKED_AT: Final = 10_000  # parts of a value, for the one that cannot be encoded
_STEPS: Final = 10  # of a path that are shown
_OF_TEXTS: Final = ("casefold", "encode")  # methods of str, and of classes that are like it
_NUMPY_TIMES: Final = ("M", "m")  # dtype.kind of datetime64 and timedelta64


def encode_foreign(value: Any) -> Any:
    """Return plain values for one that msgspec does not know: numpy's, pandas', pydantic's, and whatever is like them.

    :raises NotImplementedError: it is like none of them.
    """
    for found in _ways(value):
        if type(found) is not type(value):  # else it would be asked for again, without an end
            return found
    raise NotImplementedError


def _ways(value: Any) -> Iterator[Any]:
    """Yield what might be encoded in place of a value, the best first."""
    yield from (plain(value) for base, plain in _PLAIN if isinstance(value, base))
    if not isinstance(value, type):
        for name, make in _METHODS:
            method = getattr(value, name, None)
            if callable(method):
                yield make(method, value)
    if all(hasattr(type(value), name) for name in _OF_TEXTS):
        yield str(value)
    elif isinstance(value, Number) or not hasattr(type(value), "__len__"):
        for name, kind in (("__index__", int), ("__float__", float)):
            if hasattr(type(value), name):
                yield kind(value)
    yield from (plain(value) for base, plain in _COLLECTIONS if isinstance(value, base))


def decode_foreign(cls: Any, value: Any) -> Any:
    """Make a value of a class that msgspec leaves to others, from plain ones.

    :raises NotImplementedError: nobody knows how.
    """
    made = get_origin(cls) or cls
    if isinstance(value, made):
        return value
    for base, make in _MADE:
        if issubclass(made, base):
            return make(made, msgspec.convert(value, base))
    if callable(validate := getattr(made, "model_validate", None)):
        return validate(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(made, numpy.ndarray):
        array = _array(numpy, value, cls)
        return array if made is numpy.ndarray else array.view(made)
    if numpy is not None and issubclass(made, numpy.timedelta64):
        return made(msgspec.convert(value, timedelta))
    if callable(from_dict := getattr(made, "from_dict", None)):
        return from_dict(value)
    if hasattr(made, "tolist"):  # a scalar of numpy's, a pandas.Series
        return made(value)
    raise NotImplementedError


def is_foreign(cls: Any) -> bool:
    """Return whether `decode_foreign` makes values of a class."""
    return isinstance(cls, type) and (
        issubclass(cls, tuple(base for base, _ in _MADE))
        or any(hasattr(cls, name) for name in ("model_validate", "from_dict", "tolist"))
    )


def _array(numpy: Any, value: Any, cls: Any) -> Any:
    """Make an array; of the numbers that a type such as `numpy.typing.NDArray[numpy.float64]` is of."""
    array = numpy.asarray(value)
    wanted: Any = next(iter(get_args(next(reversed(get_args(cls)), None))), None)
    known = isinstance(wanted, type) and issubclass(wanted, numpy.generic)
    if not known or issubclass(array.dtype.type, wanted):
        return array
    texts = array.dtype.kind in "OSU"  # of times, for example
    if array.size and not texts and not numpy.can_cast(array.dtype, wanted, "same_kind"):
        raise TypeError(f"{array.dtype} is no {wanted.__name__}")
    return numpy.asarray(value, dtype=wanted)


def _datetime(cls: Any, plain: datetime) -> Any:
    return cls(
        plain.year, plain.month, plain.day, plain.hour, plain.minute, plain.second, plain.microsecond, plain.tzinfo
    )  # fmt: skip


def _duration(cls: Any, plain: timedelta) -> Any:
    return cls(days=plain.days, seconds=plain.seconds, microseconds=plain.microseconds)


def _same(cls: Any, plain: Any) -> Any:
    return cls(plain)


# Classes whose subclasses are made of one of their values.
_MADE: Final[tuple[tuple[type[Any], Callable[[Any, Any], Any]], ...]] = (
    (datetime, _datetime),
    (date, lambda cls, plain: cls(plain.year, plain.month, plain.day)),
    (timedelta, _duration),
    (UUID, lambda cls, plain: cls(int=plain.int)),
    *((base, _same) for base in (str, bytes, Decimal, int, float)),
)


def _plain_datetime(value: datetime) -> datetime:
    _check_time(is_none=value != value)  # noqa: PLR0124  # pandas' "not a time"
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo,
        fold=value.fold,
    )  # fmt: skip


def _plain_duration(value: timedelta) -> timedelta:
    _check_time(is_none=value != value)  # noqa: PLR0124  # pandas' "not a time"
    return timedelta(value.days, value.seconds, value.microseconds)


def _check_time(*, is_none: bool) -> None:
    if is_none:
        raise ValueError("no time: there is none for it, so send None")


# Subclasses of what msgspec takes itself, of which it takes none.
_PLAIN: Final[tuple[tuple[type[Any], Callable[[Any], Any]], ...]] = (
    (datetime, _plain_datetime),
    (date, lambda value: date(value.year, value.month, value.day)),
    (timedelta, _plain_duration),
    (str, str.__str__),
    (bytes, bytes),
    (Decimal, Decimal),
    (UUID, lambda value: UUID(int=value.int)),
)


def _called(method: Callable[[], Any], _value: Any) -> Any:
    return method()


def _dumped(method: Callable[..., Any], _value: Any) -> Any:
    return method(mode="json")


def _in_columns(method: Callable[..., Any], value: Any) -> Any:
    columns = getattr(value, "columns", None)
    if columns is None:
        return method()
    if len({*columns}) < len(columns):
        raise ValueError("two columns have one name, and one would be lost: rename it")
    return method(orient="list")


def _listed(method: Callable[[], Any], value: Any) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in _NUMPY_TIMES and type(value).__module__ == "numpy":
        _check_time(is_none=sys.modules["numpy"].isnat(value).any())
        return value.astype(f"{kind}8[us]").tolist()  # finer ones would be made integers of
    return method()


# A method that makes plain values, and how it is called; the first that a value has and that gives something else.
_METHODS: Final[tuple[tuple[str, Callable[[Any, Any], Any]], ...]] = (
    ("model_dump", _dumped),
    ("tolist", _listed),
    ("item", _called),
    ("to_dict", _in_columns),
)

_COLLECTIONS: Final[tuple[tuple[type[Any], Callable[[Any], Any]], ...]] = (
    (Mapping, dict),
    (Sequence, list),
    (AbstractSet, list),
    (deque, list),
)


# ---- errors ------------------------------------------------------------------------------------------------------------


def blamed(
    value: Any,
    encode: Callable[[Any], object],
    plain: Callable[[Any], object],
    *,
    levels: int = 1_000,
) -> str:
    """Return where in a value the part is that cannot be encoded, and its type, in words.

    :param encode: raises for what cannot be encoded.
    :param plain: makes plain values of one that has its own encoding, or raises.
    :param levels: how deep to look.
    """
    steps: list[str] = []
    budget = iter(range(_LOOKED_AT))
    while len(steps) < levels:
        parts = zip(budget, _parts(value, plain), strict=False)
        found = next((part for _, part in parts if not _can(encode, part[1])), None)
        if found is None:
            break
        steps.append(found[0])
        value = found[1]
    stopped = len(steps) == levels
    if len(steps) > _STEPS:
        steps[_STEPS // 2 : -_STEPS // 2] = ["..."]
    path = "$" + "".join(steps)
    if isinstance(value, Mapping):
        for _, key in zip(budget, value, strict=False):
            if not _can(encode, {key: None}):
                return f"`{path}` has a key of type {type(key).__name__}"
    whole = f"`{path}` is of type {type(value).__name__}"
    if stopped or next(_parts(value, plain), None) is None:
        return whole
    return f"something in `{path}`, of type {type(value).__name__}, cannot be encoded"


def _can(encode: Callable[[Any], object], value: Any) -> bool:
    try:
        encode(value)
    except Exception:  # noqa: BLE001  # whatever the methods of a value raise
        return False
    return True


def _parts(value: Any, plain: Callable[[Any], object]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value that can be reached, each with the step that leads to it."""
    with contextlib.suppress(Exception):  # whatever the methods of a value raise
        if isinstance(value, Mapping):
            yield from ((f"[{key!r:.40}]", part) for key, part in value.items())
        elif isinstance(value, (list, tuple)):
            yield from ((f"[{index}]", part) for index, part in enumerate(value))
        elif isinstance(value, AbstractSet):
            yield from (("[...]", part) for part in value)
        elif names := _fields(value):
            yield from ((f".{name}", getattr(value, name)) for name in names)
        elif type(value).__module__ != "builtins":
            made = plain(value)
            if isinstance(made, (Mapping, list, tuple)):
                yield from _parts(made, plain)


def _fields(value: Any) -> list[str]:
    """Return the names of the fields of a Struct, a dataclass, or an instance of a class of attrs' or pydantic's."""
    cls = type(value)
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    attributes = getattr(cls, "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    names: Any = getattr(cls, "__struct_fields__", None) or getattr(cls, "model_fields", ())
    return [*names]
