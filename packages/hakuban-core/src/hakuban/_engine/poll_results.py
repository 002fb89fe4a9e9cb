"""What polls return when they have found nothing. A poll looks whether something can be had, and changes nothing."""

from __future__ import annotations

from typing import Final


class Pending:
    """The type of `PENDING`."""

    __slots__ = ()


class Ended:
    """The type of `ENDED`."""

    __slots__ = ()


PENDING: Final = Pending()
"""There is nothing yet."""

ENDED: Final = Ended()
"""There is nothing, and never will be."""
