"""The base of all errors: fit to be shown, copied and pickled."""

from __future__ import annotations

import copy
from typing import Any

from typing_extensions import override

from ._pickling import picklable
from ._text import printable


class HakubanError(Exception):
    """Base of all errors of this project."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # without __init__, whose parameters the text was made of; fields of other people's classes may not travel
        fields = {name: picklable(value) for name, value in self.__dict__.items()}
        return _restored, (type(self), self.args, fields)

    def __copy__(self) -> HakubanError:
        return _restored(type(self), self.args, self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> HakubanError:
        return _restored(type(self), self.args, copy.deepcopy(self.__dict__, memo))


def _restored(
    kind: type[HakubanError], args: tuple[Any, ...], fields: dict[str, Any]
) -> HakubanError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error
