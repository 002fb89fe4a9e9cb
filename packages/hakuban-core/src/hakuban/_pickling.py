"""What goes along when an object of ours is pickled: fields may hold objects of the user's that cannot."""

from __future__ import annotations

import pickle
from typing import Any


def can_be_pickled(value: object) -> bool:
    """Return whether an object survives; a class does when it can be found by its name."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001  # whatever the object's own methods raise
        return False
    return True


def picklable(value: Any) -> Any:
    """Return an object as it is if it can be pickled; else the nearest base of a class, or the text of what is none."""
    for candidate in value.__mro__ if isinstance(value, type) else (value,):
        if can_be_pickled(candidate):
            return candidate
    return repr(value)
