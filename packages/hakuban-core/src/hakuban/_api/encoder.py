"""From what users set to what the machine publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._checks import checked_version
from .._core.new_state import NewState
from .._exceptions import DeserializationError, SerializationError, StateTooLargeError
from .._formats import checked_format

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._contents import Format
    from .._states import ObjectState
    from .serializers import Serializer


class Encoder:
    """Encodes values for one contract, outside all locks; what comes out are plain values that nobody changes."""

    __slots__ = ("_max_state", "_serializer", "_type")

    def __init__(self, serializer: Serializer, max_state: int, type: Any = Any) -> None:
        self._serializer = serializer
        self._max_state = max_state
        self._type = type  # of values that are checked

    def encode(
        self, value: Any, version: Iterable[int] | None, named: object, inner: Format = ()
    ) -> NewState:
        """Encode a value of an object; `version` None asks for a default one, `inner` goes under its encodings."""
        try:
            return self._encode_checked(value, version, inner)
        except SerializationError as error:
            error.name_object(named)
            raise

    def _encode_checked(self, value: Any, version: Iterable[int] | None, inner: Format) -> NewState:
        checked = None if version is None else checked_version(version)
        format, data = self._encode(value)
        self._check_size(data)
        if self._type is not Any:
            self._check_type(value, format, data)
        return NewState(data, _with_inner(format, inner, value), checked)

    def _check_type(self, value: Any, format: Format, data: bytes) -> None:
        try:
            self._serializer.deserialize(format, data, self._type)
        except DeserializationError as error:
            reason = (
                f"an observer that asks for {self._type!r:.100} could not read it: {error.reason}"
            )
            raise SerializationError(type(value), reason) from error

    def encode_state(self, state: ObjectState[Any], named: object) -> NewState:
        """Take a state as it is; encode it, if nobody has."""
        version = state.version or None
        if not state.encoded:
            return self.encode(state.data, version, named, state.format)
        self._check_size(state.raw)
        return NewState(state.raw, state.format, version)

    def _check_size(self, data: bytes) -> None:
        if len(data) > self._max_state:
            raise StateTooLargeError(len(data), self._max_state)

    def _encode(self, value: Any) -> tuple[Format, bytes]:
        encoded: Any = self._serializer.serialize(value)
        if not isinstance(encoded, tuple) or tuple.__len__(encoded) != 2:
            raise self._misbehaved(
                value, f"a tuple (format, data) was expected, not {encoded!r:.100}"
            )
        format, data = tuple.__iter__(encoded)
        if type(data) is not bytes:
            data = self._bytes_of(value, format, data)
        try:
            return checked_format(format), data
        except (TypeError, ValueError) as error:
            raise self._misbehaved(value, str(error)) from error

    def _bytes_of(self, value: Any, format: Any, data: Any) -> bytes:
        """Copy a buffer, which its owner may change later."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            try:
                return memoryview(data).tobytes()
            except ValueError as error:  # a view that was released
                raise self._misbehaved(value, str(error)) from error
        if isinstance(format, (bytes, bytearray, memoryview)):
            raise self._misbehaved(value, "(data, format) has to be (format, data)")
        step = "; encode it to bytes first" if isinstance(data, str) else ""
        raise self._misbehaved(value, f"data are bytes, not {type(data).__name__}{step}")

    def _misbehaved(self, value: Any, reason: str) -> SerializationError:
        return SerializationError(
            type(value), f"{type(self._serializer).__name__}.serialize: {reason}"
        )


def _with_inner(format: Format, inner: Format, value: Any) -> Format:
    if not inner:
        return format
    try:
        return checked_format((*inner, *format))
    except ValueError as error:
        raise SerializationError(
            type(value), f"with the names {list(inner)} under its encoding: {error}"
        ) from error
