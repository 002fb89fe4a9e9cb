"""Values of other people's types as plain ones."""

from __future__ import annotations

from typing import Any

__all__ = ["plain_scalar", "plain_text"]


def plain_text(what: str, value: object) -> str:
    """Take a text; of a subclass its value.

    :raises TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {'None' if value is None else type(value).__name__}")
    return str.__str__(value)


def plain_scalar(value: Any) -> Any:
    """Give the value of one of numpy's scalars; anything else as it is."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value
