"""Waiting in plain threads: tests look again whenever anything happens to what they watch, and ten times a second."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_changed = threading.Condition()
"""One for all, since tests wait for what several watched things have in common."""


@contextmanager
def changing() -> Iterator[None]:
    """Change what is watched, in this block; then those who wait look again."""
    with _changed:
        yield
        _changed.notify_all()


def until(check: Callable[[], T | None], what: str, timeout: float = 15) -> T:
    """Wait until a check gives something true; give it.

    :raises AssertionError: it did not in time.
    """
    found = happens(check, timeout)
    if not found:
        raise AssertionError(f"not in {timeout:g} s: {what}")
    return found


def happens(check: Callable[[], T | None], timeout: float) -> T | None:
    """Wait until a check gives something true, or for some time; give what it gave last."""
    deadline = time.monotonic() + timeout
    with _changed:
        while not (found := check()):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            _changed.wait(min(left, 0.1))
        return found


def holds(check: Callable[[], bool], what: str, seconds: float) -> None:
    """Check that something stays true for a while, whatever happens."""
    end = time.monotonic() + seconds
    with _changed:
        while (left := end - time.monotonic()) > 0:
            assert check(), f"no longer: {what}"
            _changed.wait(min(left, 0.1))
        assert check(), f"no longer: {what}"
