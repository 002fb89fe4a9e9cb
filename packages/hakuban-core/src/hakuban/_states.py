"""States of objects: what is published (`Content`) and what observers see (`ObjectState`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ref

__all__ = ["Content", "Format", "ObjectState", "Version"]

Version = tuple[int, ...]
"""A version: signed 64-bit integers, compared lexicographically; a strict prefix is smaller."""

Format = tuple[str, ...]
"""A stack of encodings, outermost last: ("JSON",), ("JSON", "zstd")."""

T = TypeVar("T")


class Content:
    """Immutable published bytes of one object, compared by identity: versions may be used again, contents never are.

    `encodings` is the wire's cache: the body of a patch message (version, format, diff) that leads from a base to
    this content, keyed by a weak reference to the base, or None for a patch that refers to no base. It is freed with
    the content, and keeps no base alive.
    """

    __slots__ = ("__weakref__", "data", "encodings", "format", "version")

    def __init__(self, data: bytes, format: Format, version: Version) -> None:
        self.data: bytes = data
        self.format: Format = format
        self.version: Version = version
        self.encodings: dict[ref[Content] | None, bytes] = {}

    @override
    def __repr__(self) -> str:
        return f"Content({len(self.data)} bytes, {list(self.format)}, {list(self.version)})"


class ObjectState(Generic[T]):
    """One state of an object, as an observer sees it. Immutable, and safe to use from any thread.

    Two states are equal when their raw data, format, version and freshness are; their ages may differ.
    """

    __slots__ = ("_age", "_content", "_decode", "_value")

    def __init__(self, content: Content, age: float | None, decode: Callable[[Content], T]) -> None:
        self._content = content
        self._age = age
        self._decode = decode
        self._value: Any = _NOT_DECODED

    @property
    def data(self) -> T:
        """The value, decoded at the first look and kept.

        :raises DeserializationError: the bytes are not what the observer's type or serializer expects.
        """
        if self._value is _NOT_DECODED:
            self._value = self._decode(self._content)
        value: T = self._value
        return value

    @property
    def raw(self) -> bytes:
        """The bytes as the exposer published them."""
        return self._content.data

    @property
    def format(self) -> Format:
        """The stack of encodings of `raw`, outermost last, for example ("JSON",)."""
        return self._content.format

    @property
    def version(self) -> Version:
        """The version, for example (0, 1795416259, 466877718): by default zero, Unix seconds, nanoseconds."""
        return self._content.version

    @property
    def synchronized(self) -> bool:
        """True when an assigned exposer says that this is the object's state now."""
        return self._age is None

    @property
    def age(self) -> float:
        """Seconds since the state was last known to be current, when it was read; 0.0 while synchronized."""
        return self._age or 0.0

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectState):
            return NotImplemented
        return (
            self.raw == other.raw
            and self.format == other.format
            and self.version == other.version
            and self.synchronized == other.synchronized
        )

    @override
    def __hash__(self) -> int:
        return hash((self.version, self.format, self.synchronized))

    @override
    def __repr__(self) -> str:
        fresh = "synchronized" if self.synchronized else f"{self.age:.3g} s old"
        return (
            f"<ObjectState {len(self.raw)} bytes, format {list(self.format)},"
            f" version {list(self.version)}, {fresh}>"
        )


class _NotDecoded:
    __slots__ = ()


_NOT_DECODED = _NotDecoded()
