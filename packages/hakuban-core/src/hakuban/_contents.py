"""What is published of an object (`Content`), and what is to be seen of it (`View`)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from typing_extensions import override

if TYPE_CHECKING:
    from weakref import ref

    from ._descriptors import ObjectDescriptor


Version = tuple[int, ...]
"""A version: signed 64-bit integers, compared lexicographically; a strict prefix is smaller."""

Format = tuple[str, ...]
"""A stack of encodings, outermost last: ("JSON",), ("JSON", "zstd")."""

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
    `number` counts the contents that an object has had: 1 for the first one since there was none.
    """

    __slots__ = ("content", "number", "since")

    def __init__(self, content: Content, since: float | None, number: int = 1) -> None:
        self.content: Content = content
        self.since: float | None = since
        self.number: int = number

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
