"""Names of objects and tags: any JSON, equal by meaning and not by spelling (the crate's `descriptor.rs`)."""

from __future__ import annotations

import json
import math
import re
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from typing_extensions import override

from ._exceptions import InvalidDescriptorError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Json", "ObjectDescriptor", "TagDescriptor"]

Json: TypeAlias = Any
"""What JSON can say: None, bool, int, float, str, and lists, tuples and dicts (with str keys) of these."""

MAX_DEPTH = 127
"""Levels of nesting that the crate's parser takes."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def _number(value: float, *, warn: bool) -> str:
    """Write a float in the form that serde_json (Ryu) gives it."""
    if not math.isfinite(value):
        raise InvalidDescriptorError("NaN and Infinity are not JSON")
    if warn:
        warnings.warn(
            "a descriptor with a floating-point number may name another object to a Rust peer,"
            " which reads some of them one digit off; prefer integers or strings",
            stacklevel=4,
        )
    if value == 0:
        return "0.0"
    digits, exponent = _shortest(abs(value))
    sign = "-" if value < 0 else ""
    point = len(digits) + exponent  # position of the decimal point, counted from the first digit
    if exponent >= 0 and point <= 16:
        return f"{sign}{digits}{'0' * exponent}.0"
    if 0 < point <= 16:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -5 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{sign}{mantissa}e{'+' if point > 0 else ''}{point - 1}"


def _shortest(value: float) -> tuple[str, int]:
    """Split a positive float into its shortest decimal digits and the power of ten of the last one."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction)
    stripped = digits.rstrip("0")
    return stripped, power + len(digits) - len(stripped)


