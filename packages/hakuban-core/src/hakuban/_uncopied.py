"""What is one thing, and must not be had twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from typing_extensions import override

if TYPE_CHECKING:
    from typing import SupportsIndex


class Uncopied:
    """Refuses to be copied and pickled: its copy would close it when it is collected."""

    __slots__ = ()

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} belongs to its node, and is neither copied nor pickled"
        )
