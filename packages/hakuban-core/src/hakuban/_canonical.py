"""The canonical JSON text of names: one text for each value, as the crate reads and writes it (`descriptor.rs`)."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, TypeAlias

from ._caller_location import warn_caller
from ._exceptions import InvalidDescriptorError
from ._plain_values import plain_scalar

Json: TypeAlias = Any
"""What JSON can express: None, bool, int, float, str, and lists, tuples and dicts (with str keys) of these."""

MAX_DEPTH: Final = 127
"""Levels of nesting that the crate's parser takes."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def _number(value: float, *, warn: bool) -> str:
    """Write a float in the form that serde_json (Ryu) writes."""
    if not math.isfinite(value):
        raise InvalidDescriptorError("NaN and Infinity are not JSON")
    if warn:
        warn_caller(
            "a descriptor with a floating-point number may name another object to a Rust peer,"
            " which reads some of them one digit off; prefer integers or strings"
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


def encode(value: Json) -> str:
    """Write the canonical text of a user's value: compact, keys sorted by code point, integers and floats kept apart.

    Of subclasses of the builtin types (enums, numpy's scalars) the value counts, however they show themselves.

    :raises InvalidDescriptorError: it is not JSON, or nested too deep.
    """
    return _encode(value, 0, warn=True)


def _encode(value: Json, depth: int, *, warn: bool) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _string(str.__str__(value))
    if isinstance(value, int):
        number = int.__index__(value)
        if _INT_MIN <= number <= _INT_MAX:
            return int.__repr__(number)
        raise InvalidDescriptorError(
            "an integer does not fit into 64 bits, where peers lose digits: write it as text"
        )
    if isinstance(value, float):
        return _number(float.__float__(value), warn=warn)
    return _encode_nested(value, depth, warn=warn)


def _encode_nested(value: Json, depth: int, *, warn: bool) -> str:
    if depth >= MAX_DEPTH:
        raise InvalidDescriptorError(f"nested deeper than {MAX_DEPTH} levels")
    # as lists and dicts have them, whatever a subclass makes of it
    if isinstance(value, list):
        items = list.__iter__(value)
        return f"[{','.join([_encode(item, depth + 1, warn=warn) for item in items])}]"
    if isinstance(value, tuple):
        items = tuple.__iter__(value)
        return f"[{','.join([_encode(item, depth + 1, warn=warn) for item in items])}]"
    if isinstance(value, dict):
        members = {
            _key(key): _encode(item, depth + 1, warn=warn) for key, item in dict.items(value)
        }
        if len(members) != dict.__len__(value):
            raise InvalidDescriptorError("a JSON object has two keys of the same text")
        return f"{{{','.join([f'{_string(key)}:{members[key]}' for key in sorted(members)])}}}"
    scalar = plain_scalar(value)
    if isinstance(scalar, (str, int, float)):
        return _encode(scalar, depth, warn=warn)
    raise InvalidDescriptorError(f"{type(value).__name__} is not JSON{_remedy(value)}")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidDescriptorError(f"keys of a JSON object are strings, not {type(key).__name__}")
    return str.__str__(key)


def _remedy(value: object) -> str:
    """Return what to write instead, where that is known."""
    if hasattr(value, "json_text"):
        return "; a descriptor cannot be inside of another one, write its .json"
    if getattr(value, "shape", ()) and callable(getattr(value, "tolist", None)):
        return "; write value.tolist()"
    if isinstance(value, (set, frozenset)):
        return "; write sorted(value)"
    if hasattr(value, "value") and hasattr(value, "name"):
        return "; write its .value"
    return "; write it as text, or as lists and dicts"


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


def canonical(text: str) -> str:
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
    number = int(digits)
    return number if _INT_MIN <= number <= _INT_MAX else float(number)


def _refuse_constant(name: str) -> Json:
    raise InvalidDescriptorError(f"{name} is not JSON")
