"""From what users set to what the machine is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._checks import checked_version
from ._core.records import Offer
from ._exceptions import StateTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._serializers import Serializer

__all__ = ["Publisher"]


class Publisher:
    """Encodes values for one contract, outside all locks."""

    __slots__ = ("_max_state", "_serializer")

    def __init__(self, serializer: Serializer, max_state: int) -> None:
        self._serializer = serializer
        self._max_state = max_state

    def offer(self, value: Any, version: Iterable[int] | None) -> Offer:
        """Encode a value; `version` None asks for a default one."""
        checked = None if version is None else checked_version(version)
        format, data = self._serializer.serialize(value)
        if len(data) > self._max_state:
            raise StateTooLargeError(len(data), self._max_state)
        return Offer(data, format, checked)
