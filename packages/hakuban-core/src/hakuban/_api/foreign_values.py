"""Values of other libraries' classes, told by what they can do: nothing is imported for their sake."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOKED_AT: Final = 10_000  # parts of a value, for the one that cannot be encoded


def encode_foreign(value: Any) -> Any:
    """Return plain values for one that msgspec does not know: numpy's, pandas', pydantic's, and whatever is like them.

    :raises NotImplementedError: it is like none of them.
    """
    if isinstance(value, datetime):  # a subclass: msgspec takes none
        return _plain_datetime(value)
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    for name, arguments in _METHODS:
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method(**arguments(value))
    for name, kind in (("__index__", int), ("__float__", float)):
        if hasattr(type(value), name):
            return kind(value)
    raise NotImplementedError


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
    if callable(validate := getattr(cls, "model_validate", None)):
        return validate(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.ndarray):
        return numpy.asarray(value)
    if callable(from_dict := getattr(cls, "from_dict", None)):
        return from_dict(value)
    if hasattr(cls, "tolist"):  # a scalar of numpy's, a pandas.Series
        return cls(value)
    raise NotImplementedError


def is_foreign(cls: Any) -> bool:
    """Return whether `decode_foreign` makes values of a class."""
    return isinstance(cls, type) and (
        issubclass(cls, datetime)
        or any(hasattr(cls, name) for name in ("model_validate", "from_dict", "tolist"))
    )


def _plain_datetime(value: datetime) -> datetime:
    if value != value:  # noqa: PLR0124  # pandas' "not a time"
        raise ValueError("no time: there is none for it, so send None")
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo,
        fold=value.fold,
    )  # fmt: skip


def _dump_arguments(_value: Any) -> dict[str, Any]:
    return {"mode": "json"}


def _table_arguments(value: Any) -> dict[str, Any]:
    return {"orient": "list"} if hasattr(value, "columns") else {}


def _no_arguments(_value: Any) -> dict[str, Any]:
    return {}


# A method that makes plain values, and its arguments; the first that a value has.
_METHODS: Final[tuple[tuple[str, Callable[[Any], dict[str, Any]]], ...]] = (
    ("model_dump", _dump_arguments),
    ("tolist", _no_arguments),
    ("item", _no_arguments),
    ("to_dict", _table_arguments),
)


# ---- errors ------------------------------------------------------------------------------------------------------------


def blamed(value: Any, encode: Callable[[Any], object]) -> str:
    """Return where in a value the part is that cannot be encoded, and its type; "" if that is not known.

    :param encode: raises for what cannot be encoded.
    """
    path, left = "$", _LOOKED_AT
    while left > 0:
        for step, part in _parts(value):
            left -= 1
            if left <= 0:
                return ""
            try:
                encode(part)
            except Exception:  # noqa: BLE001  # whatever the methods of a value raise
                path, value = f"{path}{step}", part
                break
        else:
            break
    return f"`{path}` is of type {type(value).__name__}"


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
