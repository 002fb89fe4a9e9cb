"""JSON and MessagePack, by msgspec; with hooks for the values of other libraries' classes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from typing_extensions import override

from .._exceptions import DeserializationError, SerializationError, WrongFormatError
from .._text import printable
from .foreign_values import blamed, decode_foreign, encode_foreign, is_foreign
from .serializers import checked_names
from .types import foreign_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._contents import Format

T = TypeVar("T")

_LEVELS: Final = 5  # of a value that is nested too deeply, to be shown
_UNIONS: Final = (
    "; a union is of plain types, or of one class and None: ask for one class alone, which a serializer"
    " `with_hooks(decode=...)` may make of either, or for Any"
)
_NOT_A_NUMBER: Final = (b"null", b'nan":', b'inf":')  # what msgspec writes; the last two as keys
_BAD_VALUE: Final = (TypeError, ValueError, OverflowError, RecursionError)


class HookError(ValueError):
    """What went wrong in a class of somebody else's."""


class Hooks:
    """What is done with values of classes that msgspec does not know.

    :param encode: makes plain values of one, before anything else is tried; NotImplementedError if it does not know it.
    :param decode: the other way round, called with the class and the plain values.
    """

    __slots__ = ("_decode", "_encode")

    def __init__(
        self,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._encode = encode
        self._decode = decode

    def encode(self, value: Any) -> Any:
        """Return plain values; what goes wrong is a HookError.

        :raises TypeError: nobody knows the class.
        """
        try:
            return self._called(self._encode, encode_foreign, value)
        except NotImplementedError:
            raise TypeError("there is no encoding for it") from None

    def decode(self, cls: Any, value: Any) -> Any:
        """Make a value of a class; what goes wrong is a HookError.

        :raises NotImplementedError: nobody knows the class.
        """
        return self._called(self._decode, decode_foreign, cls, value)

    def knows(self, cls: Any) -> bool:
        """Return whether values of a class may be made."""
        return self._decode is not None or is_foreign(cls)

    @staticmethod
    def _called(
        own: Callable[..., Any] | None, default: Callable[..., Any], *arguments: Any
    ) -> Any:
        for hook in (own, default):
            try:
                if hook is not None:
                    return hook(*arguments)
            except NotImplementedError:
                continue
            except (RecursionError, MemoryError):
                raise
            except Exception as error:  # of a class of somebody else's
                raise HookError(f"{type(error).__name__}: {error}") from error
        raise NotImplementedError

    @property
    def own(self) -> tuple[Callable[[Any], Any] | None, Callable[[Any, Any], Any] | None]:
        """The functions that it was made with."""
        return self._encode, self._decode


DEFAULT_HOOKS: Final = Hooks()


class CodecSerializer:
    """An encoding by msgspec, with its name as the outermost one. Decodes to any type that msgspec knows, and to others.

    Values of other libraries' classes are told by what they can do: what has `model_dump` (pydantic), `tolist` or `item`
    (numpy, pandas), `to_dict` (pandas), `__index__` or `__float__` and no length, other mappings, sequences and sets, what is
    like a str, and subclasses of str, bytes, date, datetime, timedelta, Decimal and UUID. Decoded to are those subclasses,
    types of numpy and pandas, and what has `model_validate` or `from_dict`; see `with_hooks` for others.
    """

    __slots__ = ("_decoder", "_encode", "_format", "_hooks", "_name")

    def __init__(
        self,
        name: str,
        encode: Callable[[Any, Callable[[Any], Any]], bytes],
        decoder: Callable[[Any, Hooks], Callable[[bytes], Any]],
        inner: Format = (),
        hooks: Hooks = DEFAULT_HOOKS,
    ) -> None:
        self._name = name
        self._encode = encode
        self._decoder = decoder
        self._format = (*inner, name)
        self._hooks = hooks

    def with_format(self, inner: Iterable[str]) -> CodecSerializer:
        """Return a serializer that declares names of the application's own under this encoding, for example ["weather"]."""
        names = checked_names(inner)
        return CodecSerializer(self._name, self._encode, self._decoder, names, self._hooks)

    def with_hooks(
        self,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any, Any], Any] | None = None,
    ) -> CodecSerializer:
        """Return a serializer that asks functions first about values whose classes msgspec does not know.

        :param encode: called with a value; returns what is encoded in its place.
        :param decode: called with a class and what was decoded; returns a value of that class.
        Either may raise NotImplementedError: then the class is treated as without it.
        :raises TypeError: one of them is no function.
        """
        for hook in (encode, decode):
            if hook is not None and not callable(hook):
                raise TypeError(f"a hook is a function, not {hook!r:.100}")
        inner, hooks = self._format[:-1], Hooks(encode, decode)
        return CodecSerializer(self._name, self._encode, self._decoder, inner, hooks)

    def serialize(self, value: Any, /) -> tuple[Format, bytes]:
        """Encode a value of any type that msgspec or a hook knows. See `Serializer.serialize`."""
        try:
            data = self._encode(value, self._hooks.encode)
        except _BAD_VALUE as error:
            raise SerializationError(type(value), self._reason(value, error)) from error
        return self._format, data

    def _reason(self, value: Any, error: Exception) -> str:
        def encode(part: Any) -> object:
            return self._encode(part, self._hooks.encode)

        if isinstance(error, RecursionError):
            where = blamed(value, encode, self._hooks.encode, levels=_LEVELS)
            return f"{where}: it is nested too deeply, or contains itself; flatten it"
        where = blamed(value, encode, self._hooks.encode)
        if isinstance(error, (TypeError, HookError)):
            step = "send plain values, or give the serializer a function: `with_hooks(encode=...)`"
            return f"{where}: {error}; {step}"
        return f"{where}: {error}"

    def deserialize(self, format: Format, data: bytes, type: type[T], /) -> T:
        """Decode a state whose outermost encoding is this one. See `Serializer.deserialize`."""
        if format[-1:] != (self._name,):
            raise WrongFormatError(format, self._name)
        decode = self._decoder(type, self._hooks)
        try:
            value: T = decode(data)
        except (msgspec.MsgspecError, NotImplementedError, *_BAD_VALUE) as error:
            text = printable(str(error))
            error.args = (text,)  # it quotes what a peer wrote, and a traceback shows causes too
            raise DeserializationError(format, text) from error
        return value

    def check_type(self, type: Any, /) -> None:
        """Refuse a type that no value can be decoded to.

        :raises TypeError: msgspec does not know it, or it has a class of another library's in it that no hook knows.
        """
        if type is Any:
            return
        try:
            self._decoder(type, self._hooks)
            foreign = foreign_type(type, self._hooks.knows)
        except Exception as error:  # names that cannot be resolved, whatever annotations raise
            step = _UNIONS if "union" in str(error) else ""
            raise TypeError(
                f"no {self._name} can be decoded to {type!r:.200}: {error}{step}"
            ) from error
        if foreign is not None:
            raise TypeError(
                f"no {self._name} can be decoded to {foreign!r:.200}; use a msgspec.Struct, a dataclass, a TypedDict or"
                " plain types, a serializer `with_hooks(decode=...)`, or one of your own"
            )

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return _codec, (self._name, self._format[:-1], *self._hooks.own)

    @override
    def __repr__(self) -> str:
        return f"<{self._name} serializer, format {list(self._format)}>"


