"""States of objects, as observers see them."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from typing_extensions import override

from ._checks import checked_age, checked_version
from ._contents import Content
from ._formats import checked_format
from ._text import cut, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._contents import Decoding, Format, Version
    from ._descriptors import ObjectDescriptor


T = TypeVar("T")


class _NotDecoded:
    __slots__ = ()


_NOT_DECODED = _NotDecoded()


class _Unchanged:
    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "unchanged"


_UNCHANGED: Final = _Unchanged()


class ObjectState(Generic[T]):
    """One state of an object: as an observer sees it, or one's own, for `sink.send`. Immutable, and safe to use from any thread.

    Two states are equal when their raw data (of one's own that are no bytes: their data, if `==` says so in one word), format,
    version and freshness are; their ages and objects may differ. A pickled state holds its raw data, its age by then, and what decodes it; where
    that cannot be pickled, the decoded value. `print` shows object, value and age.

    :param data: the value; bytes are what is sent, anything else is encoded by the serializer of who sends it.
    :param version: integers of 64 bits; () for a default one when it is sent.
    :param format: the stack of encodings of bytes, outermost last, for example ("JSON",); of anything else, the names that
        go under the encoding of the serializer, as with its `with_format`.
    :param age: seconds since it was current; None for current.
    :raises TypeError: an argument is of another type.
    :raises ValueError: an argument is out of range.
    """

    __slots__ = (
        "_age", "_content", "_decode", "_descriptor", "_format", "_read_at", "_skipped", "_value", "_version",
    )  # fmt: skip

    def __init__(
        self,
        data: T,
        *,
        version: Iterable[int] = (),
        format: Iterable[str] = (),
        age: float | None = None,
    ) -> None:
        self._version = checked_version(version)
        self._format = checked_format(format)
        self._age = checked_age(age)
        self._read_at = 0.0 if age is None else monotonic()
        plain = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else None
        self._content = None if plain is None else Content(plain, self._format, self._version)
        self._value: Any = data if plain is None else plain
        self._decode: Decoding[T] | None = None
        self._descriptor: ObjectDescriptor | None = None
        self._skipped = 0

    @classmethod
    def received(
        cls,
        content: Content,
        age: float | None,
        decode: Decoding[T],
        descriptor: ObjectDescriptor | None = None,
        skipped: int = 0,
    ) -> ObjectState[T]:
        """Make what an observer sees; for this package."""
        self = cls.__new__(cls)
        self._content = content
        self._version = content.version
        self._format = content.format
        self._age = age
        self._read_at = 0.0 if age is None else monotonic()  # only who is stale gets older
        self._decode = decode
        self._descriptor = descriptor
        self._skipped = skipped
        self._value = _NOT_DECODED
        return self

    def replace(
        self,
        *,
        data: Any = _UNCHANGED,
        version: Iterable[int] | None = None,
        format: Iterable[str] | None = None,
        age: float | _Unchanged | None = _UNCHANGED,
    ) -> ObjectState[Any]:
        """Return a state with some of it changed, for `sink.send`.

        :param data: another value, of no format unless one is given.
        :param version: another version; () for a default one when it is sent.
        :param format: another format of the same bytes, or of those in `data`.
        :param age: seconds since it was current; None for current.
        :raises TypeError: an argument is of another type.
        :raises ValueError: an argument is out of range.
        """
        same = isinstance(data, _Unchanged)
        if same:
            data = self._value if self._content is None else self._content.data
        if format is None:
            format = self._format if same else ()
        return ObjectState(
            data,
            version=self._version if version is None else version,
            format=format,
            age=self.age_now() if isinstance(age, _Unchanged) else age,
        )

    @property
    def descriptor(self) -> ObjectDescriptor | None:
        """The object that this is a state of; None of one's own."""
        return self._descriptor

    @property
    def data(self) -> T:
        """The value, decoded at the first look and kept.

        :raises DeserializationError: the bytes are not what the observer's type or serializer expects.
        """
        if self._value is _NOT_DECODED:
            assert self._decode is not None
            assert self._content is not None
            self._value = self._decode(self._content, self._descriptor)
        value: T = self._value
        return value

    @property
    def raw(self) -> bytes:
        """The bytes as the exposer published them.

        :raises ValueError: it is one's own, of a value that nobody has encoded.
        """
        if self._content is None:
            raise ValueError(
                "this state was made of a value, and nobody has encoded it: see its `data`"
            )
        return self._content.data

    @property
    def format(self) -> Format:
        """The stack of encodings of `raw`, outermost last, for example ("JSON",)."""
        return self._format

    @property
    def version(self) -> Version:
        """The version, for example (0, 1795416259, 466877718): by default zero, Unix seconds, nanoseconds."""
        return self._version

    @property
    def encoded(self) -> bool:
        """Whether it has `raw` bytes: all have that were received."""
        return self._content is not None

    @property
    def skipped(self) -> int:
        """How many states reached this node, after the one before, that the loop which gave this one did not give."""
        return self._skipped

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
            _equal(self._compared(), other._compared())
            and self.format == other.format
            and self.version == other.version
            and self.synchronized == other.synchronized
        )

    @override
    def __hash__(self) -> int:
        return hash((self.version, self.format, self.synchronized))

    def _compared(self) -> object:
        return self._value if self._content is None else self._content.data

    def age_now(self) -> float | None:
        """Return the seconds since it was last known to be current, by now; None while synchronized, when it was read."""
        return None if self._age is None else self._age + monotonic() - self._read_at

    def __copy__(self) -> ObjectState[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ObjectState[T]:
        return self

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        content, age = self._content, self.age_now()
        if content is None or self._decode is None:
            return _own, (self._value, self._version, self._format, age)
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
            text = f"<{self._size()}, {type(error).__name__}>"
        return printable(cut(text))

    @override
    def __repr__(self) -> str:
        fresh = "synchronized" if self.synchronized else f"{self.age:.3g} s old"
        return (
            f"<ObjectState {self._size()}, format {list(self.format)},"
            f" version {list(self.version)}, {fresh}>"
        )

    def _size(self) -> str:
        return "not encoded" if self._content is None else f"{len(self._content.data)} bytes"


def _equal(one: object, other: object) -> bool:
    """Return whether two values are equal; False for those of which nobody knows, numpy's arrays for example."""
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001  # of the class of somebody else's
        return False


def _restored(
    data: bytes,
    format: Format,
    version: Version,
    age: float | None,
    decode: Decoding[T],
    descriptor: ObjectDescriptor | None,
) -> ObjectState[T]:
    """Make a state again that was pickled."""
    return ObjectState.received(Content(data, format, version), age, decode, descriptor)


def _own(data: Any, version: Version, format: Format, age: float | None) -> ObjectState[Any]:
    """Make a state again that was pickled, and one's own."""
    return ObjectState(data, version=version, format=format, age=age)
