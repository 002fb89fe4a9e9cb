"""States of objects: what is published (`Content`) and what observers see (`ObjectState`)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from typing_extensions import override

from ._text import cut, printable

if TYPE_CHECKING:
    from weakref import ref

    from ._descriptors import ObjectDescriptor


Version = tuple[int, ...]
"""A version: signed 64-bit integers, compared lexicographically; a strict prefix is smaller."""

Format = tuple[str, ...]
"""A stack of encodings, outermost last: ("JSON",), ("JSON", "zstd")."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


_GREATEST_AGE: Final = 1e13  # seconds; as microseconds it fits the 64 bits of the protocol


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


class View:
    """What an observer sees; a new object whenever content or freshness change, so that cursors compare by identity.

    `since` is None while synchronized, else the monotonic time at which the content was last known to be current.
    """

    __slots__ = ("content", "since")

    def __init__(self, content: Content, since: float | None) -> None:
        self.content: Content = content
        self.since: float | None = since

    def stale_for(self) -> float | None:
        """Return the seconds since the content was last known to be current; None while synchronized."""
        return None if self.since is None else max(0.0, monotonic() - self.since)

    def age(self, now: float) -> int:
        """Return the age in microseconds, as peers receive it: 0 while synchronized, at least 1 after that."""
        return 0 if self.since is None else age_of(self.since, now)


def age_of(since: float, now: float) -> int:
    """Return the age of what is not current since then, as peers receive it: in microseconds, at least 1."""
    return max(1, int(min(now - since, _GREATEST_AGE) * 1e6))


class Decoding(Protocol[T_co]):
    """What returns the value of a content, and can go along with a pickled state."""

    def __call__(self, content: Content, descriptor: ObjectDescriptor | None) -> T_co:
        """Return the value.

        :raises DeserializationError: the bytes are not what the observer's type or serializer expects.
        """
        ...

    def to_pickle(self, content: Content, descriptor: ObjectDescriptor | None) -> Decoding[T_co]:
        """Return what does the same in another process, for this content alone where it has to be."""
        ...


class ObjectState(Generic[T]):
    """One state of an object, as an observer sees it. Immutable, and safe to use from any thread.

    Two states are equal when their raw data, format, version and freshness are; their ages may differ. A pickled state
    holds its raw data, its age by then, and what decodes it; where that cannot be pickled, the decoded value. `print`
    shows object, value and age.
    """

    __slots__ = ("_age", "_content", "_decode", "_descriptor", "_read_at", "_value")

    def __init__(
        self,
        content: Content,
        age: float | None,
        decode: Decoding[T],
        descriptor: ObjectDescriptor | None = None,
    ) -> None:
        self._content = content
        self._age = age
        self._read_at = 0.0 if age is None else monotonic()  # only who is stale gets older
        self._decode = decode
        self._descriptor = descriptor
        self._value: Any = _NOT_DECODED

    @property
    def descriptor(self) -> ObjectDescriptor | None:
        """The object that this is a state of."""
        return self._descriptor

    @property
    def data(self) -> T:
        """The value, decoded at the first look and kept.

        :raises DeserializationError: the bytes are not what the observer's type or serializer expects.
        """
        if self._value is _NOT_DECODED:
            self._value = self._decode(self._content, self._descriptor)
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
        """True when an assigned exposer stated, as this was read, that this is the object's state now."""
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

    def __copy__(self) -> ObjectState[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ObjectState[T]:
        return self

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        content = self._content
        age = None if self._age is None else self._age + monotonic() - self._read_at
        decode = self._decode.to_pickle(content, self._descriptor)
        return _restored, (
            content.data,
            content.format,
            content.version,
            age,
            decode,
            self._descriptor,
        )

    @override
    def __str__(self) -> str:
        named = "" if self._descriptor is None else f"{cut(self._descriptor)} "
        fresh = "" if self.synchronized else f", stale for {self.age:.3g} s"
        return f"{named}= {self._shown()}{fresh}"

    def _shown(self) -> str:
        """Return the value, cut, for people."""
        try:
            text = repr(self.data)
        except Exception as error:  # noqa: BLE001  # a decoder's, or of the repr of a user's type
            text = f"<{len(self.raw)} bytes, {type(error).__name__}>"
        return printable(cut(text))

    @override
    def __repr__(self) -> str:
        fresh = "synchronized" if self.synchronized else f"{self.age:.3g} s old"
        return (
            f"<ObjectState {len(self.raw)} bytes, format {list(self.format)},"
            f" version {list(self.version)}, {fresh}>"
        )


def _restored(
    data: bytes,
    format: Format,
    version: Version,
    age: float | None,
    decode: Decoding[T],
    descriptor: ObjectDescriptor | None,
) -> ObjectState[T]:
    """Make a state again that was pickled."""
    return ObjectState(Content(data, format, version), age, decode, descriptor)


class _NotDecoded:
    __slots__ = ()


_NOT_DECODED = _NotDecoded()
