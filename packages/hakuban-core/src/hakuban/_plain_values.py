"""Values of other people's types as plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def plain_text(what: str, value: object) -> str:
    """Take a text; of a subclass its value.

    :raises TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {'None' if value is None else type(value).__name__}")
    return str.__str__(value)


def plain_scalar(value: Any) -> Any:
    """Return the value of one of numpy's scalars; anything else as it is."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value


def iterating(what: str, values: Any) -> Iterator[Any]:
    """Begin to iterate.

    :param what: what `values` should be, for people: "tags are a list of tags".
    :raises TypeError: it cannot be iterated.
    """
    try:
        return iter(values)
    except (TypeError, SystemError):  # the latter is CPython's, for a memoryview that was released
        kind = "None" if values is None else type(values).__name__
        raise TypeError(f"{what}, not {kind}") from None
