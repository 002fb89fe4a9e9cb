"""Values to bytes and back: what a serializer is, and bytes as they are. See `codecs` for JSON and MessagePack."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from typing_extensions import override

from .._exceptions import DeserializationError, SerializationError
from .._formats import checked_format

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._contents import Format


T = TypeVar("T")


class Serializer(Protocol):
    """Turns values into the data of states, and back. Called outside all locks, from any thread.

    Whatever it raises reaches the caller of `set_object_data`, or the reader of `ObjectState.data`, as it is; the
    errors named here are those that the serializers of this package raise. An optional method, `check_type(type)`, is
    called by `observe`, and raises TypeError for a type that it can never decode to.
    """

    def serialize(self, value: Any, /) -> tuple[Format, bytes]:
        """Encode a value.

        :return: the stack of encodings, outermost last, and the bytes. What may change later (a bytearray) is copied.
        :raises SerializationError: the value cannot be encoded; nothing is published then.
        """
        ...

    def deserialize(self, format: Format, data: bytes, type: type[T], /) -> T:
        """Decode the data of a state.

        :param format: the stack of encodings of `data`, outermost last.
        :param type: the type that the observer asked for; `typing.Any` for whatever the bytes hold.
        :raises WrongFormatError: the outermost encoding is not one that this serializer reads.
        :raises DeserializationError: the bytes do not decode to this type.
        """
        ...


def checked_serializer(serializer: Any) -> Serializer:
    """Take a serializer.

    :raises TypeError: it is none, or a class where an instance belongs.
    """
    for name in ("serialize", "deserialize"):
        if not callable(getattr(serializer, name, None)):
            raise TypeError(
                f"a serializer is an object with serialize and deserialize (see hakuban.Serializer), not {serializer!r:.100}"
            )
        if isinstance(serializer, type) and inspect.isfunction(
            inspect.getattr_static(serializer, name)
        ):
            raise TypeError(
                f"a serializer is an object, not a class: write {serializer.__name__}()"
            )
    checked: Serializer = serializer
    return checked


def check_type(serializer: Serializer, type: Any) -> None:
    """Refuse a type that the values of a serializer can never be decoded to.

    :raises TypeError: with what to write instead.
    """
    check = getattr(serializer, "check_type", None)
    if check is not None:
        check(type)


def checked_names(names: Iterable[str]) -> Format:
    """Take the names of encodings.

    :raises TypeError: they are none.
    :raises ValueError: they are more than peers accept.
    """
    if isinstance(names, str):
        raise TypeError(f"a format is a list of names: write [{names!r}]")
    return checked_format(names)


class RawSerializer:
    """Bytes as they are: `bytes`, `bytearray` or `memoryview` in, `bytes` of states of any format out."""

    __slots__ = ("_format",)

    def __init__(self, format: Format = ()) -> None:
        self._format = format

    def with_format(self, format: Iterable[str]) -> RawSerializer:
        """Return a serializer that declares this stack of encodings, outermost last, for bytes encoded elsewhere."""
        return RawSerializer(checked_names(format))

    def serialize(self, value: Any, /) -> tuple[Format, bytes]:
        """Take bytes. See `Serializer.serialize`."""
        if type(value) is bytes:
            return self._format, value
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise SerializationError(
                type(value), "RAW takes bytes; encode it first, or expose with another serializer"
            )
        try:
            return self._format, memoryview(value).tobytes()
        except ValueError as error:  # a view that was released
            raise SerializationError(type(value), str(error)) from error

    def check_type(self, type: Any, /) -> None:
        """Refuse all types but `bytes` and `Any`.

        :raises TypeError: it is another one.
        """
        if type not in (bytes, Any):
            raise TypeError(f"RAW gives bytes, not {type!r:.200}; observe with another serializer")

    def deserialize(self, format: Format, data: bytes, type: type[T], /) -> T:
        """Return the bytes; the only types are `bytes` and `Any`. See `Serializer.deserialize`."""
        wanted: object = type
        if wanted not in (bytes, Any):
            raise DeserializationError(
                format, f"RAW gives bytes, not {wanted}; observe with another serializer"
            )
        result: Any = data
        return result  # type: ignore[no-any-return]  # T is bytes or Any

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return RawSerializer, (self._format,)

    @override
    def __repr__(self) -> str:
        return f"RAW.with_format({list(self._format)})" if self._format else "RAW"


RAW: Final = RawSerializer()
"""Bytes in, bytes out, format (). `RAW.with_format(["JSON"])` declares what the bytes are."""
