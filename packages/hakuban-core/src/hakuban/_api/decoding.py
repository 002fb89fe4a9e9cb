"""How the data of states become values for one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import override

from .._exceptions import DeserializationError
from .._pickling import can_be_pickled

if TYPE_CHECKING:
    from .._contents import Content
    from .._descriptors import ObjectDescriptor
    from .serializers import Serializer


T = TypeVar("T")


class Decoder(Generic[T]):
    """A serializer, and the type that the observer asked for."""

    __slots__ = ("_serializer", "_type")

    def __init__(self, serializer: Serializer, type: Any) -> None:
        self._serializer = serializer
        self._type = type

    def __call__(self, content: Content, descriptor: ObjectDescriptor | None) -> T:
        """Decode a content.

        :raises DeserializationError: it cannot be; the error names the object.
        """
        try:
            value: T = self._serializer.deserialize(content.format, content.data, self._type)
        except DeserializationError as error:
            error.name_object(descriptor)
            raise
        return value

    def to_pickle(
        self, content: Content, descriptor: ObjectDescriptor | None
    ) -> Decoder[T] | KeptValue[T]:
        """Return what does the same in another process, for this content alone where it has to be."""
        if can_be_pickled(self):
            return self
        try:
            kept: KeptValue[T] = KeptValue(self(content, descriptor), None)
        except DeserializationError as error:
            return KeptValue(None, error)
        except Exception as error:  # noqa: BLE001  # a serializer of the user's
            return self._lost(content, descriptor, f"{type(error).__name__}: {error}")
        if can_be_pickled(kept):
            return kept
        reason = f"a value of {self._type!r:.100} cannot be pickled; read `raw`, or define the type in a module"
        return self._lost(content, descriptor, reason)

    def _lost(
        self, content: Content, descriptor: ObjectDescriptor | None, reason: str
    ) -> KeptValue[T]:
        lost = DeserializationError(content.format, reason)
        lost.name_object(descriptor)
        return KeptValue(None, lost)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return Decoder, (self._serializer, self._type)


class KeptValue(Generic[T]):
    """A value that was decoded before, or why it could not be."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: Any, error: DeserializationError | None) -> None:
        self._value = value
        self._error = error

    def __call__(self, content: Content, descriptor: ObjectDescriptor | None) -> T:  # noqa: ARG002  # as Decoder
        """Return it.

        :raises DeserializationError: it could not be decoded.
        """
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return KeptValue, (self._value, self._error)

    def to_pickle(
        self,
        _content: Content,
        _descriptor: ObjectDescriptor | None,
    ) -> KeptValue[T]:
        """Return what does the same in another process."""
        return self
