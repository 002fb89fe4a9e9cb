"""Serializers by name: those of this package, and those that installed packages offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .codecs import JSON, MESSAGE_PACK
from .serializers import RAW, checked_serializer

if TYPE_CHECKING:
    from .serializers import Serializer

GROUP: Final = "hakuban.serializers"
"""The group of entry points; the name of each is the serializer's, and it refers to one, or to a class of one."""
_OURS: Final[dict[str, Serializer]] = {"json": JSON, "msgpack": MESSAGE_PACK, "raw": RAW}


def found_serializer(serializer: Any) -> Serializer:
    """Take a serializer, or find one by its name.

    :raises TypeError: it is none, or nothing installed has that name.
    """
    if not isinstance(serializer, str):
        return checked_serializer(serializer)
    ours = _OURS.get(serializer)
    return _installed(serializer) if ours is None else ours


def _installed(name: str) -> Serializer:
    from importlib.metadata import entry_points  # takes a while, and few programs need it

    points = entry_points(group=GROUP)
    for point in points.select(name=name):
        loaded = point.load()
        return checked_serializer(loaded() if isinstance(loaded, type) else loaded)
    known = ", ".join(sorted({*_OURS, *points.names}))
    raise TypeError(
        f"there is no serializer {name!r:.100}; there are {known}. Install one that offers it, or pass an object"
    )
