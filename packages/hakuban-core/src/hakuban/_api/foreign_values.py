"""Values of other libraries' classes, told by what they can do: nothing is imported for their sake."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOKED_AT: Final = 10_000  # parts of a value, for the one that cannot be encoded
_STEPS: Final = 10  # of a path that are shown
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
    for name, kind in (("__index__", int), ("__float__", float)):
        if hasattr(type(value), name):
            yield kind(value)
    yield from (plain(value) for base, plain in _COLLECTIONS if isinstance(value, base))


def decode_foreign(cls: Any, value: Any) -> Any:
    """Make a value of a class that msgspec leaves to others, from plain ones.

    :raises NotImplementedError: nobody knows how.
    """
    if isinstance(value, cls):
        return value
    if issubclass(cls, datetime):
        plain = msgspec.convert(value, datetime)
        return cls(
            plain.year, plain.month, plain.day, plain.hour, plain.minute, plain.second, plain.microsecond, plain.tzinfo
        )  # fmt: skip
    if issubclass(cls, timedelta):
        return cls(msgspec.convert(value, timedelta))
    if callable(validate := getattr(cls, "model_validate", None)):
        return validate(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.ndarray):
        return numpy.asarray(value)
    if numpy is not None and issubclass(cls, numpy.timedelta64):
        return cls(msgspec.convert(value, timedelta))
    if callable(from_dict := getattr(cls, "from_dict", None)):
        return from_dict(value)
    if hasattr(cls, "tolist"):  # a scalar of numpy's, a pandas.Series
        return cls(value)
    raise NotImplementedError


def is_foreign(cls: Any) -> bool:
    """Return whether `decode_foreign` makes values of a class."""
    return isinstance(cls, type) and (
        issubclass(cls, (datetime, timedelta))
        or any(hasattr(cls, name) for name in ("model_validate", "from_dict", "tolist"))
    )


def _plain_datetime(value: datetime) -> datetime:
    if value != value:  # noqa: PLR0124  # pandas' "not a time"
        raise ValueError("no time: there is none for it, so send None")
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo,
        fold=value.fold,
    )  # fmt: skip


def _plain_duration(value: timedelta) -> timedelta:
    if value != value:  # noqa: PLR0124  # pandas' "not a time"
        raise ValueError("no time: there is none for it, so send None")
    return timedelta(value.days, value.seconds, value.microseconds)


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
    return method(orient="list") if hasattr(value, "columns") else method()


def _listed(method: Callable[[], Any], value: Any) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in _NUMPY_TIMES and type(value).__module__ == "numpy":
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


def blamed(value: Any, encode: Callable[[Any], object], *, levels: int = 1_000) -> str:
    """Return where in a value the part is that cannot be encoded, and its type; "" if that is not known.

    :param encode: raises for what cannot be encoded.
    :param levels: how deep to look.
    """
    steps: list[str] = []
    left = _LOOKED_AT
    while left > 0 and len(steps) < levels:
        for step, part in _parts(value):
            left -= 1
            if left <= 0:
                return ""
            if not _can(encode, part):
                steps.append(step)
                value = part
                break
        else:
            break
    if len(steps) > _STEPS:
        steps[_STEPS // 2 : -_STEPS // 2] = ["..."]
    path = "$" + "".join(steps)
    if isinstance(value, Mapping):
        for key in itertools.islice(value, left):
            if not _can(encode, {key: None}):
                return f"`{path}` has a key of type {type(key).__name__}"
    return f"`{path}` is of type {type(value).__name__}"


def _can(encode: Callable[[Any], object], value: Any) -> bool:
    try:
        encode(value)
    except Exception:  # noqa: BLE001  # whatever the methods of a value raise
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r:.40}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (
            (f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)
        )
