"""Formats of states: stacks of the names of encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._checks import checked_items, encoded_size
from ._limits import MOST_FORMAT_BYTES, PEERS
from ._plain_values import plain_text

if TYPE_CHECKING:
    from ._contents import Format


# of all names: so a state of `max_state` bytes always fits into a message


def checked_format(format: Any) -> Format:
    """Take a format, outermost encoding last.

    :raises TypeError: it is not made of texts.
    :raises ValueError: it has more names than peers accept, or something that is no Unicode text.
    """
    if type(format) is tuple and len(format) == 1 and type(format[0]) is str and format in _seen:
        return format
    names = tuple(
        plain_text("a name in a format", name)
        for name in checked_items(
            "a format", format, "a tuple of names, as in ('JSON',)", PEERS.max_format, "names"
        )
    )
    size = sum(encoded_size("a name in a format", name) for name in names)
    if size > MOST_FORMAT_BYTES:
        raise ValueError(
            f"the names in a format have {MOST_FORMAT_BYTES:,} bytes at most, not {size:,}"
        )
    return names


_seen: Final = frozenset({("JSON",), ("MessagePack",)})  # those of every state of most programs
