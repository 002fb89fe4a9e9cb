"""`async with node.connect(...)`: a block whose errors state what to write where it is used in another way."""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from typing_extensions import override

from .._caller_location import place_of_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType


T = TypeVar("T")


class Entered:
    """Whether a block was entered; one that never was has most likely been forgotten, which is warned of.

    :param spelling: how a block is written, for people: "async with node.connect(...)".
    """

    __slots__ = ("_place", "_reported", "_spelling", "_used")

    def __init__(self, spelling: str) -> None:
        self._place = place_of_caller()
        self._spelling = spelling
        self._used = False
        self._reported = False  # or there is nothing to report

    def once(self) -> None:
        """The block is entered.

        :raises RuntimeError: for the second time.
        """
        if self._used:
            raise RuntimeError(
                f"a block is entered once: write `{self._spelling}:` again, which makes a new one"
            )
        self._used = True

    def refuse(self, why: str, error: type[Exception] = TypeError) -> NoReturn:
        """The block is used in a way that cannot work."""
        self._reported = True
        raise error(f"{why}: write `{self._spelling}:`")

    @override
    def __repr__(self) -> str:
        return f"<a link, to be made by `{self._spelling}:`>"

    def hand_over(self) -> None:
        """Somebody else sees to it that the block is entered."""
        self._reported = True

    def collected(self, block: object) -> None:
        """Nobody holds the block any more."""
        if not (self._used or self._reported) and not sys.is_finalizing():
            self._reported = True
            file, line = self._place
            text = f"a link was never made: write `{self._spelling}:`"
            warnings.warn_explicit(text, RuntimeWarning, file, line, source=block)


class Block:
    """What is to be entered, and is nothing before.

    :ivar entered: whether it was.
    """

    __slots__ = ("entered",)

    def __init__(self, spelling: str) -> None:
        self.entered: Entered = Entered(spelling)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or name == "entered":
            raise AttributeError(name)  # somebody looks what this is, or __init__ was interrupted
        self.entered.refuse(f"there is no {name!r} before the block is entered", AttributeError)

    @override
    def __repr__(self) -> str:
        return repr(self.entered)

    def __del__(self) -> None:
        try:
            entered = self.entered
        except AttributeError:
            return  # __init__ was interrupted
        entered.collected(self)


class LinkBlock(Block, AbstractAsyncContextManager[T]):
    """The block of one link or listener; its arguments are checked already. Entered once, by one task.

    :param make: makes what is entered.
    """

    __slots__ = ("_block", "_make")

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], spelling: str) -> None:
        super().__init__(spelling)
        self._make = make
        self._block: AbstractAsyncContextManager[T] | None = None

    @override
    async def __aenter__(self) -> T:
        self.entered.once()
        self._block = self._make()
        return await self._block.__aenter__()

    @override
    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, bool | None]:
        if self._block is None:
            self.entered.refuse("the block was not entered", RuntimeError)
        return self._block.__aexit__(exc_type, exc_value, traceback)

    def __await__(self) -> NoReturn:
        self.entered.refuse("a link lasts until its block is left, so it is not awaited")

    def __enter__(self) -> NoReturn:
        self.entered.refuse("a link needs an event loop (without one there is hakuban.sync)")

    def __exit__(self, *_: object) -> None:
        """Is there for the sake of `__enter__`."""
