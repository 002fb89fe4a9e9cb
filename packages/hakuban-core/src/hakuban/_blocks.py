"""`async with node.connect(...)`: a block that says what to write where it is used in another way."""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Entered", "LinkBlock"]

T = TypeVar("T")


class Entered:
    """Whether a block was entered; one that never was has most likely been forgotten, which is warned of.

    :param spelling: how a block is written, for people: "async with node.connect(...)".
    """

    __slots__ = ("_spelling", "_told", "_used")

    def __init__(self, spelling: str) -> None:
        self._spelling = spelling
        self._used = False
        self._told = False  # or there is nothing to tell

    def once(self) -> None:
        """The block is entered.

        :raises RuntimeError: for the second time.
        """
        if self._used:
            raise RuntimeError(
                f"a block is entered once: write `{self._spelling}:` again, which makes a new one"
            )
        self._used = True

    def refuse(self, why: str) -> NoReturn:
        """The block is used in a way that cannot work."""
        self._told = True
        raise TypeError(f"{why}: write `{self._spelling}:`")

    def hand_over(self) -> None:
        """Somebody else sees to it that the block is entered."""
        self._told = True

    def collected(self, block: object) -> None:
        """Nobody holds the block any more."""
        if not (self._used or self._told) and not sys.is_finalizing():
            warnings.warn(
                f"a link was never made: write `{self._spelling}:`",
                RuntimeWarning,
                stacklevel=3,
                source=block,
            )


class LinkBlock(AbstractAsyncContextManager[T]):
    """The block of one link or listener; its arguments are checked already. Entered once, by one task.

    :param make: makes what is entered.
    """

    __slots__ = ("_block", "_make", "entered")

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], spelling: str) -> None:
        self.entered: Entered = Entered(spelling)
        self._make = make
        self._block: AbstractAsyncContextManager[T] | None = None

    @override
    async def __aenter__(self) -> T:
        self.entered.once()
        self._block = self._make()
        return await self._block.__aenter__()

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(exc_type, exc_value, traceback)

    def __await__(self) -> NoReturn:
        self.entered.refuse("a link lasts until its block is left, so it is not awaited")

    def __enter__(self) -> NoReturn:
        self.entered.refuse("a link needs an event loop (without one there is hakuban.sync)")

    def __exit__(self, *_: object) -> None:
        """Is there for the sake of `__enter__`."""

    def __del__(self) -> None:
        self.entered.collected(self)
