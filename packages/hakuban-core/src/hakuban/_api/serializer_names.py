"""Serializers by name: those of this package, and those that installed packages offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._exceptions import PluginError
from .codecs import JSON, MESSAGE_PACK
from .serializers import RAW, checked_serializer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .serializers import Serializer

GROUP: Final = "hakuban.serializers"
"""The group of entry points; the name of each is the serializer's, and it refers to one, or to a class of one."""
_OURS: Final[dict[str, Serializer]] = {"json": JSON, "msgpack": MESSAGE_PACK, "raw": RAW}


def found_serializer(serializer: Any) -> Serializer:
    """Take a serializer, or find one by its name.

    :raises TypeError: it is none, or nothing installed has that name.
    :raises PluginError: the installed package that has it is broken, or two of them have it.
    """
    if not isinstance(serializer, str):
        return checked_serializer(serializer)
    ours = _OURS.get(serializer)
    return _installed(serializer) if ours is None else ours


def _installed(name: str) -> Serializer:
    from importlib.metadata import entry_points  # takes a while, and few programs need it

    points = entry_points(group=GROUP)
    found = {_described(point): point for point in points.select(name=name)}
    if len(found) > 1:
        both = " and ".join(sorted(found))
        raise PluginError(f"serializer {name!r}", f"it is offered by {both}; or pass an object")
    for description, point in found.items():
        return _loaded(point, f"serializer {name!r}, {description}")
    known = ", ".join(sorted({*_OURS, *points.names}))
    raise TypeError(
        f"there is no serializer {name!r:.100}; there are {known}. Install one that offers it, or pass an object"
    )


def _loaded(point: EntryPoint, description: str) -> Serializer:
    try:
        loaded = point.load()
        return checked_serializer(loaded() if isinstance(loaded, type) else loaded)
    except Exception as error:  # of the package of somebody else's
        reason = f"it does not load: {type(error).__name__}: {error}"
        raise PluginError(description, reason) from error


def _described(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name}" if point.dist else point.value
