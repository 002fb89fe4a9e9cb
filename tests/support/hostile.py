"""Arguments as nobody should pass them, and somebody does: other types, subclasses that lie, limits and their neighbours."""

from __future__ import annotations

import enum
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn

import hypothesis.strategies as st
import numpy as np
from typing_extensions import override

from hakuban import JSON, ObjectDescriptor, TagDescriptor

if TYPE_CHECKING:
    from collections.abc import Iterator


class BoomError(Exception):
    """What objects of the user's raise: it may come out, and must not do harm."""


class Kind(str, enum.Enum):  # noqa: UP042  # what users have
    OVEN = "oven"


class Level(enum.IntEnum):
    HIGH = 3


class Color(enum.Enum):
    RED = "red"


class Shouting(str):
    __slots__ = ()

    @override
    def __format__(self, spec: str) -> str:
        return "!"

    @override
    def __str__(self) -> str:
        return "!"

    @override
    def encode(self, *_: Any) -> bytes:
        raise BoomError


class Rounded(float):
    @override
    def __repr__(self) -> str:
        return "about"


class Unbounded(int):
    @override
    def __repr__(self) -> str:
        return "many"

    @override
    def __index__(self) -> int:
        raise BoomError


class LyingBytes(bytes):
    @override
    def __len__(self) -> int:
        return 10**6

    @override
    def __bytes__(self) -> bytes:
        return b"something else"


class LyingList(list[Any]):
    @override
    def __iter__(self) -> Iterator[Any]:
        raise BoomError

    @override
    def __len__(self) -> int:
        raise BoomError


class LyingDict(dict[Any, Any]):
    @override
    def items(self) -> NoReturn:
        raise BoomError

    @override
    def __getitem__(self, key: Any) -> Any:
        raise BoomError


class Hating:
    """Raises whatever is asked of it."""

    @override
    def __eq__(self, other: object) -> bool:
        raise BoomError

    @override
    def __hash__(self) -> int:
        raise BoomError

    @override
    def __repr__(self) -> str:
        raise BoomError

    def __getattr__(self, name: str) -> Any:
        raise BoomError

    def __iter__(self) -> Iterator[Any]:
        raise BoomError

    def __index__(self) -> int:
        raise BoomError

    def __float__(self) -> float:
        raise BoomError

    def __bool__(self) -> bool:
        raise BoomError

    def __call__(self, *_: Any) -> Any:
        raise BoomError


class WrongSerializer:
    """Gives what it is given, whatever that is."""

    def serialize(self, value: Any, /) -> Any:
        return value

    def deserialize(self, _format: Any, data: Any, _type: Any, /) -> Any:
        return data


async def produce(sink: Any) -> None:
    sink.set(1)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circle() -> Any:
    items: list[Any] = []
    items.append(items)
    return items


def released() -> Any:
    view = memoryview(b"x")
    view.release()
    return view


INTEGERS = [
    -1, 0, 1, 2, 63, 64, 65, 999, 1_000, 1_001, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
    -(2**63), -(2**63) - 1, 10**30, 1 << 20_000,
]  # fmt: skip
FLOATS = [0.0, -0.0, 0.1, 1.5, -1.0, 1e300, 5e-324, float("nan"), float("inf"), float("-inf")]
TEXTS = [
    "", "x", "oven", "no", "true", "3s", "700ms", "1", "-1", "JSON", "msgpack", "raise", "log", "\ud800", "\0", "\x1b[2J",
    "\x9b2J", "\u202e", "x" * 1_024, "x" * 1_025, "é" * 513, "x" * 65_534, "x" * 65_535, "ws://127.0.0.1:1",
    "ws://:3001", "ws://h:99999", "ws://user:secret@h:1", "ws://h:1?timeout=1s", "ws://h:1#timeout=x", "wss://h", "ws://",
    "zmq+tcp://h", "zmq+ipc://x", "zmq+tcp://h:0", "memory://", "memory://\0", "foo://x", "#", "://", "tcp://[::1",
]  # fmt: skip
OTHERS = [
    None, True, False, ..., NotImplemented, 1j, Decimal("1.5"), Decimal("nan"), Fraction(1, 3), b"", b"x", bytearray(b"x"),
    object(), object, int, str, dict, list[int], Exception("x"), len, produce, lambda: None, lambda _: None, print,
    Kind.OVEN, Kind, Level.HIGH, Color.RED, Shouting("oven"), Rounded(2.5), Unbounded(7), LyingBytes(b"x"), Hating(), Hating,
    LyingList([1]), LyingDict(a=1), WrongSerializer(), WrongSerializer, JSON, ObjectDescriptor(["t"], 1),
    TagDescriptor("t"), np.float64(1.5), np.float64("nan"), np.int8(-1), np.int32(3), np.uint64(2**64 - 1), np.str_("x"),
    np.bool_(True), np.datetime64("2026-11-28"), np.arange(3), np.zeros((2, 2)), np.array(5), np.array(["x"]),
    range(1_000), range(1_001), {"a", "b"}, frozenset(), (("t",), "x"), (["t"], {"a": 1}), ("x",), (), (1, 2, 3),
    [(0, 3)], [(0, 3.5)], [(-1, 1)], [(0, 1)] * 1_000, [(0, 1)] * 1_001, [[1]], {1: 2}, {"a": {"b": [None]}}, [1] * 1_000,
    [1] * 1_001, [2**63 - 1] * 1_000, (("JSON",), b"1"), (b"1", ("JSON",)), (("x",) * 65, b"1"), (("x" * 70_000,), b"1"),
    nested(126), nested(127), nested(128), nested(200), circle(),
]  # fmt: skip


def fresh() -> st.SearchStrategy[Any]:
    """Things that are used up: a new one for each use."""
    makers = [
        released,
        lambda: iter([1, 2]),
        lambda: (tag for tag in "ab"),
        lambda: memoryview(bytearray(b"xyz")),
    ]
    return st.sampled_from(makers).map(lambda make: make())


def anything() -> st.SearchStrategy[Any]:
    """Draw one thing, or a list, tuple or dict of some."""
    one = st.one_of(
        st.sampled_from(INTEGERS),
        st.sampled_from(FLOATS),
        st.sampled_from(TEXTS),
        st.sampled_from(OTHERS),
        fresh(),
    )
    return st.one_of(
        one,
        one,
        st.lists(one, max_size=3),
        st.tuples(one, one),
        st.dictionaries(st.sampled_from(TEXTS), one, max_size=3),
    )