def _encode(value: Json, depth: int, *, warn: bool) -> str:
    """Write the canonical text: compact, keys sorted by code point, integers and floats kept apart."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        if _INT_MIN <= value <= _INT_MAX:
            return int.__repr__(value)
        try:
            return _number(float(value), warn=warn)
        except OverflowError:
            raise InvalidDescriptorError("an integer is too large for JSON numbers") from None
    if isinstance(value, float):
        return _number(value, warn=warn)
    return _encode_nested(value, depth, warn=warn)


def _encode_nested(value: Json, depth: int, *, warn: bool) -> str:
    if depth >= MAX_DEPTH:
        raise InvalidDescriptorError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_encode(item, depth + 1, warn=warn) for item in value)}]"
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise InvalidDescriptorError("keys of a JSON object are strings")
        items = (
            f"{_string(key)}:{_encode(value[key], depth + 1, warn=warn)}" for key in sorted(value)
        )
        return f"{{{','.join(items)}}}"
    raise InvalidDescriptorError(f"{type(value).__name__} is not JSON")


_PLAIN = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]*').fullmatch


def _string(value: str) -> str:
    if _PLAIN(value):
        return f'"{value}"'
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidDescriptorError("a lone surrogate is not Unicode text") from None
    return json.dumps(value, ensure_ascii=False)


_SAFE_TO_PARSE = re.compile(r'"[^"\\\x00-\x1f\ud800-\udfff]*"|-?[1-9][0-9]{0,17}').fullmatch


def _canonical(text: str) -> str:
    """Read JSON text as the crate reads it, and write it back in canonical form.

    :raises InvalidDescriptorError: not JSON, or nested too deep.
    """
    if _SAFE_TO_PARSE(text):
        return text
    return _encode(_parse(text), 0, warn=False)


def _parse(text: str) -> Json:
    if depth_of(text) > MAX_DEPTH:
        raise InvalidDescriptorError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(text, parse_int=_parse_int, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidDescriptorError):
            raise
        raise InvalidDescriptorError(f"not JSON ({error})") from None


def depth_of(text: str) -> int:
    """Count levels of nesting without recursion, brackets in strings left out."""
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in "]}":
            depth -= 1
    return deepest


# possessive, and an unclosed string runs to the end: linear in whatever a peer sends
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


def _parse_int(digits: str) -> int | float:
    # "-0" is the float -0.0 to the crate; digits beyond 64 bits become a float there
    if digits == "-0":
        return -0.0
    if len(digits) > 20:
        return float(digits)
    return int(digits)


def _refuse_constant(name: str) -> Json:
    raise InvalidDescriptorError(f"{name} is not JSON")


class TagDescriptor:
    """The name of a tag: one JSON value. Immutable, hashable, equal by meaning.

    :param json: any JSON value. `1` and `1.0` are two tags, `{"a": 1, "b": 2}` and `{"b": 2, "a": 1}` one.
    :raises InvalidDescriptorError: the value is not JSON.
    """

    __slots__ = ("_hash", "_text")

    def __init__(self, json: Json) -> None:
        self._text = _encode(json, 0, warn=True)
        self._hash = hash(self._text)

    @classmethod
    def from_json(cls, text: str) -> TagDescriptor:
        """Read a tag from JSON text (the crate's `from_json_string`).

        :raises InvalidDescriptorError: the text is not JSON.
        """
        tag = cls.__new__(cls)
        tag._text = _canonical(text)
        tag._hash = hash(tag._text)
        return tag

    @property
    def json_text(self) -> str:
        """The canonical JSON text: compact, keys sorted, non-ASCII as it is."""
        return self._text

    @property
    def text_size(self) -> int:
        """Characters of the canonical text."""
        return len(self._text)

    @property
    def json(self) -> Json:
        """The value; a new one at each look."""
        return msgspec.json.decode(self._text)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagDescriptor) and self._text == other._text

    @override
    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: TagDescriptor) -> bool:
        return self._text < other._text

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return TagDescriptor.from_json, (self._text,)

    @override
    def __repr__(self) -> str:
        return f"TagDescriptor({self._text})"

    @override
    def __str__(self) -> str:
        return self._text


class ObjectDescriptor:
    """The name of an object: a set of tags and one JSON value. Immutable, hashable, equal by meaning.

    :param tags: tags, or JSON values that name tags; their order and repetitions mean nothing.
    :param json: any JSON value; the query, where the object is computed on demand.
    :raises InvalidDescriptorError: a value is not JSON.
    :raises TypeError: `tags` is a string, which would be a set of letters.
    """

    __slots__ = ("_hash", "_tags", "_text")

    def __init__(self, tags: Iterable[TagDescriptor | Json], json: Json) -> None:
        if isinstance(tags, (str, bytes, dict)):
            raise TypeError(f"tags are a list of tags, not {type(tags).__name__}: write [{tags!r}]")
        found = {tag if isinstance(tag, TagDescriptor) else TagDescriptor(tag) for tag in tags}
        self._set(tuple(sorted(found)), _encode(json, 0, warn=True))

    @classmethod
    def from_json(cls, tags: Iterable[str], text: str) -> ObjectDescriptor:
        """Read a descriptor from JSON texts (the crate's `from_json_strings`).

        :raises InvalidDescriptorError: a text is not JSON.
        """
        descriptor = cls.__new__(cls)
        found = {TagDescriptor.from_json(tag) for tag in tags}
        descriptor._set(tuple(sorted(found)), _canonical(text))
        return descriptor

    def _set(self, tags: tuple[TagDescriptor, ...], text: str) -> None:
        self._tags = tags
        self._text = text
        self._hash = hash((tags, text))

    @property
    def tags(self) -> tuple[TagDescriptor, ...]:
        """The tags, each once, in the order of their texts."""
        return self._tags

    @property
    def json_text(self) -> str:
        """The canonical JSON text: compact, keys sorted, non-ASCII as it is."""
        return self._text

    @property
    def text_size(self) -> int:
        """Characters of the canonical texts of tags and value together."""
        return len(self._text) + sum(tag.text_size for tag in self._tags)

    @property
    def json(self) -> Json:
        """The value; a new one at each look."""
        return msgspec.json.decode(self._text)

    @override
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ObjectDescriptor)
            and self._text == other._text
            and self._tags == other._tags
        )

    @override
    def __hash__(self) -> int:
        return self._hash

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return ObjectDescriptor.from_json, ([tag.json_text for tag in self._tags], self._text)

    @override
    def __repr__(self) -> str:
        return f"ObjectDescriptor({self})"

    @override
    def __str__(self) -> str:
        return f"[{','.join(map(str, self._tags))}]:{self._text}"
