"""Values to bytes and back: JSON, MessagePack, and bytes as they are."""

from __future__ import annotations

import inspect
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec
from typing_extensions import override

from .._exceptions import DeserializationError, SerializationError, WrongFormatError
from .._formats import checked_format
from .._text import printable
from .types import foreign_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def _inner(names: Iterable[str]) -> Format:
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
        return RawSerializer(_inner(format))

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


class CodecSerializer:
    """An encoding by msgspec, with its name as the outermost one. Decodes to any type that msgspec knows."""

    __slots__ = ("_decoder", "_encode", "_format", "_name")

    def __init__(
        self,
        name: str,
        encode: Callable[[Any], bytes],
        decoder: Callable[[Any], Callable[[bytes], Any]],
        inner: Format = (),
    ) -> None:
        self._name = name
        self._encode = encode
        self._decoder = decoder
        self._format = (*inner, name)

    def with_format(self, inner: Iterable[str]) -> CodecSerializer:
        """Return a serializer that declares names of the application's own under this encoding, for example ["weather"]."""
        return CodecSerializer(self._name, self._encode, self._decoder, _inner(inner))

    def serialize(self, value: Any, /) -> tuple[Format, bytes]:
        """Encode a value of any type that msgspec knows. See `Serializer.serialize`."""
        try:
            data = self._encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SerializationError(type(value), str(error)) from error
        return self._format, data

    def deserialize(self, format: Format, data: bytes, type: type[T], /) -> T:
        """Decode a state whose outermost encoding is this one. See `Serializer.deserialize`."""
        if format[-1:] != (self._name,):
            raise WrongFormatError(format, self._name)
        try:
            value: T = self._decoder(type)(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            text = printable(str(error))
            error.args = (text,)  # it quotes what a peer wrote, and a traceback shows causes too
            raise DeserializationError(format, text) from error
        return value

    def check_type(self, type: Any, /) -> None:
        """Refuse a type that no value can be decoded to.

        :raises TypeError: msgspec does not know it, or it has a class of another library's in it.
        """
        if type is Any:
            return
        try:
            self._decoder(type)
            foreign = foreign_type(type)
        except Exception as error:  # names that cannot be resolved, whatever annotations raise
            raise TypeError(f"no {self._name} can be decoded to {type!r:.200}: {error}") from error
        if foreign is not None:
            raise TypeError(
                f"no {self._name} can be decoded to {foreign!r:.200}; use a msgspec.Struct, a dataclass, a TypedDict or"
                " plain types, or a serializer of your own"
            )

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return _codec, (self._name, self._format[:-1])

    @override
    def __repr__(self) -> str:
        return f"<{self._name} serializer, format {list(self._format)}>"


def _encode_json(value: Any) -> bytes:
    data = msgspec.json.encode(value)
    # msgspec writes NaN and Infinity as null; other peers would read something else than was meant
    if b"null" in data and not _finite(msgspec.to_builtins(value)):
        raise ValueError("NaN and Infinity are not JSON")
    return data


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return True


def _cached(decoder: Callable[[Any], Any]) -> Callable[[Any], Callable[[bytes], Any]]:
    """Keep the decoders of types that were asked for before; types that cannot be hashed get a new one each time."""

    @lru_cache(256)
    def kept(type: Any) -> Callable[[bytes], Any]:
        decode: Callable[[bytes], Any] = decoder(type).decode
        return decode

    def find(type: Any) -> Callable[[bytes], Any]:
        try:
            return kept(type)
        except SystemError as error:  # msgspec's, on an object whose attributes raise something
            raise TypeError("there is no decoder for what is no type") from error
        except TypeError:
            decode: Callable[[bytes], Any] = decoder(type).decode
            return decode

    return find


JSON: Final = CodecSerializer("JSON", _encode_json, _cached(msgspec.json.Decoder))
"""Strict JSON, format ("JSON",): no NaN or Infinity, no numbers out of range, no lone surrogates. What 0.8 peers speak."""

MESSAGE_PACK: Final = CodecSerializer(
    "MessagePack", msgspec.msgpack.encode, _cached(msgspec.msgpack.Decoder)
)
"""MessagePack, format ("MessagePack",)."""

_CODECS: Final = {"JSON": JSON, "MessagePack": MESSAGE_PACK}


def _codec(name: str, inner: Format) -> CodecSerializer:
    """Find a serializer again that was pickled."""
    codec = _CODECS[name]
    return codec.with_format(inner) if inner else codec


RAW: Final = RawSerializer()
"""Bytes in, bytes out, format (). `RAW.with_format(["JSON"])` declares what the bytes are."""