def _encode_json(value: Any, hook: Callable[[Any], Any]) -> bytes:
    data = msgspec.json.encode(value, enc_hook=hook)
    # msgspec writes NaN and Infinity as null, as keys as texts; other peers would read something else than was meant
    suspicious = any(written in data for written in _NOT_A_NUMBER)
    if suspicious and not _finite(msgspec.to_builtins(value, enc_hook=hook)):
        raise ValueError("NaN and Infinity are not JSON; MESSAGE_PACK takes them")
    return data


def _encode_message_pack(value: Any, hook: Callable[[Any], Any]) -> bytes:
    return msgspec.msgpack.encode(value, enc_hook=hook)


def _finite(value: Any) -> bool:
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, float):
            if not math.isfinite(part):
                return False
        elif isinstance(part, dict):
            left.extend(part.values())
            left.extend(key for key in part if isinstance(key, float))
        elif isinstance(part, (list, tuple)):
            left.extend(part)
    return True


def _cached(decoder: Callable[..., Any]) -> Callable[[Any, Hooks], Callable[[bytes], Any]]:
    """Keep the decoders of types that were asked for before; types that cannot be hashed get a new one each time."""

    def make(type: Any, hooks: Hooks) -> Callable[[bytes], Any]:
        decode: Callable[[bytes], Any] = decoder(type, dec_hook=hooks.decode).decode
        return decode

    kept = lru_cache(256)(make)

    def find(type: Any, hooks: Hooks) -> Callable[[bytes], Any]:
        try:
            return kept(type, hooks)
        except SystemError as error:  # msgspec's, on an object whose attributes raise something
            raise TypeError("there is no decoder for what is no type") from error
        except TypeError:
            return make(type, hooks)

    return find


JSON: Final = CodecSerializer("JSON", _encode_json, _cached(msgspec.json.Decoder))
"""Strict JSON, format ("JSON",): no NaN or Infinity, no numbers out of range, no lone surrogates. What 0.8 peers speak."""

MESSAGE_PACK: Final = CodecSerializer(
    "MessagePack", _encode_message_pack, _cached(msgspec.msgpack.Decoder)
)
"""MessagePack, format ("MessagePack",)."""

_CODECS: Final = {"JSON": JSON, "MessagePack": MESSAGE_PACK}


def _codec(
    name: str,
    inner: Format,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any, Any], Any] | None = None,
) -> CodecSerializer:
    """Find a serializer again that was pickled."""
    codec = _CODECS[name]
    if inner:
        codec = codec.with_format(inner)
    if encode is None and decode is None:
        return codec
    return codec.with_hooks(encode, decode)
