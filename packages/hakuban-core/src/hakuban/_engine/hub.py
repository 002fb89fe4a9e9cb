"""Where one waits, and whose lock guards a table: an engine, or what merges several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._loops.wakeups import Waiter
    from .callbacks import Callbacks

T = TypeVar("T")


class Waitable(Protocol):
    """Where one waits. The methods are described in `Steps`."""

    def park(self, place: object, waiter: Waiter, poll: Callable[[], object]) -> bool: ...

    def unpark(self, place: object, waiter: Waiter) -> None: ...

    def step(self) -> bool: ...

    def until_due(self) -> float | None: ...


class Hub(Waitable, Protocol):
    """Whose lock guards a table. The methods are described in `Steps` and `Engine`."""

    @property
    def callbacks(self) -> Callbacks: ...

    def read(self, function: Callable[[], T], *, changes: bool = False) -> T: ...

    def wake(self, place: object) -> None: ...

    def quietly(self, function: Callable[[], object]) -> None: ...

    def later(self, function: Callable[[], object]) -> None: ...
