"""A coroutine whose suspensions are seen."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable


class Suspending(Generator[Any, Any, None]):
    """A coroutine to await, which reports each time that it is about to suspend.

    :param suspended: called then.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], suspended: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    @override
    def send(self, value: Any, /) -> Any:
        awaited = self._coroutine.send(value)
        self._suspended()
        return awaited

    @override
    def throw(self, *error: Any) -> Any:
        awaited = self._coroutine.throw(*error)
        self._suspended()
        return awaited
